"""How a folder of TIFFs is interpreted, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from openhcs_omero.errors import PlateError
from openhcs_omero.microscopes.named_tiffs import NamedTIFFHandler
from openhcs_omero.microscopes.scan import check_files
from openhcs_omero.plates.filenames import PATTERNS, parse_name

TRANSFLUOR = Path(__file__).parents[3] / "shared/data/transfluor"


def scan(folder, pattern=None):
    """The listing of a folder, if all its files exist and are good."""
    listing = NamedTIFFHandler(pattern=pattern).parse(folder)
    listing.check_complete()
    check_files(listing)
    return listing


def only_image(listing):
    [image] = {(image.shape, image.pixel_type) for _, image in listing.structure.images()}
    return image


def put(folder, *names, value=0, shape=(4, 6), dtype="uint16"):
    for name in names:
        tifffile.imwrite(folder / name, np.full(shape, value, dtype))


@pytest.mark.parametrize(
    ("names", "channels", "shape"),
    [
        (["A01_s001_z000_c000.tif", "A01_s001_z001_c000.tif"], ("channel 000",), (1, 1, 2, 4, 6)),
        (["B02_s001_z000_c000_t000.tif", "B02_s001_z000_c000_t001.tif"], ("channel 000",), (2, 1, 1, 4, 6)),
        (["A01_s1_w1.tif", "A01_s1_w2.TIF"], ("channel 1", "channel 2"), (1, 2, 1, 4, 6)),
        (["run_A01_s1_w1DE95A3B2-1D94-4C8A-9F0B-6E3C5A2B1C0D.tif"], ("channel 1",), (1, 1, 1, 4, 6)),
        (["A01_w1.tif", "A02_w1.tif"], ("channel 1",), (1, 1, 1, 4, 6)),
        (["AS_09047_O01f00d2.TIF", "AS_09047_O01f01d2.TIF"], ("channel 2",), (1, 1, 1, 4, 6)),
    ],
)
def test_names(tmp_path, names, channels, shape):
    put(tmp_path, *names)
    found = scan(tmp_path)
    assert found.channel_names == channels and only_image(found) == (shape, "uint16")


def test_positions_of_planes(tmp_path):
    put(tmp_path, "B03_s1_w1.tif", "B03_s2_w1.tif", "A12_s1_w1.tif", "B03_s1_w1_thumb.tif")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "deeper").mkdir()
    found = scan(tmp_path)
    assert {place: Path(planes[0, 0, 0]).name for place, planes in found.files.items()} == {
        ("A12", 1): "A12_s1_w1.tif",
        ("B03", 1): "B03_s1_w1.tif",
        ("B03", 2): "B03_s2_w1.tif",
    }


@pytest.mark.parametrize(
    "pattern",
    [
        r"r(?P<row>\d+)c(?P<column>\d+)f(?P<site>\d+)p(?P<z>\d+)-ch(?P<channel>\d+)sk(?P<t>\d+)",
        r"r(?P<row>\d+)c(?P<column>\d+)f(?P<site>\d+)p(?P<z>\d+)-ch(?P<channel>\d+)sk(?P<t>\d+)\.tiff",
    ],
)
def test_a_pattern_for_the_users_own_names(tmp_path, pattern):
    put(tmp_path, *(f"r02c11f{f:02d}p{z:02d}-ch{c}sk1.tiff" for f in (1, 2, 10) for z in (1, 2) for c in (1, 3)))
    found = scan(tmp_path, pattern)
    assert list(found.structure.wells) == ["B11"] and only_image(found)[0] == (1, 2, 2, 4, 6)
    assert found.channel_names == ("channel 1", "channel 3")
    assert Path(found.files["B11", 3][0, 1, 1]).name == "r02c11f10p02-ch3sk1.tiff"


def test_minutes_as_timepoints(tmp_path):
    """Numbers in names of the users' own are no holes, but what became of them is said."""
    put(tmp_path, *(f"A01_{minutes}min.tif" for minutes in (0, 30, 90)))
    found = scan(tmp_path, r"(?P<well>\w+)_(?P<t>\d+)min")
    assert only_image(found)[0][0] == 3 and not found.missing
    assert found.notes == (
        "the timepoints have the numbers 0, 30, 90 in the names of the files, and are counted from 0 here",
    )


def test_channels_by_name(tmp_path):
    put(tmp_path, "a1-GFP.tif", "a1-DAPI.tif")
    assert scan(tmp_path, r"(?P<well>\w\d)-(?P<channel>\w+)").channel_names == ("DAPI", "GFP")


@pytest.mark.skipif(not TRANSFLUOR.is_dir(), reason="the real images are not there")
def test_the_real_plate_is_listed():
    found = scan(TRANSFLUOR)
    assert list(found.structure.wells) == [f"O{column:02d}" for column in range(1, 25)]
    assert len(found.files) == 72 and only_image(found) == ((1, 1, 1, 512, 512), "uint8")
    assert found.files["O03", 3][0, 0, 0].endswith("_O03f02d2.TIF")


def refused(folder, what, pattern=None):
    with pytest.raises(PlateError, match=what) as error:
        scan(folder, pattern)
    assert "\n" not in str(error.value)


def test_folders(tmp_path):
    refused(tmp_path / "none", "there is no folder")
    refused(tmp_path, "there is no TIFF")


def test_names_that_do_not_match(tmp_path):
    put(tmp_path, "A01_s1_w1.tif", "overview.tif")
    refused(tmp_path, r"1 of 2 file names don't match any of .*: overview\.tif")
    refused(tmp_path, r"2 of 2 file names don't match the pattern", r"(?P<well>\w\d)x")


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(", "not a valid regular expression"),
        (r"(?P<row>\w)", "neither a group"),
        (r"(?P<well>\w\d)(?P<wave>\d)", "unknown groups: wave"),
    ],
)
def test_invalid_patterns(tmp_path, pattern, problem):
    put(tmp_path, "A01_s1_w1.tif")
    refused(tmp_path, problem, pattern)


def test_invalid_wells(tmp_path):
    put(tmp_path, "r0c1.tif")
    refused(tmp_path, r"r0c1\.tif: .* is not a well", r"r(?P<row>\d)c(?P<column>\d)")


def test_duplicates(tmp_path):
    put(tmp_path, "A01_s1_w1.tif", "A01_s01_w1.tif")
    refused(tmp_path, r"A01_s0?1_w1\.tif and .*/A01_s0?1_w1\.tif are the same plane")


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (
            ["A01_s1_w1.tif", "A01_s1_w2.tif", "A02_s1_w1.tif"],
            "well A02 lacks files of site 1: timepoint 0, channel 2, plane 0",
        ),
        (["A01_s1_w1.tif", "A01_s2_w1.tif", "A02_s2_w1.tif"], "well A02 lacks files of site 1: all of it"),
        (["A01_s001_z000_c000.tif", "A01_s001_z001_c000.tif", "A01_s002_z000_c000.tif"], "site 2: .*plane 1"),
    ],
)
def test_holes(tmp_path, names, problem):
    put(tmp_path, *names)
    refused(tmp_path, problem)


def test_a_well_may_have_fewer_sites(tmp_path):
    put(tmp_path, "A01_s1_w1.tif", "A01_s2_w1.tif", "A02_s1_w1.tif")
    assert len(scan(tmp_path).files) == 3


@pytest.mark.parametrize("other", [{"shape": (4, 7)}, {"dtype": "uint8"}])
def test_different_sizes_and_types(tmp_path, other):
    """Sites may differ, planes of a site may not."""
    put(tmp_path, "A01_s1_w1.tif")
    put(tmp_path, "A01_s2_w1.tif", **other)
    images = scan(tmp_path).structure.wells["A01"].images
    assert (images[1].shape[3:], images[1].pixel_type) == ((4, 6), "uint16")
    assert images[2].shape[3:] == other.get("shape", (4, 6)) and images[2].pixel_type == other.get("dtype", "uint16")
    (tmp_path / "A01_s2_w1.tif").rename(tmp_path / "A01_s1_w2.tif")
    refused(tmp_path, r"differ in size or type: A01_s1_w1\.tif is 6 x 4 uint16, A01_s1_w2\.tif is")


def test_files_that_are_not_planes(tmp_path):
    put(tmp_path, "A01_s1_w1.tif")
    whole = (tmp_path / "A01_s1_w1.tif").read_bytes()
    second = tmp_path / "A01_s2_w1.tif"
    for content, problem in (
        (whole[:-10], "A01_s2_w1.tif is truncated"),
        (b"", "can't be read as a TIFF"),
        (b"not a TIFF at all", "A01_s2_w1.tif can't be read as a TIFF"),
    ):
        second.write_bytes(content)
        refused(tmp_path, problem)
    tifffile.imwrite(second, np.zeros((3, 4, 6), "uint16"), photometric="minisblack")
    refused(tmp_path, "has 3 planes")
    tifffile.imwrite(second, np.zeros((4, 6, 3), "uint8"), photometric="rgb")
    refused(tmp_path, "not a grayscale image")
    tifffile.imwrite(second, np.zeros((4, 6), "complex64"))
    first = tmp_path / "A01_s1_w1.tif"
    first.unlink()
    with pytest.raises(PlateError, match="complex64; pixels of this type can't be processed"):
        scan(tmp_path).structure.check_types()


@given(
    row=st.integers(0, 31),
    column=st.integers(0, 47),
    site=st.integers(1, 999),
    channel=st.integers(0, 9),
    prefix=st.sampled_from(["", "x_", "plate 1_B02_", "µ_"]),
)
def test_names_are_read_back(row, column, site, channel, prefix):
    from openhcs_omero.plates.paths import well_name

    well = well_name(row, column)
    own, imagexpress, field = PATTERNS.values()
    assert parse_name(f"{prefix}{well}_s{site}_w{channel}.TIF", imagexpress) == {
        "well": well,
        "site": str(site),
        "channel": str(channel),
    }
    assert parse_name(f"{well}_s{site:03d}_z000_c{channel:03d}.tif", own) == {
        "well": well,
        "site": f"{site:03d}",
        "z": "000",
        "channel": f"{channel:03d}",
    }
    letters = well.rstrip("0123456789")
    assert parse_name(f"{prefix or 'x_'}{well}f{site}d{channel}.tif", field) == {
        "row": letters,
        "column": well[len(letters) :],
        "site": str(site),
        "channel": str(channel),
    }


@given(st.text(max_size=40))
def test_any_name_is_read_or_not(name):
    for pattern in PATTERNS.values():
        found = parse_name(name, pattern)
        assert found is None or set(found) >= {"well"} or {"row", "column"} <= set(found)
