"""Arranging planes: nothing is shifted, dropped or made up silently."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openhcs_omero.errors import PlateError
from openhcs_omero.plates.arrangement import Announced, PlaneFile, arrange

WELLS = ("A01", "B02")


def planes(wells=WELLS, sites=(1, 2), t=(0, 1), c=(1, 2), z=(1, 2, 3), lost=()):
    """The planes (well, site, t, c, z) of a whole plate, except those in `lost`."""
    return [
        PlaneFile(*place, "-".join(map(str, place))) for place in product(wells, sites, t, c, z) if place not in lost
    ]


def test_a_whole_plate():
    found = arrange(planes(c=(3, 7), z=(0, 5), t=(4,), sites=(2, 9)))
    assert found.sizes == (1, 2, 2) and found.channels == (3, 7)
    assert list(found.files) == [("A01", 1), ("A01", 2), ("B02", 1), ("B02", 2)]
    assert found.files["B02", 2][0, 1, 0] == "B02-9-4-7-0"
    assert not (found.filled or found.missing)
    assert found.notes == ("the sites have the numbers 2, 9 in the files, and are counted from 1 here",)


def test_two_files_for_one_plane():
    with pytest.raises(PlateError, match="first and second are the same plane of the same site"):
        arrange([PlaneFile("A01", 1, 0, 0, 0, "first"), PlaneFile("a1", 1, 0, 0, 0, "second")])
    clash = [*planes(), PlaneFile("B02", 1, 0, 1, 2, "second")]
    found = arrange(clash)
    assert found.missing == {
        "B02": (
            "files of site 1: timepoint 0, channel 1, plane 2 (as the files number them) (B02-1-0-1-2 and second are "
            "the same plane of the same site)",
        )
    }
    assert (0, 0, 1) not in found.files["B02", 1] and len(found.files["A01", 1]) == 12
    assert arrange(clash, incomplete="skip").skipped == {"B02": (1,)}
    filled = arrange(clash, incomplete="fill")
    assert filled.filled == {("B02", 1): {(0, 0, 1)}} and "second are the same plane" in filled.notes[0]


GRID = [*product(WELLS, (1, 2, 3), (0, 1), (1, 2), (1, 2))]


@given(st.sets(st.sampled_from(GRID), max_size=8), st.sampled_from(["error", "skip", "fill"]))
def test_random_holes(lost, incomplete):
    """Every plane that exists stays in its place, and every missing plane is accounted for."""
    announced = Announced((1, 2, 3), (0, 1), (1, 2), (1, 2), "index")
    found = arrange(planes(sites=(1, 2, 3), z=(1, 2), lost=lost), announced, incomplete)
    wells = {place[0] for place in GRID if place not in lost}
    for well, site, t, c, z in GRID:
        place, plane = (well, site), (t, c - 1, z - 1)
        file = found.files.get(place, {}).get(plane)
        filled = plane in found.filled.get(place, ())
        if (well, site, t, c, z) in lost:
            assert file is None or filled
            assert {
                "error": filled or well in found.missing or well not in wells,
                "skip": place not in found.files or filled,
                "fill": filled or well not in wells,
            }[incomplete]
        elif incomplete == "skip" and place not in found.files:
            assert any(note.startswith(f"well {well} lacks files of site {site}") for note in found.notes)
        else:
            assert file == f"{well}-{site}-{t}-{c}-{z}" and not filled
    if not lost:
        assert not (found.filled or found.missing or found.notes)
    elif incomplete != "error":
        assert found.notes and not found.missing


@pytest.mark.parametrize(
    ("axis", "value", "words"), [("t", 1, "timepoint 1"), ("c", 2, "channel 2"), ("z", 2, "plane 2")]
)
def test_values_that_no_site_has(axis, value, words):
    """Values that the metadata announce count as missing, and the other values keep their places."""
    values = {"t": (0, 1, 2), "c": (1, 2, 3), "z": (1, 2, 3)}
    there = {**values, axis: tuple(number for number in values[axis] if number != value)}
    some, announced = planes(**there), Announced((), **values, source="HTD file")
    error, skip, fill = (arrange(some, announced, incomplete) for incomplete in ("error", "skip", "fill"))
    sentence = f"all files of {words} (as the files number them), which the HTD file announces"
    assert error.missing == dict.fromkeys(WELLS, (sentence,)) and error.sizes == fill.sizes == (3, 3, 3)
    assert error.files["A01", 1][2, 2, 2] == fill.files["A01", 1][2, 2, 2] == "A01-1-2-3-3"
    assert skip.notes == (f"the plate lacks {sentence}: left out",) and sorted(skip.sizes) == [2, 3, 3]
    assert fill.notes == (f"the plate lacks {sentence}: filled with black planes",)
    assert len(fill.filled["A01", 1]) == 9 and not set(fill.filled["A01", 1]) & set(fill.files["A01", 1])


@pytest.mark.parametrize("incomplete", ["error", "skip", "fill"])
def test_a_single_plane_next_to_stacks(incomplete):
    """The plane is repeated over the stack, reported once, and does not count as a hole."""
    some = [plane for plane in planes() if plane.c == 1 or plane.z == 2]
    found = arrange(some, Announced(z=(1, 2, 3)), incomplete)
    assert not found.missing and found.sizes == (2, 2, 3)
    assert [found.files["B02", 1][1, 1, z] for z in range(3)] == ["B02-1-1-2-2"] * 3
    assert found.filled["B02", 1] == {(t, 1, z) for t in (0, 1) for z in (0, 2)}
    assert [note.partition(":")[0] for note in found.notes] == [
        "channel 1 (2 in the files) has 2 of 2 timepoints and 1 of 3 planes of the stack"
    ]


def test_a_channel_at_every_second_timepoint():
    some = [plane for plane in planes(t=(0, 1, 2, 3), z=(1,)) if plane.c == 1 or plane.t % 2 == 0]
    found = arrange(some)
    assert not found.missing and found.sizes == (4, 2, 1)
    assert found.filled["A01", 2] == {(1, 1, 0), (3, 1, 0)} and (1, 1, 0) not in found.files["A01", 2]
    lost = arrange([plane for plane in some if plane.path != "B02-1-2-2-1"])
    assert lost.missing == {"B02": ("files of site 1: timepoint 2, channel 2, plane 1 (as the files number them)",)}


def test_a_field_in_the_index_without_files():
    """The index lists the field, but no file was written."""
    some = [
        PlaneFile(plane.well, plane.site, plane.t, plane.c, plane.z, None)
        if (plane.well, plane.site) == ("B02", 2)
        else plane
        for plane in planes()
    ]
    assert arrange(some).missing == {"B02": ("files of site 2: all of it",)}
    assert list(arrange(some, incomplete="skip").files) == [("A01", 1), ("A01", 2), ("B02", 1)]


def test_wells_may_have_fewer_sites():
    some = [plane for plane in planes(sites=(1, 2, 3)) if plane.well == "A01" or plane.site == 1]
    assert not arrange(some).missing
    assert arrange(some, Announced(site=(1, 2, 3))).missing["B02"] == (
        "files of site 2: all of it",
        "files of site 3: all of it",
    )
    gap = [plane for plane in planes(sites=(1, 2, 3)) if plane.well == "A01" or plane.site == 3]
    assert arrange(gap).missing["B02"] == ("files of site 1: all of it", "files of site 2: all of it")
    listed = arrange(gap, Announced(every_site=True))
    assert not listed.missing and listed.files["B02", 3] and ("B02", 1) not in listed.files
