"""File formats by ending: images as TIFF, results as JSON, CSV or text, and everything else as bytes."""

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from openhcs_omero.io.base import BadData, MissingFile, PathLike
from openhcs_omero.plates.compressions import unread_compression
from openhcs_omero.plates.image import ImageMetadata
from openhcs_omero.plates.pixeltypes import OMERO_NAMES
from openhcs_omero.spreadsheets import escape_table, unescape_table

PIXEL_TYPES = tuple(OMERO_NAMES)
"""The pixel types that both OMERO and OME-TIFF can hold."""

UNKNOWN = ImageMetadata()
_NAMESPACE = "openhcs_omero/image"
_AXES = "TCZYX"
# a file is not decoded if it claims to hold more bytes of pixels than this, and more than this many times its own size
LARGEST_UNCHECKED, LARGEST_RATIO = 2**28, 2000


class OMEROFileFormatRegistry:
    """The text formats, which OMERO keeps as FileAnnotations."""

    TEXT_FORMATS = frozenset({".json", ".csv", ".txt", ".tsv"})

    @classmethod
    def is_text_format(cls, filename: PathLike) -> bool:
        """Whether `filename` has the ending of a text format."""
        return Path(filename).suffix.lower() in cls.TEXT_FORMATS


def is_image_format(filename: PathLike) -> bool:
    """Whether `filename` has the ending of a TIFF."""
    return Path(filename).suffix.lower() in (".tif", ".tiff")


def check_image(data: Any, path: PathLike) -> np.ndarray:
    """Check that `data` can be stored as an image, and return it as an array.

    Parameters
    ----------
    data
        Array of one of `PIXEL_TYPES`: (Y, X) for a plane or (T, C, Z, Y, X) for a site.
    path
        The path of the image, for the error message.

    Raises
    ------
    BadData
        If it is anything else. Nothing is converted, since that could change values or lose range.
    """
    if not isinstance(data, np.ndarray):
        raise BadData(f"{path} takes a numpy array, not a {type(data).__name__}")
    if data.ndim not in (2, 5):
        raise BadData(f"{path}: an image has the axes (Y, X) or (T, C, Z, Y, X), this array has the shape {data.shape}")
    if data.size == 0:
        raise BadData(f"{path}: an image has at least one pixel, this array has the shape {data.shape}")
    if data.dtype.name not in PIXEL_TYPES:
        raise BadData(f"{path}: pixels can't be {data.dtype.name}; convert them to one of {', '.join(PIXEL_TYPES)}")
    return data.astype(data.dtype.newbyteorder("="), copy=False)


def encode(data: Any, path: PathLike, compression: str | None = None, about: ImageMetadata = UNKNOWN) -> bytes:
    """Encode `data` as the bytes of a file, in the format given by the ending of `path`.

    Parameters
    ----------
    data
        Any type that `StorageBackend` lists; a `Path` stands for the content of that file.
    path
        The path of the file.
    compression
        tifffile's name of the compression of a TIFF: "zlib" for files attached to objects in OMERO, which are mostly
        label images.
    about
        Channel names, colors and pixel size of an image.

    Raises
    ------
    BadData
        If that format can't hold `data`.
    MissingFile
        If `data` is a `Path` and there is no such file.
    """
    suffix = Path(path).suffix.lower()
    if is_image_format(path):
        return _encode_tiff(check_image(data, path), compression, about)
    if isinstance(data, Path):
        return _content(data)
    if isinstance(data, bytes):
        return data
    if isinstance(data, str) and suffix in OMEROFileFormatRegistry.TEXT_FORMATS:
        return data.encode()
    if suffix == ".json" and isinstance(data, dict | list):
        return _encode_json(data, path)
    if suffix in (".csv", ".tsv") and hasattr(data, "to_csv"):
        return (
            escape_table(data).to_csv(index=False, sep="," if suffix == ".csv" else "\t", lineterminator="\n").encode()
        )
    takes = {".json": "a dict or a list", ".csv": "a DataFrame", ".tsv": "a DataFrame", ".txt": "a str"}
    raise BadData(f"{path} takes {takes.get(suffix, 'bytes')}, not a {type(data).__name__}")


def decode(data: bytes, path: PathLike) -> Any:
    """Decode the bytes of a file, the inverse of `encode`.

    Returns
    -------
    Any
        Array, dict or list, DataFrame or str, depending on the ending of `path`; the bytes for any other ending.

    Raises
    ------
    BadData
        If `data` is not in the format that the ending names.
    """
    suffix = Path(path).suffix.lower()
    try:
        if is_image_format(path):
            return _decode_tiff(data, path)
        if suffix == ".json":
            return json.loads(data)
        if suffix in (".csv", ".tsv"):
            import pandas  # takes half a second, so only tables import it

            sep = "," if suffix == ".csv" else "\t"
            return unescape_table(pandas.read_csv(io.BytesIO(data), sep=sep)) if data.strip() else pandas.DataFrame()
        return data.decode() if suffix == ".txt" else data
    except BadData:
        raise
    except Exception as error:  # the readers raise all kinds of errors for invalid bytes
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadData(f"{path} can't be read as {suffix.removeprefix('.')}: {what}") from None


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise MissingFile(f"there is no file {file}") from None
    except OSError as error:
        raise BadData(f"{file} can't be read: {error.strerror}") from None


def _encode_json(data: dict | list, path: PathLike) -> bytes:
    try:
        return json.dumps(_plain(data), indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise BadData(f"{path} can't hold this as JSON: {error}") from None


def _plain(data: Any) -> Any:
    """`data` without numpy types. JSON has neither NaN nor infinity, so these become null."""
    if isinstance(data, dict):
        return {key.item() if isinstance(key, np.generic) else key: _plain(value) for key, value in data.items()}
    if isinstance(data, np.ndarray | np.generic):
        return _plain(data.tolist())
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _encode_tiff(image: np.ndarray, compression: str | None, about: ImageMetadata) -> bytes:
    """Encode as OME-TIFF. An annotation distinguishes a plane from a site with one plane, since OME-XML does not."""
    buffer = io.BytesIO()
    write_tiff(buffer, image, compression, about)
    return buffer.getvalue()


def write_tiff(
    file: Path | BinaryIO, image: np.ndarray, compression: str | None = None, about: ImageMetadata = UNKNOWN
) -> None:
    """Write an image that `check_image` accepts as OME-TIFF; see `encode`."""
    axes = _AXES[-image.ndim :]
    metadata = {"axes": axes, "MapAnnotation": {"Namespace": _NAMESPACE, "axes": axes}, **_ome_metadata(about)}
    tifffile.imwrite(file, image, ome=True, photometric="minisblack", metadata=metadata, compression=compression)


def _ome_metadata(about: ImageMetadata) -> dict[str, Any]:
    """Attributes of OME-XML's Pixels and Channel elements, for tifffile; lengths are in OME's default unit, µm."""
    channels: list[dict[str, Any]] = [{} if name is None else {"Name": name} for name in about.channel_names]
    for channel, color in zip(channels, about.colors):
        if color is not None:  # red, green, blue and alpha in a signed 32-bit number
            channel["Color"] = int.from_bytes((*color, 255), signed=True)
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", about.pixel_size) if size is not None}
    return {**sizes, **({"Channel": channels} if any(channels) else {})}


def decode_planes(data: bytes, path: PathLike, sizes: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Decode a TIFF of a program that may know nothing of OME.

    Parameters
    ----------
    data
        The content of the file.
    path
        The path of the file, for error messages.
    sizes
        The sizes (T, C, Z) that the image may have. If the file does not say which page is which plane, it has the
        first of these sizes with as many planes: all z of a channel, then the next channel, then the next timepoint.
        If none has as many, the pages are along z if the first of these sizes has one channel and one timepoint.

    Returns
    -------
    ndarray
        (T, C, Z, Y, X).

    Raises
    ------
    BadData
        If it is no TIFF, not of planes of one size, or if it can't be known which plane is which.
    """
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            if not tiff.is_ome and not _is_hyperstack(tiff):
                image = _stack_pages(tiff, len(data), path)
                stack = [(1, 1, len(image))] if sizes[0][:2] == (1, 1) else []
                if size := next((one for one in [*sizes, *stack] if math.prod(one) == len(image)), None):
                    return image.reshape(*size, *image.shape[1:])
                numbers = " or ".join(str(number) for number in dict.fromkeys(map(math.prod, sizes)))
                raise BadData(
                    f"{path} has {len(image)} planes and does not say which they are, where {numbers} would be in the "
                    "order of the input; write other sizes as OME-TIFF or OME-Zarr"
                )
        image = _decode_tiff(data, path)
    except BadData:
        raise
    except Exception as error:  # of all kinds for invalid bytes
        raise BadData(f"{path} can't be read as TIFF: {error}") from None
    return image[None, None, None] if image.ndim == 2 else image


def _check_size(claimed: int, length: int, path: PathLike) -> None:
    """Check the bytes that a TIFF file of that many bytes claims to hold, before they are taken."""
    if claimed > max(LARGEST_UNCHECKED, LARGEST_RATIO * length):
        raise BadData(f"{path} declares an image of {claimed} bytes in a file of {length}")


def check_compression(page: Any, path: PathLike, data: bool = True) -> None:
    """Check that a page of an open TIFF can be decoded safely, see `unread_compression`; BadData if not."""
    if why := unread_compression(page, data):
        raise BadData(f"{path} {why}")


def _stack_pages(tiff: tifffile.TiffFile, length: int, path: PathLike) -> np.ndarray:
    """All pages of a TIFF file of that many bytes, (N, Y, X)."""
    pages = list(tiff.pages)
    if len({(page.shape, page.dtype) for page in pages}) > 1 or len(pages[0].shape) != 2:
        raise BadData(f"{path} is not an image of planes of one size and type, each with one value per pixel")
    _check_size(sum(page.nbytes for page in pages), length, path)
    for page in pages:
        check_compression(page, path)
    return np.stack([page.asarray() for page in pages])


def _is_hyperstack(tiff: tifffile.TiffFile) -> bool:
    """Whether ImageJ says which page of a stack is which plane."""
    about = tiff.imagej_metadata or {}
    return sum(int(about.get(axis, 1)) > 1 for axis in ("channels", "slices", "frames")) > 1


def _decode_tiff(data: bytes, path: PathLike) -> np.ndarray:
    """Decode a TIFF from any software as (Y, X) if it is one plane, otherwise as (T, C, Z, Y, X)."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        ours = f'Namespace="{_NAMESPACE}"' in (tiff.ome_metadata or "")
        if not ours and len(tiff.pages) == 1 and len(tiff.pages[0].shape) == 2:  # its OME-XML may be about other files
            _check_size(tiff.pages[0].nbytes, len(data), path)
            check_compression(tiff.pages[0], path)
            return tiff.pages[0].asarray()
        if len(tiff.series) != 1:
            raise BadData(f"{path} holds {len(tiff.series)} images, not one")
        series = tiff.series[0]
        _check_size(series.nbytes, len(data), path)
        sizes = dict(zip(series.get_axes(squeeze=False), series.get_shape(squeeze=False)))
        strange = [axis for axis, size in sizes.items() if axis not in _AXES and size > 1]
        if strange:
            raise BadData(f"{path} has the axes {series.axes}: expected Y, X and any of T, C and Z")
        for page in filter(None, series.pages):
            check_compression(page, path)
        image = series.asarray()
        plane = '<M K="axes">YX</M>' in (tiff.ome_metadata or "") if ours else image.size == sizes["Y"] * sizes["X"]
    if plane:
        return image.reshape(sizes["Y"], sizes["X"])
    present = [axis for axis in sizes if axis in _AXES]
    image = image.reshape([sizes[axis] for axis in present])
    image = image.transpose([present.index(axis) for axis in _AXES if axis in present])
    return np.ascontiguousarray(image.reshape([sizes.get(axis, 1) for axis in _AXES]))
