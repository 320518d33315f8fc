"""What the names of image files say: well, site, channel, z and timepoint."""
from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from openhcs_omero.errors import PlateError
from openhcs_omero.plates.paths import parse_well, well_name

GROUPS = ("well", "row", "column", "site", "channel", "z", "t")


# what microscopes and this software call their files; a name has to match as a whole
PATTERNS = {
    "A01_s001_z000_c000[_t000].tif": r"(?P<well>[A-Z]{1,2}\d{2,})_s(?P<site>\d+)_z(?P<z>\d+)_c(?P<channel>\d+)"
                                     r"(?:_t(?P<t>\d+))?",
    "[X_]A01_s1_w1.tif": r"(?:.*?_)??(?P<well>[A-Z]{1,2}\d{2,})(?:_s(?P<site>\d+))?_w(?P<channel>\d)(?:[0-9A-F-]{36})?",
    "X_A01f00d0.tif": r".*_(?P<row>[A-Z]{1,2})(?P<column>\d{2,})f(?P<site>\d+)d(?P<channel>\d+)",
}
_TIFF = re.compile(r"\.tiff?$", re.IGNORECASE)
_THUMBNAIL = re.compile(r"_thumb[0-9A-F-]*\.tiff?$", re.IGNORECASE)  # ImageXpress puts them beside the images


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
