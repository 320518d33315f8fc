"""Plate structures made from query rows: sizes, paths and fingerprints."""

import dataclasses

import pytest

from openhcs_omero.core.estimates import groups_of
from openhcs_omero.errors import PlateError
from openhcs_omero.omero import plate as plate_module
from openhcs_omero.plates.paths import PlatePath


def row(column, index, image, *, z=2, c=2, t=1, x=6, pixel_type="uint16", event=70, run=None):
    """A row of the query for one site: the well first, then sample, image and pixels."""
    return [
        0,
        column,
        10 + column,
        index,
        20 + image,
        image,
        f"image {image}",
        event,
        30 + image,
        x,
        4,
        z,
        c,
        t,
        pixel_type,
        f"{image:040x}",
        *(run or (None, None)),
    ]


EMPTY_WELL = [0, 2, 12] + [None] * 15


def plate(*found):
    bare = plate_module.PlateStructure(7, "VirtualPath", "omero", {}, set(), 0, 0, 0, 0)
    return plate_module.with_wells(bare, plate_module._wells(found))


def two_wells(**kwargs):
    return plate(row(0, 0, 1), row(0, 1, 2), row(1, 0, 3, **kwargs), EMPTY_WELL)


def test_structure():
    made = two_wells()
    assert list(made.wells) == ["A01", "A02", "A03"] and made.all_well_ids == {"A01", "A02", "A03"}
    assert (made.max_sites, made.max_z, made.max_c, made.max_t) == (2, 2, 2, 1)
    assert made.wells_with_images() == ["A01", "A02"]
    image = made.image("A01", 2)
    assert (image.image_id, image.site, image.index, image.shape) == (2, 2, 1, (1, 2, 2, 4, 6))


def test_sites_count_without_gaps_where_a_sample_was_deleted():
    made = plate(row(0, 1, 1), row(0, 3, 2))
    assert {site: image.index for site, image in made.wells["A01"].images.items()} == {1: 1, 2: 3}


def test_an_image_with_two_pixels_is_one_site():
    second = row(0, 0, 1)
    second[8] = 99
    assert len(plate(row(0, 0, 1), second).wells["A01"].images) == 1


@pytest.mark.parametrize(("omero", "numpy"), [("float", "float32"), ("double", "float64"), ("uint8", "uint8")])
def test_numpy_names(omero, numpy):
    assert two_wells(pixel_type=omero).image("A02", 1).pixel_type == numpy


def test_paths_of_planes():
    made = two_wells(t=2)
    assert made.list_paths("A01")[:3] == [
        "/omero/plate_7/A01/A01_s001_z000_c000.tif",
        "/omero/plate_7/A01/A01_s001_z001_c000.tif",
        "/omero/plate_7/A01/A01_s001_z000_c001.tif",
    ]
    assert made.list_paths("A02")[-1] == "/omero/plate_7/A02/A02_s001_z001_c001_t001.tif"
    assert len(made.list_paths()) == len(set(made.list_paths())) == 4 + 4 + 8
    assert made.list_paths("A03") == []
    derived = made.list_paths("A01", PlatePath(3, "processed"))
    assert derived[0] == "/omero/plate_3_processed/A01/A01_s001_z000_c000.tif"


@pytest.mark.parametrize("change", [{"event": 71}, {}])
def test_the_fingerprint_of_a_changed_well_changes(change):
    made, changed = two_wells(), two_wells(**change)
    assert (made.fingerprint() == changed.fingerprint()) is not bool(change)
    assert made.wells["A01"].fingerprint() == changed.wells["A01"].fingerprint()
    assert (made.wells["A02"].fingerprint() == changed.wells["A02"].fingerprint()) is not bool(change)


def test_a_fingerprint_depends_on_images_hashes_and_their_order():
    first = two_wells().wells["A01"]
    for other in (plate(row(0, 0, 2), row(0, 1, 1)), plate(row(0, 0, 1))):
        assert first.fingerprint() != other.wells["A01"].fingerprint()
    image = dataclasses.replace(first.images[1], sha1="f" * 40)
    assert dataclasses.replace(first, images={**first.images, 1: image}).fingerprint() != first.fingerprint()


@pytest.mark.parametrize("change", [{"x": 7}, {"z": 3}, {"c": 1}, {"t": 2}, {"pixel_type": "uint8"}])
def test_mixed_sizes_and_types_are_distinguished(change):
    mixed = two_wells(**change)
    assert [kind.partition(" is ")[0] for kind in mixed.kinds()] == ["A01 site 1", "A02 site 1"]
    mixed.check_types()
    assert len(two_wells().kinds()) == 1
    assert len(groups_of(mixed)) == (2 if {"x", "pixel_type"} & set(change) else 1)


def test_types_that_can_not_be_processed():
    plate(row(0, 0, 1, x=3192 * 3192), row(0, 1, 2, pixel_type="bit")).check_types()
    with pytest.raises(PlateError, match=r"A01 site 2 is .* complex; pixels of this type can't be processed"):
        plate(row(0, 0, 1), row(0, 1, 2, pixel_type="complex")).check_types()


def test_wells_and_sites_that_do_not_exist():
    made = two_wells()
    for ask in (lambda: made.well("B01"), lambda: made.only(["B01"]), lambda: made.list_paths("B01")):
        with pytest.raises(PlateError, match=r"plate 7 has no well 'B01': it has A01, A02, A03"):
            ask()
    with pytest.raises(PlateError, match=r"well A01 of plate 7 has no site 3: it has sites 1 to 2"):
        made.image("A01", 3)
    with pytest.raises(PlateError, match="it has none"):
        made.image("A03", 1)


def test_acquisitions():
    """Images of several acquisitions can't form one plate; the sites of a single acquisition are numbered from 1."""
    runs = [(5, "first"), (6, "second"), (6, "second")]
    made = plate(
        *(row(column, index, 10 * column + index, run=run) for column in (0, 1) for index, run in enumerate(runs))
    )
    assert made.acquisitions() == [(5, "first"), (6, "second")]
    with pytest.raises(PlateError, match=r"it has the acquisitions 5 \(first\), 6 \(second\); choose one"):
        made.of_acquisition()
    second = made.of_acquisition("second")
    assert {site: image.image_id for site, image in second.wells["A02"].images.items()} == {1: 11, 2: 12}
    assert second.max_sites == 2 and second.of_acquisition() is second and made.of_acquisition("6") == second
    assert made.of_acquisition("all") is made and made.acquisition_labels == {5: "first", 6: "second"}
    alike = plate(row(0, 0, 1, run=(5, "again")), row(0, 1, 2, run=(6, "again")), row(1, 0, 3, run=(7, None)))
    assert alike.acquisition_labels == {5: "again (5)", 6: "again (6)", 7: "Run 7"}
    assert len(groups_of(made)) == 2, "no estimate is made over two acquisitions"
    for wrong in (7, "third"):
        with pytest.raises(PlateError, match="has no acquisitions"):
            made.of_acquisition(wrong)
    some = plate(row(0, 0, 1), row(0, 1, 2, run=(5, "first")))
    with pytest.raises(PlateError, match="and images of no acquisition"):
        some.of_acquisition()
    assert plate(row(0, 0, 1)).of_acquisition().max_sites == 1


def test_only_some_wells():
    some = plate(row(0, 0, 1), row(0, 1, 2), row(1, 0, 3, z=5)).only(["A01"])
    assert list(some.wells) == ["A01"] and some.max_z == 2 and some.all_well_ids == {"A01"}
