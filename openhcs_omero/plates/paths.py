"""Virtual paths: what a plane, a site, a well, a plate or an attached file in OMERO is called.

    /omero/plate_7                                   a plate          /omero/plate_7_processed   its derived plate
    /omero/plate_7/A01                               a well
    /omero/plate_7/A01/A01_s001.tif                  a site, all of its planes
    /omero/plate_7/A01/A01_s001_z000_c000[_t000].tif a plane
    /omero/plate_7/x.csv                             a file attached to the plate
    /omero/plate_7/A01/x.csv                         a file attached to the well
    /omero/plate_7/A01/A01_s001_x.csv                a file attached to the site's image

Sites count from 1; z, channel and t from 0. Every path has exactly one spelling.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from openhcs_omero.errors import PlateError

Kind = Literal["plate", "well", "site", "plane", "file"]

_NUMBER = r"(?:[0-9]{3}|[1-9][0-9]{3,})"
_PLATE = re.compile(r"plate_([1-9][0-9]*)(?:_([A-Za-z0-9][A-Za-z0-9_-]*))?")
_WELL = re.compile(r"[A-Z]{1,2}(?:0[1-9]|[1-9][0-9]{1,2})")
_LOOSE_WELL = re.compile(r"([A-Za-z]{1,2})0*([1-9][0-9]{0,2})")
_SITE = re.compile(rf"([A-Z]+[0-9]+)_s({_NUMBER})(?:\.tif|_(.+))", re.DOTALL)
_PLANE = re.compile(rf"z({_NUMBER})_c({_NUMBER})(?:_t({_NUMBER}))?\.tif")
# what looks like a site or a plane and is none must not pass for a file's name
_MISSPELT_SITE = re.compile(r"[A-Za-z]{1,2}[0-9]+_s[0-9]", re.ASCII)
_MISSPELT_PLANE = re.compile(r"z[0-9].*\.tiff?", re.IGNORECASE | re.DOTALL)
_NAME = re.compile(r"[^/\\.\s\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*\.[A-Za-z0-9]+")

EXPECTED = (
    "expected /omero/plate_<id>[_<output>][/<WELL>[/<WELL>_s001[_z000_c000[_t000]].tif]] "
    "or the name of an attached file in a plate, a well or after <WELL>_s001_"
)


def well_name(row: int, column: int) -> str:
    """Name of the well at `row` and `column`, both from 0: (0, 0) is A01, (31, 47) is AF48."""
    if not (0 <= row < 26 * 27 and 0 <= column < 999):
        raise ValueError(f"no well has row {row} and column {column}: they count from 0, to 701 and 998")
    letters = chr(65 + row) if row < 26 else chr(64 + row // 26) + chr(65 + row % 26)
    return f"{letters}{column + 1:02d}"


def parse_well(name: str) -> tuple[int, int]:
    """Row and column, both from 0, of a well's name; as people write it, so A1 and a01 are A01.

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


def expand_wells(spec: str | Sequence[str], existing: Iterable[str]) -> list[str]:
    """The wells that `spec` asks for, in the plate's order, each once.

    Parameters
    ----------
    spec
        ``"all"``, or names and ranges: ``["A01", "C01-C12", "A01-B03"]``; a range is the rectangle between two
        corners and means those of its wells that the plate has.
    existing
        Names of the plate's wells.

    Raises
    ------
    PlateError
        If a well, a corner of a range, or all of a range lies outside the plate, or is no well's name.
    """
    wells = {parse_well(name): name for name in existing}
    if not wells:
        raise PlateError("the plate has no wells to choose from")
    if spec == "all":
        return [wells[place] for place in sorted(wells)]
    chosen: set[tuple[int, int]] = set()
    for item in [spec] if isinstance(spec, str) else spec:
        chosen |= _wells_of(item, wells)
    return [wells[place] for place in sorted(chosen)]


def _wells_of(item: str, wells: dict[tuple[int, int], str]) -> set[tuple[int, int]]:
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
        if not (rows[0] <= row <= rows[-1] and columns[0] <= column <= columns[-1]):
            raise PlateError(f"well {corner} of the range {item} is not in the plate: {what}")
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


@dataclass(frozen=True)
class VirtualPath:
    """One thing in OMERO, named by where it is; ``str()`` formats it and `parse` reads it back.

    Parameters
    ----------
    plate_id
        OMERO's id of the plate; of the source plate where `output` names one of its derived plates.
    output
        Name of the derived plate's output, letters, digits, ``_`` and ``-``.
    well
        Well name like ``A01``.
    site
        From 1, in the order of the well's samples.
    z, channel, t
        From 0; z and channel together name a plane, `t` stands only in plates with several timepoints.
    name
        Name of a file that is attached to the plate, the well or the site's image.

    Raises
    ------
    ValueError
        If the parts do not make a path.
    """

    plate_id: int
    output: str | None = None
    well: str | None = None
    site: int | None = None
    z: int | None = None
    channel: int | None = None
    t: int | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ValueError(f"not a virtual path: {problem}; {EXPECTED}")

    def _problem(self) -> str | None:
        numbers = (self.site, self.z, self.channel, self.t)
        plate = f"plate_{self.plate_id}" + ("" if self.output is None else f"_{self.output}")
        if not _PLATE.fullmatch(plate):
            return f"{plate!r} is not a plate"
        if self.well is not None and not _WELL.fullmatch(self.well):
            return f"{self.well!r} is not a well like A01"
        if any(number is not None and number < 0 for number in numbers) or self.site == 0:
            return "sites count from 1; z, channel and t from 0"
        if self.site is not None and self.well is None:
            return "a site needs its well"
        plane = (self.z is not None, self.channel is not None)
        if (any(plane) or self.t is not None) and not (all(plane) and self.site is not None):
            return "a plane needs its site, z and channel"
        return None if self.name is None else self._problem_of_name(self.name)

    def _problem_of_name(self, name: str) -> str | None:
        if self.z is not None:
            return "a plane has no attached file"
        if not _NAME.fullmatch(name) or name != name.rstrip():
            return f"{name!r} is not a file's name with an ending"
        tiff = name.lower().endswith((".tif", ".tiff"))
        if self.site is None and (_MISSPELT_SITE.match(name) or tiff):
            return f"{name!r} is not the name of a site or a plane"
        return f"{name!r} is not the name of a plane" if _MISSPELT_PLANE.fullmatch(name) else None

    @classmethod
    def parse(cls, text: str) -> "VirtualPath":
        """Read a path; a slash may end that of a plate or a well.

        Raises
        ------
        ValueError
            If `text` is not a virtual path; it says what was expected.
        """
        parts = text.removesuffix("/").split("/")
        match = _PLATE.fullmatch(parts[2]) if parts[:2] == ["", "omero"] and 3 <= len(parts) <= 5 else None
        if not match:
            raise ValueError(f"{text!r} is not a virtual path: {EXPECTED}")
        try:
            path = cls(int(match[1]), match[2], **_read_rest(parts[3:]))
        except ValueError as error:
            raise ValueError(f"{text!r} is {error}") from None
        if text.endswith("/") and path.kind not in ("plate", "well"):
            raise ValueError(f"{text!r} is not a virtual path: a slash ends only plates and wells; {EXPECTED}")
        return path

    @property
    def kind(self) -> Kind:
        """What the path names: "plate", "well", "site", "plane" or (an attached) "file"."""
        if self.name is not None:
            return "file"
        if self.z is not None:
            return "plane"
        return "plate" if self.well is None else "well" if self.site is None else "site"

    def __str__(self) -> str:
        parts = ["", "omero", f"plate_{self.plate_id}" + ("" if self.output is None else f"_{self.output}")]
        if self.well is not None:
            parts.append(self.well)
        if self.site is None:
            return "/".join(parts if self.name is None else [*parts, self.name])
        site = f"{self.well}_s{self.site:03d}"
        if self.name is not None:
            return "/".join([*parts, f"{site}_{self.name}"])
        if self.z is not None:
            site += f"_z{self.z:03d}_c{self.channel:03d}" + ("" if self.t is None else f"_t{self.t:03d}")
        return "/".join([*parts, f"{site}.tif"])


def in_full(text: str) -> str:
    """A virtual path in full: ``7`` and ``plate_7`` are short for ``/omero/plate_7``."""
    if text.startswith("/"):
        return text
    return f"/omero/{text}" if text.startswith("plate_") else f"/omero/plate_{text}"


def plate_of(plate: int | str | PurePath) -> VirtualPath | None:
    """The plate in OMERO that an id, its digits or a path like ``/omero/plate_7`` names; None for that of a folder.

    Raises
    ------
    PlateError
        If it is a path in OMERO, but not that of a plate.
    """
    text = str(plate)
    if not (text.isdecimal() or f"{text}/".startswith("/omero/")):
        return None
    try:
        path = VirtualPath.parse(in_full(text))
    except ValueError as error:
        raise PlateError(str(error)) from None
    if path.kind != "plate":
        raise PlateError(f"{text} is a {path.kind} and not a plate: expected an id or /omero/plate_<id>[_<output>]")
    return path


def _read_rest(parts: list[str]) -> dict:
    """What follows the plate, as VirtualPath's arguments."""
    if not parts:
        return {}
    if len(parts) == 1:
        return {"well": parts[0]} if _WELL.fullmatch(parts[0]) or "." not in parts[0] else {"name": parts[0]}
    well, last = parts
    match = _SITE.fullmatch(last)
    if not match:
        return {"well": well, "name": last}
    if match[1] != well:
        raise ValueError(f"not a virtual path: {last!r} is of well {match[1]} and stands in well {well}; {EXPECTED}")
    site = {"well": well, "site": int(match[2])}
    if match[3] is None:
        return site
    plane = _PLANE.fullmatch(match[3])
    if not plane:
        return {**site, "name": match[3]}
    z, channel, t = plane.groups()
    return {**site, "z": int(z), "channel": int(channel), "t": None if t is None else int(t)}
