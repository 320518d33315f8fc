"""Regions of interest in OMERO: on derived and on source images, after kills, and for users with few rights."""

import numpy as np
import omero
import pytest
from omero_rois import shape_to_binary_image
from wire import Killed, block, make_plate, wire

from openhcs_omero.errors import RightsError
from openhcs_omero.omero import queries, rois
from openhcs_omero.omero.derived import derive_plate
from openhcs_omero.omero.derived_well import write_well
from openhcs_omero.omero.omero_tables import attach_table, list_tables
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.rois import check_may_outline, delete_rois_of_plate
from openhcs_omero.plates.image import NewImage
from openhcs_omero.plates.labels import RoiOptions

__all__ = ["wire"]

BOTH = RoiOptions("both", "masks")


@pytest.fixture
def source(conn):
    return load_plate(conn, make_plate(conn, {"A01": 2, "B03": 1}, name="screen"))


@pytest.fixture
def derived(conn, source):
    return derive_plate(conn, source, "processed", {})


def labels_of(seed, site):
    """Two objects with numbers that tell the seed, on the planes of `block`."""
    labels = np.zeros((1, 1, *block(1).shape[2:]), np.uint16)
    labels[..., 0:2, 1:4], labels[..., 3, 0] = 10 * seed + 1, 10 * seed + site + 1
    return labels


def new_images(source, seed, well="A01"):
    return {
        site: NewImage(
            f"site {site}", block(seed), source_image=image.image_id, labels={"nuclei": labels_of(seed, site)}
        )
        for site, image in source.wells[well].images.items()
    }


def shown(conn, image_id, shape):
    """The labels that the regions of an image show, and the regions' ids by name."""
    rois = conn.getRoiService().findByImage(image_id, None, conn.SERVICE_OPTS).rois
    labels = np.zeros(shape, int)
    for roi in rois:
        for mask in roi.copyShapes():
            inside, (t, c, z, y, x, h, w) = shape_to_binary_image(mask)
            assert c is None
            labels[t, 0, 0 if z is None else z, y : y + h, x : x + w][inside] = int(roi.name.val.split()[1])
    return labels, {roi.name.val: roi.id.val for roi in rois}


def seeds_of(conn, images):
    """The seeds whose labels the images show, one of which each must show exactly."""
    seeds = []
    for site, image in images.items():
        labels, names = shown(conn, image.image_id, labels_of(1, site).shape)
        seeds.append(int(labels.max()) // 10 if names else None)
        assert seeds[-1] is None or np.array_equal(labels, labels_of(seeds[-1], site))
        assert len(names) == (0 if seeds[-1] is None else 2)
    return seeds


def derived_images(conn, derived, well="A01"):
    return load_plate(conn, derived, require_images=False).wells[well].images


def test_the_regions_of_derived_images_are_the_labels(conn, source, derived):
    write_well(conn, derived, "A01", new_images(source, 3), {})
    for site, image in derived_images(conn, derived).items():
        labels, ids = shown(conn, image.image_id, labels_of(3, site).shape)
        assert np.array_equal(labels, labels_of(3, site))
        assert sorted(ids) == ["nuclei 31", f"nuclei {30 + site + 1}"]
    assert seeds_of(conn, source.wells["A01"].images) == [None, None]


def test_regions_on_source_images_are_replaced(conn, source, derived):
    ours = source.wells["A01"].images
    drawn = omero.model.RoiI()
    drawn.image = omero.model.ImageI(ours[1].image_id, False)
    drawn.addShape(omero.model.PointI())
    [drawn_id] = queries.update(conn).saveAndReturnIds([drawn])
    other = derive_plate(conn, source, "other", {})
    write_well(conn, other, "A01", new_images(source, 9), {}, rois=BOTH)
    for seed in (1, 2):
        write_well(conn, derived, "A01", new_images(source, seed), {}, rois=BOTH)
    rows = queries.rows(
        conn,
        "select r.id, r.name, r.image.id from Roi r where r.image.id in (:ids)",
        ids=[image.image_id for image in ours.values()],
    )
    names = {name for _, name, _ in rows}
    assert names == {None, "nuclei 91", "nuclei 92", "nuclei 93", "nuclei 21", "nuclei 22", "nuclei 23"}
    assert drawn_id in [row[0] for row in rows] and len(rows) == 9
    write_well(conn, derived, "A01", {1: new_images(source, 3)[1]}, {}, rois=BOTH)  # the well has a site less
    assert queries.rows(
        conn, "select r.name from Roi r where r.image.id = :id order by r.name", id=ours[2].image_id
    ) == [
        ["nuclei 91"],
        ["nuclei 93"],
    ]
    write_well(conn, derived, "B03", new_images(source, 4, "B03"), {}, rois=BOTH)
    delete_rois_of_plate(conn, source.group_id, f"plate_{source.plate_id}_processed", ["B03"])
    assert seeds_of(conn, source.wells["B03"].images) == [4]
    delete_rois_of_plate(conn, source.group_id, f"plate_{source.plate_id}_processed")
    assert seeds_of(conn, source.wells["B03"].images) == [None]
    names = queries.rows(conn, "select r.id, r.name from Roi r where r.image.id = :id", id=ours[1].image_id)
    assert sorted(str(row[1]) for row in names) == ["None", "nuclei 91", "nuclei 92"]
    queries.delete(conn, source.group_id, Roi=[drawn_id])


def test_the_table_of_objects_has_the_regions(conn, source, derived, monkeypatch):
    """Rows of spots, which have no region, are only in the file; the source plate has no regions and no table."""
    write_well(conn, derived, "A01", new_images(source, 3), {})
    rows = ["plate,well,site,step,labels,channel,t,label,area"]
    rows += [f"7,A01,{site},cells,nuclei,1,0,{label},{label / 4}" for site in (1, 2) for label in (31, 30 + site + 1)]
    rows += ["7,A01,1,spots,,0,0,,1.5"]
    plate, said = load_plate(conn, derived, require_images=False), []
    data = "\n".join(rows).encode()
    annotation = attach_table(conn, plate, "objects.csv", data, say=said.append)
    assert said == ["objects.csv: 1 objects have no region of interest, and are not in the OMERO.table"]
    table = conn.c.sf.sharedResources().openTable(conn.getObject("Annotation", annotation).getFile()._obj)
    names = [column.name for column in table.getHeaders()]
    assert names[:7] == ["Plate", "Well", "Image", "Roi", "Well Name", "site", "t"] and "area" in names
    columns = {column.name: column.values for column in table.readCoordinates(range(4)).columns}
    table.close()
    for image, roi, label in zip(columns["Image"], columns["Roi"], columns["label"]):
        _, ids = shown(conn, image, labels_of(3, 1).shape)
        assert ids[f"nuclei {label:g}"] == roi
    noted = list_tables(conn, derived)
    monkeypatch.setattr("openhcs_omero.omero.table_columns.CELLS", 1)  # a chunk per row
    assert attach_table(conn, plate, "objects.csv", data, say=said.append) == annotation
    assert list_tables(conn, derived) == noted
    assert attach_table(conn, source, "objects.csv", data, say=said.append) is None and len(said) == 2


def test_rows_without_a_number_or_a_timepoint(conn, source, derived):
    """Another step gave the other rows both, or it lists what is no object of any labels."""
    write_well(conn, derived, "A01", new_images(source, 1), {})
    csv = b"plate,well,site,t,label,labels\n1,A01,1,,11,nuclei\n1,A01,1,0,12,nuclei\n1,A01,1,,mitotic,\n"
    said = []
    attach_table(conn, load_plate(conn, derived), "objects.csv", csv, say=said.append)
    assert said == ["objects.csv: 1 objects have no region of interest, and are not in the OMERO.table"]


def test_a_source_image_without_objects_loses_its_regions(conn, source, derived):
    write_well(conn, derived, "B03", new_images(source, 1, "B03"), {}, rois=BOTH)
    empty = {
        site: NewImage("x", block(1), source_image=image.image_id, labels={"nuclei": labels_of(1, 1) * 0})
        for site, image in source.wells["B03"].images.items()
    }
    write_well(conn, derived, "B03", empty, {}, rois=BOTH)
    assert seeds_of(conn, source.wells["B03"].images) == seeds_of(conn, derived_images(conn, derived, "B03")) == [None]
    assert queries.rows(conn, "select count(r) from Roi r") == [[0]]


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [rois.CALL_BYTES, 2 * rois.SHAPE_BYTES])
def test_killed_while_writing_regions(conn, source, derived, wire, monkeypatch, at_once):
    """Whenever the process dies, each image shows all of its old regions or all of the new ones, and no others stay."""
    monkeypatch.setattr(rois, "CALL_BYTES", at_once)
    ours, committed = source.wells["B03"].images, []
    write_well(conn, derived, "B03", new_images(source, 1, "B03"), {}, rois=BOTH)
    for point in range(60):
        old, new = 2 * point + 1, 2 * point + 2
        wire.start(dies_at=point)
        try:
            write_well(conn, derived, "B03", new_images(source, new, "B03"), {}, rois=BOTH)
            break
        except Killed:
            wire.stop()
        [seed], [outlined] = seeds_of(conn, derived_images(conn, derived, "B03")), seeds_of(conn, ours)
        assert seed in (old, new) and outlined in (old, new)
        committed.append((seed == new, outlined == new))
        write_well(conn, derived, "B03", new_images(source, new + 1, "B03"), {}, rois=BOTH)
        assert seeds_of(conn, ours) == seeds_of(conn, derived_images(conn, derived, "B03")) == [new + 1]
        assert queries.rows(conn, "select count(r) from Roi r") == [[4]]
        assert queries.rows(conn, "select count(a) from CommentAnnotation a where a.ns like '%rois'") == [[1]]
    wire.stop()
    assert committed == sorted(committed) and {(False, False), (True, False), (True, True)} == set(committed)


def test_who_may_not_draw_is_told_before_anything_is_written(make_user):
    """In a read-only group, others may derive plates in their own name, but not draw on the images."""
    owner = make_user("rwr---")
    member = make_user(group=owner.getEventContext().groupId)
    plate = make_plate(owner, {"A01": 1})
    check_may_outline(owner, plate)
    with pytest.raises(RightsError, match=f"may not draw on the images of plate {plate}"):
        check_may_outline(member, plate)


def test_many_objects_take_a_handful_of_calls(conn, source, derived, wire):
    labels = np.arange(2500, dtype=np.uint16).reshape(1, 1, 1, 50, 50)
    sample = NewImage("many", np.zeros((1, 1, 1, 50, 50), np.uint8), labels={"cells": labels})
    wire.start()
    write_well(conn, derived, "A01", {1: sample}, {})
    wire.stop()
    assert queries.rows(conn, "select count(r) from Roi r") == [[2499]] and wire.calls.count("saveAndReturnIds") == 3


def test_regions_that_do_not_fit_into_one_call_are_replaced_in_one(conn, source, derived, monkeypatch):
    """An object in pieces that lie far apart has a large mask."""
    monkeypatch.setattr(rois, "CALL_BYTES", 2 * rois.SHAPE_BYTES)  # a call per region
    for seed in (1, 2):
        write_well(conn, derived, "A01", new_images(source, seed), {}, rois=BOTH)
        assert seeds_of(conn, source.wells["A01"].images) == seeds_of(conn, derived_images(conn, derived)) == [seed] * 2
        assert queries.rows(conn, "select count(r) from Roi r") == [[8]]


def test_only_the_users_own_regions_are_replaced(make_user, source, conn):
    """In a read-annotate group, two users process one plate and outline its images."""
    owner = make_user("rwra--")
    member = make_user(group=owner.getEventContext().groupId)
    plate = load_plate(owner, make_plate(owner, {"A01": 1}))
    for user, seeds in ((owner, (1, 2)), (member, (3, 4))):
        mine = derive_plate(user, plate, "processed", {})
        for seed in seeds:
            write_well(user, mine, "A01", new_images(plate, seed), {}, rois=BOTH)
    rows = queries.rows(
        owner, "select r.name from Roi r where r.image.id = :id", id=plate.wells["A01"].images[1].image_id
    )
    assert sorted(row[0] for row in rows) == ["nuclei 21", "nuclei 22", "nuclei 41", "nuclei 42"]
    delete_rois_of_plate(
        member, plate.group_id, f"plate_{plate.plate_id}_processed"
    )  # or the owner can't delete the images
