"""Reading TIFFs, also those with several planes: pages that are z planes, channels or timepoints, and RGB.

A path names a plane in such a file: `x.tif?page=1of3` is the second of three pages, `x.tif?color=0of3` the red channel.
`x.tif?ifd=1of3` is the second page, too, where other metadata than those in the file say what it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from openhcs_omero.errors import OpenHCSError, PlateError
from openhcs_omero.io.disk import check_regular
from openhcs_omero.io.formats import LARGEST_RATIO, LARGEST_UNCHECKED, check_compression
from openhcs_omero.microscopes.ome_tiffs import check_pages
from openhcs_omero.plates.arrangement import PlaneFile

COLORS = ("red", "green", "blue")
MOST_PAGES = 10_000
LARGEST_PLANE = 2**32  # bytes

Size = tuple[int, int, str]
"""Height, width and numpy dtype name of a plane."""

_PART = re.compile(r"(.*)\?(page|color|ifd)=(\d+)of(\d+)", re.DOTALL)
_WORDS = {"T": "timepoints", "C": "channels", "Z": "z planes"}


@dataclass(frozen=True)
class PageLayout:
    """What the pages of a TIFF are: the number of pages along each of the axes, slowest first; or the colors of RGB."""

    axes: tuple[tuple[str, int], ...] = ()
    colors: bool = False

    @property
    def is_plane(self) -> bool:
        return not (self.axes or self.colors)


def split(path: str) -> tuple[str, str, int, int]:
    """Split the path of a plane into file, kind of part ("page", "ifd", "color" or ""), number and count."""
    match = _PART.fullmatch(path)
    return (match[1], match[2], int(match[3]), int(match[4])) if match else (path, "", 0, 1)


def file_of(path: str) -> Path:
    """The file that a plane is in."""
    return Path(split(path)[0])


def open_tiff(file: Path) -> tifffile.TiffFile:
    """Open a TIFF. Other files that its OME-XML names are not opened, and neither are pipes and devices."""
    check_regular(file)
    return tifffile.TiffFile(file, _multifile=False)


def layout_of(file: Path) -> PageLayout:
    """Find out what the pages of a TIFF are, from its header.

    Raises
    ------
    PlateError
        If their meaning is not plain.
    """
    try:
        with open_tiff(file) as tiff:
            pages = whole_pages(tiff, file)
            page = pages[0]
            if page.samplesperpixel > 1:
                return _colors(page, len(pages), file)
            check_pages(tiff, len(pages), file)
            if len(pages) == 1:
                return PageLayout((("Z", 1),)) if len(tiff.pages) > 1 else PageLayout()
            return PageLayout(tuple(_axes(tiff, len(pages), file)))
    except OpenHCSError as error:
        raise PlateError(str(error)) from None
    except FileNotFoundError:
        raise PlateError(f"the file {file} is not there: is the plate's folder complete?") from None
    except Exception as error:  # tifffile lets any error of its parsers through
        raise PlateError(f"{file} can't be read as a TIFF: {error}") from None


def whole_pages(tiff: tifffile.TiffFile, file: Path) -> list[Any]:
    """The pages of a TIFF without smaller copies, as in pyramids."""
    if len(tiff.pages) > MOST_PAGES:
        raise PlateError(f"{file} has more than {MOST_PAGES} pages")
    pages: list[Any] = list(tiff.pages)
    return [page for page in pages if not page.is_reduced] or pages[:1]


def _colors(page: Any, pages: int, file: Path) -> PageLayout:
    rgb = page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
    if pages > 1 or not rgb or page.samplesperpixel != len(COLORS):
        raise PlateError(
            f"{file} has {pages} pages with {page.samplesperpixel} values per pixel: of color images, only single "
            "pages of RGB are read; save the channels as gray TIFFs"
        )
    return PageLayout(colors=True)


def _axes(tiff: tifffile.TiffFile, pages: int, file: Path) -> Iterator[tuple[str, int]]:
    """The axes that the file's metadata name; pages along a single unnamed axis are z planes."""
    series = tiff.series[0]
    long = [(axis, size) for axis, size in zip(series.axes, series.shape) if axis not in "YX" and size > 1]
    if len(long) == 1 and long[0][0] not in _WORDS:
        long = [("Z", pages)]
    if len(tiff.series) > 1 and not _alike(tiff):
        raise PlateError(f"{file} has {pages} pages of different sizes: save each plane as a TIFF of its own")
    if any(axis not in _WORDS for axis, _ in long) or math.prod(size for _, size in long) != pages:
        raise PlateError(
            f"{file} has {pages} pages along the axes {series.axes}: which plane is which is not known; "
            "save each plane as a TIFF of its own"
        )
    yield from long


def _alike(tiff: tifffile.TiffFile) -> bool:
    pages: list[Any] = list(tiff.pages)
    return len({(page.shape, page.dtype) for page in pages if not page.is_reduced}) == 1


def plane_size(path: Path, part: str = "", count: int = 1, number: int = 0) -> Size:
    """Read the height, width and dtype name of a plane from the header of its TIFF.

    Parameters
    ----------
    path
        The file.
    part
        "page", "ifd" or "color" if the plane is only a part of the file.
    count
        How many such parts the file should have.
    number
        Which of them the plane is; "ifd" may differ in size.

    Raises
    ------
    PlateError
        If the file is not such a TIFF, or is shorter than its header says.
    """
    try:
        with open_tiff(path) as tiff:
            pages = whole_pages(tiff, path)
            page: Any = pages[0] if part else tiff.pages[0]
            if part != "ifd":
                check_pages(tiff, len(pages), path)
            if part:
                _check_parts(pages, path, part, count)
            if part == "ifd":
                page = pages[number]
            if not part and (len(tiff.pages) != 1 or page.subfiletype):
                raise PlateError(f"{path} has {len(tiff.pages)} planes; a file must have one plane")
            check_compression(page, path, data=False)
            if page.nbytes > LARGEST_PLANE:
                raise PlateError(f"{path} declares a plane of {page.nbytes} bytes; at most {LARGEST_PLANE} are read")
            shape = page.shape
            if part == "color":
                shape = shape[1:] if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE else shape[:2]
            if len(shape) != 2 or page.dtype is None:
                raise PlateError(f"{path} is not a grayscale image: its shape is {page.shape}")
            # masks that tifffile writes show 0 as white, but their values are what was given
            inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and page.bitspersample > 1
            if inverted or not _is_grey(page):
                raise PlateError(f"{path} shows 0 as white or has a color palette, so its values are not intensities")
            if 0 in shape:
                raise PlateError(f"{path} declares an image of {shape[1]} x {shape[0]} pixels, which is empty")
            end = max((o + n for o, n in zip(page.dataoffsets, page.databytecounts)), default=0)
            if end > path.stat().st_size or not sum(page.databytecounts):
                raise PlateError(f"{path} is truncated: it has {path.stat().st_size} of {end} bytes")
            return shape[0], shape[1], page.dtype.name
    except OpenHCSError as error:
        raise PlateError(str(error)) from None
    except FileNotFoundError:
        raise PlateError(f"the file {path} is missing: is the plate's folder complete?") from None
    except Exception as error:  # tifffile lets any error of its parsers through
        raise PlateError(f"{path} can't be read as a TIFF: {error}") from None


def size_of(path: str) -> Size:
    """Height, width and dtype name of the plane at a path, which may be a part of a file."""
    file, part, number, count = split(path)
    return plane_size(Path(file), part, count, number)


def _check_parts(pages: list[Any], file: Path, part: str, count: int) -> None:
    """Check that a file has as many pages or colors as the first file of its plate."""
    page = pages[0]
    if (len(pages), page.samplesperpixel) != ((1, count) if part == "color" else (count, 1)):
        wanted = "one page of RGB" if part == "color" else f"{count} pages"
        raise PlateError(
            f"{file} has {len(pages)} pages with {page.samplesperpixel} values per pixel, where "
            f"{'its OME-XML lists' if part == 'ifd' else 'the first file of the plate has'} {wanted}"
        )


def _is_grey(page: Any) -> bool:
    """Whether the values of a page are intensities: it has no palette, or one from black to white."""
    if page.photometric != tifffile.PHOTOMETRIC.PALETTE:
        return True
    red, green, blue = np.asarray(page.colormap, int)
    return bool((red == green).all() and (red == blue).all() and (np.diff(red) >= 0).all() and red[0] < red[-1])


def parts_of(planes: Iterable[PlaneFile], layout: PageLayout) -> Iterator[PlaneFile]:
    """The planes in files of this layout; raises PlateError if the names of the files say the same axis."""
    planes = list(planes)
    for axis, size in layout.axes or [("C", len(COLORS))]:
        values = {getattr(plane, axis.lower()) for plane in planes}
        if size > 1 and len(values) > 1:
            words = "colors are" if layout.colors else "pages are"
            raise PlateError(
                f"{planes[0].path}: its {words} {_WORDS[axis]}, but the names of the files also number "
                f"{_WORDS[axis]}; name only one of them"
            )
    sizes = [size for _, size in layout.axes]
    for plane in planes:
        if plane.path is None:
            continue
        if layout.colors:
            yield from (replace(plane, c=c, path=f"{plane.path}?color={c}of{len(COLORS)}") for c in range(len(COLORS)))
            continue
        for number, index in enumerate(np.ndindex(*sizes)):
            at = {axis: place for (axis, size), place in zip(layout.axes, index) if size > 1}
            yield replace(
                plane,
                t=at.get("T", plane.t),
                c=at.get("C", plane.c),
                z=at.get("Z", plane.z),
                path=f"{plane.path}?page={number}of{math.prod(sizes)}",
            )


def described(layout: PageLayout) -> str:
    """A sentence for the log about what is read from the files."""
    if layout.colors:
        return "the TIFFs are RGB: red, green and blue are read as three channels"
    if math.prod(size for _, size in layout.axes) == 1:
        return "the TIFFs have smaller copies of their planes, which are left out"
    words = " and ".join(f"{size} {_WORDS[axis]}" for axis, size in layout.axes)
    return f"the TIFFs have several pages, which are read as {words}"


def read_parts(paths: Sequence[str]) -> dict[str, np.ndarray]:
    """Read planes from files; each file is opened once.

    Returns
    -------
    dict
        (Y, X) arrays by path.

    Raises
    ------
    PlateError
        If a file can't be read, or has other pages than the path says.
    """
    found: dict[str, np.ndarray] = {}
    by_file: dict[str, list[str]] = {}
    for path in paths:
        by_file.setdefault(split(path)[0], []).append(path)
    for file, parts in by_file.items():
        try:
            with open_tiff(Path(file)) as tiff:
                pages = whole_pages(tiff, Path(file))
                for part in parts:
                    found[part] = _read_part(pages, part)
        except OpenHCSError as error:
            raise PlateError(str(error)) from None
        except FileNotFoundError:
            raise PlateError(f"there is no file {file}") from None
        except Exception as error:  # tifffile lets any error of its decoders through
            raise PlateError(f"{file} can't be read as a TIFF: {error}") from None
    return found


def _read_part(pages: list[Any], path: str) -> np.ndarray:
    file, kind, number, count = split(path)
    _check_parts(pages, Path(file), kind, count)
    page = pages[0 if kind == "color" else number]
    size = Path(file).stat().st_size
    if page.nbytes > max(LARGEST_UNCHECKED, LARGEST_RATIO * size):
        raise PlateError(f"{file} declares a page of {page.nbytes} bytes in a file of {size}")
    check_compression(page, file)
    if kind != "color":
        return page.asarray()
    image = page.asarray()
    return np.ascontiguousarray(image[number] if page.planarconfig == 2 else image[..., number])
