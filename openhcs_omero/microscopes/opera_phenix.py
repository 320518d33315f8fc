"""Opera Phenix (Harmony): a folder of planes with an index in XML.

    <plate>/Images/Index.idx.xml                     or Index.xml; the folder Images can also be given directly
    <plate>/Images/r01c01f01p01-ch1sk1fk1fl1.tiff    row, column, field, plane, channel, timepoint ...

In Harmony archives of version 5, the entry of each plane is complete; versions 6 and 7 describe the channels in a
separate map. Lengths are in meters. A folder without an index is read by its file names.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath

from openhcs_omero.errors import PlateError
from openhcs_omero.microscopes.base import FolderHandler
from openhcs_omero.microscopes.folders import (
    by_name,
    files_in,
    folders_in,
    left_out,
    named,
    number,
    parse_xml,
    tiffs_in,
)
from openhcs_omero.microscopes.scan import Found
from openhcs_omero.plates.arrangement import Announced, PlaneFile
from openhcs_omero.plates.paths import well_name

INDEX_NAMES = ("index.idx.xml", "index.xml", "index.ref.xml")  # in any case

_NAME = re.compile(
    r"r(\d+)c(\d+)f(\d+)p(\d+)(?:rc(?P<record>\d+))?-ch(?P<channel>\d+)"
    r"(?:sk(?P<slow>\d+)fk\d+fl\d+|t(?P<t>\d+))\.tiff?",
    re.IGNORECASE,
)
MOST_ROWS, MOST_COLUMNS = 26 * 27, 999  # that wells can be named for
_NUMBERS = ("Row", "Col", "FieldID", "PlaneID", "ChannelID", "TimepointID")


class OperaPhenixHandler(FolderHandler):
    """Plates of the Revvity (PerkinElmer) Opera Phenix and Operetta."""

    microscope_type = "OperaPhenix"
    parser_name = "OperaPhenixFilenameParser"

    @staticmethod
    def recognizes(folder: Path) -> bool:
        """Whether a folder holds a Phenix plate: an index, or a TIFF named like its planes."""
        return find_index(folder) is not None or any(
            parse_name(path.name) for place in _places(folder) for path in tiffs_in(place)
        )

    def find(self, folder: Path) -> Found:
        path = find_index(folder)
        found = read_index(path) if path else _by_names(folder)
        if not found.planes:
            raise PlateError(f"there is no plane of an Opera Phenix plate in {path or folder}")
        files = [file for place in _places(path.parent if path else folder) for file in tiffs_in(place)]
        why = f"not listed in {path.name}" if path else "not named like planes of an Opera Phenix"
        found.notes = left_out(files, found.planes, why)
        if others := [str(other.relative_to(folder)) for other in _indexes(folder)[1:]]:
            found.notes += (f"{', '.join(others)} is not read, because {path and path.name} is there",)
        return found


def parse_name(name: str) -> tuple[int, int, int, int, int, int] | None:
    """Parse a file name into row, column, field, plane, channel and timepoint, as Harmony counts them.

    The names are like ``r01c01f01p01-ch1sk1fk1fl1.tiff``, or ``r01c01f01p01-ch1t01.tiff`` from version 7 on. Before
    version 4, rc ("record") is the channel, as in ``r01c01f01p01rc2-ch1sk1fk1fl1.tiff``. The timepoint, from 1, is sk
    ("slow kinetics") or t. Returns None for other names, and for wells that no plate has.
    """
    match = _NAME.fullmatch(name)
    if not match:
        return None
    row, column, site, plane = (int(match[number]) for number in range(1, 5))
    if not (1 <= row <= MOST_ROWS and 1 <= column <= MOST_COLUMNS):
        return None
    return row, column, site, plane, int(match["record"] or match["channel"]), int(match["slow"] or match["t"])


# ---- the index


def find_index(folder: Path) -> Path | None:
    """Find the index of a plate's folder: the first of `INDEX_NAMES` that exists, or None."""
    return next(iter(_indexes(folder)), None)


def _indexes(folder: Path) -> list[Path]:
    """All indexes, in the order of `INDEX_NAMES`."""
    files = [path for place in _places(folder) for path in files_in(place, ".xml")]
    return [path for name in INDEX_NAMES for path in files if path.name.lower() == name]


def _places(folder: Path) -> list[Path]:
    """The folders that may hold the index and the images."""
    return [folder, *(place for place in folders_in(folder) if place.name.lower() == "images")]


def read_index(path: Path) -> Found:
    """Read an index. Listed images without a file next to the index have no path.

    Raises
    ------
    PlateError
        If the file is not such an index, or a number in it is invalid.
    """
    index = _Index(by_name(file for place in _places(path.parent) for file in tiffs_in(place)))
    root = parse_xml(path, "an index of an Opera Phenix plate", index.take)
    if _tag(root) != "EvaluationInputData":
        raise PlateError(f"{path} is no index of an Opera Phenix plate: its root is <{_tag(root)}>")
    index.found.pixel_size = (_step(index.heights), index.lengths.get("Y"), index.lengths.get("X"))
    return index.found


class _Index:
    """Collects the contents of an index; `files` are the files next to it by lower-case name."""

    def __init__(self, files: dict[str, str]) -> None:
        self._names: dict[int, str | None] = {}
        self.found = Found(channel_names=self._names)
        self.heights: dict[int, float] = {}
        self.lengths: dict[str, float | None] = {}
        self._files = files

    def take(self, element: ElementTree.Element) -> bool:
        """Take an element with children: their texts and its own attributes by name."""
        if not len(element):
            return False
        found, tag = self.found, _tag(element)
        values = {_tag(child): (child.text or "").strip() for child in element} | element.attrib
        if tag == "Plate":
            found.rows, found.columns = (int(values.get(f"Plate{axis}", 0)) for axis in ("Rows", "Columns"))
            well_name(max(found.rows - 1, 0), max(found.columns - 1, 0))  # checks that a plate can be this large
        elif tag == "Well" and "Row" in values:
            found.wells.append(well_name(int(values["Row"]) - 1, int(values["Col"]) - 1))
        elif tag == "Entry" and "ChannelID" in values and "ChannelName" in values:
            self._names[int(values["ChannelID"])] = values["ChannelName"]
        elif tag == "Image" and values.get("URL"):
            self._take_image(values)
        if "ImageResolutionX" in values and not self.lengths:
            self.lengths = {axis: _micrometers(values.get(f"ImageResolution{axis}")) for axis in "XY"}
        return True

    def _take_image(self, values: Mapping[str, str]) -> None:
        plane = _plane(values, self._files)
        self.found.planes.append(plane)
        if "ChannelName" in values:
            self._names[plane.c] = values["ChannelName"]
        x, y = (_micrometers(values.get(name)) for name in ("PositionX", "PositionY"))
        self.found.record((plane.well, plane.site), values.get("AbsTime"), (x, y))
        first, height = self.found.planes[0], values.get("PositionZ", values.get("AbsPositionZ"))
        if height is not None and (plane.well, plane.site) == (first.well, first.site):
            self.heights[plane.z] = number(height) or 0.0


def _tag(element: ElementTree.Element) -> str:
    """The tag without its namespace, which changes with every version of Harmony."""
    return element.tag.rpartition("}")[2]


def _plane(values: Mapping[str, str], files: dict[str, str]) -> PlaneFile:
    """A plane listed in an index; `files` are the files next to the index by lower-case name."""
    name = PureWindowsPath(values["URL"]).name  # accepts both slashes; stay in the plate's folder
    parsed = parse_name(name)
    if parsed and not all(name in values for name in _NUMBERS):
        row, column, site, z, c, t = parsed
    else:
        row, column, site, z, c, t = (int(values[name]) for name in _NUMBERS)
    return PlaneFile(well_name(row - 1, column - 1), site, t, c, z, named(files, name))


def _micrometers(meters: str | None) -> float | None:
    found = number(meters)
    return None if found is None else 1e6 * found


def _step(heights: Mapping[int, float]) -> float | None:
    """The distance between planes in micrometers, from their heights in meters."""
    planes = sorted(heights)
    if len(planes) < 2:
        return None
    return round(1e6 * abs(heights[planes[-1]] - heights[planes[0]]) / (len(planes) - 1), 6)


def _by_names(folder: Path) -> Found:
    """The planes of a folder without an index."""
    found = Found()
    for path in (path for place in _places(folder) for path in tiffs_in(place)):
        if parsed := parse_name(path.name):
            row, column, site, z, c, t = parsed
            found.planes.append(PlaneFile(well_name(row - 1, column - 1), site, t, c, z, str(path)))
    found.announced = Announced.by_names(found.planes)
    return found
