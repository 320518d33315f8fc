"""OME-TIFF plates that one OME-XML describes: each plane is where that says, or is missing."""

import numpy as np
import pytest
import tifffile
from plate_folders import images_of

from openhcs_omero.errors import PlateError
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.microscopes.detect import handler_of
from openhcs_omero.plates.paths import parse_well

SPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def write_plate(folder, images, per="image", inside=False, order="XYZCT", runs=()):
    """Write a plate of images (T, C, Z, Y, X), one file per image, plane, or for all; its OME-XML is in a companion
    file, or in the first TIFF. Planes are written in another order than that of dimensions."""
    folder.mkdir()
    wells, described, pages = {}, "", {}
    companion = "image_0.ome.tif" if inside else "p.companion.ome"
    for number, ((well, site), image) in enumerate(images.items()):
        sizes = dict(zip("TCZ", image.shape))
        data = ""
        for rank, (t, c, z) in enumerate(reversed(list(np.ndindex(image.shape[:3])))):
            name = {"image": f"image_{number}", "plane": f"image_{number}_{rank}", "all": "image_0"}[per] + ".ome.tif"
            ifd = len(pages.setdefault(name, []))
            pages[name].append(image[t, c, z])
            data += (
                f'<TiffData FirstT="{t}" FirstC="{c}" FirstZ="{z}" IFD="{ifd}" PlaneCount="1">'
                f'<UUID FileName="{name}">urn:uuid:0</UUID></TiffData>'
            )
        channels = "".join(
            f'<Channel ID="Channel:{number}:{c}" Name="ch{c}" Color="-16776961"/>' for c in range(sizes["C"])
        )
        described += (
            f'<Image ID="Image:{number}"><Pixels ID="Pixels:{number}" DimensionOrder="{order}" Type="uint16" SizeX="5" '
            f'SizeY="4" SizeT="{sizes["T"]}" SizeC="{sizes["C"]}" SizeZ="{sizes["Z"]}" PhysicalSizeX="650" '
            f'PhysicalSizeXUnit="nm" PhysicalSizeY="0.65" PhysicalSizeZ="2">{channels}{data}</Pixels></Image>'
        )
        wells.setdefault(well, []).append((site, number))
    plate = ""
    for well, samples in wells.items():
        row, column = parse_well(well)
        inner = "".join(
            f'<WellSample ID="WellSample:{number}" Index="{site}"><ImageRef ID="Image:{number}"/></WellSample>'
            for site, number in reversed(samples)
        )
        plate += f'<Well ID="Well:{well}" Row="{row}" Column="{column}">{inner}</Well>'
    for number, name in enumerate(runs):
        references = "".join(f'<WellSampleRef ID="WellSample:{n}"/>' for n in range(len(images)) if n % 2 == number)
        plate += f'<PlateAcquisition ID="PlateAcquisition:{number}" Name="{name}">{references}</PlateAcquisition>'
    text = f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{SPACE}"><Plate ID="Plate:0" Rows="8" Columns="12">'
    text += f"{plate}</Plate>{described}</OME>"
    short = (
        f'<?xml version="1.0"?><OME xmlns="{SPACE}"><BinaryOnly MetadataFile="{companion}" UUID="urn:uuid:0"/></OME>'
    )
    for name, planes in pages.items():
        with tifffile.TiffWriter(folder / name) as file:
            for number, plane in enumerate(planes):
                about = text if name == companion else short
                file.write(plane, description=None if number else about, metadata=None, photometric="minisblack")
    if not inside:
        (folder / companion).write_text(text)
    return folder


def same(folder, images, **options):
    handler = handler_of(folder, **options)
    handler.check_complete(folder, {well for well, _ in images})
    for (well, site), image in images.items():
        np.testing.assert_array_equal(handler.load_site(folder, well, site, FileManager()), image)
    return handler


IMAGES = images_of(["A01", "B03"], sites=2, shape=(2, 2, 3, 4, 5))


@pytest.mark.parametrize("per", ["image", "plane", "all"])
@pytest.mark.parametrize("order", ["XYZCT", "XYTCZ"])
def test_planes_are_where_the_companion_says(tmp_path, per, order):
    handler = same(write_plate(tmp_path / "p", IMAGES, per, order=order), IMAGES)
    listing = handler.listing(tmp_path / "p")
    assert listing.channel_names == ("ch0", "ch1") and listing.pixel_size == (2.0, 0.65, 0.65)
    assert listing.colors[0] == (255, 0, 0) and not listing.notes
    assert (listing.structure.rows, listing.structure.microscope_type) == (8, "OME-TIFF")


def test_a_companion_in_utf_16(tmp_path):
    path = write_plate(tmp_path / "p", IMAGES) / "p.companion.ome"
    path.write_bytes(path.read_text().replace("UTF-8", "UTF-16").encode("utf-16"))
    same(path.parent, IMAGES)


def test_a_tiff_with_the_metadata_of_the_others(tmp_path):
    same(write_plate(tmp_path / "p", IMAGES, inside=True), IMAGES)


def test_images_that_differ_and_acquisitions(tmp_path):
    images = images_of(["A01"], sites=1, shape=(1, 1, 1, 4, 5)) | images_of(["B02"], sites=1, shape=(1, 2, 3, 4, 5))
    images = {place: image[..., : 4 if place[0] == "B02" else 5] for place, image in images.items()}
    for per in ("image", "all"):
        handler = same(write_plate(tmp_path / per, images, per), images)
        about = handler.read_metadata(handler.listing(tmp_path / per), "A01")[1]
        assert about.channel_names == ("ch0",) and len(about.colors) == 1  # not those of the plate, which has two
    runs = write_plate(tmp_path / "q", IMAGES, runs=("before", "after"))
    same(runs, {(well, 1): image for (well, site), image in IMAGES.items() if site == 2}, acquisition="after")


def test_holes(tmp_path):
    """A file that is not there, a plane that is not listed, and a file with other pages cost their wells."""
    folder = write_plate(tmp_path / "p", IMAGES)
    (folder / "image_3.ome.tif").unlink()
    handler = handler_of(folder)
    handler.check_complete(folder, ["A01"])
    with pytest.raises(PlateError, match="well B03 lacks files of site 2: all of it"):
        handler.check_complete(folder, ["B03"])
    path = write_plate(tmp_path / "q", IMAGES) / "p.companion.ome"
    first = path.read_text().partition("<TiffData")[2].partition("</TiffData>")[0]
    path.write_text(path.read_text().replace(f"<TiffData{first}</TiffData>", "", 1))
    with pytest.raises(PlateError, match="well A01 lacks files of site 1: timepoint 1, channel 1, plane 2"):
        handler_of(path.parent).check_complete(path.parent, ["A01"])
    tifffile.imwrite(path.parent / "image_3.ome.tif", np.zeros((4, 5), "uint16"))
    with pytest.raises(PlateError, match=r"image_3\.ome\.tif has 1 pages"):
        handler_of(path.parent).load_site(path.parent, "B03", 2, FileManager())


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('Row="1"', 'Row="x"', "invalid literal"),
        ('DimensionOrder="XYZCT"', 'DimensionOrder="XYZZT"', "the order of dimensions is XYZZT"),
        ('SizeT="2"', 'SizeT="999999999"', "999999999 timepoints"),
        ('PlaneCount="1"', 'PlaneCount="99"', "a TiffData has 99 planes"),
        ('ImageRef ID="Image:0"', 'ImageRef ID="Image:9"', "'Image:9' is missing"),
        ('Name="ch0"', 'Name="ch0" SamplesPerPixel="3"', "color images"),
    ],
)
def test_metadata_that_are_wrong(tmp_path, before, after, words):
    path = write_plate(tmp_path / "p", IMAGES) / "p.companion.ome"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(PlateError, match=words):
        handler_of(path.parent).listing(path.parent)
