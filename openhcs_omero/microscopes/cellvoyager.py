"""Yokogawa CellVoyager (CV7000, CV8000): a folder with a list of measurements in XML.

    <plate>/MeasurementData.mlf     one record per plane: well, field, timepoint, z, channel and file name
    <plate>/MeasurementDetail.mrf   plate format, and the channels with their pixel sizes
    <plate>/<name>.mes              channel names
    <plate>/AssayPlate_B03_T0001F001L01A01Z01C01.tif

Wells of a 1536-well plate have names like ``A01.d4``, see `openhcs_omero.plates.filenames.place_of`. A folder without
the list is read by its file names. If several timelines of a measurement took the same planes, each is an acquisition.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from openhcs_omero.errors import PlateError
from openhcs_omero.microscopes.base import FolderHandler
from openhcs_omero.microscopes.folders import by_name, files_in, left_out, named, number, parse_xml, tiffs_in
from openhcs_omero.microscopes.scan import Found
from openhcs_omero.plates.arrangement import Announced, PlaneFile
from openhcs_omero.plates.filenames import CAMERA, NAMED_PATTERNS, named_planes, parse_name
from openhcs_omero.plates.image import ImageMetadata
from openhcs_omero.plates.paths import well_name
from openhcs_omero.plates.structure import matching

_COUNTS = {"t": "TimePointCount", "z": "ZCount"}


class CellVoyagerHandler(FolderHandler):
    """Plates of the Yokogawa CellVoyager."""

    microscope_type = "CellVoyager"
    parser_name = "CellVoyagerFilenameParser"

    @staticmethod
    def recognizes(folder: Path) -> bool:
        """Whether a folder holds a CellVoyager plate: a list of measurements, or a TIFF named like its planes."""
        return bool(files_in(folder, ".mlf")) or any(
            parse_name(path.name, NAMED_PATTERNS["cellvoyager"]) for path in tiffs_in(folder)
        )

    def find(self, folder: Path) -> Found:
        lists = files_in(folder, ".mlf")
        if len(lists) > 1:
            raise PlateError(
                f"{folder} has several lists of measurements ({', '.join(path.name for path in lists)}): "
                "a folder holds one plate"
            )
        files = [path for path in tiffs_in(folder) if not CAMERA.search(path.name)]
        timelines: dict[int, Found] = {}
        if lists:
            found, timelines = _measured(lists[0], files)
            if not found.planes:
                raise PlateError(f"{lists[0]} lists no image")
            found.notes = left_out(files, found.planes, f"not listed as images in {lists[0].name}")
        else:
            planes = named_planes(files, "cellvoyager").planes
            found = Found(planes, Announced.by_names(planes))
        for path in files_in(folder, ".mrf"):
            _read_detail(path, found)
        found.channel_names = _channel_names(folder)
        return _apart(found, timelines, self.acquisition) if timelines else found


def _measured(path: Path, files: list[Path]) -> tuple[Found, dict[int, Found]]:
    """What a list of measurements says; planes that the microscope reports as errors have no file.

    Returns
    -------
    Found
        All planes.
    dict
        The planes of each timeline, if several took the same planes; else empty.
    """
    there = by_name(files)
    found = Found()
    timelines: dict[int, Found] = {}
    actions: dict[tuple[object, ...], str | None] = {}  # by plane and timeline

    def take(element: ElementTree.Element) -> bool:
        if _tag(element) != "MeasurementRecord":
            return False
        record = _values(element)
        kind = record["Type"]
        if kind not in ("IMG", "ERR"):
            return True
        try:
            well, site, t, c, z = _place(record)
        except (KeyError, ValueError):
            if kind == "ERR":  # an error record does not always name a plane
                return True
            raise
        timeline, action = int(record.get("TimelineIndex", 1)), record.get("ActionIndex")
        if actions.setdefault((well, site, t, c, z, timeline), action) != action:
            raise ValueError(
                f"well {well} has channel {c} of field {site} several times, by several actions of the measurement, "
                "which are not told apart"
            )
        plane = PlaneFile(well, site, t, c, z, named(there, record["text"]) if kind == "IMG" else None)
        x, y = (number(record.get(axis)) for axis in "XY")
        for part in (found, timelines.setdefault(timeline, Found())):
            part.planes.append(plane)
            part.record((well, site), record.get("Time"), (x, y))
        return True

    parse_xml(path, "a list of measurements", take)
    several = len({key[:-1] for key in actions}) < len(actions)
    return found, timelines if several else {}


def _place(record: Mapping[str, str]) -> tuple[str, int, int, int, int]:
    """Well, field, timepoint, channel and z of a record."""
    row, column, site, t, c, z = (
        int(record[key]) for key in ("Row", "Column", "FieldIndex", "TimePoint", "Ch", "ZIndex")
    )
    return well_name(row - 1, column - 1), site, t, c, z


def _apart(found: Found, timelines: Mapping[int, Found], choice: int | str | None) -> Found:
    """The same plate with an acquisition per timeline, whose sites follow each other; or with the chosen one alone."""
    runs = [(run, f"timeline {run}") for run in sorted(timelines)]
    chosen = [] if choice in (None, "all") else matching(runs, choice)
    plate = replace(found, planes=[], recorded={}, acquisitions={}, own={}, shapes={})
    most = max(plane.site for plane in found.planes)
    for rank, (run, name) in enumerate(chosen or runs):
        part = timelines[run]
        channels = sorted({plane.c for plane in part.planes})
        shape = (max(p.t for p in part.planes), len(channels), max(p.z for p in part.planes))
        names = tuple(found.channel_names.get(channel) for channel in channels)
        for p in part.planes:
            place = p.well, rank * most + p.site
            plate.planes.append(PlaneFile(*place, p.t - 1, channels.index(p.c), p.z - 1, p.path))
            plate.acquisitions[place], plate.shapes[place] = (run, name), shape
            plate.own[place] = ImageMetadata(names, pixel_size=found.pixel_size)
            if (p.well, p.site) in part.recorded:
                plate.recorded[place] = part.recorded[p.well, p.site]
    t, c, z = (tuple(range(size)) for size in shape)
    plate.channel_names = dict(enumerate(names))
    plate.announced = Announced(t=t, c=c, z=z, source="list of measurements", every_site=True)
    return plate


def _read_detail(path: Path, found: Found) -> None:
    """Add the plate format, the planned measurements, and the pixel size in micrometers."""
    try:
        [detail] = _elements(path, "MeasurementDetail")
        found.rows, found.columns = (int(detail.get(f"{axis}Count", 0)) for axis in ("Row", "Column"))
        if found.rows and found.columns:
            well_name(found.rows - 1, found.columns - 1)
        channels = list(_elements(path, "MeasurementChannel"))
        announced = {"c": {int(channel["Ch"]) for channel in channels}}
        announced |= {axis: set(range(1, 1 + int(detail.get(key, 0)))) for axis, key in _COUNTS.items()}
        used = {axis: {getattr(plane, axis) for plane in found.planes} for axis in announced}
        t, c, z = (tuple(sorted(announced[axis])) if used[axis] <= announced[axis] else () for axis in "tcz")
        known = found.announced  # by the names of the files, without a list of measurements
        found.announced = Announced(t=t or known.t, c=c or known.c, z=z or known.z, source=f"file {path.name}")
        for channel in channels:
            if int(channel["Ch"]) in used["c"] and "HorizontalPixelDimension" in channel:
                x, y = (number(channel.get(f"{axis}PixelDimension")) for axis in ("Horizontal", "Vertical"))
                found.pixel_size = (None, y, x)
                break
    except (KeyError, ValueError) as error:
        raise PlateError(f"{path} can't be read as details of a measurement: {_words(error)}") from None


def _channel_names(folder: Path) -> dict[int, str | None]:
    """The channel names in the settings of the measurement."""
    names: dict[int, str | None] = {}
    for path in files_in(folder, ".mes"):
        for channel in _elements(path, "Channel"):
            if re.fullmatch(r"\d{1,9}", channel.get("Ch", "")):
                names[int(channel["Ch"])] = channel.get("Target") or channel.get("Fluorophore") or None
    return names


def _elements(path: Path, tag: str) -> Iterator[Mapping[str, str]]:
    """Yield the values of all elements with a tag."""
    for element in parse_xml(path, "XML").iter():
        if _tag(element) == tag:
            yield _values(element)


def _values(element: ElementTree.Element) -> Mapping[str, str]:
    """The attributes of an element, without namespaces, and its text as "text"."""
    values = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    return values | {"text": (element.text or "").strip()}


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _words(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
