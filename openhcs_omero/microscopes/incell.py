"""GE (Cytiva) IN Cell Analyzer: a folder with a description in XML.

    <plate>/<plate>.xdce                        one element per image: file, well, field, wavelength, z, timepoint
    <plate>/A - 1(fld 1 wv DAPI - DAPI).tif

A folder without the description is read by its file names.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from openhcs_omero.errors import PlateError
from openhcs_omero.microscopes.base import FolderHandler
from openhcs_omero.microscopes.folders import by_name, files_in, left_out, named, number, parse_xml, tiffs_in
from openhcs_omero.microscopes.scan import Found
from openhcs_omero.plates.arrangement import Announced, PlaneFile
from openhcs_omero.plates.filenames import NAMED_PATTERNS, named_planes, parse_name
from openhcs_omero.plates.paths import well_name

KIND = "a description of an IN Cell plate"


class InCellHandler(FolderHandler):
    """Plates of the IN Cell Analyzer."""

    microscope_type = "InCell"
    parser_name = "InCellFilenameParser"

    @staticmethod
    def recognizes(folder: Path) -> bool:
        """Whether a folder holds an IN Cell plate: a description, or a TIFF named like its planes."""
        return bool(files_in(folder, ".xdce")) or any(
            parse_name(path.name, NAMED_PATTERNS["incell"]) for path in tiffs_in(folder)
        )

    def find(self, folder: Path) -> Found:
        descriptions = files_in(folder, ".xdce")
        if len(descriptions) > 1:
            raise PlateError(
                f"{folder} has several descriptions ({', '.join(path.name for path in descriptions)}): "
                "a folder holds one plate"
            )
        if not descriptions:
            named = named_planes(tiffs_in(folder), "incell")
            return Found(named.planes, Announced.by_names(named.planes), channel_names=named.channel_names)
        path = descriptions[0]
        files = tiffs_in(folder)
        found = _read(path, files)
        if not found.planes:
            raise PlateError(f"{path} describes no image")
        found.notes = left_out(files, found.planes, f"not listed in {path.name}")
        return found


def _read(path: Path, files: list[Path]) -> Found:
    """Read a description; images without a file have no path."""
    there = by_name(files)
    found = Found()

    def take(element: ElementTree.Element) -> bool:
        is_image = element.tag.rpartition("}")[2] == "Image" and "filename" in element.attrib
        if is_image:
            found.planes.append(_plane(element, there))
        return is_image

    root = parse_xml(path, KIND, take)
    try:
        _read_plate(root, found)
    except (KeyError, ValueError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise PlateError(f"{path} can't be read as {KIND}: {what}") from None
    return found


def _read_plate(root: ElementTree.Element, found: Found) -> None:
    """Add the plate format, the channel names and the pixel size."""
    plate = root.find(".//{*}Plate")
    if plate is not None:
        found.rows, found.columns = int(plate.get("rows", 0)), int(plate.get("columns", 0))
        if found.rows and found.columns:
            well_name(found.rows - 1, found.columns - 1)
    names = [
        element.get("name")
        for element in root.findall(".//{*}Wavelength//{*}EmissionFilter") or root.findall(".//{*}EmissionFilter")
    ]
    waves = sorted({plane.c for plane in found.planes})
    if len(names) > max(waves, default=0):
        found.channel_names = {wave: names[wave] for wave in waves}
    calibration = root.find(".//{*}ObjectiveCalibration")
    if calibration is not None and "pixel_width" in calibration.attrib:
        y, x = (number(calibration.get(f"pixel_{side}")) for side in ("height", "width"))
        found.pixel_size = (None, y, x)


def _plane(image: ElementTree.Element, there: dict[str, str]) -> PlaneFile:
    row, column, identifier = (image.find(f".//{{*}}{tag}") for tag in ("Row", "Column", "Identifier"))
    if row is None or column is None or identifier is None:
        raise ValueError(f"the image {image.attrib['filename']} has no Row, Column or Identifier")
    site, t, c, z = (int(identifier.attrib[f"{axis}_index"]) for axis in ("field", "time", "wave", "z"))
    well = well_name(int(row.attrib["number"]) - 1, int(column.attrib["number"]) - 1)
    return PlaneFile(well, site, t, c, z, named(there, image.attrib["filename"]))
