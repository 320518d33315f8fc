"""Import of a plate: a folder of TIFFs, a plane each, becomes a plate in OMERO.

All files are checked before anything is created. Then the images of well after well are written, which no well shows
yet, and at last the plate with its wells in one save that shows all of them: there is no half a plate at any time. An
import that fails deletes its images. One that is killed can't; its images have its folder in their mark, and the next
import of the folder by the same user deletes them first.
"""

import contextlib
import re
import socket
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import omero
import tifffile
from omero.gateway import BlitzGateway
from omero.model import ImageI, PlateI, WellI, WellSampleI
from omero.rtypes import rint, rstring

from openhcs_omero.errors import OpenHCSError, PlateError
from openhcs_omero.omero import services
from openhcs_omero.omero.paths import parse_well, well_name
from openhcs_omero.omero.pixels import NewImage, discard, map_annotation, storable, write_well_images

NAMESPACE = "openhcs_omero/import"
FOLDER_MARK = "imported_from"
GROUPS = ("well", "row", "column", "site", "channel", "z", "t")
FORMATS = ((8, 12), (16, 24), (32, 48))  # rows and columns of plates of 96, 384 and 1536 wells

# what microscopes and this software call their files; a name has to match as a whole
PATTERNS = {
    "A01_s001_z000_c000[_t000].tif": r"(?P<well>[A-Z]{1,2}\d{2,})_s(?P<site>\d+)_z(?P<z>\d+)_c(?P<channel>\d+)"
                                     r"(?:_t(?P<t>\d+))?",
    "[X_]A01_s1_w1.tif": r"(?:.*?_)??(?P<well>[A-Z]{1,2}\d{2,})(?:_s(?P<site>\d+))?_w(?P<channel>\d)(?:[0-9A-F-]{36})?",
    "X_A01f00d0.tif": r".*_(?P<row>[A-Z]{1,2})(?P<column>\d{2,})f(?P<site>\d+)d(?P<channel>\d+)",
}
_TIFF = re.compile(r"\.tiff?$", re.IGNORECASE)
_THUMBNAIL = re.compile(r"_thumb[0-9A-F-]*\.tiff?$", re.IGNORECASE)  # ImageXpress puts them beside the images

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Layout:
    """Which file holds which plane.

    Parameters
    ----------
    files
        By well (row, column, from 0), site (from 1) and plane (t, c, z, from 0).
    channels
        Names of the channels; None where one has none.
    shape
        (T, C, Z, Y, X) of every site.
    dtype
        Of every file.
    pixel_size
        (z, y, x) in micrometres; None where it is not known.
    load
        Reads a file's plane; None for TIFFs.
    """

    files: dict[tuple[int, int], dict[int, dict[tuple[int, int, int], Path]]]
    channels: tuple[str | None, ...]
    shape: tuple[int, int, int, int, int]
    dtype: np.dtype
    pixel_size: tuple[float | None, float | None, float | None] = (None, None, None)
    load: Callable[[Path], np.ndarray] | None = None

    @property
    def sites(self) -> int:
        return sum(len(sites) for sites in self.files.values())


def import_folder(
    conn: BlitzGateway,
    folder: Path | str,
    name: str | None = None,
    pattern: str | None = None,
    progress: Progress | None = None,
    layout: Layout | None = None,
) -> int:
    """Make a plate of a folder of images in the connection's group.

    Parameters
    ----------
    folder
        The TIFFs in it are read, not those in folders below it; other files are left out.
    name
        Of the plate, by default the folder's.
    pattern
        Regular expression for the files' whole names, with or without their ending, with named groups: well, or row
        and column; and site, channel, z, t as far as there are several. Without it the file names of `PATTERNS` are
        understood.
    progress
        Called with the number of images that are done and that of all, from (0, all) on.
    layout
        What is in the folder, where that is known; then `pattern` is not used.

    Returns
    -------
    int
        Id of the plate.

    Raises
    ------
    PlateError
        Naming the file or the well: a name that does not match, two files of one plane, a missing plane or site, a
        file that is no TIFF of one plane or is cut short, files of different size or type. Nothing is created then.
    """
    layout = layout or scan(Path(folder), pattern)
    group_id = services.current_group(conn)
    mark = f"{socket.gethostname()}:{Path(folder).resolve()}"
    with services.writing(f"into group {group_id}"):
        _delete_leftovers(conn, mark, group_id)
    report = progress or (lambda done, of: None)
    report(0, layout.sites)
    wells: dict[tuple[int, int], list[int]] = {}
    try:
        for place, images in _images(layout, mark):
            written = write_well_images(conn, images, NAMESPACE, group_id)
            wells[place] = [image.image_id for image in written]
            report(sum(len(ids) for ids in wells.values()), layout.sites)
        plate = _plate(name or Path(folder).resolve().name, wells, mark)
        with services.writing("a plate"):
            return services.update(conn).saveAndReturnObject(plate, services.context(conn, group_id)).id.val
    except BaseException as error:
        # where the plate was saved and only the answer was lost, OMERO refuses to delete its images
        discard(conn, [image for ids in wells.values() for image in ids], group_id)
        if isinstance(error, KeyboardInterrupt):  # it may have cut off the answer with the last images' ids
            with contextlib.suppress(Exception):
                _delete_leftovers(conn, mark, group_id)
        if isinstance(error, omero.ValidationException):
            raise PlateError(f"the images of {folder} were deleted while they were imported: let only one import "
                             "work on a folder at a time") from None
        raise


def _images(layout: Layout, mark: str) -> Iterator[tuple[tuple[int, int], list[NewImage]]]:
    """Each well's images, read when their turn comes."""
    for place in sorted(layout.files):
        images = []
        for site, planes in sorted(layout.files[place].items()):
            pixels = np.empty(layout.shape, layout.dtype)
            for plane, path in planes.items():
                pixels[plane] = _read(path, layout)
            images.append(NewImage(f"{well_name(*place)} site {site}", pixels, channel_names=layout.channels,
                                   pixel_size=layout.pixel_size, annotations=[(FOLDER_MARK, mark)]))
        yield place, images


def _plate(name: str, wells: Mapping[tuple[int, int], list[int]], mark: str) -> PlateI:
    """The plate that shows the images, not saved."""
    rows, columns = (1 + max(place[axis] for place in wells) for axis in (0, 1))
    plate = PlateI()
    plate.name = rstring(name)
    plate.rowNamingConvention, plate.columnNamingConvention = rstring("letter"), rstring("number")
    size = next(((r, c) for r, c in FORMATS if rows <= r and columns <= c), (rows, columns))
    plate.rows, plate.columns = map(rint, size)
    for (row, column), images in wells.items():
        well = WellI()
        well.row, well.column = rint(row), rint(column)
        for image in images:
            sample = WellSampleI()
            sample.image = ImageI(image, False)
            well.addWellSample(sample)
        plate.addWell(well)
    plate.linkAnnotation(map_annotation(NAMESPACE, [(FOLDER_MARK, mark)]))
    return plate


def _delete_leftovers(conn: BlitzGateway, mark: str, group_id: int) -> None:
    """Delete what an import of the folder left behind that was killed: its images that no well and no dataset shows."""
    annotations = services.rows(
        conn, "select a.id from MapAnnotation a join a.mapValue mv "
              "where a.ns = :ns and mv.name = :name and mv.value = :value and a.details.owner.id = :me",
        group_id, ns=NAMESPACE, name=FOLDER_MARK, value=mark, me=conn.getUserId())
    found = annotations and services.rows(
        conn, "select distinct i.id from ImageAnnotationLink l join l.parent i left outer join i.wellSamples ws "
              "left outer join i.datasetLinks d where l.child.id in (:ids) and ws.id is null and d.id is null",
        group_id, ids=[row[0] for row in annotations])
    services.delete(conn, group_id, Image=[row[0] for row in found])


# ---- what is in the folder

def scan(folder: Path, pattern: str | None = None) -> Layout:
    """Find out which file holds which plane, and check all of them; raises as `import_folder` does."""
    if not folder.is_dir():
        raise PlateError(f"{folder} is not a folder")
    paths = sorted(path for path in folder.iterdir()
                   if path.is_file() and _TIFF.search(path.name) and not _THUMBNAIL.search(path.name))
    if not paths:
        raise PlateError(f"there is no TIFF in {folder}")
    named = _parse_names(paths, pattern)
    files, channels = _arrange(named)
    t, c, z, y, x, dtype = *_extent(files), *_common_size(paths)
    storable(np.zeros((1, 1, 1, y, x), dtype), paths[0].name)
    return Layout(files, channels, (t, c, z, y, x), dtype)


def arrange(paths: Iterable[Path]) -> dict[tuple[int, int], dict[int, dict[tuple[int, int, int], Path]]]:
    """TIFFs of a plane each as in `Layout`, by what their names say, thumbnails left out; PlateError if they don't."""
    return _arrange(_parse_names([path for path in paths if not _THUMBNAIL.search(path.name)], None))[0]


def parse_name(name: str, pattern: str) -> dict[str, str] | None:
    """What a file's name says, by group of the pattern; None if it doesn't match as a whole, with or without ending."""
    match = re.fullmatch(pattern, _TIFF.sub("", name), re.IGNORECASE) or re.fullmatch(pattern, name, re.IGNORECASE)
    return match and {key: value for key, value in match.groupdict().items() if value is not None}


def _parse_names(paths: list[Path], pattern: str | None) -> dict[Path, dict[str, str]]:
    patterns = list(PATTERNS.values()) if pattern is None else [_checked(pattern)]
    tried = [{path: parse_name(path.name, pattern) for path in paths} for pattern in patterns]
    best = min(tried, key=lambda parsed: sum(match is None for match in parsed.values()))
    strange = [path.name for path, match in best.items() if match is None]
    if strange:
        example = ", ".join(strange[:3]) + (f" and {len(strange) - 3} more" if len(strange) > 3 else "")
        wanted = f"the pattern {pattern!r}" if pattern else "any of " + ", ".join(PATTERNS)
        raise PlateError(f"{len(strange)} of {len(paths)} file names don't match {wanted}: {example}; "
                         "name the parts by --pattern, or move these files out of the folder")
    return {path: match for path, match in best.items() if match is not None}


def _checked(pattern: str) -> str:
    try:
        groups = set(re.compile(pattern).groupindex)
    except re.error as error:
        raise PlateError(f"the pattern {pattern!r} is no regular expression: {error}") from None
    if not ("well" in groups or {"row", "column"} <= groups):
        raise PlateError(f"the pattern {pattern!r} has neither a group (?P<well>...) nor (?P<row>...) and "
                         "(?P<column>...)")
    if groups - set(GROUPS):
        raise PlateError(f"the pattern {pattern!r} has groups that mean nothing: {', '.join(groups - set(GROUPS))}; "
                         f"known are {', '.join(GROUPS)}")
    return pattern


def _arrange(named: Mapping[Path, Mapping[str, str]]) -> tuple[dict, tuple[str, ...]]:
    """Files by well, site and plane, as in `Layout`, and the names of the channels; nothing missing, nothing twice."""
    values = {axis: sorted({match.get(axis, "0") for match in named.values()}, key=_by_number)
              for axis in ("site", "t", "channel", "z")}
    values = {axis: _without_repeats(found) for axis, found in values.items()}
    files: dict[tuple[int, int], dict[int, dict[tuple[int, int, int], Path]]] = defaultdict(lambda: defaultdict(dict))
    for path, match in named.items():
        site, t, c, z = (_position(values[axis], match.get(axis, "0")) for axis in ("site", "t", "channel", "z"))
        planes = files[_well(path, match)][site + 1]
        if (t, c, z) in planes:
            raise PlateError(f"{planes[t, c, z].name} and {path.name} are the same plane of the same well and site")
        planes[t, c, z] = path
    _check_holes(files, values)
    names = tuple(f"channel {value}" if value.isdigit() else value for value in values["channel"])
    return {place: {site: dict(planes) for site, planes in sites.items()} for place, sites in files.items()}, names


def _by_number(value: str) -> tuple[int, str]:
    return (int(value), "") if value.isdecimal() else (0, value)


def _without_repeats(values: Iterable[str]) -> list[str]:
    """Of 1 and 01 one."""
    return list({_by_number(value): value for value in values}.values())


def _position(values: list[str], value: str) -> int:
    return [_by_number(known) for known in values].index(_by_number(value))


def _well(path: Path, match: Mapping[str, str]) -> tuple[int, int]:
    name = match["well"] if "well" in match else match["row"] + match["column"]
    if "well" not in match and match["row"].isdecimal():
        row, column = int(match["row"]) - 1, int(match["column"]) - 1
        name = well_name(row, column) if min(row, column) >= 0 else name
    try:
        return parse_well(name)
    except ValueError as error:
        raise PlateError(f"{path.name}: {error}") from None


def _check_holes(files: Mapping, values: Mapping[str, list[str]]) -> None:
    """Each site has all planes, and each well its sites without a gap; a well may have fewer sites than others."""
    for place, sites in sorted(files.items()):
        for site in range(1, max(sites) + 1):
            missing = "all of it" if site not in sites else next(
                (f"t {t}, channel {c}, z {z}"
                 for i, t in enumerate(values["t"]) for j, c in enumerate(values["channel"])
                 for k, z in enumerate(values["z"]) if (i, j, k) not in sites[site]), None)
            if missing:
                raise PlateError(f"well {well_name(*place)} lacks files of site {values['site'][site - 1]}: {missing}")


def _extent(files: Mapping) -> tuple[int, int, int]:
    """Numbers of timepoints, channels and z planes."""
    planes = next(iter(next(iter(files.values())).values()))
    t, c, z = (1 + max(plane[axis] for plane in planes) for axis in range(3))
    return t, c, z


# ---- TIFF

def _common_size(paths: list[Path]) -> tuple[int, int, np.dtype]:
    """Height, width and dtype that all files have."""
    first = None
    for path in paths:
        size = _header(path)
        first = first or size
        if size != first:
            raise PlateError(f"the files differ in size or type: {paths[0].name} is {_size(first)}, {path.name} is "
                             f"{_size(size)}; a plate has images of one size and type")
    assert first is not None
    return first


def _size(size: tuple[int, int, np.dtype]) -> str:
    return f"{size[1]} x {size[0]} {size[2].name}"


def _header(path: Path) -> tuple[int, int, np.dtype]:
    """Height, width and dtype of a TIFF of one plane, all of whose bytes are there."""
    try:
        with tifffile.TiffFile(path) as tiff:
            if len(tiff.pages) != 1:
                raise PlateError(f"{path.name} has {len(tiff.pages)} planes; a file of one plane is expected")
            page: Any = tiff.pages[0]
            if len(page.shape) != 2 or page.dtype is None:
                raise PlateError(f"{path.name} is no grey image: its shape is {page.shape}")
            end = max(o + n for o, n in zip(page.dataoffsets, page.databytecounts))
            if end > path.stat().st_size or not sum(page.databytecounts):
                raise PlateError(f"{path.name} is cut short: {path.stat().st_size} bytes of {end}")
            if page.compression != tifffile.COMPRESSION.NONE:  # whether it can be read shows only in reading it
                page.asarray()
            return page.shape[0], page.shape[1], page.dtype.newbyteorder("=")
    except PlateError:
        raise
    except Exception as error:  # tifffile raises what its decoders raise
        raise PlateError(f"{path.name} can't be read as a TIFF: {error}") from None


def _read(path: Path, layout: Layout) -> np.ndarray:
    try:
        plane = layout.load(path) if layout.load else tifffile.imread(path)
    except OpenHCSError:
        raise
    except Exception as error:
        raise PlateError(f"{path.name} can't be read as a TIFF: {error}") from None
    if plane.shape != layout.shape[3:] or plane.dtype.newbyteorder("=") != layout.dtype:
        raise PlateError(f"{path.name} is {plane.shape} {plane.dtype}, but the plate's first file is "
                         f"{layout.shape[3:]} {layout.dtype}: a plate has images of one size and type")
    return plane
