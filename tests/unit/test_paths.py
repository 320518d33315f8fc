"""Virtual paths: formatted paths are parsed back, and anything else is refused with a sentence."""

from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from openhcs_omero.errors import PlateError
from openhcs_omero.plates.paths import (
    FilePath,
    PlanePath,
    PlatePath,
    SitePath,
    WellPath,
    expand_wells,
    make_path,
    parse_inside,
    parse_path,
    parse_well,
    well_name,
)

ids = st.integers(1, 10**12)
outputs = st.none() | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True)
wells = st.builds(well_name, st.integers(0, 701), st.integers(0, 998))
counts = st.integers(0, 12345)
names = st.from_regex(r"[^/\\.\s\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]{0,20}\.[A-Za-z0-9]{1,5}", fullmatch=True)


@st.composite
def virtual_paths(draw):
    """Any path of a plate, a well, a site or a plane, or of a file attached to a plate, well or site."""
    parts = {"plate_id": draw(ids), "output": draw(outputs)}
    kind = draw(st.sampled_from(["plate", "well", "site", "plane"]))
    if kind != "plate":
        parts["well"] = draw(wells)
    if kind in ("site", "plane"):
        parts["site"] = draw(counts) + 1
    if kind == "plane":
        parts |= {"z": draw(counts), "channel": draw(counts), "t": draw(st.none() | counts)}
    elif draw(st.booleans()):
        parts["name"] = draw(names)
    try:
        return make_path(**parts)
    except ValueError:
        assume("name" not in parts)  # some names are reserved for planes and sites; every other path must be possible
        raise


@given(virtual_paths())
@example(make_path(7, "a_b", "AF48", 1, 0, 0, 0))
@example(FilePath(SitePath(PlatePath(7), "A01", 1), "z.tif"))
@example(make_path(7, None, "A01", 1000, 1000, 0))
def test_round_trip(path):
    assert parse_path(str(path)) == path


@given(virtual_paths(), st.sampled_from(["/data/day 1", "plate", "/omero/plate_1"]))
def test_round_trip_in_a_folder(path, folder):
    """Names below a folder are the same as names below a plate in OMERO."""
    assume(not isinstance(path, PlatePath))
    below = str(path).removeprefix(f"{path.plate}/")
    inside = parse_inside(Path(folder), below)
    assert str(inside) == f"{folder}/{below}" and inside.plate == Path(folder)
    assert type(inside) is type(path) and parse_inside(path.plate, below) == path


@given(st.text(max_size=60) | st.from_regex(r"/omero/plate_7(_x)?/A01/A01_s[0-9_a-z.]{0,25}", fullmatch=True))
def test_parse_never_guesses(text):
    """A parsed text is the only spelling of its path; everything else is a ValueError."""
    try:
        path = parse_path(text)
    except ValueError as error:
        assert "expected /omero/plate_" in str(error)
    else:
        assert str(path) == text.removesuffix("/")


def test_the_path_forms_of_the_design():
    parse = parse_path
    assert parse("/omero/plate_7") == PlatePath(7)
    assert parse("/omero/plate_7/") == PlatePath(7)
    assert parse("/omero/plate_7_my_out-2/A01/") == WellPath(PlatePath(7, "my_out-2"), "A01")
    assert parse("/omero/plate_7/A01/A01_s001_z002_c003.tif") == PlanePath(PlatePath(7), "A01", 1, 2, 3)
    assert parse("/omero/plate_7/A01/A01_s001_z002_c003_t004.tif") == PlanePath(PlatePath(7), "A01", 1, 2, 3, 4)
    assert parse("/omero/plate_7/x.csv") == FilePath(PlatePath(7), "x.csv")
    assert parse("/omero/plate_7/A01.csv") == FilePath(PlatePath(7), "A01.csv")
    assert parse("/omero/plate_7/A01/x.csv") == FilePath(WellPath(PlatePath(7), "A01"), "x.csv")
    assert parse("/omero/plate_7/A01/A01_s012_x.csv") == FilePath(SitePath(PlatePath(7), "A01", 12), "x.csv")
    kinds = {
        "/omero/plate_7": "plate",
        "/omero/plate_7/A01": "well",
        "/omero/plate_7/A01/A01_s001.tif": "site",
        "/omero/plate_7/A01/A01_s001_z000_c000.tif": "plane",
        "/omero/plate_7/A01/A01_s001_labels.tif": "file",
    }
    assert {text: parse(text).kind for text in kinds} == kinds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/omero",
        "omero/plate_7",
        "/data/plate_7",
        "/omero/plate_07",
        "/omero/plate_0",
        "/omero/plate_x",
        "/omero/plate_7_",
        "/omero/plate_7_a.b",
        "/omero/plate_7/A1",
        "/omero/plate_7/a01",
        "/omero/plate_7/A00",
        "/omero/plate_7/A001",
        "/omero/plate_7//x.csv",
        "/omero/plate_7//",
        "/omero/plate_7/A01//",
        "/omero/plate_7/../x.csv",
        "/omero/plate_7/x.tif",
        "/omero/plate_7/x.csv/",
        "/omero/plate_7/A01/A01_s001.tif/",
        "/omero/plate_7/A01/x.tif",
        "/omero/plate_7/A01/A01_s001",
        "/omero/plate_7/A01/A01_s000.tif",
        "/omero/plate_7/A01/A01_s1_z0_c0.tif",
        "/omero/plate_7/A01/A01_s001_z0_c0.tif",
        "/omero/plate_7/A01/A01_s001_z000_c000_t00.tif",
        "/omero/plate_7/A01/A01_s001_z000_c000.tiff",
        "/omero/plate_7/A01/A01_s0001_z000_c000.tif",
        "/omero/plate_7/A01/B01_s001_z000_c000.tif",
        "/omero/plate_7/A01/B01_s001_x.csv",
        "/omero/plate_7/A01/A01_s1_x.csv",
        "/omero/plate_7/A01/x/y.csv",
        "/omero/plate_7/A01/.csv",
        "/omero/plate_7/A01/x.csv\n",
        "/omero/plate_7/A01/x\n.csv",
        "/omero/plate_٧",
    ],
)
def test_refused(text):
    with pytest.raises(ValueError, match="expected /omero/plate_"):
        parse_path(text)


@pytest.mark.parametrize(
    "parts",
    [
        {"plate_id": 0},
        {"plate_id": -1},
        {"plate_id": 7, "output": ""},
        {"plate_id": 7, "output": "a/b"},
        {"plate_id": 7, "output": "x/omero/plate_7"},
        {"plate_id": 7, "site": 1},
        {"plate_id": 7, "well": "A01", "site": 0},
        {"plate_id": 7, "well": "A01", "site": 1, "z": 0},
        {"plate_id": 7, "well": "A01", "site": 1, "z": 0, "channel": -1},
        {"plate_id": 7, "well": "A01", "site": 1, "t": 0},
        {"plate_id": 7, "well": "A01", "z": 0, "channel": 0},
        {"plate_id": 7, "well": "A01", "site": 1, "z": 0, "channel": 0, "name": "x.csv"},
        {"plate_id": 7, "name": "a/b.csv"},
        {"plate_id": 7, "name": "plain"},
        {"plate_id": 7, "well": "A01", "name": "A01_s001_x.csv"},
    ],
)
def test_parts_that_form_no_path(parts):
    with pytest.raises(ValueError, match="not a virtual path"):
        make_path(**parts)


@given(st.integers(0, 701), st.integers(0, 998))
def test_well_names_round_trip(row, column):
    assert parse_well(well_name(row, column)) == (row, column)


def test_well_names():
    corners = {(0, 0): "A01", (7, 11): "H12", (15, 23): "P24", (25, 0): "Z01", (26, 0): "AA01", (31, 47): "AF48"}
    assert {place: well_name(*place) for place in corners} == corners
    assert parse_well("a1") == parse_well("A001") == (0, 0)
    for bad in ("", "A", "A0", "1A", "AAA1", "A1000", "A01 ", "Ä1", "A٣"):
        with pytest.raises(ValueError, match="is not a well"):
            parse_well(bad)
    for place in ((-1, 0), (0, -1), (702, 0), (0, 999)):
        with pytest.raises(ValueError, match="no well has row"):
            well_name(*place)


PLATE = ["B02", "A01", "A02", "A10", "B01", "C03", "AA01"]


@pytest.mark.parametrize(
    ("spec", "chosen"),
    [
        ("all", ["A01", "A02", "A10", "B01", "B02", "C03", "AA01"]),
        (["b2", "A01", "A01"], ["A01", "B02"]),
        ("B02", ["B02"]),
        (["A01-B02"], ["A01", "A02", "B01", "B02"]),
        (["B01-A02"], ["A01", "A02", "B01", "B02"]),
        (["A02 - C03"], ["A02", "B02", "C03"]),
        (["C01-C10", "AA01"], ["C03", "AA01"]),
        (["B02-AF48"], ["B02", "C03"]),
        ([], []),
    ],
)
def test_expand_wells(spec, chosen):
    assert expand_wells(spec, PLATE) == chosen


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        (["Z99"], "well Z99 is not in the plate: its wells lie between A01 and AA10"),
        (["A03"], "well A03 is not in the plate"),
        (["A01-A49"], "well A49 of the range A01-A49 is not on a plate of 32 x 48 wells"),
        (["D01-F10"], "no well in the range D01-F10"),
        (["A01-B02-C03"], "more than two corners"),
        (["everything"], "'everything' is neither a well"),
        (["A01-"], "'A01-' is neither a well"),
        ("none", "'none' is neither a well"),
    ],
)
def test_wells_outside_the_plate(spec, what):
    with pytest.raises(PlateError, match=what):
        expand_wells(spec, PLATE)


def test_no_wells_to_choose_from():
    with pytest.raises(PlateError, match="no wells"):
        expand_wells("all", [])
