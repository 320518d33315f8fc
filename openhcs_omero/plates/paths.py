"""Virtual paths: the names of plates, wells, sites, planes and attached files.

    /omero/plate_7                                   PlatePath   a plate; /omero/plate_7_processed is derived from it
    /omero/plate_7/A01                               WellPath    a well
    /omero/plate_7/A01/A01_s001.tif                  SitePath    a site, with all of its planes
    /omero/plate_7/A01/A01_s001_z000_c000[_t000].tif PlanePath   a plane
    /omero/plate_7/x.csv                             FilePath    a file attached to the plate
    /omero/plate_7/A01/x.csv                         FilePath    a file attached to the well
    /omero/plate_7/A01/A01_s001_x.csv                FilePath    a file attached to the site's image

Sites count from 1; z, channel and t from 0. Every path has exactly one spelling. Plates in folders use the same names
below their folder: there `plate` is a `pathlib` path instead of a `PlatePath`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, ClassVar, Generic, TypeVar

from openhcs_omero.errors import PlateError

S3 = "s3://"
_NUMBER = r"(?:[0-9]{3}|[1-9][0-9]{3,})"
_PLATE = re.compile(r"plate_([1-9][0-9]{0,17})(?:_([A-Za-z0-9][A-Za-z0-9_-]*))?")
_WELL = re.compile(r"[A-Z]{1,2}(?:0[1-9]|[1-9][0-9]{1,2})")
_LOOSE_WELL = re.compile(r"([A-Za-z]{1,2})0*([1-9][0-9]{0,2})")
_SITE = re.compile(rf"([A-Z]+[0-9]+)_s({_NUMBER})(?:\.tif|_(.+))", re.DOTALL)
_PLANE = re.compile(rf"z({_NUMBER})_c({_NUMBER})(?:_t({_NUMBER}))?\.tif")
# a misspelled site or plane must not pass as the name of a file
_MISSPELLED_SITE = re.compile(r"[A-Za-z]{1,2}[0-9]+_s[0-9]", re.ASCII)
_MISSPELLED_PLANE = re.compile(r"z[0-9].*\.tiff?", re.IGNORECASE | re.DOTALL)
_NAME = re.compile(r"[^/\\.\s\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*\.[A-Za-z0-9]+")

EXPECTED = (
    "expected /omero/plate_<id>[_<output>][/<WELL>[/<WELL>_s001[_z000_c000[_t000]].tif]] "
    "or the name of an attached file in a plate, a well or after <WELL>_s001_"
)


# ---- wells


def well_name(row: int, column: int) -> str:
    """The name of the well at `row` and `column`, both from 0: (0, 0) is A01, (31, 47) is AF48."""
    if not (0 <= row < 26 * 27 and 0 <= column < 999):
        raise ValueError(f"no well has row {row} and column {column}: rows go from 0 to 701, columns from 0 to 998")
    letters = chr(65 + row) if row < 26 else chr(64 + row // 26) + chr(65 + row % 26)
    return f"{letters}{column + 1:02d}"


def parse_well(name: str) -> tuple[int, int]:
    """Parse a well's name into row and column, both from 0; A1 and a01 are accepted for A01.

    Raises
    ------
    ValueError
        If `name` is not one or two letters and a column.
    """
    match = _LOOSE_WELL.fullmatch(name)
    if not match:
        raise ValueError(f"{name!r} is not a well: expected letters and a column like A01 or AF48")
    row = 0
    for letter in match[1].upper():
        row = row * 26 + ord(letter) - 64
    return row - 1, int(match[2]) - 1


FORMATS = ((8, 12), (16, 24), (32, 48))  # rows and columns of plates of 96, 384 and 1536 wells


def plate_format(rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of the smallest usual plate that has at least these; what is larger stays as it is."""
    return next(((r, c) for r, c in FORMATS if rows <= r and columns <= c), (rows, columns))


def expand_wells(spec: str | Sequence[str], existing: Iterable[str], size: tuple[int, int] = (0, 0)) -> list[str]:
    """The wells that `spec` selects, in the plate's order, without repeats.

    Parameters
    ----------
    spec
        ``"all"``, or names and ranges: ``["A01", "C01-C12", "A01-B03"]``. A range is the rectangle between two corners
        and selects those of its wells that the plate has.
    existing
        Names of the plate's wells.
    size
        Rows and columns of the plate, as far as they are known.

    Raises
    ------
    PlateError
        If the plate does not have a well, a range has none of its wells or a corner that no plate of its format has, or
        if a name is not a well's name.
    """
    wells = {parse_well(name): name for name in existing}
    if not wells:
        raise PlateError("the plate has no wells to choose from")
    if spec == "all":
        return [wells[place] for place in sorted(wells)]
    chosen: set[tuple[int, int]] = set()
    rows, columns = (max(number, 1 + max(place[axis] for place in wells)) for axis, number in enumerate(size))
    for item in [spec] if isinstance(spec, str) else spec:
        chosen |= _wells_of(item, wells, plate_format(rows, columns))
    return [wells[place] for place in sorted(chosen)]


def _wells_of(item: str, wells: dict[tuple[int, int], str], size: tuple[int, int]) -> set[tuple[int, int]]:
    corners = [part.strip() for part in item.split("-")]
    try:
        places = [parse_well(corner) for corner in corners]
    except ValueError as error:
        raise PlateError(f"wells: {item!r} is neither a well like A01 nor a range like A01-B12 ({error})") from None
    rows, columns = sorted({row for row, _ in wells}), sorted({column for _, column in wells})
    what = f"its wells lie between {well_name(rows[0], columns[0])} and {well_name(rows[-1], columns[-1])}"
    if len(places) == 1:
        if places[0] not in wells:
            raise PlateError(f"well {item} is not in the plate: {what}")
        return set(places)
    if len(places) > 2:
        raise PlateError(f"wells: {item!r} has more than two corners; write a range like A01-B12")
    for corner, (row, column) in zip(corners, places):
        if row >= size[0] or column >= size[1]:
            raise PlateError(
                f"well {corner} of the range {item} is not on a plate of {size[0]} x {size[1]} wells: {what}"
            )
    (row_a, column_a), (row_b, column_b) = places
    inside = {
        (row, column)
        for row, column in wells
        if min(row_a, row_b) <= row <= max(row_a, row_b)
        and min(column_a, column_b) <= column <= max(column_a, column_b)
    }
    if not inside:
        raise PlateError(f"the plate has no well in the range {item}: {what}")
    return inside


def is_well(name: str) -> bool:
    """Whether `name` is a well's name in the spelling used in paths, such as A01."""
    return _WELL.fullmatch(name) is not None


# ---- paths


@dataclass(frozen=True)
class PlatePath:
    """A plate in OMERO.

    Parameters
    ----------
    plate_id
        OMERO's id of the plate; if `output` is given, of the source plate.
    output
        The output whose derived plate this is: letters, digits, ``_`` and ``-``.

    Raises
    ------
    ValueError
        If the parts do not form a path. All path classes raise it.
    """

    kind: ClassVar[str] = "plate"
    plate_id: int
    output: str | None = None

    def __post_init__(self) -> None:
        name = str(self).removeprefix("/omero/")
        _check(_PLATE.fullmatch(name), f"{name!r} is not a plate")

    @property
    def plate(self) -> PlatePath:
        """The plate itself; all other paths have this attribute too."""
        return self

    def __str__(self) -> str:
        return f"/omero/plate_{self.plate_id}" + ("" if self.output is None else f"_{self.output}")


Plate = TypeVar("Plate", bound=PlatePath | PurePath)


@dataclass(frozen=True)
class WellPath(Generic[Plate]):
    """A well of a plate, by its name."""

    kind: ClassVar[str] = "well"
    plate: Plate
    well: str

    def __post_init__(self) -> None:
        _check(is_well(self.well), f"{self.well!r} is not a well like A01")

    def __str__(self) -> str:
        return f"{self.plate}/{self.well}"


@dataclass(frozen=True)
class SitePath(Generic[Plate]):
    """A site of a well. `site` counts from 1, in the order of the well's samples."""

    kind: ClassVar[str] = "site"
    plate: Plate
    well: str
    site: int

    def __post_init__(self) -> None:
        _check(is_well(self.well), f"{self.well!r} is not a well like A01")
        _check(self.site > 0, "sites count from 1")

    @property
    def parent(self) -> WellPath[Plate]:
        """The site's well."""
        return WellPath(self.plate, self.well)

    @property
    def name(self) -> str:
        """The site's name, such as A01_s001."""
        return f"{self.well}_s{self.site:03d}"

    @property
    def stem(self) -> str:
        """The path without its ending, which is how the paths of the site's planes and files start."""
        return f"{self.parent}/{self.name}"

    def __str__(self) -> str:
        return f"{self.stem}.tif"


@dataclass(frozen=True)
class PlanePath(Generic[Plate]):
    """A plane of a site. `z`, `channel` and `t` count from 0; `t` is None if there is only one timepoint."""

    kind: ClassVar[str] = "plane"
    plate: Plate
    well: str
    site: int
    z: int
    channel: int
    t: int | None = None

    def __post_init__(self) -> None:
        _check(min(self.z, self.channel, self.t or 0) >= 0, "z, channel and t count from 0")
        _ = self.parent  # checks well and site

    @property
    def parent(self) -> SitePath[Plate]:
        """The plane's site."""
        return SitePath(self.plate, self.well, self.site)

    def __str__(self) -> str:
        end = "" if self.t is None else f"_t{self.t:03d}"
        return f"{self.parent.stem}_z{self.z:03d}_c{self.channel:03d}{end}.tif"


@dataclass(frozen=True)
class FilePath(Generic[Plate]):
    """A file attached to its `parent`: a plate, a well or a site's image."""

    kind: ClassVar[str] = "file"
    parent: Plate | WellPath[Plate] | SitePath[Plate]
    name: str

    def __post_init__(self) -> None:
        name = self.name
        _check(_NAME.fullmatch(name) and name == name.rstrip(), f"{name!r} is not the name of a file with an ending")
        if not isinstance(self.parent, SitePath):
            tiff = name.lower().endswith((".tif", ".tiff"))
            _check(not (tiff or _MISSPELLED_SITE.match(name)), f"{name!r} is not the name of a site or a plane")
        _check(not _MISSPELLED_PLANE.fullmatch(name), f"{name!r} is not the name of a plane")

    @property
    def plate(self) -> Plate:
        """The plate that the file is in."""
        return self.parent.plate if isinstance(self.parent, WellPath | SitePath) else self.parent

    def __str__(self) -> str:
        return f"{self.parent.stem}_{self.name}" if isinstance(self.parent, SitePath) else f"{self.parent}/{self.name}"


InPlate = WellPath[Plate] | SitePath[Plate] | PlanePath[Plate] | FilePath[Plate]
VirtualPath = PlatePath | InPlate[PlatePath]
"""Any path in OMERO."""


def _check(right: Any, problem: str) -> None:
    if not right:
        raise ValueError(f"not a virtual path: {problem}; {EXPECTED}")


def make_path(
    plate_id: int,
    output: str | None = None,
    well: str | None = None,
    site: int | None = None,
    z: int | None = None,
    channel: int | None = None,
    t: int | None = None,
    name: str | None = None,
) -> VirtualPath:
    """Make a path in OMERO from its parts, which the path classes describe.

    Raises
    ------
    ValueError
        If the parts do not form a path.
    """
    plate = PlatePath(plate_id, output)
    plane = any(number is not None for number in (z, channel, t))
    _check(site is None or well is not None, "a site needs its well")
    if plane:
        _check(name is None, "a plane has no attached file")
        if well is None or site is None or z is None or channel is None:
            raise ValueError(f"not a virtual path: a plane needs its site, z and channel; {EXPECTED}")
        return PlanePath(plate, well, site, z, channel, t)
    parent = plate if well is None else WellPath(plate, well) if site is None else SitePath(plate, well, site)
    return parent if name is None else FilePath(parent, name)


def parse_path(text: str) -> VirtualPath:
    """Parse a path in OMERO; the path of a plate or well may end in a slash.

    Raises
    ------
    ValueError
        If `text` is not such a path. The message says what was expected.
    """
    root, _, below = text.removeprefix("/omero/").removesuffix("/").partition("/")
    match = _PLATE.fullmatch(root) if text.startswith("/omero/") else None
    if not match:
        raise ValueError(f"{text!r} is not a virtual path: {EXPECTED}")
    try:
        plate = PlatePath(int(match[1]), match[2])
        path = parse_inside(plate, below) if below or text.endswith("//") else plate
    except ValueError as error:
        raise ValueError(f"{text!r} is {error}") from None
    if text.endswith("/") and not isinstance(path, PlatePath | WellPath):
        raise ValueError(f"{text!r} is not a virtual path: a slash ends only plates and wells; {EXPECTED}")
    return path


def parse_inside(plate: Plate, below: str) -> InPlate[Plate]:
    """Parse the part of a path below a plate, such as ``A01/A01_s001.tif``.

    Raises
    ------
    ValueError
        If `below` is not a path in a plate. The message says what was expected.
    """
    well, slash, last = below.partition("/")
    if not slash:
        return WellPath(plate, well) if is_well(well) or "." not in well else FilePath(plate, well)
    match = _SITE.fullmatch(last)
    if not match:
        return FilePath(WellPath(plate, well), last)
    _check(match[1] == well, f"{last!r} belongs to well {match[1]} but is in well {well}")
    site = SitePath(plate, well, int(match[2]))
    if match[3] is None:
        return site
    plane = _PLANE.fullmatch(match[3])
    if not plane:
        return FilePath(site, match[3])
    z, channel, t = plane.groups()
    return PlanePath(plate, well, site.site, int(z), int(channel), None if t is None else int(t))


def in_full(text: str) -> str:
    """Expand a virtual path: ``7`` and ``plate_7`` are short for ``/omero/plate_7``."""
    if text.startswith("/"):
        return text
    return f"/omero/{text}" if text.startswith("plate_") else f"/omero/plate_{text}"


def plate_of(plate: int | str | PurePath) -> PlatePath | None:
    """The plate in OMERO that an id (number or text) or a path like ``/omero/plate_7`` names; None for a folder.

    Raises
    ------
    PlateError
        If it is a path in OMERO, but not the path of a plate.
    """
    text = str(plate)
    if not (text.isdecimal() or f"{text}/".startswith("/omero/")):
        return None
    try:
        path = parse_path(in_full(text))
    except ValueError as error:
        raise PlateError(str(error)) from None
    if not isinstance(path, PlatePath):
        raise PlateError(f"{text} is a {path.kind}, not a plate: expected an id or /omero/plate_<id>[_<output>]")
    return path


def in_s3(path: object) -> bool:
    """Whether the path of a plate is an address on S3, like ``s3://bucket/plate.zarr``."""
    return str(path).startswith(S3)
