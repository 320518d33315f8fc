"""Labels as regions of interest: what they show is compared with the labels, pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from omero_rois import shape_to_binary_image
from scipy.ndimage import binary_dilation, binary_fill_holes
from skimage.draw import polygon2mask
from skimage.measure import label

from openhcs_omero.omero.outlines import TOLERANCE
from openhcs_omero.omero.rois import make_rois
from openhcs_omero.plates.labels import LARGEST_LABEL, check_labels


def rasterized(rois, name, shape):
    """The labels that masks show, as other programs read them."""
    made = np.zeros(shape, np.int64)
    for roi in rois:
        labels, _, number = roi.name.val.partition(" ")
        assert labels == name
        for shown in roi.copyShapes():
            assert shown.textValue.val == roi.name.val
            mask, (t, c, z, y, x, height, width) = shape_to_binary_image(shown)
            place = made[t, 0 if c is None else c, 0 if z is None else z, y : y + height, x : x + width]
            assert not place[mask].any(), "each pixel is shown once"
            place[mask] = int(number)
    return made


shapes = st.tuples(*(st.integers(1, size) for size in (2, 2, 3, 7, 7)))
numbers = st.sampled_from([0, 0, 0, 1, 2, 3, 300, LARGEST_LABEL])


@given(arrays(np.uint32, shapes, elements=numbers))
def test_masks_are_the_labels(labels):
    assert np.array_equal(rasterized(make_rois({"nuclei": labels}, "masks"), "nuclei", labels.shape), labels)


def test_an_object_is_one_region_over_all_its_z():
    labels = np.zeros((1, 1, 3, 9, 9), np.uint16)
    labels[0, 0, 1:, 4, 2:5] = 7
    [roi] = make_rois({"cells": labels}, "masks")
    assert roi.name.val == "cells 7" and [shape.theZ.val for shape in roi.copyShapes()] == [1, 2]


def test_labels_for_every_channel_and_z_are_shown_on_all_of_them():
    [roi] = make_rois({"cells": np.ones((1, 1, 1, 3, 3), np.uint16)}, "masks")
    [shape] = roi.copyShapes()
    assert (shape.theC, shape.theZ, shape.theT.val) == (None, None, 0)


def test_labels_of_two_names_have_two_colors():
    square = np.ones((1, 1, 1, 3, 3), np.uint16)
    nuclei, cells = make_rois({"nuclei": square, "cells": square}, "masks")
    assert nuclei.copyShapes()[0].fillColor.val != cells.copyShapes()[0].fillColor.val


def outline(shape):
    return np.array([[float(value) for value in point.split(",")] for point in shape.points.val.split()])


@given(arrays(bool, (8, 8)))
def test_polygons_follow_the_outlines_of_the_parts(inside):
    """The pixels in the outlines are those of the object and of its holes, or touch its edge."""
    labels = np.where(inside, 5, 0)[None, None, None].astype(np.uint16)
    rois = make_rois({"cells": labels}, "polygons")
    assert len(rois) == inside.any()
    for roi in rois:
        polygons = [outline(shape) for shape in roi.copyShapes()]
        filled = np.zeros((80, 80), bool)
        for points in polygons:
            filled |= polygon2mask((80, 80), points[:, ::-1] * 10)
        centers = filled[5::10, 5::10]
        assert centers[inside].all() and not centers[~binary_dilation(binary_fill_holes(inside))].any()
        points = np.concatenate(polygons)
        assert points.min() >= 0 and points.max() <= 8 and all(len(points) > 2 for points in polygons)


def test_a_polygon_is_as_near_as_stated():
    y, x = np.mgrid[:60, :60]
    disk = (np.hypot(y - 30, x - 27) < 20)[None, None, None].astype(np.uint16)
    [roi] = make_rois({"cells": disk}, "polygons")
    [shape] = roi.copyShapes()
    points = outline(shape)
    distance = np.hypot(points[:, 0] - 27.5, points[:, 1] - 30.5)  # the center of pixel 27 is at 27.5
    assert np.abs(distance - 20).max() < TOLERANCE + 1 and 8 < len(points) < 70
    assert np.sum(polygon2mask((60, 60), points[:, ::-1] - 0.5) != disk[0, 0, 0]) < 0.5 * TOLERANCE * 2 * np.pi * 20


def test_a_part_that_touches_at_a_corner_has_an_outline_of_its_own():
    labels = np.zeros((1, 1, 1, 6, 6), np.uint16)
    labels[0, 0, 0, 1:3, 1:3] = labels[0, 0, 0, 3:5, 3:5] = 1
    assert label(labels[0, 0, 0], connectivity=1).max() == 2
    [roi] = make_rois({"cells": labels}, "polygons")
    assert len(roi.copyShapes()) == 2


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((1, 1, 1, 4, 4), float), "of type float64; labels are an array of integers"),
        (np.zeros((1, 1, 1, 4, 4), bool), "of type bool"),
        ([[1]], "of type list"),
        (np.zeros((4, 4), int), "of shape (4, 4)"),
        (np.zeros((1, 3, 1, 4, 4), int), "of shape (1, 3, 1, 4, 4)"),
        (np.zeros((2, 1, 1, 4, 4), int), "of shape (2, 1, 1, 4, 4)"),
        (np.full((1, 1, 1, 4, 4), -1), "numbers from -1 to -1; labels are from 0 to 2147483647"),
        (np.full((1, 1, 1, 4, 4), 2**40), "numbers from 1099511627776"),
    ],
)
def test_labels_that_are_none(labels, message):
    with pytest.raises(ValueError, match=r"labels 'cells'") as caught:
        check_labels("cells", labels, (1, 2, 5, 4, 4))
    assert message in str(caught.value)
