"""The scanner: lists the files in a folder and the plate that they form."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from openhcs_omero.errors import OpenHCSError, PlateError, brief
from openhcs_omero.io.formats import check_compression
from openhcs_omero.microscopes import tiffs
from openhcs_omero.microscopes.folders import check_links, odd_tiffs, other_images
from openhcs_omero.microscopes.tiffs import COLORS, PageLayout, Size, described, layout_of, parts_of, plane_size, split
from openhcs_omero.plates.arrangement import Announced, Arrangement, Incomplete, Place, Plane, PlaneFile, arrange, merge
from openhcs_omero.plates.image import Acquired, ImageMetadata
from openhcs_omero.plates.listing import PlateListing
from openhcs_omero.plates.paths import parse_well
from openhcs_omero.plates.structure import ImageStructure, PlateStructure, WellStructure, with_wells

# pixel types of files that OMERO can't store -> the types that they are read as
READ_AS = {"bool": "uint8", "float16": "float32", "int64": "float64", "uint64": "float64"}

MOST_TRIED = 100  # files to find one that can be read
MOST_TOLD = 10  # wells of which the log says why they can't be read


# ---- the listing of a plate


@dataclass
class Found:
    """What a microscope's folder says about its plate.

    Parameters
    ----------
    planes
        All planes, with the backend's paths of their files.
    announced
        What should have been acquired according to the metadata.
    wells
        The wells listed in the metadata, with or without images.
    rows, columns
        Format of the plate; 0 if the metadata do not say.
    channel_names
        Names by the microscope's channel number.
    pixel_size
        (z, y, x) in micrometers; None where unknown.
    notes
        Sentences for the log about how the files are read.
    acquisitions
        Id and name of the acquisition by well and the microscope's number of the site.
    times
        Start and end of the acquisitions by id, see `PlateStructure`.
    colors
        (red, green, blue) by the microscope's channel number.
    own
        Names and colors by the microscope's channel number, and pixel size, of images that may differ from the plate,
        by well and the microscope's number of the site.
    shapes
        (T, C, Z) of the sites, by well and the microscope's number of the site, where the metadata say it.
    recorded
        When and where sites were taken, by well and the microscope's number of the site.
    """

    planes: list[PlaneFile] = field(default_factory=list)
    announced: Announced = field(default_factory=Announced)
    wells: list[str] = field(default_factory=list)
    rows: int = 0
    columns: int = 0
    channel_names: Mapping[int, str | None] = field(default_factory=dict)
    pixel_size: tuple[float | None, float | None, float | None] = (None, None, None)
    notes: tuple[str, ...] = ()
    acquisitions: dict[Place, tuple[int, str]] = field(default_factory=dict)
    times: Mapping[int, tuple[int | None, int | None]] = field(default_factory=dict)
    colors: Mapping[int, tuple[int, int, int] | None] = field(default_factory=dict)
    own: dict[Place, ImageMetadata] = field(default_factory=dict)
    shapes: dict[Place, tuple[int, int, int]] = field(default_factory=dict)
    recorded: dict[Place, Acquired] = field(default_factory=dict)

    def record(self, place: Place, time: str | None, position: tuple[float | None, float | None]) -> None:
        """Note when, as an ISO 8601 time, and where in its well, (x, y) in micrometers, a plane of a site was taken.

        The site has the time of its first plane. What is no time or no finite number is left out.
        """
        before = self.recorded.get(place, Acquired())
        dates = [date for date in (before.date, _milliseconds(time)) if date is not None]
        x, y = (None if at is None or not math.isfinite(at) else (at, "MICROMETER") for at in position)
        known = Acquired(min(dates, default=None), position=(x, y) if x or y else before.position)
        if known != Acquired():
            self.recorded[place] = known


def _milliseconds(time: str | None) -> int | None:
    """An ISO 8601 time with its time zone, in milliseconds since 1970; None for anything else."""
    try:
        found = datetime.fromisoformat(time or "")
    except ValueError:
        return None
    return None if found.tzinfo is None else round(1000 * found.timestamp())


def list_plate(
    folder: Path,
    names: tuple[str, str],
    found: Found,
    incomplete: Incomplete = "error",
    backend: str = "disk",
    size_of: Callable[[str], Size] = tiffs.size_of,
    file_of: Callable[[str], Path] = tiffs.file_of,
    follow_links: bool = False,
) -> PlateListing:
    """Make the listing of a plate in a folder.

    Parameters
    ----------
    folder
        The plate's folder.
    names
        Names of the parser and of the microscope.
    found
        What the folder says about its plate.
    incomplete
        What to do about missing planes, see `arrange`.
    backend
        Name of the backend that reads the plate.
    size_of, file_of
        Return the size of a plane and its file on disk for a path of the backend.
    follow_links
        Whether symbolic links may point outside the folder.

    Raises
    ------
    PlateError
        If there is no image, two files hold the same plane, a file can't be read, or a link points outside the folder.
    """
    if not follow_links:
        check_links(folder, map(file_of, {plane.path for plane in found.planes if plane.path is not None}))
    if backend == "disk":
        found = _in_parts(found)
    arranged = _arrange(found, incomplete)
    if any(plane.path for plane in found.planes):
        check_some_left(folder, arranged)
    if not any(arranged.files.values()):
        listed = f": none of the {len(found.planes)} files that its metadata list exists" if found.planes else ""
        others = f"; {text}" if (text := other_images(folder)) else ""
        raise PlateError(f"there is no image of a plate in {folder}{listed}{others}")
    sizes, unreadable = _sizes(arranged.files, size_of)
    wells = _wells(folder, found, arranged, sizes, file_of)
    structure = with_wells(
        PlateStructure(
            None,
            *names,
            {},
            set(),
            0,
            0,
            0,
            0,
            name=folder.resolve().name,
            rows=max(found.rows, 1 + max(well.row for well in wells.values())),
            columns=max(found.columns, 1 + max(well.col for well in wells.values())),
            times=found.times,
        ),
        wells,
    )
    channel_names = tuple(found.channel_names.get(number) for number in arranged.channels)
    pixel_size, notes = _lengths(found.pixel_size)
    notes += [f"{file} is no regular file, and is left out" for file in odd_tiffs(folder)]
    notes += [*_told(unreadable), *read_as_notes(size[2] for size in sizes.values())]
    places = {(well, site): (well, arranged.sites[site - 1]) for well, site in arranged.files}
    listing = PlateListing(
        structure,
        backend,
        arranged.files,
        channel_names,
        pixel_size,
        arranged.filled,
        arranged.missing,
        (*found.notes, *arranged.notes, *notes),
        tuple(found.colors.get(number) for number in arranged.channels if found.colors),
        skipped=arranged.skipped,
        skipped_planes=arranged.skipped_planes,
        channel_numbers=arranged.channels,
        recorded={place: found.recorded[original] for place, original in places.items() if original in found.recorded},
    )
    own = {place: found.own.get(original) for place, original in places.items()}
    return listing.with_own({place: _of_channels(about, arranged.channels) for place, about in own.items() if about})


def _of_channels(about: ImageMetadata, channels: tuple[int, ...]) -> ImageMetadata:
    """The metadata of these channels of an image."""
    known = {c: (name, color) for c, (name, color) in enumerate(zip_longest(about.channel_names, about.colors))}
    chosen = [known.get(c, (None, None)) for c in channels]
    return replace(
        about,
        channel_names=tuple(name for name, _ in chosen if about.channel_names),
        colors=tuple(color for _, color in chosen if about.colors),
    )


def check_some_left(plate: Path | str, arranged: Arrangement) -> None:
    """Check that not every site of a plate was skipped; PlateError if so."""
    if arranged.skipped and not arranged.files:
        raise PlateError(
            f"no site of {plate} has all of its files: `incomplete: skip` leaves nothing, but `fill` would"
        )


def _lengths(sizes: tuple[Any, Any, Any]) -> tuple[tuple[float | None, float | None, float | None], list[str]]:
    """The pixel size without what is no length, such as 0 or NaN, and a note about what was left out."""

    def is_length(size: Any) -> bool:
        return isinstance(size, int | float) and not isinstance(size, bool) and 0 < size < float("inf")

    wrong = [size for size in sizes if size is not None and not is_length(size)]
    notes = [f"the metadata give a pixel size of {brief(wrong[0], 50)}, which is ignored"] if wrong else []
    z, y, x = (float(size) if is_length(size) else None for size in sizes)
    return (z, y, x), notes


def _wells(
    folder: Path, found: Found, arranged: Arrangement, sizes: Mapping[Place, Size], file_of: Callable[[str], Path]
) -> dict[str, WellStructure]:
    """All wells that the folder or its metadata name, with the images of those that were acquired."""
    names = {*found.wells, *(well for well, _ in arranged.files), *arranged.missing}
    wells = {name: WellStructure(name, *parse_well(name), {}) for name in sorted(names, key=parse_well)}
    for (well, site), planes in arranged.files.items():
        t, c, z = arranged.shapes.get((well, site), arranged.sizes)
        height, width, dtype = sizes[well, site]
        stamp = _stamp(folder, planes, arranged.filled.get((well, site), frozenset()), file_of)
        wells[well].images[site] = ImageStructure(
            None,
            site,
            z,
            c,
            t,
            width,
            height,
            READ_AS.get(dtype, dtype),
            stamp,
            f"{well} site {site}",
            acquisition=found.acquisitions.get((well, arranged.sites[site - 1])),
        )
    return wells


def _arrange(found: Found, incomplete: Incomplete) -> Arrangement:
    """Arrange the planes of a plate; sites of other shapes on their own."""
    kinds: dict[tuple[int, int, int] | None, list[PlaneFile]] = {}
    for plane in found.planes:
        kinds.setdefault(found.shapes.get((plane.well, plane.site)), []).append(plane)
    if len(kinds) <= 1:
        return arrange(found.planes, found.announced, incomplete)
    sites = tuple(sorted({plane.site for plane in found.planes}))
    parts = []
    for kind, planes in kinds.items():
        t, c, z = map(tuple, map(range, kind)) if kind else ((), (), ())
        parts.append(arrange(planes, replace(found.announced, site=sites, t=t, c=c, z=z), incomplete))
    return merge(parts)


def _in_parts(found: Found) -> Found:
    """Replace files that hold several planes by their planes. The first file that is one shows what is in all files."""
    layout = PageLayout()
    if any(split(plane.path)[1] for plane in found.planes if plane.path is not None):
        return found
    for path in [plane.path for plane in found.planes if plane.path is not None][:MOST_TRIED]:
        try:
            layout = layout_of(Path(path))
            break
        except PlateError as error:
            problem = error
    else:
        if any(plane.path is not None for plane in found.planes):
            raise problem
    if layout.is_plane:
        return found
    names: Mapping[int, str | None] = dict(enumerate(COLORS)) if layout.colors else found.channel_names
    notes = (*found.notes, described(layout))
    inside = ["c"] if layout.colors else [axis.lower() for axis, size in layout.axes if size > 1]
    announced = found.announced.without(inside)  # it is about whole files
    planes = list(parts_of(found.planes, layout))
    return replace(found, planes=planes, announced=announced, channel_names=names, notes=notes)


def _sizes(
    files: Mapping[Place, Mapping[Plane, str]], size_of: Callable[[str], Size]
) -> tuple[dict[Place, Size], dict[str, str]]:
    """Size and type of each site, those of its first file; and why sites can't be read, one reason per well.

    A site without files is like the first site of its well or plate. So is one whose first file can't be read: its well
    fails when it is processed.
    """
    sizes: dict[Place, Size] = {}
    unreadable: dict[str, str] = {}
    firsts = {place: next(iter(planes.values())) for place, planes in files.items() if planes}
    for place, path in firsts.items():
        try:
            sizes[place] = size_of(path)
        except PlateError as error:
            unreadable.setdefault(place[0], str(error))
    if not sizes:
        raise PlateError(next(iter(unreadable.values())))
    of_wells = {well: size for (well, _), size in reversed(sizes.items())}
    first = next(iter(sizes.values()))
    return {place: sizes.get(place) or of_wells.get(place[0], first) for place in files}, unreadable


def _told(unreadable: Mapping[str, str]) -> list[str]:
    """Sentences about wells that will fail."""
    told = [f"well {well} can't be processed: {reason}" for well, reason in list(unreadable.items())[:MOST_TOLD]]
    more = len(unreadable) - len(told)
    return told + ([f"{more} more wells can't be processed"] if more else [])


def _stamp(folder: Path, planes: Mapping[Plane, str], filled: frozenset[Plane], file_of: Callable[[str], Path]) -> str:
    """SHA-1 of the names, sizes and times of a site's files and of its filled planes; changes if a file is written."""
    digest = hashlib.sha1(usedforsecurity=False)
    for place, path in planes.items():
        file = file_of(path)
        try:
            state = file.stat()
        except OSError:
            raise PlateError(f"the file {file} is missing: is the plate's folder complete?") from None
        name = file.relative_to(folder) if file.is_relative_to(folder) else file
        digest.update(f"{place} {name} {state.st_size} {state.st_mtime_ns}\n".encode())
    digest.update(f"{sorted(filled)}".encode() if filled else b"")
    return digest.hexdigest()


def check_files(listing: PlateListing, file_of: Callable[[str], Path] = tiffs.file_of) -> None:
    """Check that every file of a plate is a complete TIFF, and that those of a site have the same size and type.

    Raises
    ------
    PlateError
        For the first file that is not; the message names it.
    """
    firsts: dict[Place, tuple[Path, Size]] = {}
    checked: set[str] = set()
    for place, path in ((place, path) for place, planes in listing.files.items() for path in planes.values()):
        if path in checked:
            continue
        checked.add(path)
        file = file_of(path)
        _, part, number, count = split(path)
        size = plane_size(file, part, count, number)
        with tiffs.open_tiff(file) as tiff:
            if tiff.pages[0].compression != tifffile.COMPRESSION.NONE:  # only decoding shows whether it can be read
                _decode(tiff, file)
        first = firsts.setdefault(place, (file, size))
        if size != first[1]:
            raise PlateError(
                f"the files differ in size or type: {first[0].name} is {_words(first[1])}, {file.name} is "
                f"{_words(size)}; the planes of a site have one size and type"
            )


def _decode(tiff: tifffile.TiffFile, file: Path) -> None:
    try:
        for page in tiffs.whole_pages(tiff, file):
            check_compression(page, file)
            page.asarray()
    except OpenHCSError as error:
        raise PlateError(str(error)) from None
    except Exception as error:  # tifffile lets any error of its decoders through
        raise PlateError(f"{file} can't be read as a TIFF: {error}") from None


def _words(size: Size) -> str:
    return f"{size[1]} x {size[0]} {size[2]}"


def read_as_notes(dtypes: Iterable[str]) -> list[str]:
    """Sentences about pixel types that are converted."""
    return [f"pixels of type {dtype} are read as {READ_AS[dtype]}" for dtype in sorted({*dtypes} & READ_AS.keys())]


def as_read(plane: np.ndarray, pixel_type: str, path: str) -> np.ndarray:
    """Convert a plane to the pixel type that it is read as, see `READ_AS`; other planes are returned unchanged.

    Parameters
    ----------
    plane
        (Y, X), as stored in the file.
    pixel_type
        Name of the numpy dtype to convert to.
    path
        Path of the file, for the error message.

    Raises
    ------
    PlateError
        If the type can't hold the values: integers of more than 53 bits.
    """
    if plane.dtype == pixel_type or READ_AS.get(plane.dtype.name) != pixel_type:
        return plane
    read = plane.astype(pixel_type)
    if plane.dtype.kind in "iu" and np.abs(read).max(initial=0) > 2.0**53:
        raise PlateError(f"{path} has integers of more than 53 bits, which no pixel type of a plate can hold")
    return read
