"""ImageXpress (MetaXpress): a folder with an .HTD file, and planes in TimePoint_ and ZStep_ folders.

    <plate>/<plate>.HTD
    <plate>/TimePoint_1/ZStep_1/<plate>_A01_s1_w1<GUID>.TIF

Either level of folders is absent if there is a single timepoint or z plane. Projections and single planes are in
ZStep_0 or next to the ZStep_ folders; they are read for wavelengths without a stack. Thumbnails (`_thumb`) are ignored.
"""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from openhcs_omero.errors import PlateError, first_of
from openhcs_omero.microscopes.base import FolderHandler
from openhcs_omero.microscopes.folders import files_in, folders_in, left_out, text_of, tiffs_in
from openhcs_omero.microscopes.scan import MOST_TRIED, Found
from openhcs_omero.microscopes.tiffs import open_tiff
from openhcs_omero.plates.arrangement import Announced, PlaneFile
from openhcs_omero.plates.filenames import SHADE, check_one_plate
from openhcs_omero.plates.paths import well_name

_GUID = r"[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}"
_NAME = re.compile(
    rf"(?:.*?_)??(?P<well>[A-Z]{{1,2}}\d{{2}})(?:_s(?P<site>\d+))?(?:_w(?P<wave>\d+?))?(?:_?\[?{_GUID}\]?)?\.tiff?",
    re.IGNORECASE,
)
_THUMBNAIL = re.compile(rf"_thumb(?:_?\[?{_GUID}\]?)?\.tiff?$", re.IGNORECASE)
_FOLDER = re.compile(r"(TimePoint|ZStep)_(\d+)", re.IGNORECASE)


class ImageXpressHandler(FolderHandler):
    """Plates of the Molecular Devices ImageXpress."""

    microscope_type = "ImageXpress"
    parser_name = "ImageXpressFilenameParser"

    @staticmethod
    def recognizes(folder: Path) -> bool:
        """Whether a folder holds an ImageXpress plate: an HTD file, or a TIFF named like its planes."""
        outer = [folder, *_folders(folder, "TimePoint").values()]
        inner = [stack for place in outer for stack in _folders(place, "ZStep").values()]
        return any(
            files_in(place, ".htd") or any(parse_name(path.name) for path in tiffs_in(place))
            for place in (*outer, *inner)
        )

    def find(self, folder: Path) -> Found:
        htd = find_htd(folder)
        planes, notes = _planes(folder)
        if not planes:
            raise PlateError(
                f"there is no plane of an ImageXpress plate in {folder}: expected files like "
                "<plate>_A01_s1_w1.TIF, there or in TimePoint_ and ZStep_ folders"
            )
        if others := sorted({plane.well for plane in planes} - set(htd.wells)) if htd.rows else []:
            notes.append(f"the HTD file does not select {first_of(others)}, of which there are files; they are read")
        if not htd.whole:
            notes.append('the HTD file ends without "EndFile": it may be cut, and not say all that was to be acquired')
        stacks = len({plane.z for plane in planes}) > 1
        if htd.steps > 1 and not stacks:
            notes.append(f"the HTD file announces {htd.steps} planes, but there are single planes or projections only")
        announced = Announced(
            _numbers_of_sites(htd, {plane.site for plane in planes}),
            _counted(htd.timepoints),
            _counted(htd.waves),
            _counted(htd.steps if stacks else 0),
            "HTD file",
        )
        return Found(
            planes,
            announced if htd.rows else Announced.by_names(planes, "tcz"),
            list(htd.wells),
            htd.rows,
            htd.columns,
            htd.wave_names,
            (None, *_pixel_size(planes)),
            tuple(notes),
        )


def _numbers_of_sites(htd: Htd, found: set[int]) -> tuple[int, ...]:
    """The numbers of the selected sites: counted, or their places in the grid if only these fit the files."""
    counted = _counted(len(htd.sites))
    return htd.sites if not found <= set(counted) and found <= set(htd.sites) else counted


def _counted(number: int) -> tuple[int, ...]:
    return tuple(range(1, number + 1))


def parse_name(name: str) -> tuple[str, int, int] | None:
    """Parse the file name of a plane into well, site and wavelength; None for other names.

    Site and wavelength count from 1, and are 1 if the name does not contain them. Examples:
    ``plate_A01_s1_w1<GUID>.TIF``, ``plate_A01_s1_w1.TIF``, ``A01_w2.tif``, ``plate_A01_[<GUID>].tif``
    """
    match = _NAME.fullmatch(name)
    if not match or _THUMBNAIL.search(name):
        return None
    return match["well"].upper(), int(match["site"] or 1), int(match["wave"] or 1)


# ---- the folders


def _planes(folder: Path) -> tuple[list[PlaneFile], list[str]]:
    """All planes of the stacks, and the flat ones of wavelengths without a stack; notes say what is not read."""
    stacks: list[PlaneFile] = []
    flat: list[PlaneFile] = []
    times = _folders(folder, "TimePoint")
    for t, inside in (times or {1: folder}).items():
        steps = _folders(inside, "ZStep")
        stacks += [plane for z, place in steps.items() if z for plane in _planes_in(place, t, z)]
        projections = _planes_in(steps[0], t, 1) if 0 in steps else []
        known = {(plane.well, plane.site, plane.c) for plane in projections}  # they may also be next to ZStep_0
        flat += projections + [
            plane for plane in _planes_in(inside, t, 1) if (plane.well, plane.site, plane.c) not in known
        ]
    stacked, first = {plane.c for plane in stacks}, min((plane.z for plane in stacks), default=1)
    taken = stacks + [replace(plane, z=first) for plane in flat if plane.c not in stacked]
    there = {(plane.t, plane.well, plane.site, plane.c) for plane in stacks}
    taken += [  # a site that has a projection only, where others have stacks, is not complete
        replace(plane, z=first, path=None)
        for plane in flat
        if plane.c in stacked and (plane.t, plane.well, plane.site, plane.c) not in there
    ]
    notes = [
        f"the projections of channel {c} in the files are left out, because its stacks are there"
        for c in sorted({plane.c for plane in flat} & stacked)
    ]
    check_one_plate({Path(plane.path): _prefix(Path(plane.path)) for plane in taken if plane.path})
    beside = [path for path in tiffs_in(folder) if not _is_beside(path)] if times else []
    notes += left_out(beside, taken, "beside the TimePoint_ folders, so of no known timepoint")
    return taken, notes


def _planes_in(folder: Path, t: int, z: int) -> list[PlaneFile]:
    planes = []
    for path in tiffs_in(folder):
        if parsed := parse_name(path.name):
            well, site, wave = parsed
            planes.append(PlaneFile(well, site, t, wave, z, str(path)))
        elif not _is_beside(path):
            raise PlateError(
                f"{path} is not named like a plane of an ImageXpress plate: expected "
                "<plate>_A01_s1_w1.TIF; move other files out of the folder"
            )
    return planes


def _is_beside(path: Path) -> bool:
    """Whether MetaXpress puts a file beside the planes: a thumbnail, or an image of the illumination."""
    return bool(_THUMBNAIL.search(path.name)) or bool(SHADE.search(path.name) and not parse_name(path.name))


def _prefix(path: Path) -> str:
    """The text before the well in the name of a plane, which is the plate's name."""
    match = _NAME.fullmatch(path.name)
    return path.name[: match.start("well")] if match else ""


def _folders(folder: Path, kind: str) -> dict[int, Path]:
    """The TimePoint_ or ZStep_ folders by number."""
    found: dict[int, Path] = {}
    for path in folders_in(folder):
        match = _FOLDER.fullmatch(path.name)
        if match and match[1].lower() == kind.lower():
            other = found.setdefault(int(match[2]), path)
            if other != path:
                raise PlateError(f"{folder} has {other.name} and {path.name}, which have the same number: delete one")
    return dict(sorted(found.items()))


def _pixel_size(planes: Sequence[PlaneFile]) -> tuple[float | None, float | None]:
    """The pixel size (y, x) in micrometers, which MetaXpress writes into each TIFF."""
    info: Mapping[str, Any] = {}
    for plane in planes[:MOST_TRIED]:
        with contextlib.suppress(Exception):  # tifffile lets any error of its parsers through; reading reports it
            with open_tiff(Path(str(plane.path))) as tiff:
                info = (tiff.metaseries_metadata or {}).get("PlaneInfo", {}) if tiff.is_metaseries else {}
            break
    if not info.get("spatial-calibration-state") or info.get("spatial-calibration-units") not in ("um", "µm"):
        return None, None
    return info.get("spatial-calibration-y"), info.get("spatial-calibration-x")


# ---- the HTD file


@dataclass(frozen=True)
class Htd:
    """The contents of an HTD file; empty for a folder without one.

    Parameters
    ----------
    rows, columns
        Format of the plate.
    wells
        The wells selected for imaging.
    sites
        Places of the selected sites in the grid of each well, row by row from 1.
    timepoints, waves, steps
        Numbers of timepoints, wavelengths and z planes; 0 if the file does not say.
    wave_names
        Names by wavelength, from 1.
    whole
        Whether the file has its last line.
    """

    rows: int = 0
    columns: int = 0
    wells: tuple[str, ...] = ()
    sites: tuple[int, ...] = ()
    timepoints: int = 0
    waves: int = 0
    steps: int = 0
    wave_names: dict[int, str | None] = field(default_factory=dict)
    whole: bool = True


def find_htd(folder: Path) -> Htd:
    """Find and read the HTD file of a plate; each folder of an exported plate has the same one."""
    for place in (folder, *_folders(folder, "TimePoint").values()):
        found = files_in(place, ".htd")
        if len(found) > 1:
            raise PlateError(
                f"{place} has several HTD files ({', '.join(path.name for path in found)}): a folder holds one plate"
            )
        if found:
            return parse_htd(found[0])
    return Htd()


def parse_htd(path: Path) -> Htd:
    """Read an HTD file: lines of a quoted key and its values, ``"HTSInfoFile"`` first.

    Raises
    ------
    PlateError
        If the file is not an HTD file, or a number in it is invalid or too large.
    """
    try:
        lines = [row for row in csv.reader(text_of(path).splitlines(), skipinitialspace=True) if row]
        if not lines or lines[0][0] != "HTSInfoFile":
            raise PlateError(f'{path} is not an HTD file: its first line does not begin with "HTSInfoFile"')
        values = {row[0]: [value.strip() for value in row[1:]] for row in lines}
        rows, columns = _number(values, "YWells", 702), _number(values, "XWells", 999)
        wells = tuple(
            well_name(row, column)
            for row in range(rows)
            for column, chosen in enumerate(values.get(f"WellsSelection{row + 1}", []))
            if _true(chosen)
        )
        waves = _number(values, "NWavelengths", 1000)
        names = {wave: values[f"WaveName{wave}"][0] for wave in range(1, waves + 1) if values.get(f"WaveName{wave}")}
        grid = [chosen for key, row in values.items() if key.startswith("SiteSelection") for chosen in row]
        sites = tuple(place for place, chosen in enumerate(grid, 1) if _true(chosen))
        stacks = any(map(_true, values.get("ZSeries", [])))
        return Htd(
            rows,
            columns,
            wells,
            sites,
            _number(values, "TimePoints", 100_000),
            waves,
            _number(values, "ZSteps", 100_000) if stacks else 0,
            dict(names),
            "EndFile" in values,
        )
    except (ValueError, IndexError, csv.Error) as error:
        raise PlateError(f"{path} can't be read as an HTD file: {error}") from None


def _number(values: Mapping[str, list[str]], key: str, most: int) -> int:
    number = int(values.get(key, ["0"])[0])
    if not 0 <= number <= most:
        raise ValueError(f"{key} is {number}, but at most {most} is possible")
    return number


def _true(value: str) -> bool:
    return value.upper() == "TRUE"
