"""What the OME-XML in a TIFF says about its pages, and about other files that belong to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from xml.etree import ElementTree

import tifffile

from openhcs_omero.errors import PlateError

_BINARY_ONLY = re.compile(r"""<(?:\w+:)?BinaryOnly\s[^>]*MetadataFile\s*=\s*(["'])([^"']+)\1""")
LARGEST_CHECKED = 200_000  # letters; the OME-XML of an image takes a hundred per plane


def check_pages(tiff: tifffile.TiffFile, pages: int, file: Path) -> None:
    """Check that a TIFF has the pages that its OME-XML announces.

    Parameters
    ----------
    tiff
        The open TIFF.
    pages
        The number of its pages without smaller copies.
    file
        Its path.

    Raises
    ------
    PlateError
        If there are fewer pages, or if another file says what the pages are.
    """
    if len(tiff.ome_metadata or "") > LARGEST_CHECKED:  # of a whole plate, repeated in each of its files
        return
    root = _root(tiff)
    if root is None:
        return
    described = root.find("{*}BinaryOnly")
    if described is not None and pages > 1:
        raise PlateError(
            f"{file} has {pages} pages that {described.get('MetadataFile', 'another file')} describes, which is not "
            "read: save each plane as a TIFF of its own"
        )
    announced = sum(count for name, count in _parts(root) if name in ("", file.name))
    if announced > pages:
        raise PlateError(
            f"{file} is incomplete: its OME-XML announces {announced} planes, but it has {pages}; copy it again"
        )


def files_of(file: Path) -> set[str]:
    """The names of all files that the OME-XML in a TIFF names, such as the other planes of a plate."""
    try:
        with tifffile.TiffFile(file, _multifile=False) as tiff:
            root = _root(tiff)
    except Exception:  # tifffile lets any error of its parsers through; reading the file reports it
        return set()
    return set() if root is None else {name for name, _ in _parts(root) if name}


def description_in(file: Path) -> str:
    """The OME-XML in a TIFF; "" if it has none, or can't be read."""
    try:
        with tifffile.TiffFile(file, _multifile=False) as tiff:
            return tiff.ome_metadata or ""
    except Exception:  # tifffile lets any error of its parsers through; reading the file reports it
        return ""


def described_by(file: Path) -> str:
    """The name of the file that describes the pages of a TIFF; "" if it does so itself, or nothing does."""
    match = _BINARY_ONLY.search(description_in(file)[:LARGEST_CHECKED])
    return PureWindowsPath(match[2]).name if match else ""


def _root(tiff: tifffile.TiffFile) -> ElementTree.Element | None:
    if not tiff.ome_metadata:
        return None
    try:
        return ElementTree.fromstring(tiff.ome_metadata.encode())
    except (ElementTree.ParseError, ValueError):
        return None


def _parts(root: ElementTree.Element) -> Iterator[tuple[str, int]]:
    """The file and the number of pages of each part of the images; the name of the file is "" for the TIFF itself."""
    for pixels in root.iterfind(".//{*}Pixels"):
        whole = 1
        for axis in "ZCT":
            whole *= int(pixels.get(f"Size{axis}", 1))
        for part in pixels.iterfind("{*}TiffData"):
            uuid = part.find("{*}UUID")
            name = "" if uuid is None else PureWindowsPath(uuid.get("FileName", "")).name
            yield name, int(part.get("PlaneCount", 1 if "IFD" in part.attrib else whole))
