"""Real-world folders with holes, mixed acquisitions, unrelated files and encodings; none of them is misread."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from holes import EVERY, FORMATS, lose
from hypothesis import given, settings
from hypothesis import strategies as st
from plate_folders import (
    CHANNELS,
    images_of,
    write_cellvoyager,
    write_htd,
    write_imagexpress,
    write_incell,
    write_phenix,
)
from typer.testing import CliRunner

from openhcs_omero.cli import app
from openhcs_omero.errors import PlateError
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.microscopes.detect import handler_of
from openhcs_omero.microscopes.folders import parse_xml
from openhcs_omero.microscopes.imagexpress import parse_htd

SHAPE = (3, 3, 3, 6, 5)


def site(folder, well="A01", number=1, incomplete="error"):
    """Pixels of a site, if its well is complete, and the notes about the plate."""
    handler = handler_of(folder, incomplete=incomplete)
    handler.check_complete(folder, [well])
    return handler.load_site(folder, well, number, FileManager()), handler.notes(folder)


def metadata(folder, incomplete, well="A01"):
    handler = handler_of(folder, incomplete=incomplete)
    return handler.read_metadata(handler.listing(folder), well)


# ---- what the metadata announce, and what exists


@pytest.mark.parametrize(
    ("lost", "words", "axis", "index"),
    [
        ("**/*_w2*.TIF", "channel 2 (as the files number them)", 1, 1),
        ("TimePoint_2/**/*.TIF", "timepoint 2 (as the files number them)", 0, 1),
        ("**/ZStep_3/*.TIF", "plane 3 (as the files number them)", 2, 2),
    ],
)
def test_imagexpress_announces_more(tmp_path, lost, words, axis, index):
    """If a channel, timepoint or plane has no files, whatever follows it keeps its place."""
    images = images_of(["A01", "B02"], sites=1, shape=SHAPE)
    folder = write_imagexpress(tmp_path / "p", images, guids=False)
    for path in folder.glob(lost):
        path.unlink()
    with pytest.raises(
        PlateError, match=f"well A01 lacks all files of {re.escape(words)}, which the HTD file announces"
    ):
        site(folder)
    expected = images["A01", 1].copy()
    skipped, notes = site(folder, incomplete="skip")
    np.testing.assert_array_equal(skipped, np.delete(expected, index, axis))
    assert notes == (f"the plate lacks all files of {words}, which the HTD file announces: left out",)
    handler = handler_of(folder, incomplete="skip")
    names = list(CHANNELS[:3])
    assert list(handler.get_channel_values(folder).values()) == (names if axis != 1 else ["DAPI", "Texas Red"])
    np.moveaxis(expected, axis, 0)[index] = 0
    filled, notes = site(folder, incomplete="fill")
    np.testing.assert_array_equal(filled, expected)
    black = metadata(folder, "fill")[1].filled
    assert len(black) == 9 and {place[axis] for place in black} == {index}


UNDESCRIBED = {
    "imagexpress": (lambda folder, images: write_imagexpress(folder, images, guids=False, htd=False), "**/*_w2*"),
    "imagexpress timepoints": (lambda folder, images: write_imagexpress(folder, images, htd=False), "TimePoint_2/**/*"),
    "phenix": (lambda folder, images: write_phenix(folder, images, index=None), "Images/*p02-*"),
    "cellvoyager": (lambda folder, images: write_cellvoyager(folder, images, listed=False), "*_T0002*"),
    "incell": (lambda folder, images: write_incell(folder, images, described=False), "*time 2 *"),
}


@pytest.mark.parametrize("kind", UNDESCRIBED)
def test_gaps_in_the_numbers_of_files_without_metadata(tmp_path, kind):
    """What follows a gap keeps its number."""
    write, lost = UNDESCRIBED[kind]
    images = images_of(["A01"], sites=1, shape=(3, 3, 3, 6, 5))
    folder = write(tmp_path / "p", images)
    for path in folder.glob(lost):
        if path.is_file():
            path.unlink()
    with pytest.raises(PlateError, match=r"well A01 lacks all files of [a-z]+ 2 .*, which the numbering of the files"):
        site(folder)
    filled, _ = site(folder, incomplete="fill")
    axis = {"*_T0002*": 0, "*time 2 *": 0, "TimePoint_2/**/*": 0, "**/*_w2*": 1, "Images/*p02-*": 2}[lost]
    np.testing.assert_array_equal(np.take(filled, [0, 2], axis), np.take(images["A01", 1], [0, 2], axis))
    assert not np.take(filled, 1, axis).any()


@pytest.mark.parametrize(("count", "axis"), [("TimePointCount", "timepoint"), ("ZCount", "plane")])
def test_counts_in_the_details_of_a_cellvoyager(tmp_path, count, axis):
    folder = write_cellvoyager(tmp_path / "p", images_of(["A01"], shape=(2, 1, 2, 6, 5)))
    detail = folder / "MeasurementDetail.mrf"
    detail.write_text(detail.read_text().replace("bts:RowCount", f'bts:{count}="3" bts:RowCount'))
    with pytest.raises(PlateError, match=rf"lacks all files of {axis} 3 .*, which the file MeasurementDetail"):
        site(folder)


@pytest.mark.parametrize(
    ("write", "other", "why"),
    [
        (write_phenix, "Images/r03c03f01p01-ch1sk1fk1fl1.tiff", "not listed in Index.idx.xml"),
        (write_cellvoyager, "AssayPlate_C03_T0001F001L01A01Z01C01.tif", "not listed as images in MeasurementData.mlf"),
        (write_incell, "C - 3(fld 1 wv DAPI - DAPI).tif", "not listed in p.XDCE"),
        (write_imagexpress, "p_A01_s1_w1.TIF", "beside the TimePoint_ folders, so of no known timepoint"),
        (lambda folder, images: write_phenix(folder, images, index=None), "Images/map.tif", "not named like planes"),
    ],
)
def test_files_that_are_left_out_are_named(tmp_path, write, other, why):
    folder = write(tmp_path / "p", images_of(["A01"], shape=(2, 1, 1, 6, 5)))
    before = handler_of(folder).listing(folder)
    tifffile.imwrite(folder / other, np.ones((6, 5), "uint16"))
    after = handler_of(folder).listing(folder)
    assert after.files == before.files
    assert after.notes[0].startswith(f"1 TIFF is left out ({Path(other).name}): {why}")


def test_sites_with_the_numbers_of_their_places(tmp_path):
    """MetaXpress selected 2 of 4 places; the files number the places, or count the sites."""
    images = images_of(["A01"], sites=4, shape=(1, 1, 1, 6, 5))
    chosen = {place: image for place, image in images.items() if place[1] in (2, 4)}
    folder = write_imagexpress(tmp_path / "p", chosen, guids=False)
    text = (folder / "p.HTD").read_text("latin-1")
    for row in (1, 2):
        text = re.sub(rf'("SiteSelection{row}"), .*', r"\1, FALSE, TRUE", text)
    (folder / "p.HTD").write_text(text, "latin-1")
    np.testing.assert_array_equal(site(folder, number=2)[0], images["A01", 4])
    (folder / "p_A01_s4_w1.TIF").unlink()
    with pytest.raises(PlateError, match="site"):  # site 2 of the counted 1 and 2 is there
        site(folder)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("incomplete", ["skip", "fill"])
def test_a_lost_site(tmp_path, kind, incomplete):
    """The same hole is skipped or filled in the same way for every microscope."""
    images = images_of(["A01", "B02"], sites=3, shape=(1, 2, 1, 6, 5))
    folder = FORMATS[kind](tmp_path / "p", images)
    listing = handler_of(folder).listing(folder)
    for path in listing.files["B02", 2].values():
        lose(path)
    found = handler_of(folder, incomplete=incomplete)
    sites = found.listing(folder).structure.wells["B02"].images
    assert sorted(sites) == ([1, 3] if incomplete == "skip" else [1, 2, 3])
    np.testing.assert_array_equal(found.load_site(folder, "B02", 3, FileManager()), images["B02", 3])
    if incomplete == "fill":
        assert not found.load_site(folder, "B02", 2, FileManager()).any()
        assert metadata(folder, "fill", "B02")[2].filled == ((0, 0, 0), (0, 1, 0))
    [note] = found.notes(folder)
    assert note.startswith("well B02 lacks files of site") and "all of it" in note
    with pytest.raises(PlateError, match="well B02 lacks files of site"):
        site(folder, "B02")
    site(folder, "A01")  # the other well is not affected


HOLED = images_of(["A01", "B02", "C03"], sites=2, shape=(2, 2, 2, 3, 4))
PLANES = [(place, plane) for place in HOLED for plane in np.ndindex(2, 2, 2) if place[0] != "A01"]


@given(lost=st.sets(st.sampled_from(PLANES), min_size=1, max_size=6))
@settings(max_examples=4)
def test_random_holes_are_the_same_everywhere(tmp_path_factory, lost):
    """Whatever two wells have lost, every microscope's folder gives the same plate or names the same wells."""
    found = {}
    for kind, write in EVERY.items():
        folder = write(tmp_path_factory.mktemp("holes") / kind, HOLED)
        files = handler_of(folder).listing(folder).files
        for place, plane in lost:
            lose(files[place][plane])
        found[kind] = outcome(folder)
    assert found["tiffs"]["error"][0] == {well for (well, _), _ in lost}
    for kind, plate in found.items():
        assert plate == found["tiffs"], kind


def outcome(folder):
    """What each setting for holes makes of a folder: incomplete wells, and pixels and filled planes by site."""
    made = {}
    for incomplete in ("error", "skip", "fill"):
        handler = handler_of(folder, incomplete=incomplete)
        listing = handler.listing(folder)
        sites = {
            (well, image.site): (image.shape, listing.filled.get((well, image.site), frozenset()), pixels.tobytes())
            for well in listing.structure.wells_with_images()
            if well not in listing.missing
            for image, pixels in handler.read_sites(listing, well, FileManager())
        }
        made[incomplete] = (set(listing.missing), sites)
    return made


def test_a_stack_next_to_a_projection_and_a_single_plane(tmp_path):
    """Wavelength 1 is a stack, 2 has only a projection, and 3 has one plane: all three are read."""
    images = images_of(["B02", "B03"], sites=1, shape=(1, 3, 3, 6, 5))
    folder = write_imagexpress(tmp_path / "p", images, guids=False, projections=True)
    for path in folder.glob("TimePoint_1/ZStep_[123]/*_w[23].TIF"):
        path.unlink()
    for path in folder.glob("TimePoint_1/ZStep_0/*_w3.TIF"):
        path.unlink()
    pixels, notes = site(folder, "B02")
    np.testing.assert_array_equal(pixels[0, 0], images["B02", 1][0, 0])
    for c in (1, 2):
        np.testing.assert_array_equal(pixels[0, c], [images["B02", 1][0, c].max(axis=0)] * 3)
    assert [note.split(":")[0] for note in notes] == [
        "the projections of channel 1 in the files are left out, because its stacks are there",
        *(f"channel {c} ({c + 1} in the files) has 1 of 1 timepoints and 1 of 3 planes of the stack" for c in (1, 2)),
    ]
    assert metadata(folder, "error", "B02")[1].filled == ((0, 1, 1), (0, 1, 2), (0, 2, 1), (0, 2, 2))
    next(folder.glob("TimePoint_1/ZStep_2/*B03*_w1.TIF")).unlink()  # a hole in the stack is still a hole
    with pytest.raises(PlateError, match="well B03 lacks files of site 1: timepoint 1, channel 1, plane 2"):
        site(folder, "B03")


def test_a_field_in_the_phenix_index_without_files(tmp_path):
    """With file names of Harmony 7."""
    folder = write_phenix(tmp_path / "p", images_of(["B02", "C03"], shape=(1, 2, 1, 6, 5)), version=7)
    index = folder / "Images" / "Index.idx.xml"
    index.write_text(index.read_text().replace("sk1fk1fl1.tiff", "t01.tiff"))
    for path in folder.glob("Images/*.tiff"):
        path.rename(path.with_name(path.name.replace("sk1fk1fl1", "t01")))
    for path in folder.glob("Images/r03c03f02*"):
        path.unlink()
    site(folder, "B02")
    with pytest.raises(PlateError, match="well C03 lacks files of site 2: all of it"):
        site(folder, "C03")
    index.unlink()
    assert handler_of(folder).listing(folder).structure.wells["C03"].images.keys() == {1}


# ---- files from any source


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "openhcs"])
def test_files_that_belong_to_no_plate(tmp_path, kind):
    images = images_of(["A01"], shape=(1, 1, 1, 6, 5))
    folder = FORMATS[kind](tmp_path / "p", images)
    for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for file in [path for path in place.iterdir() if path.is_file()]:
            shutil.copy(file, place / f"._{file.name}")
        for name in ("Thumbs.db", "desktop.ini", ".DS_Store", ".hidden.tif"):
            (place / name).write_bytes(b"not of the plate")
        (place / "@eaDir").mkdir()
        shutil.copytree(place / "@eaDir", place / ".snapshot")
    np.testing.assert_array_equal(site(folder)[0], images["A01", 1])


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind not in ("openhcs", "ome_zarr")])
def test_names_in_another_case(tmp_path, kind):
    images = images_of(["A01"], shape=(1, 2, 1, 6, 5))
    folder = FORMATS[kind](tmp_path / "p", images)
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rename(path.with_name(path.name.swapcase()))
    pixels, _ = site(folder)
    np.testing.assert_array_equal(pixels, images["A01", 1])
    assert list(handler_of(folder).get_channel_values(folder).values()) == ["DAPI", "FITC"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_encodings_of_htd_files(tmp_path, encoding):
    write_htd(tmp_path / "x.HTD", ["A01"], 1, (1, 2, 1))
    text = (tmp_path / "x.HTD").read_bytes().decode("latin-1").replace("DAPI", "DÄPI µ")
    (tmp_path / "x.HTD").write_bytes(text.encode(encoding))
    assert parse_htd(tmp_path / "x.HTD").wave_names == {1: "DÄPI µ", 2: "FITC"}


@pytest.mark.parametrize("declared", ["", ' encoding="utf-8"', ' encoding="utf-16"', ' encoding="ISO-8859-1"'])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings_of_xml(tmp_path, encoding, declared):
    """Also where the declaration is wrong, but for UTF-8 that claims to be Latin-1."""
    text = f'<?xml version="1.0"{declared}?><a><b name="µm"/></a>'
    (tmp_path / "x.xml").write_bytes(text.encode(encoding))
    found = parse_xml(tmp_path / "x.xml", "XML")[0].get("name")
    claims = encoding == "utf-8" and "8859" in declared
    assert found == ("Âµm" if claims else "µm")


# ---- TIFFs of all kinds


@pytest.mark.parametrize(
    ("dtype", "read"),
    [
        ("int8", "int8"),
        ("uint32", "uint32"),
        ("float16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("int64", "float64"),
        ("uint64", "float64"),
        (">u2", "uint16"),
    ],
)
def test_pixel_types(tmp_path, dtype, read):
    """Types that a plate doesn't have are read as a type that holds every value they may have."""
    plane = np.arange(30).reshape(5, 6).astype(dtype)
    tifffile.imwrite(tmp_path / "A01_s1_w1.tif", plane)
    pixels, _ = site(tmp_path)
    assert pixels.dtype == read
    np.testing.assert_array_equal(pixels[0, 0, 0], plane)


def test_integers_that_fit_no_type(tmp_path):
    tifffile.imwrite(tmp_path / "A01_s1_w1.tif", np.full((5, 6), 2**60 + 1, "int64"))
    with pytest.raises(PlateError, match="integers of more than 53 bits"):
        site(tmp_path)


GREY = np.tile(np.linspace(0, 65535, 256, dtype="uint16"), (3, 1))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"photometric": "miniswhite"}, "0 as white or has a color palette"),
        ({"photometric": "palette", "colormap": GREY[:, ::-1]}, "0 as white or has a color palette"),
        (
            {"photometric": "palette", "colormap": GREY * np.array([[1], [0], [1]], "uint16")},
            "0 as white or has a color palette",
        ),
        ({"photometric": "palette", "colormap": GREY}, None),
    ],
)
def test_tiffs_in_which_0_is_not_black(tmp_path, options, problem):
    plane = np.arange(30, dtype="uint8").reshape(5, 6)
    tifffile.imwrite(tmp_path / "A01_s1_w1.tif", plane, **options)
    if problem is None:
        np.testing.assert_array_equal(site(tmp_path)[0][0, 0, 0], plane)
    else:
        with pytest.raises(PlateError, match=problem):
            site(tmp_path)


def test_a_mask_of_one_bit_is_read_as_it_was_written(tmp_path):
    mask = np.arange(30).reshape(5, 6) % 3 == 0
    tifffile.imwrite(tmp_path / "A01_s1_w1.tif", mask)  # shows 0 as white
    pixels = site(tmp_path)[0]
    assert pixels.dtype == "uint8"
    np.testing.assert_array_equal(pixels[0, 0, 0], mask)


# ---- reporting what was understood


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_info_of_a_folder(tmp_path):
    folder = write_phenix(tmp_path / "day 1", images_of(["A01", "B02", "C03"], shape=(1, 2, 1, 6, 5)))
    next(folder.glob("Images/r02c02f02p01-ch2*")).unlink()
    for path in folder.glob("Images/r03*"):
        path.unlink()
    said = run("info", folder)
    assert said.exit_code == 0
    lines = [line.split(maxsplit=1) for line in said.output.splitlines()]
    assert ["microscope", "OperaPhenix"] in lines
    lacks = "well B02 lacks files of site 2: timepoint 0, channel 2, plane 1 (as the files number them)"
    assert ["missing", lacks] in lines and ["channel", "1       FITC  (2 in the files)"] in lines
    found = json.loads(run("info", folder, "--json", "--incomplete", "skip").output)
    assert found["wells"] == ["A01", "B02"] and found["empty_wells"] == ["C03"]
    assert found["sites"] == {"A01": [1, 2], "B02": [1]} and found["channels"] == ["DAPI", "FITC"]
    assert found["images"] == [
        {"count": 3, "timepoints": 1, "channels": 2, "planes": 1, "height": 6, "width": 5, "type": "uint16"}
    ]
    assert not found["missing"] and len(found["notes"]) == 3
    assert found["skipped"] == {"B02": [2], "C03": [1, 2]} and found["skipped_planes"] == []


def test_a_dry_import_needs_no_omero(tmp_path, monkeypatch):
    monkeypatch.setattr("openhcs_omero.cli._connect", None)
    folder = write_imagexpress(tmp_path / "p", images_of(["A01"], shape=(1, 1, 1, 6, 5)))
    said = run("import", "--dry-run", folder)
    assert said.exit_code == 0 and "microscope      ImageXpress" in said.output
    assert f"is not a plate, but the folder p in it is one: name {folder}" in str(run("info", tmp_path).output)


@pytest.mark.parametrize("pattern", [(), ("--pattern", "cellvoyager")])
def test_camera_images_of_a_cellvoyager_are_no_planes(tmp_path, pattern):
    for name in ("P_B03_T0001F001L01A01Z01C01", "DC_sCMOS #1_CAM1", "SC_BP445-45_40x_M10_CH01"):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((4, 4), "uint16"))
    done = run("info", tmp_path, *pattern)
    assert done.exit_code == 0 and "1 with images of 2 x 3, B03" in done.output, done.output
