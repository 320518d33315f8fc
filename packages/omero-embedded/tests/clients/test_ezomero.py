"""ezomero, as it comes from the package index, against the server of this run."""

from __future__ import annotations

import numpy as np
import omero
import pytest
from omero.rtypes import rint, rstring

ezomero = pytest.importorskip("ezomero")
pytestmark = pytest.mark.clients


@pytest.fixture
def plate(conn) -> dict[str, int]:
    """A plate in a screen, with one well of one image; the ids."""
    values = np.arange(5 * 4 * 2, dtype=np.uint16).reshape(5, 4, 2, 1, 1)
    image = ezomero.post_image(conn, values, "in well", dim_order="xyzct")
    screen = ezomero.post_screen(conn, "screen")
    made = omero.model.PlateI()
    made.name = rstring("plate")
    well = omero.model.WellI()
    well.row, well.column = rint(1), rint(2)
    sample = omero.model.WellSampleI()
    sample.image = omero.model.ImageI(image, False)
    well.addWellSample(sample)
    made.addWell(well)
    plate = conn.getUpdateService().saveAndReturnObject(made).id.val
    ezomero.link_plates_to_screen(conn, [plate], screen)
    return {"image": image, "screen": screen, "plate": plate}


def test_images_come_back(conn):
    values = np.random.default_rng(1).integers(0, 4000, (6, 5, 3, 2, 2)).astype(np.uint16)  # x y z c t
    project = ezomero.post_project(conn, "project", "of a test")
    dataset = ezomero.post_dataset(conn, "dataset", project)
    image = ezomero.post_image(conn, values, "image", dataset_id=dataset, dim_order="xyzct")
    wrapper, got = ezomero.get_image(conn, image, dim_order="xyzct")
    assert wrapper.getName() == "image" and got.dtype == np.uint16 and (got == values).all()
    _, part = ezomero.get_image(
        conn, image, start_coords=(1, 1, 1, 0, 0), axis_lengths=(2, 3, 1, 1, 1), dim_order="xyzct"
    )
    assert (part == values[1:3, 1:4, 1:2, :1, :1]).all()
    assert ezomero.get_image_ids(conn, dataset=dataset) == [image] == ezomero.get_image_ids(conn, project=project)
    assert ezomero.get_dataset_ids(conn, project=project) == [dataset]
    assert ezomero.get_project_ids(conn) == [project]


def test_plates_and_wells(conn, plate):
    assert ezomero.get_screen_ids(conn) == [plate["screen"]]
    assert ezomero.get_plate_ids(conn, screen=plate["screen"]) == [plate["plate"]]
    assert ezomero.get_plate_ids(conn) == []  # those in no screen
    (well,) = ezomero.get_well_ids(conn, plate=plate["plate"])
    assert ezomero.get_well_id(conn, plate["plate"], 1, 2) == well and ezomero.get_well_ids(
        conn, screen=plate["screen"]
    ) == [well]
    assert (
        ezomero.get_image_ids(conn, plate=plate["plate"]) == [plate["image"]] == ezomero.get_image_ids(conn, well=well)
    )
    assert ezomero.get_plate_acquisition_ids(conn, plate=plate["plate"]) == []


def test_annotations(conn, plate, tmp_path):
    pairs = {"drug": "A", "dose": ["1", "2"]}
    annotation = ezomero.post_map_annotation(conn, "Plate", plate["plate"], pairs, "test.ns")
    assert ezomero.get_map_annotation(conn, annotation) == pairs
    assert ezomero.get_map_annotation_ids(conn, "Plate", plate["plate"], ns="test.ns") == [annotation]
    assert ezomero.get_map_annotation_ids(conn, "Plate", plate["plate"], ns="other") == []
    assert ezomero.get_plate_ids(conn, annotation=annotation) == [plate["plate"]]

    comment = ezomero.post_comment_annotation(conn, "Image", plate["image"], "seen", "test.ns")
    assert ezomero.get_comment_annotation_ids(conn, "Image", plate["image"]) == [comment]
    assert ezomero.get_comment_annotation(conn, comment) == "seen"

    path = tmp_path / "results.csv"
    path.write_bytes(b"well,cells\nB03,7\n" * 1000)
    attached = ezomero.post_file_annotation(conn, str(path), "test.ns", "Plate", plate["plate"], mimetype="text/csv")
    assert ezomero.get_file_annotation_ids(conn, "Plate", plate["plate"]) == [attached]
    (tmp_path / "down").mkdir()
    back = ezomero.get_file_annotation(conn, attached, str(tmp_path / "down"))
    with open(back, "rb") as file:
        assert file.read() == path.read_bytes()


def test_filters_by_key_and_tag(conn, plate):
    ezomero.post_map_annotation(conn, "Image", plate["image"], {"key": "yes"}, "test.ns")
    other = ezomero.post_image(conn, np.zeros((2, 2, 1, 1, 1), np.uint8), "other", dim_order="xyzct")
    tag = omero.gateway.TagAnnotationWrapper(conn)
    tag.setValue("good")
    conn.getObject("Image", plate["image"]).linkAnnotation(tag)
    both = [plate["image"], other]
    assert ezomero.filter_by_kv(conn, both, "key", "yes") == [plate["image"]]
    assert ezomero.filter_by_tag_value(conn, both, "good") == [plate["image"]]
    (tag_id,) = ezomero.get_tag_ids(conn, "Image", plate["image"])
    assert ezomero.get_tag(conn, tag_id) == "good"


def test_regions_of_interest(conn, plate):
    shapes = [
        ezomero.rois.Point(1.5, 2.5, z=1, label="p"),
        ezomero.rois.Rectangle(0.0, 1.0, 2.0, 3.0),
        ezomero.rois.Ellipse(2.0, 2.0, 1.0, 0.5),
        ezomero.rois.Polygon([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]),
    ]
    roi = ezomero.post_roi(conn, plate["image"], shapes, name="cells", description="two")
    assert ezomero.get_roi_ids(conn, plate["image"]) == [roi]
    ids = ezomero.get_shape_ids(conn, roi)
    got = [ezomero.get_shape(conn, oid) for oid in ids]
    assert [type(one).__name__ for one in got] == [type(one).__name__ for one in shapes]
    assert (got[0].x, got[0].y, got[0].z, got[0].label) == (1.5, 2.5, 1, "p")


def test_users_and_groups(conn, omero_server):
    assert ezomero.get_group_id(conn, conn.getGroupFromContext().getName()) == conn.getGroupFromContext().getId()
    assert ezomero.get_user_id(conn, conn.getUser().getName()) == conn.getUserId()
    mine = ezomero.connect(
        conn.getUser().getName(), "pw", "", host=omero_server.host, port=omero_server.port, secure=True
    )
    assert mine.getUserId() == conn.getUserId()
    mine.close()
