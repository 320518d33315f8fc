"""OME-TIFF plates that one OME-XML describes: a companion file, or the one in a TIFF that the other TIFFs refer to.

    <plate>/<name>.companion.ome    wells, their images, and which page of which file is which plane
    <plate>/<any name>.ome.tif      files with the pages of one or several images

Schemas are those of OME since 2013; see https://docs.openmicroscopy.org/ome-model/latest/ome-tiff/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from xml.etree import ElementTree

from openhcs_omero.errors import PlateError
from openhcs_omero.microscopes.base import FolderHandler
from openhcs_omero.microscopes.folders import (
    MOST_RECORDS,
    by_name,
    check_links,
    files_in,
    left_out,
    named,
    number,
    parse_xml,
    tiffs_in,
)
from openhcs_omero.microscopes.ome_tiffs import LARGEST_CHECKED, described_by, description_in
from openhcs_omero.microscopes.scan import Found
from openhcs_omero.plates.arrangement import MOST_PLANES, Announced, Plane, PlaneFile
from openhcs_omero.plates.image import ImageMetadata
from openhcs_omero.plates.paths import well_name

KIND = "the OME-XML of a plate"
_PLATE = re.compile(rb"<(?:\w+:)?Plate[\s>]")
_MICROMETERS = {"µm": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}


class OMETIFFHandler(FolderHandler):
    """Plates in OME-TIFFs, as Bio-Formats and other programs write them with the metadata in one file."""

    microscope_type = "OME-TIFF"
    parser_name = "OME-XML"

    @staticmethod
    def recognizes(folder: Path) -> bool:
        """Whether a folder has one OME-XML that describes a plate: in a companion file, or in a TIFF for others."""
        path = _description(folder)
        if path is None:
            return False
        with path.open("rb") as file:
            start = _content(path) or file.read(LARGEST_CHECKED)
        return bool(_PLATE.search(start.replace(b"\0", b"")))  # of UTF-16, too

    def find(self, folder: Path) -> Found:
        files = tiffs_in(folder)
        path = _description(folder)
        assert path is not None  # `recognizes` found it
        if not self.follow_links:
            check_links(folder, [path])
        images: dict[str, _Image] = {}
        planes = [0]

        def take(element: ElementTree.Element) -> bool:
            if _tag(element) != "Image" or "ID" not in element.attrib:
                return False
            image = images[element.attrib["ID"]] = _image(element, path.name)
            planes[0] += len(image.pages)
            if planes[0] > MOST_RECORDS:
                raise ValueError(f"it has more than {MOST_RECORDS} planes")
            return True

        root = parse_xml(path, KIND, take, _content(path))
        try:
            found = _plate(root, images, by_name(files))
        except (KeyError, ValueError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise PlateError(f"{path} can't be read as {KIND}: {what}") from None
        read = [PlaneFile("", 0, 0, 0, 0, str(plane.path).partition("?")[0]) for plane in found.planes]
        found.notes = left_out(files, read, f"not listed in {path.name}")
        return found


def _description(folder: Path) -> Path | None:
    """The file with the OME-XML of a folder's TIFFs, if one describes several."""
    found = files_in(folder, ".companion.ome")
    if not found:
        names = [name for name in map(described_by, tiffs_in(folder)[:2]) if name]  # one of two may be that file
        file = named(by_name(files_in(folder)), names[0]) if names else None
        return None if file is None else Path(file)
    if len(found) > 1:
        raise PlateError(
            f"{folder} has several descriptions ({', '.join(path.name for path in found)}): a folder holds one plate"
        )
    return found[0]


def _content(path: Path) -> bytes | None:
    """The OME-XML in a TIFF; None for a file that is OME-XML as a whole."""
    return description_in(path).encode() if path.suffix.lower() in (".tif", ".tiff") else None


# ---- OME-XML


@dataclass(frozen=True)
class _Image:
    """An image: the numbers of its timepoints, channels and z planes, and the file and page of each plane."""

    shape: tuple[int, int, int]
    about: ImageMetadata
    pages: Mapping[Plane, tuple[str, int]]


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _image(element: ElementTree.Element, own: str) -> _Image:
    """Read an Image; TIFFs that it does not name are `own`, the file that the XML is in."""
    pixels = element.find("{*}Pixels")
    if pixels is None:
        raise ValueError(f"{element.get('ID')} has no Pixels")
    t, c, z = (int(pixels.attrib[f"Size{axis}"]) for axis in "TCZ")
    if not (min(t, c, z) >= 1 and t * c * z <= MOST_PLANES):
        raise ValueError(f"{element.get('ID')} has {t} timepoints, {c} channels and {z} planes")
    channels = pixels.findall("{*}Channel")
    if any(int(channel.get("SamplesPerPixel", 1)) > 1 for channel in channels):
        raise ValueError(f"{element.get('ID')} has color images, which are not read: save the channels as gray TIFFs")
    names = tuple(channel.get("Name") for channel in channels)
    about = ImageMetadata(
        names if len(names) == c else (None,) * c,
        tuple(_color(channel) for channel in channels) if len(channels) == c else (),
        (_length(pixels, "Z"), _length(pixels, "Y"), _length(pixels, "X")),
    )
    return _Image((t, c, z), about, dict(_pages(pixels, own)))


def _length(pixels: ElementTree.Element, axis: str) -> float | None:
    size = number(pixels.get(f"PhysicalSize{axis}"))
    factor = _MICROMETERS.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    return None if size is None or factor is None else size * factor


def _color(channel: ElementTree.Element) -> tuple[int, int, int] | None:
    """The color of a channel: red, green, blue and alpha in a signed 32-bit number."""
    if "Color" not in channel.attrib:
        return None
    red, green, blue, _ = (int(channel.attrib["Color"]) % 2**32).to_bytes(4)
    return red, green, blue


def _pages(pixels: ElementTree.Element, own: str) -> Iterator[tuple[Plane, tuple[str, int]]]:
    """The file and the page of each plane (t, c, z)."""
    order = pixels.attrib["DimensionOrder"][2:]
    if sorted(order) != ["C", "T", "Z"]:
        raise ValueError(f"the order of dimensions is {pixels.attrib['DimensionOrder']}")
    sizes = [int(pixels.attrib[f"Size{axis}"]) for axis in order]
    for data in pixels.iterfind("{*}TiffData"):
        uuid = data.find("{*}UUID")
        file = own if uuid is None else uuid.get("FileName", own)
        page = int(data.get("IFD", 0))
        first = sum(int(data.get(f"First{axis}", 0)) * prod(sizes[:place]) for place, axis in enumerate(order))
        count = int(data.get("PlaneCount", 1 if "IFD" in data.attrib else prod(sizes)))
        if not (page >= 0 and first >= 0 and 0 <= count <= prod(sizes) - first):
            raise ValueError(f"a TiffData has {count} planes from page {page}, more than its image")
        for offset in range(count):
            at = dict(zip(order, _position(first + offset, sizes)))
            yield (at["T"], at["C"], at["Z"]), (file, page + offset)


def _position(rank: int, sizes: list[int]) -> list[int]:
    """The indices of a plane, the fastest axis first."""
    found = []
    for size in sizes:
        rank, index = divmod(rank, size)
        found.append(index)
    return found


def _plate(root: ElementTree.Element, images: Mapping[str, _Image], files: dict[str, str]) -> Found:
    """The plate with its images; TIFFs that are not there have no path."""
    plates = root.findall("{*}Plate")
    if len(plates) != 1:
        raise ValueError(
            f"it describes {len(plates) or 'no'} plates; a folder holds one, and its OME-XML says which image is of "
            "which well"
        )
    counts: dict[str, int] = {}
    for file, page in (page for image in images.values() for page in image.pages.values()):
        counts[file] = max(counts.get(file, 0), page + 1)
    runs = {
        reference.attrib["ID"]: (rank, run.get("Name") or f"Run {rank}")
        for rank, run in enumerate(plates[0].findall("{*}PlateAcquisition"), 1)
        for reference in run.findall("{*}WellSampleRef")
    }
    found = Found(announced=Announced(source="OME-XML", every_site=True))
    found.rows, found.columns = int(plates[0].get("Rows", 0)), int(plates[0].get("Columns", 0))
    for element in plates[0].findall("{*}Well"):
        well = well_name(int(element.attrib["Row"]), int(element.attrib["Column"]))
        found.wells.append(well)
        samples = [(sample, sample.find("{*}ImageRef")) for sample in element.findall("{*}WellSample")]
        samples.sort(key=lambda pair: int(pair[0].get("Index", 0)))
        for site, (sample, reference) in enumerate(samples, 1):
            if reference is None:
                found.planes.append(PlaneFile(well, site, 0, 0, 0, None))
                continue
            place, image = (well, site), images[reference.attrib["ID"]]
            found.shapes[place], found.own[place] = image.shape, image.about
            if sample.get("ID") in runs:
                found.acquisitions[place] = runs[sample.attrib["ID"]]
            for (t, c, z), (name, page) in image.pages.items():
                there = named(files, name)
                path = None if there is None else f"{there}?ifd={page}of{counts[name]}"
                found.planes.append(PlaneFile(well, site, t, c, z, path))
            found.planes += [PlaneFile(well, site, 0, 0, 0, None)] * (not image.pages)
    _describe(found)
    return found


def _describe(found: Found) -> None:
    """Take what most images are like for the plate."""
    if not found.own:
        return
    usual, shape = next(iter(found.own.values())), next(iter(found.shapes.values()))
    for plane in found.planes:
        found.shapes.setdefault((plane.well, plane.site), shape)
    found.channel_names, found.colors = dict(enumerate(usual.channel_names)), dict(enumerate(usual.colors))
    found.pixel_size = usual.pixel_size
    t, c, z = map(tuple, map(range, shape))
    found.announced = Announced(t=t, c=c, z=z, source="OME-XML", every_site=True)
