"""Folders that are read as they are, or refused for what they are: nothing in them is dropped or mixed unsaid."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from holes import lose
from ome_zarr_plates import Style, write_plate
from plate_folders import (
    CHANNELS,
    images_of,
    write_cellvoyager,
    write_htd,
    write_imagexpress,
    write_incell,
    write_openhcs,
    write_phenix,
)
from typer.testing import CliRunner

from openhcs_omero.cli import app
from openhcs_omero.errors import OpenHCSError, PlateError
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.microscopes.describe import describe_folder
from openhcs_omero.microscopes.detect import handler_of
from openhcs_omero.plates.paths import expand_wells

ONE = (1, 1, 1, 4, 5)
PLANE = np.arange(20, dtype="uint16").reshape(4, 5)
OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{before}<Image ID="Image:0">'
    '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="5" SizeY="4" SizeZ="{z}" SizeC="{c}" '
    'SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{data}</Pixels></Image></OME>'
)


def put(folder, **planes):
    """Write TIFFs; `__` in a name stands for a slash."""
    for name, plane in planes.items():
        path = folder / f"{name.replace('__', '/')}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, plane)
    return folder


def ome_tiff(path, pages, **described):
    with tifffile.TiffWriter(path) as file:
        for number in range(pages):
            text = OME.format(**{"before": "", "z": 1, "c": 1, "data": "", **described})
            file.write(PLANE + number, description=None if number else text, metadata=None)


def notes(folder):
    return handler_of(folder).listing(folder).notes


def refused(folder, words):
    with pytest.raises(PlateError, match=words) as error:
        handler_of(folder).listing(folder)
    assert "\n" not in str(error.value)


# ---- several plates, and files that are none


@pytest.mark.parametrize("names", ["{}_{}_s1_w1", "{}_{}f00d0", "{}_{}_T0001F001L01A01Z01C01"])
def test_files_of_two_plates_are_not_mixed(tmp_path, names):
    put(tmp_path, **{names.format("P1", "A01"): PLANE, names.format("p1", "A02"): PLANE})
    assert handler_of(tmp_path).get_well_values(tmp_path) == ["A01", "A02"]
    put(tmp_path, **{names.format("P2", "A03"): PLANE})
    refused(tmp_path, "P1_.* and P2_.* are named for different plates")


def test_a_folder_of_plates(tmp_path):
    for name in ("day 1", "day 2"):
        write_phenix(tmp_path / name, images_of(["A01"], shape=ONE))
    with pytest.raises(PlateError, match=r"is not a plate, but 2 folders in it are \(day 1, day 2\): name each"):
        handler_of(tmp_path)


def test_tiffs_in_other_folders_are_named(tmp_path):
    put(tmp_path, A01_s001_z000_c000=PLANE, B__A02_s001_z000_c000=PLANE)
    assert notes(tmp_path) == ("the folder B has TIFFs, which are not read as planes of the plate",)


def test_shade_images_are_no_planes(tmp_path):
    folder = write_imagexpress(tmp_path / "p", images_of(["A01"], shape=ONE), guids=False)
    put(folder, ShadeImage_w1=PLANE)
    assert handler_of(folder).get_well_values(folder) == ["A01"]
    put(tmp_path / "q", A01_s001_z000_c000=PLANE, FlatField_DAPI=PLANE)
    assert handler_of(tmp_path / "q").get_well_values(tmp_path / "q") == ["A01"]
    put(tmp_path / "r", Shading_test_A01_s1_w1=PLANE)
    assert handler_of(tmp_path / "r").get_well_values(tmp_path / "r") == ["A01"]


def test_images_of_other_formats_are_named(tmp_path):
    folder = write_phenix(tmp_path / "p", images_of(["A01"], sites=1, shape=ONE))
    for path in folder.glob("Images/*.tiff"):
        path.rename(path.with_suffix(".PNG"))
    refused(folder, r"none of the 1 files .*; images that are no TIFFs are not read \(r01c01f01p01-ch1sk1fk1fl1.PNG\)")
    put(tmp_path / "q", A01_s001_z000_c000=PLANE)
    (tmp_path / "q" / "A02_s001_z000_c000.flex").write_bytes(b"")
    assert notes(tmp_path / "q") == ("images that are no TIFFs are not read (A02_s001_z000_c000.flex)",)


# ---- metadata that do not fit the files


def test_metadata_beside_others(tmp_path):
    """A CellVoyager without its list but with its details; two indexes; a file that OpenHCS does not list."""
    images = images_of(["A01"], shape=(1, 2, 1, 4, 5))
    folder = write_cellvoyager(tmp_path / "cellvoyager", images)
    (folder / "MeasurementData.mlf").unlink()
    for path in folder.glob("*C02.tif"):
        path.unlink()
    assert handler_of(folder).listing(folder).pixel_size == (None, 0.65, 0.65)
    with pytest.raises(PlateError, match=r"lacks all files of channel 2 .*, which the file MeasurementDetail\.mrf"):
        handler_of(folder).listing(folder).check_complete()
    folder = write_phenix(tmp_path / "phenix", images)
    shutil.copy(folder / "Images" / "Index.idx.xml", folder / "Index.xml")
    assert notes(folder) == ("Index.xml is not read, because Index.idx.xml is there",)
    folder = write_openhcs(tmp_path / "openhcs", images, "disk")
    put(folder / "images", B02_s001_w1_z001_t001=PLANE, A01_s001_labels=PLANE)
    assert notes(folder) == ("1 TIFF is left out (B02_s001_w1_z001_t001.tif): not listed in openhcs_metadata.json",)


def test_files_of_wells_that_the_htd_file_does_not_select(tmp_path):
    folder = write_imagexpress(tmp_path / "p", images_of(["A01", "B02"], shape=ONE), wells=["A01", "C03"])
    [note] = notes(folder)
    assert note == "the HTD file does not select B02, of which there are files; they are read"
    write_htd(folder / "p.HTD", ["A01", "B02"], 2, ONE)
    assert not notes(folder)


def test_files_beyond_what_the_htd_file_announces(tmp_path):
    """They are read, and that is said; so is it where single planes take the place of a stack."""
    folder = write_imagexpress(tmp_path / "p", images_of(["A01"], sites=2, shape=(1, 2, 1, 4, 5)), guids=False)
    write_htd(folder / "p.HTD", ["A01"], 1, (1, 1, 5))
    listing = handler_of(folder).listing(folder)
    assert (listing.structure.max_sites, listing.structure.max_c, listing.structure.max_z) == (2, 2, 1)
    assert listing.notes == (
        "the HTD file announces 5 planes, but there are single planes or projections only",
        "the HTD file does not announce channel 2, of which there are files",
        "the HTD file does not announce site 2, of which there are files",
    )


def test_a_well_with_projections_only(tmp_path):
    """Other wells have stacks, so it is not complete, and not empty either."""
    images = images_of(["A01", "A02"], sites=1, shape=(1, 1, 3, 4, 5))
    folder = write_imagexpress(tmp_path / "p", images, guids=False, projections=True)
    for path in folder.glob("TimePoint_1/ZStep_[123]/*_A02_*"):
        path.unlink()
    with pytest.raises(PlateError, match="well A02 lacks files of site 1: all of it"):
        handler_of(folder).listing(folder).check_complete()
    assert list(handler_of(folder, incomplete="skip").listing(folder).skipped) == ["A02"]


@pytest.mark.parametrize("write", [write_phenix, lambda folder, images: write_plate(folder, images, Style(levels=1))])
def test_no_site_is_complete(tmp_path, write):
    images = images_of(["A01", "A02"], sites=1, shape=(1, 2, 1, 4, 5))
    folder = write(tmp_path / "p", images)
    for (_, planes), c in zip(handler_of(folder).listing(folder).files.items(), (0, 1)):
        lose(planes[0, c, 0])
    with pytest.raises(PlateError, match=r"no site of .* has all of its files: `incomplete: skip` leaves nothing"):
        handler_of(folder, incomplete="skip").listing(folder)


def test_numbers_that_are_far_apart(tmp_path):
    put(tmp_path, A01_s001_z000_c000=PLANE, A01_s001_z20240131_c000=PLANE)
    assert notes(tmp_path) == (
        "the planes have the numbers 0, 20240131 in the names of the files, and are counted from 0 here",
    )


def test_ranges_of_wells_on_a_plate_of_which_few_wells_are_known(tmp_path):
    put(tmp_path, A01_s1_w1=PLANE, B02_s1_w1=PLANE)
    structure = handler_of(tmp_path).structure(tmp_path)
    assert expand_wells(["A01-H12"], structure.wells, (structure.rows, structure.columns)) == ["A01", "B02"]
    with pytest.raises(PlateError, match="well P24 of the range A01-P24 is not on a plate of 8 x 12 wells"):
        expand_wells(["A01-P24"], structure.wells, (structure.rows, structure.columns))


def test_folders_of_the_same_timepoint(tmp_path):
    folder = write_imagexpress(tmp_path / "p", images_of(["A01"], shape=(2, 1, 1, 4, 5)))
    shutil.copytree(folder / "TimePoint_2", folder / "timepoint_02")
    refused(folder, "has TimePoint_2 and timepoint_02, which have the same number")


def test_one_file_for_two_planes(tmp_path):
    folder = write_phenix(tmp_path / "p", images_of(["A01"], shape=(1, 2, 1, 4, 5)))
    index = folder / "Images" / "Index.idx.xml"
    image = re.search("<Image Version.*?</Image>", index.read_text())[0]
    index.write_text(index.read_text().replace(image, image * 2))  # the same file for the same plane: no harm
    assert handler_of(folder).listing(folder).structure.max_sites == 2
    index.write_text(index.read_text().replace(image, image.replace("<Col>1</Col>", "<Col>2</Col>"), 1))
    handler = handler_of(folder)
    for well in ("A01", "A02"):
        with pytest.raises(PlateError, match="is listed as two planes, one of A02 site 1 and one of A01 site 1"):
            handler.check_complete(folder, [well])


def with_timelines(folder, images, action=""):
    """Write a CellVoyager plate of the timelines in `images`, which measured the same wells one after the other."""
    records = []
    for number, image in images.items():
        part = write_cellvoyager(folder / str(number), image)
        text = (part / "MeasurementData.mlf").read_text().replace("F001L01A", f"F001L{number:02d}A")
        text = text.replace('TimelineIndex="1"', f'TimelineIndex="{number}"')
        records += re.findall("<bts:MeasurementRecord.*?</bts:MeasurementRecord>", text)
        for path in part.glob("*.tif"):
            path.rename(folder / path.name.replace("L01A", f"L{number:02d}A"))
    for name in ("MeasurementData.mlf", "MeasurementDetail.mrf", "plate.mes"):
        shutil.copy(folder / "1" / name, folder / name)
    for number in images:
        shutil.rmtree(folder / str(number))
    path = folder / "MeasurementData.mlf"
    path.write_text(re.sub("<bts:MeasurementRecord.*</bts:MeasurementRecord>", "".join(records), path.read_text()))
    return folder


def test_timelines_of_a_cellvoyager_are_acquisitions(tmp_path):
    """Two timelines that took the same planes, one of them with less; a hole in one does not matter to the other."""
    images = {
        1: images_of(["A01", "B02"], sites=1, shape=(2, 2, 1, 4, 5)),
        2: images_of(["A01"], sites=1, shape=(3, 1, 1, 4, 5)),
    }
    images[2] = {place: image + 1 for place, image in images[2].items()}
    folder = with_timelines(tmp_path / "p", images)
    refused(folder, r"it has the acquisitions 1 \(timeline 1\), 2 \(timeline 2\); choose one")
    for choice in (1, "timeline 2"):
        handler = handler_of(folder, acquisition=choice)
        expected = images[1 if choice == 1 else 2]
        assert list(handler.structure(folder).wells) == list(dict.fromkeys(well for well, _ in expected))
        for (well, site), image in expected.items():
            np.testing.assert_array_equal(handler.load_site(folder, well, site, FileManager()), image)
    handler = handler_of(folder, acquisition="all")
    plate = handler.structure(folder)
    assert {(well, image.site): image.acquisition for well, image in plate.images()} == {
        ("A01", 1): (1, "timeline 1"),
        ("A01", 2): (2, "timeline 2"),
        ("B02", 1): (1, "timeline 1"),
    }
    np.testing.assert_array_equal(handler.load_site(folder, "A01", 2, FileManager()), images[2]["A01", 1])
    assert handler.channel_names(folder, plate.only(["B02"])) == tuple(CHANNELS[:2])
    (folder / "AssayPlate_A01_T0002F001L02A01Z01C01.tif").unlink()
    handler_of(folder, acquisition=1).check_complete(folder, ["A01", "B02"])
    with pytest.raises(PlateError, match="well A01 lacks all files of timepoint 1, which the list of measurements"):
        handler_of(folder, acquisition=2).check_complete(folder, ["A01"])


def test_a_cellvoyager_with_several_actions(tmp_path):
    folder = write_cellvoyager(tmp_path / "p", images_of(["A01"], sites=1, shape=(2, 1, 1, 4, 5)))
    path = folder / "MeasurementData.mlf"
    path.write_text(path.read_text().replace('bts:TimePoint="2"', 'bts:TimePoint="1" bts:ActionIndex="1"'))
    refused(folder, "well A01 has channel 1 of field 1 several times, by several actions")


def test_a_well_that_no_plate_has(tmp_path):
    put(tmp_path, A00_s1_w1=PLANE, A02_s1_w1=PLANE)
    refused(tmp_path, "A00_s1_w1.tif: 'A00' is not a well")
    put(tmp_path / "p", **{"r00c01f01p01-ch1sk1fk1fl1": PLANE, "r01c01f01p01-ch1sk1fk1fl1": PLANE})
    assert "not named like planes of an Opera Phenix" in notes(tmp_path / "p")[0]


@pytest.mark.parametrize("shape", [[1, 10**9, 1], [1, 0, 1], [1, -1, 1], "large"])
def test_shapes_that_no_image_has(tmp_path, shape):
    folder = write_openhcs(tmp_path / "p", images_of(["A01"], shape=ONE), "disk")
    document = json.loads((folder / "openhcs_metadata.json").read_text())
    images = {"shape": shape, "channels": [], "colors": [], "pixel_size": [None, None, None], "sites": {"A01": [1]}}
    document["subdirectories"]["images"]["openhcs_omero"] = {"images": [images]}
    (folder / "openhcs_metadata.json").write_text(json.dumps(document))
    with pytest.raises(OpenHCSError, match=r"openhcs_metadata\.json: (an image|images) can't"):
        handler_of(folder).listing(folder)


# ---- files that can't be read


def test_the_first_file_does_not_stop_the_others(tmp_path):
    folder = write_imagexpress(tmp_path / "p", images_of(["A01", "B02"], shape=ONE), guids=False)
    (folder / "p_A01_s1_w1.TIF").write_bytes(b"")
    handler = handler_of(folder)
    assert handler.load_site(folder, "B02", 1, FileManager()).shape == ONE
    [note] = handler.notes(folder)
    assert note.startswith("well A01 can't be processed: ") and "can't be read as a TIFF" in note
    assert handler.listing(folder).pixel_size == (None, 0.65, 0.65)
    for path in folder.glob("*.TIF"):
        path.write_bytes(b"")
    refused(folder, "can't be read as a TIFF")


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (np.zeros((4, 5, 3), "uint8"), PLANE, "1 values per pixel, where the first file of the"),
        (PLANE, np.zeros((4, 5, 3), "uint8"), "not a grayscale image"),
        (np.zeros((6, 4, 5), "uint8"), np.zeros((2, 4, 5), "uint8"), "has 2 pages with 1 values per pixel"),
    ],
)
def test_wells_that_will_fail_are_named(tmp_path, first, second, words):
    put(tmp_path, A01_s001_z000_c000=first, A02_s001_z000_c000=second)
    assert any(note.startswith("well A02 can't be processed: ") and words in note for note in notes(tmp_path))


def test_files_of_several_planes_are_said_once(tmp_path):
    put(tmp_path / "rgb", x_A01_s1_w1=np.zeros((4, 5, 3), "uint8"), x_A02_s1_w1=np.zeros((4, 5, 3), "uint8"))
    assert notes(tmp_path / "rgb") == ("the TIFFs are RGB: red, green and blue are read as three channels",)
    put(tmp_path / "pages", x_A01_s1_w1=np.zeros((6, 4, 5), "uint8"), x_A02_s1_w1=np.zeros((6, 4, 5), "uint8"))
    assert notes(tmp_path / "pages") == ("the TIFFs have several pages, which are read as 6 z planes",)


def test_types_that_a_run_refuses_are_in_info(tmp_path):
    put(tmp_path / "tiffs", A01_s001_z000_c000=PLANE, A02_s001_z000_c000=PLANE.astype("complex64"))
    images = images_of(["A01", "A02"], sites=1, shape=(1, 1, 1, 18, 22))
    images["A02", 1] = images["A02", 1].astype("complex64")
    write_plate(tmp_path / "zarr", images, Style(levels=1))
    for folder in (tmp_path / "tiffs", tmp_path / "zarr"):
        [problem] = describe_folder(folder)["problems"]
        assert problem.startswith("A02 site 1 is ") and "complex64; pixels of this type can't be processed" in problem
        said = CliRunner().invoke(app, ["info", str(folder)]).output
        assert f"problem         {problem}" in said
        assert said == CliRunner().invoke(app, ["import", "--dry-run", str(folder)]).output


def test_types_that_are_converted_are_named(tmp_path):
    put(tmp_path / "tiffs", A01_s001_z000_c000=PLANE.astype("int64"))
    write_plate(tmp_path / "zarr", images_of(["A01"], shape=(1, 1, 1, 18, 22), dtype="int64"), Style(levels=1))
    for folder in (tmp_path / "tiffs", tmp_path / "zarr"):
        assert notes(folder) == ("pixels of type int64 are read as float64",)


def test_groups_that_the_metadata_of_an_ome_zarr_do_not_list(tmp_path):
    images = images_of(["A01", "B02"], shape=(1, 1, 1, 18, 22))
    folder = write_plate(tmp_path / "p.zarr", images, Style(levels=1), labels=True)
    assert not notes(folder)
    document = json.loads((folder / "zarr.json").read_text())
    document["attributes"]["ome"]["plate"]["field_count"] = 3
    (folder / "zarr.json").write_text(json.dumps(document))
    shutil.copytree(folder / "A" / "1", folder / "A" / "7")
    shutil.copytree(folder / "B" / "2" / "0", folder / "B" / "2" / "9")
    shutil.copytree(folder / "A" / "1" / "0", folder / "tables" / "0")
    assert notes(folder) == (
        "wells that the metadata do not list are left out: A/7",
        "images that the metadata do not list are left out: B/2/9",
        "the metadata announce 3 images per well, but list at most 2",
    )


# ---- OME-TIFF


@pytest.mark.parametrize("pages", [1, 2])
def test_an_ome_tiff_that_announces_more(tmp_path, pages):
    ome_tiff(tmp_path / "A01_s001_z000_c000.tif", pages, z=3, data='<TiffData IFD="0" PlaneCount="3"/>')
    refused(tmp_path, f"is incomplete: its OME-XML announces 3 planes, but it has {pages}")


def test_pages_that_another_file_describes(tmp_path):
    text = '<BinaryOnly MetadataFile="p.companion.ome" UUID="urn:uuid:0"/>'
    ome_tiff(tmp_path / "A01_s001_z000_c000.tif", 1, before=text)
    np.testing.assert_array_equal(handler_of(tmp_path).load_site(tmp_path, "A01", 1, FileManager())[0, 0, 0], PLANE)
    ome_tiff(tmp_path / "A01_s001_z000_c000.tif", 2, before=text)
    refused(tmp_path, "2 pages that p.companion.ome describes, which is not read")


def test_an_ome_tiff_per_plane(tmp_path):
    """Each file describes all planes of the plate, also one that is not there."""
    names = [f"A01_s001_z{z:03d}_c{c:03d}.ome.tif" for c in range(3) for z in range(2)]
    data = "".join(
        f'<TiffData FirstZ="{z}" FirstC="{c}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{name}</UUID>'
        "</TiffData>"
        for name, (c, z) in zip(names, np.ndindex(3, 2))
    )
    for name in names:
        ome_tiff(tmp_path / name, 1, z=2, c=3, data=data)
    assert handler_of(tmp_path).load_site(tmp_path, "A01", 1, FileManager()).shape == (1, 3, 2, 4, 5)
    assert not notes(tmp_path)
    for name in names[2:4]:
        (tmp_path / name).unlink()
    with pytest.raises(PlateError, match="lacks all files of channel 1, which the OME-XML in the files announces"):
        handler_of(tmp_path).listing(tmp_path).check_complete()
    for path in sorted(tmp_path.iterdir()):  # renamed, so the names in the OME-XML mean nothing
        path.rename(tmp_path / path.name.replace("A01", "B02"))
    assert handler_of(tmp_path).load_site(tmp_path, "B02", 1, FileManager()).shape == (1, 2, 2, 4, 5)
    assert Path(tmp_path, names[0].replace("A01", "B02")).exists()


def test_names_with_accents_in_two_ways(tmp_path):
    """macOS may write ä as a and dots, where the metadata of the microscope have one letter."""
    folder = write_cellvoyager(tmp_path / "p", images_of(["A01"], sites=1, shape=(1, 1, 1, 4, 5)))
    data = folder / "MeasurementData.mlf"
    data.write_text(data.read_text().replace("AssayPlate", "Pl\u00e4tte"))
    for path in folder.glob("AssayPlate*"):
        path.rename(folder / path.name.replace("AssayPlate", "Pla\u0308tte"))
    handler_of(folder).listing(folder).check_complete()
    put(tmp_path / "q", **{"pl\u00e4tte_A01_s1_w1": PLANE, "pla\u0308tte_A02_s1_w1": PLANE})
    assert len(handler_of(tmp_path / "q").structure(tmp_path / "q").wells) == 2


@pytest.mark.parametrize(
    ("write", "name", "before", "after"),
    [
        (write_phenix, "Images/Index.idx.xml", '<PositionX Unit="m">0<', '<PositionX Unit="m">1,5<'),
        (write_phenix, "Images/Index.idx.xml", '<PositionZ Unit="m">0.000E+00<', '<PositionZ Unit="m"><'),
        (write_phenix, "Images/Index.idx.xml", "6.500000E-07", "6,5E-07"),
        (write_cellvoyager, "MeasurementData.mlf", 'bts:X="0"', 'bts:X="1,5"'),
        (write_cellvoyager, "MeasurementDetail.mrf", 'Dimension="0.65"', 'Dimension="0,65"'),
        (write_incell, "p.XDCE", 'pixel_width="0.65"', 'pixel_width="0,65"'),
    ],
)
def test_lengths_that_are_no_numbers(tmp_path, write, name, before, after):
    """No plane depends on them: the plate is read, and a pixel size that is ignored is said."""
    folder = write(tmp_path / "p", images_of(["A01"], sites=1, shape=(1, 1, 2, 4, 5)))
    path = folder / name
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    listing = handler_of(folder).listing(folder)
    listing.check_complete()
    ignored = [note for note in listing.notes if "a pixel size of nan, which is ignored" in note]
    assert len(ignored) == ("Position" not in before or "PositionZ" in before) - ("bts:X" in before)


def test_sites_that_are_nowhere_are_said(tmp_path):
    folder = put(tmp_path / "p", A01_s1_w1=PLANE, A01_s3_w1=PLANE)
    assert notes(folder) == ("the sites have the numbers 1, 3 in the files, and are counted from 1 here",)


def test_an_htd_file_that_is_cut(tmp_path):
    folder = write_imagexpress(tmp_path / "p", images_of(["A01"], sites=1, shape=(1, 1, 1, 4, 5)))
    assert not notes(folder)
    path = folder / "p.HTD"
    path.write_bytes(path.read_bytes()[:400])
    assert any("it may be cut" in note for note in notes(folder))


@pytest.mark.parametrize("damage", ["lost", "no array", "not JSON"])
def test_a_site_of_a_result_folder_in_zarr_that_is_lost_or_broken(tmp_path, damage):
    """It costs its well; a site that the folder's metadata list is not dropped because it is gone."""
    folder = write_openhcs(tmp_path / "p", images_of(["A01", "B02"], shape=ONE), "zarr")
    path = folder / "openhcs_metadata.json"
    described = json.loads(path.read_text())
    names = [f"{well}/{well}_s{site:03d}_z000_c000.tif" for well in ("A01", "B02") for site in (1, 2)]
    described["subdirectories"]["zarr"]["image_files"] = [f"zarr/{name}" for name in names]
    path.write_text(json.dumps(described))
    site = folder / "zarr/plate.zarr/B/2/1"
    if damage == "lost":
        shutil.rmtree(site)
    elif damage == "no array":
        shutil.rmtree(site / "0")
    else:
        (site / "zarr.json").write_text("{")
    handler = handler_of(folder)
    handler.load_site(folder, "A01", 2, FileManager())
    handler.check_complete(folder, ["A01"])
    with pytest.raises(PlateError, match="well B02 lacks files of site 2: all of it"):
        handler.check_complete(folder, ["B02"])
    assert any(note.startswith("well B02 site 2: ") for note in notes(folder)) == (damage != "lost")
