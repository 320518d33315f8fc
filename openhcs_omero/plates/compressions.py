"""How the pages of a TIFF may be compressed to be read safely, whoever wrote them."""

from __future__ import annotations

from typing import Any

# what microscopes and programs of the field write, and whose decoders do not read beyond data that are damaged or cut
_COMPRESSIONS = frozenset(
    {"NONE", "LZW", "PACKBITS", "ADOBE_DEFLATE", "DEFLATE", "ZSTD", "ZSTD_DEPRECATED", "LZMA", "JPEG", "JPEG2000"}
    | {"JPEG_2000_LOSSY", "APERIO_JP2000_YCBC", "APERIO_JP2000_RGB", "JPEGXL", "JPEGXR", "JPEGXR_NDPI", "WEBP"}
    | {"CCITTRLE", "CCITTFAX3", "CCITTFAX4"}
)
_LOSSLESS = b"\xff\xc3"  # marks lossless JPEG, which has the number of JPEG in TIFFs, but another decoder


def unread_compression(page: Any, data: bool = True) -> str:
    """Why a page can't be decoded safely, as words to put after the name of the file; "" if it can.

    Parameters
    ----------
    page
        A page of an open TIFF of tifffile's.
    data
        Whether to look into the compressed data too, where the number of the compression does not say enough.
    """
    compression = page.keyframe.compression
    name = getattr(compression, "name", str(compression))
    if name == "JPEG" and data:
        pieces = page.parent.filehandle.read_segments(page.dataoffsets, page.databytecounts)
        name = "lossless JPEG" if any(_LOSSLESS in (piece or b"") for piece, _ in pieces) else name
    if name in _COMPRESSIONS:
        return ""
    return f"is compressed as {name}, which is not read: save it with LZW or without compression"
