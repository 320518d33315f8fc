"""ImageXpress (MetaXpress): a folder with an .HTD file, and planes in TimePoint_ and ZStep_ folders.

    <plate>/<plate>.HTD
    <plate>/TimePoint_1/ZStep_1/<plate>_A01_s1_w1<GUID>.TIF

Either level of folders is left out where there is one timepoint or plane. Beside ZStep_ folders and in ZStep_0 stand
projections, which are taken only where there is no stack. Thumbnails (`_thumb`) are left out.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openhcs_omero.errors import PlateError
from openhcs_omero.microscopes.base import (
    Backend,
    MicroscopeHandler,
    PlaneFile,
    PlateLike,
    PlateListing,
    arrange,
    opened,
    plane_size,
    structure_of,
)
from openhcs_omero.plates.paths import well_name

_GUID = r"[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}"
_NAME = re.compile(
    rf"(?:.*?_)??(?P<well>[A-Z]{{1,2}}\d{{2}})(?:_s(?P<site>\d+))?(?:_w(?P<wave>\d+?))?(?:_?\[?{_GUID}\]?)?\.tiff?",
    re.IGNORECASE)
_THUMBNAIL = re.compile(rf"_thumb(?:_?\[?{_GUID}\]?)?\.tiff?$", re.IGNORECASE)
_TIFF = re.compile(r"\.tiff?$", re.IGNORECASE)
_FOLDER = re.compile(r"(TimePoint|ZStep)_(\d+)", re.IGNORECASE)


class ImageXpressHandler(MicroscopeHandler):
    """Plates of Molecular Devices' ImageXpress."""

    microscope_type = "ImageXpress"
    parser_name = "ImageXpressFilenameParser"

    @property
    def compatible_backends(self) -> list[Backend]:
        return [Backend.DISK]

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether a folder holds such a plate: an HTD file, or a TIFF that is named like its planes."""
        outer = [folder, *_folders(folder, "TimePoint").values()]
        inner = [stack for place in outer for stack in _folders(place, "ZStep").values()]
        return any(_htd_files(place) or any(parse_name(path.name) for path in place.iterdir())
                   for place in (*outer, *inner))

    def parse(self, plate_path: PlateLike) -> PlateListing:
        folder = Path(str(plate_path))
        htd = find_htd(folder)
        planes = list(_planes(folder))
        files = arrange(planes)
        if not files:
            raise PlateError(f"there is no plane of an ImageXpress plate in {folder}: expected files like "
                             "<plate>_A01_s1_w1.TIF, there or in TimePoint_ and ZStep_ folders")
        _check_sites(files, htd)
        first = Path(next(iter(next(iter(files.values())).values())))
        structure = structure_of(folder, self, files, plane_size(first), htd.wells, (htd.rows, htd.columns))
        names = tuple(htd.wave_names.get(wave) for wave in sorted({plane.c for plane in planes}))
        return PlateListing(structure, Backend.DISK, files, names, (None, *_pixel_size(first)))


def parse_name(name: str) -> tuple[str, int, int] | None:
    """Well, site and wavelength of a plane's file name, both from 1 and 1 where they are left out; None if it is none.

    ``plate_A01_s1_w1<GUID>.TIF``, ``plate_A01_s1_w1.TIF``, ``A01_w2.tif``, ``plate_A01_[<GUID>].tif``
    """
    match = _NAME.fullmatch(name)
    if not match or _THUMBNAIL.search(name):
        return None
    return match["well"].upper(), int(match["site"] or 1), int(match["wave"] or 1)


# ---- the folders

def _planes(folder: Path) -> Iterator[PlaneFile]:
    """All planes of the stacks; where there is no stack, the projections or single planes."""
    timepoints = _folders(folder, "TimePoint") or {1: folder}
    stacks = [(t, z, place) for t, inside in timepoints.items() for z, place in _folders(inside, "ZStep").items() if z]
    single = [(t, 1, place) for t, inside in timepoints.items()
              for place in (inside, *(place for z, place in _folders(inside, "ZStep").items() if not z))]
    for t, z, place in stacks or single:
        for path in sorted(place.iterdir()):
            parsed = parse_name(path.name)
            if parsed:
                well, site, wave = parsed
                yield PlaneFile(well, site, t, wave, z, str(path))
            elif _TIFF.search(path.name) and not _THUMBNAIL.search(path.name):
                raise PlateError(f"{path} is not named like a plane of an ImageXpress plate: expected "
                                 "<plate>_A01_s1_w1.TIF; move files that are none out of the folder")


def _check_sites(files: Mapping[tuple[str, int], object], htd: "Htd") -> None:
    """That each well with files has as many sites as the HTD file says; a copy that broke off has fewer."""
    sites = Counter(well for well, _ in files)
    for well, count in sites.items():
        if htd.sites and count != htd.sites:
            raise PlateError(f"well {well} has files of {count} sites, but the HTD file says {htd.sites}: add the "
                             "others, or take the well's files out of the folder")


def _folders(folder: Path, kind: str) -> dict[int, Path]:
    """TimePoint_ or ZStep_ folders by their number."""
    if not folder.is_dir():
        raise PlateError(f"there is no folder {folder}")
    found = {}
    for path in folder.iterdir():
        match = _FOLDER.fullmatch(path.name)
        if match and match[1].lower() == kind.lower() and path.is_dir():
            found[int(match[2])] = path
    return dict(sorted(found.items()))


def _pixel_size(path: Path) -> tuple[float | None, float | None]:
    """(y, x) in micrometres, which MetaXpress writes into each TIFF."""
    with opened(path) as tiff:
        info = (tiff.metaseries_metadata or {}).get("PlaneInfo", {}) if tiff.is_metaseries else {}
    if not info.get("spatial-calibration-state") or info.get("spatial-calibration-units") not in ("um", "µm"):
        return None, None
    return info.get("spatial-calibration-y"), info.get("spatial-calibration-x")


# ---- the HTD file

@dataclass(frozen=True)
class Htd:
    """What an HTD file says; empty for a folder without one.

    Parameters
    ----------
    rows, columns
        Of the plate.
    wells
        Those that were to be imaged.
    sites
        Number of sites in each well; 0 where nothing is said of sites.
    wave_names
        By wavelength, from 1.
    """

    rows: int = 0
    columns: int = 0
    wells: tuple[str, ...] = ()
    sites: int = 0
    wave_names: dict[int, str] = field(default_factory=dict)


def find_htd(folder: Path) -> Htd:
    """What the plate's HTD file says; each folder of an exported plate has the same one."""
    for place in (folder, *_folders(folder, "TimePoint").values()):
        found = _htd_files(place)
        if len(found) > 1:
            raise PlateError(f"{place} has several HTD files ({', '.join(path.name for path in found)}): "
                             "a folder holds one plate")
        if found:
            return parse_htd(found[0])
    return Htd()


def _htd_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".htd" and path.is_file())


def parse_htd(path: Path) -> Htd:
    """Read an HTD file: lines of a quoted key and its values, ``"HTSInfoFile"`` first.

    Raises
    ------
    PlateError
        If it is none, or a number in it is no number.
    """
    with path.open(encoding="latin-1", newline=None) as file:  # descriptions hold bytes that are no UTF-8
        lines = [row for row in csv.reader(file, skipinitialspace=True) if row]
    if not lines or lines[0][0] != "HTSInfoFile":
        raise PlateError(f"{path} is no HTD file: its first line does not begin with \"HTSInfoFile\"")
    values = {row[0]: [value.strip() for value in row[1:]] for row in lines}
    try:
        columns, rows = (int(values.get(key, ["0"])[0]) for key in ("XWells", "YWells"))
        wells = tuple(
            well_name(row, column) for row in range(rows)
            for column, chosen in enumerate(values.get(f"WellsSelection{row + 1}", [])) if chosen.upper() == "TRUE")
        waves = {wave: values[f"WaveName{wave}"][0] for wave in range(1, int(values.get("NWavelengths", ["0"])[0]) + 1)
                 if values.get(f"WaveName{wave}")}
        selected = [chosen.upper() == "TRUE" for key, row in values.items() if key.startswith("SiteSelection")
                    for chosen in row]
    except (ValueError, IndexError) as error:
        raise PlateError(f"{path} can't be read as an HTD file: {error}") from None
    return Htd(rows, columns, wells, sum(selected), waves)
