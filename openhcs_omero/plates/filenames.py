"""Parse the names of image files: well, site, channel, z and timepoint."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from openhcs_omero.errors import PlateError, first_of
from openhcs_omero.plates.arrangement import PlaneFile
from openhcs_omero.plates.paths import parse_well, well_name

GROUPS = ("well", "row", "column", "site", "channel", "z", "t")

# file names as microscopes and this software write them; the whole name must match
PATTERNS = {
    "A01_s001_z000_c000[_t000].tif": r"(?P<well>[A-Z]{1,2}\d{2,})_s(?P<site>\d+)_z(?P<z>\d+)_c(?P<channel>\d+)"
    r"(?:_t(?P<t>\d+))?",
    "[X_]A01_s1_w1.tif": r"(?:.*?_)??(?P<well>[A-Z]{1,2}\d{2,})(?:_s(?P<site>\d+))?_w(?P<channel>\d)(?:[0-9A-F-]{36})?",
    "X_A01f00d0.tif": r".*_(?P<row>[A-Z]{1,2})(?P<column>\d{2,})f(?P<site>\d+)d(?P<channel>\d+)",
}
NAMED_PATTERNS = {
    "cellvoyager": r"(?:.*_)?(?P<well>[A-Z]{1,2}\d{2}(?:\.[a-d][1-4])?)_T(?P<t>\d+)F(?P<site>\d+)L\d+A\d+"
    r"Z(?P<z>\d+)C(?P<channel>\d+)",
    "imagexpress": PATTERNS["[X_]A01_s1_w1.tif"],
    "incell": r"(?P<row>[A-Z]{1,2}) - (?P<column>\d+)\(fld (?P<site>\d+)(?: wv (?P<channel>[^)]*?))?"
    r"(?: z (?P<z>\d+))?(?: time (?P<t>\d+)(?: - [^)]*)?)?\)",
    "opera phenix": r"r(?P<row>\d+)c(?P<column>\d+)f(?P<site>\d+)p(?P<z>\d+)-ch(?P<channel>\d+)(?:sk|t)(?P<t>\d+).*",
}
_TIFF = re.compile(r"(?:\.ome)?\.tiff?$", re.IGNORECASE)
CAMERA = re.compile(r"^(?:DC_|SC_)|_CAM\d+\.tiff?$", re.IGNORECASE)  # CellVoyager puts images of its cameras there
SHADE = re.compile(r"^(?:shad(?:e|ing)|flat[ _-]?field|dark[ _-]?(?:field|frame|current))", re.IGNORECASE)
_THUMBNAIL = re.compile(r"_thumb[0-9A-F-]*\.tiff?$", re.IGNORECASE)  # ImageXpress puts them next to the images


@dataclass(frozen=True)
class NamedPlanes:
    """The planes that file names describe. Channels are numbered in the order of their names, which are kept too."""

    planes: list[PlaneFile]
    channel_names: dict[int, str]


def named_planes(paths: Iterable[Path], pattern: str | None = None) -> NamedPlanes:
    """Parse the names of files with one plane each.

    Thumbnails and images of the illumination, and with `cellvoyager` images of the cameras, are left out.

    Parameters
    ----------
    paths
        The files.
    pattern
        The name of one of `NAMED_PATTERNS`, or a regular expression that matches whole names, with or without their
        ending. Its named groups are: well, or row and column; and site, channel, z and t if there are several. By
        default, all of `PATTERNS` are tried.

    Raises
    ------
    PlateError
        If names don't match, or if the pattern is not valid.
    """
    beside = [_THUMBNAIL, CAMERA] if pattern == "cellvoyager" else [_THUMBNAIL]
    named = _parse_names([path for path in paths if not any(name.search(path.name) for name in beside)], pattern)
    channels = _without_repeats(sorted({match.get("channel", "0") for match in named.values()}, key=_by_number))
    numbers = {_by_number(value): int(value) if value.isdecimal() else rank for rank, value in enumerate(channels)}
    if len(set(numbers.values())) < len(numbers):  # names mixed with numbers
        numbers = {key: rank for rank, key in enumerate(numbers)}
    planes = []
    for path, match in named.items():
        site, t, z = (_number(path, match, axis) for axis in ("site", "t", "z"))
        channel = numbers[_by_number(match.get("channel", "0"))]
        planes.append(PlaneFile(well_name(*_well(path, match)), site, t, channel, z, str(path)))
    return NamedPlanes(
        planes, {numbers[_by_number(value)]: f"channel {value}" if value.isdigit() else value for value in channels}
    )


def _number(path: Path, match: Mapping[str, str], axis: str) -> int:
    value = match.get(axis, "0")
    if not value.isdecimal():
        raise PlateError(f"{path.name}: the pattern finds {value!r} as {axis}, which is not a number")
    return int(value)


def parse_name(name: str, pattern: str) -> dict[str, str] | None:
    """The parts of a file's name, by group of the pattern; None if the whole name does not match."""
    match = _match(name, pattern)
    return match and {key: value for key, value in match.groupdict().items() if value is not None}


def _match(name: str, pattern: str) -> re.Match[str] | None:
    return re.fullmatch(pattern, _TIFF.sub("", name), re.IGNORECASE) or re.fullmatch(pattern, name, re.IGNORECASE)


def _name_of_plate(name: str, pattern: str) -> str:
    """The text before the well in the name of a file that matches one of this module's patterns."""
    match = _match(name, pattern)
    return "" if match is None else name[: match.start("well" if "well" in match.groupdict() else "row")]


def folded(name: str) -> str:
    """A name to compare with others: regardless of case, and of how letters with accents are composed."""
    return unicodedata.normalize("NFC", name).lower()


def check_one_plate(prefixes: Mapping[Path, str]) -> None:
    """Check that files have the same text before the name of the well, regardless of case.

    Raises
    ------
    PlateError
        If not: they are of several plates, which would be mixed.
    """
    first: dict[str, Path] = {}
    for path, prefix in prefixes.items():
        first.setdefault(folded(prefix), path)
    if len(first) > 1:
        one, other = list(first.values())[:2]
        raise PlateError(
            f"{one} and {other.name} are named for different plates: a folder holds one plate, so give each plate a "
            "folder of its own"
        )


def _parse_names(paths: list[Path], pattern: str | None) -> dict[Path, dict[str, str]]:
    patterns = list(PATTERNS.values()) if pattern is None else [NAMED_PATTERNS.get(pattern) or _checked(pattern)]
    tried = [{path: parse_name(path.name, pattern) for path in paths} for pattern in patterns]
    best = min(tried, key=lambda parsed: sum(match is None for match in parsed.values()))
    strange = [path.name for path, match in best.items() if match is None and not SHADE.search(path.name)]
    if strange or not any(best.values()):
        strange = strange or [path.name for path in paths]
        wanted = f"the pattern {pattern!r}" if pattern else "any of " + ", ".join(PATTERNS)
        raise PlateError(
            f"{len(strange)} of {len(paths)} file names don't match {wanted}: {first_of(strange)}; "
            "give a `pattern` for the names, or move these files out of the folder"
        )
    found = {path: match for path, match in best.items() if match is not None}
    if pattern is None or pattern in NAMED_PATTERNS:  # what is before the well in names of other patterns is unknown
        chosen = patterns[tried.index(best)]
        check_one_plate({path: _name_of_plate(path.name, chosen) for path in found})
    return found


def _checked(pattern: str) -> str:
    try:
        groups = set(re.compile(pattern).groupindex)
    except re.error as error:
        raise PlateError(f"the pattern {pattern!r} is not a valid regular expression: {error}") from None
    if not ("well" in groups or {"row", "column"} <= groups):
        raise PlateError(
            f"the pattern {pattern!r} has neither a group (?P<well>...) nor (?P<row>...) and (?P<column>...)"
        )
    if groups - set(GROUPS):
        raise PlateError(
            f"the pattern {pattern!r} has unknown groups: {', '.join(groups - set(GROUPS))}; "
            f"known are {', '.join(GROUPS)}"
        )
    return pattern


def _by_number(value: str) -> tuple[int, str]:
    return (int(value), "") if value.isdecimal() else (0, value)


def _without_repeats(values: Iterable[str]) -> list[str]:
    """The values without repeats; 1 and 01 are the same value."""
    return list({_by_number(value): value for value in values}.values())


def _well(path: Path, match: Mapping[str, str]) -> tuple[int, int]:
    name = match["well"] if "well" in match else match["row"] + match["column"]
    if "well" not in match and match["row"].isdecimal():
        row, column = int(match["row"]) - 1, int(match["column"]) - 1
        name = well_name(row, column) if min(row, column) >= 0 else name
    try:
        return place_of(name)
    except ValueError as error:
        raise PlateError(f"{path.name}: {error}") from None


def place_of(name: str) -> tuple[int, int]:
    """Parse a well's name into row and column, both from 0.

    CellVoyager's names for plates with 1536 wells are understood too: ``A01.d4`` is row d, column 4 of the 4 x 4 wells
    that take the place of well A01 on a plate with 96 wells.

    Raises
    ------
    ValueError
        If `name` is not the name of a well.
    """
    base, dot, inner = name.partition(".")
    row, column = parse_well(base)
    if not dot:
        return row, column
    match = re.fullmatch("([a-d])([1-4])", inner, re.IGNORECASE)
    if not match:
        raise ValueError(f"{name!r} is not a well: expected a name like A01 or A01.d4")
    return 4 * row + ord(match[1].lower()) - 97, 4 * column + int(match[2]) - 1
