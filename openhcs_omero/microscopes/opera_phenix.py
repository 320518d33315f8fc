"""Opera Phenix (Harmony): a folder of planes with an index in XML.

    <plate>/Images/Index.idx.xml                     or Index.xml; the folder Images may be given, too
    <plate>/Images/r01c01f01p01-ch1sk1fk1fl1.tiff    row, column, field, plane, channel, timepoint ...

Harmony's archives of version 5 say everything about a plane beside it, those of version 6 and 7 have a map of the
channels. Lengths are in metres. A folder without an index is read by its file names.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from openhcs_omero.errors import PlateError
from openhcs_omero.microscopes.base import (
    Backend,
    MicroscopeHandler,
    PlaneFile,
    PlateLike,
    PlateListing,
    arrange,
    plane_size,
    structure_of,
)
from openhcs_omero.plates.paths import parse_well, well_name

INDEX_NAMES = ("Index.idx.xml", "Index.xml")

_NAME = re.compile(r"r(\d+)c(\d+)f(\d+)p(\d+)-ch(\d+)sk(\d+)fk\d+fl\d+\.tiff?", re.IGNORECASE)
_NUMBERS = ("Row", "Col", "FieldID", "PlaneID", "ChannelID", "TimepointID")


class OperaPhenixHandler(MicroscopeHandler):
    """Plates of Revvity's (PerkinElmer's) Opera Phenix and Operetta."""

    microscope_type = "OperaPhenix"
    parser_name = "OperaPhenixFilenameParser"

    @property
    def compatible_backends(self) -> list[Backend]:
        return [Backend.DISK]

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether a folder holds such a plate: an index, or a TIFF that is named like its planes."""
        places = [place for place in (folder, folder / "Images") if place.is_dir()]
        return find_index(folder) is not None or any(
            parse_name(path.name) for place in places for path in place.iterdir())

    def parse(self, plate_path: PlateLike) -> PlateListing:
        folder = Path(str(plate_path))
        if not folder.is_dir():
            raise PlateError(f"there is no folder {folder}")
        path = find_index(folder)
        index = read_index(path) if path else _by_names(folder)
        files = arrange(index.planes)
        if not files:
            raise PlateError(f"there is no plane of an Opera Phenix plate in {path or folder}")
        first = Path(next(iter(next(iter(files.values())).values())))
        empty = [well for well in index.wells if (well, 1) not in files]
        structure = structure_of(folder, self, files, plane_size(first), empty, (index.rows, index.columns))
        names = tuple(index.channel_names.get(c) for c in sorted({plane.c for plane in index.planes}))
        return PlateListing(structure, Backend.DISK, files, names, index.pixel_size)


def parse_name(name: str) -> tuple[int, int, int, int, int, int] | None:
    """Row, column, field, plane, channel and timepoint of a file name, as Harmony counts them; None if it is none.

    ``r01c01f01p01-ch1sk1fk1fl1.tiff``; sk ("slow kinetics") is the timepoint, from 1.
    """
    match = _NAME.fullmatch(name)
    if not match:
        return None
    row, column, site, plane, channel, t = map(int, match.groups())
    return row, column, site, plane, channel, t


# ---- the index

@dataclass
class Index:
    """What an index says.

    Parameters
    ----------
    rows, columns
        Of the plate.
    wells
        Those that were imaged.
    planes
        Their files' paths are those on this disk.
    channel_names
        By channel number.
    pixel_size
        (z, y, x) in micrometres.
    """

    rows: int = 0
    columns: int = 0
    wells: list[str] = field(default_factory=list)
    planes: list[PlaneFile] = field(default_factory=list)
    channel_names: dict[int, str] = field(default_factory=dict)
    pixel_size: tuple[float | None, float | None, float | None] = (None, None, None)


def find_index(folder: Path) -> Path | None:
    """The index of a plate's folder; that with the long name where both are there."""
    candidates = (place / name for name in INDEX_NAMES for place in (folder, folder / "Images"))
    return next((path for path in candidates if path.is_file()), None)


def read_index(path: Path) -> Index:
    """Read an index.

    Raises
    ------
    PlateError
        If it is no such index, or a number in it is no number.
    """
    index, heights = Index(), {}
    lengths: dict[str, float] = {}
    try:
        for tag, values in _elements(path):
            if tag == "Plate":
                index.rows, index.columns = int(values.get("PlateRows", 0)), int(values.get("PlateColumns", 0))
            elif tag == "Well" and "Row" in values:
                index.wells.append(well_name(int(values["Row"]) - 1, int(values["Col"]) - 1))
            elif tag == "Entry" and "ChannelID" in values and "ChannelName" in values:
                index.channel_names[int(values["ChannelID"])] = values["ChannelName"]
            elif tag == "Image" and values.get("URL"):
                plane = _plane(values, path)
                index.planes.append(plane)
                if "ChannelName" in values:
                    index.channel_names[plane.c] = values["ChannelName"]
                height = values.get("PositionZ", values.get("AbsPositionZ"))
                if height is not None and (plane.well, plane.site) == (index.planes[0].well, index.planes[0].site):
                    heights[plane.z] = float(height)
            if "ImageResolutionX" in values and not lengths:
                lengths = {axis: 1e6 * float(values[f"ImageResolution{axis}"]) for axis in "XY"}
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise PlateError(f"{path} can't be read as an index of an Opera Phenix plate: "
                         f"{f'{error} is missing' if isinstance(error, KeyError) else error}") from None
    index.pixel_size = (_step(heights), lengths.get("Y"), lengths.get("X"))
    return index


def _elements(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """All elements that have children, from within: tag, and the children's texts and own attributes by name."""
    root = None
    for event, element in ElementTree.iterparse(path, events=("start", "end")):
        if root is None:
            root = element
            if _tag(root) != "EvaluationInputData":
                raise ValueError(f"its root is <{_tag(root)}> and not <EvaluationInputData>")
        if event == "end" and len(element):
            values = {_tag(child): (child.text or "").strip() for child in element} | element.attrib
            yield _tag(element), values
            if _tag(element) in ("Image", "Well"):
                element.clear()


def _tag(element: ElementTree.Element) -> str:
    """Tag without its namespace, which changes with every version of Harmony."""
    return element.tag.rpartition("}")[2]


def _plane(values: Mapping[str, str], index: Path) -> PlaneFile:
    url = PureWindowsPath(values["URL"])  # both kinds of slashes
    parsed = parse_name(url.name)
    if parsed and not all(name in values for name in _NUMBERS):
        row, column, site, z, c, t = parsed
    else:
        row, column, site, z, c, t = (int(values[name]) for name in _NUMBERS)
    beside = (index.parent.joinpath(*url.parts), index.parent / "Images" / url.name, index.parent / url.name)
    path = next((path for path in beside if path.exists()), beside[0])
    return PlaneFile(well_name(row - 1, column - 1), site, t, c, z, str(path))


def _step(heights: Mapping[int, float]) -> float | None:
    """Distance of the planes in micrometres, from their heights in metres."""
    planes = sorted(heights)
    if len(planes) < 2:
        return None
    return round(1e6 * abs(heights[planes[-1]] - heights[planes[0]]) / (len(planes) - 1), 6)


def _by_names(folder: Path) -> Index:
    """The planes of a folder without an index."""
    index = Index()
    for place in (folder, folder / "Images"):
        for path in sorted(place.iterdir()) if place.is_dir() else []:
            if parsed := parse_name(path.name):
                row, column, site, z, c, t = parsed
                index.planes.append(PlaneFile(well_name(row - 1, column - 1), site, t, c, z, str(path)))
    index.wells = sorted({plane.well for plane in index.planes}, key=parse_well)
    return index
