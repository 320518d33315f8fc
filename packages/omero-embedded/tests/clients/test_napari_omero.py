"""napari-omero, as it comes from the package index: what it gives to napari's layers and takes from them; no window."""

from __future__ import annotations

import os

import numpy as np
import omero
import pytest
from omero.rtypes import rdouble, rint, rstring

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
loaders = pytest.importorskip("napari_omero.plugins.loaders", exc_type=ImportError)  # Qt wants libraries of the system
from napari.layers import Labels, Shapes  # noqa: E402
from napari_omero.plugins._napari import napari_get_reader  # noqa: E402
from napari_omero.plugins.masks import save_labels  # noqa: E402
from napari_omero.plugins.omero import create_omero_shape, create_roi, get_data  # noqa: E402
from napari_omero.widgets import QGateWay  # noqa: E402

pytestmark = pytest.mark.clients
SHAPE = (2, 2, 3, 20, 30)  # TCZYX
VALUES = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.uint16)


@pytest.fixture
def image(conn):
    planes = (VALUES[t, c, z] for z in range(3) for c in range(2) for t in range(2))
    made = conn.createImageFromNumpySeq(planes, "image", sizeZ=3, sizeC=2, sizeT=2)
    return conn.getObject("Image", made.getId())


@pytest.fixture
def gateway(conn):
    """napari's own connection, without its form for logging in."""
    gateway = QGateWay()
    gateway.conn = conn
    yield gateway
    gateway.conn = None


def test_an_image_is_read_by_its_address(gateway, image):
    read = napari_get_reader(f"omero://Image:{image.getId()}")
    ((data, about, kind),) = read(f"omero://Image:{image.getId()}")
    assert (kind, data.shape, about["channel_axis"]) == ("image", SHAPE, 1)
    assert (np.asarray(data[1, :, 2]) == VALUES[1, :, 2]).all()
    assert about["name"] == [f"{image.getId()}: {label}" for label in image.getChannelLabels()]
    windows = [[channel.getWindowStart(), channel.getWindowEnd()] for channel in image.getChannels()]
    assert about["contrast_limits"] == windows
    assert about["metadata"]["omero"]["@id"] == image.getId()
    assert napari_get_reader("image.tif") is None


def test_a_channel_is_read_whole(image):
    assert (get_data(image, c=1) == VALUES[:, 1]).all()


def test_regions_are_read(conn, image):
    point, polygon = omero.model.PointI(), omero.model.PolygonI()
    point.x, point.y, point.theZ, point.theT = rdouble(3), rdouble(4), rint(1), rint(0)
    point.textValue = rstring("here")
    polygon.points, polygon.theZ, polygon.theT = rstring("1,2 5,2 5,6"), rint(0), rint(1)
    create_roi(conn, image.getId(), [point, polygon])
    ((points, about, _),) = loaders.load_rois(conn, image, load_points=True)
    assert np.asarray(points).tolist() == [[0, 1, 4, 3]] and list(about["features"]["comment"]) == ["here"]
    ((shapes, _, _),) = loaders.load_rois(conn, image, load_points=False)
    assert np.asarray(shapes[0]).tolist() == [[1, 0, 2, 1], [1, 0, 2, 5], [1, 0, 6, 5]]


def test_what_is_drawn_is_saved(conn, image):
    corners = np.array([[0, 1, 2, 3], [0, 1, 2, 9], [0, 1, 8, 9], [0, 1, 8, 3]])
    drawn = Shapes([corners], shape_type="rectangle", ndim=4)
    create_roi(conn, image.getId(), [create_omero_shape(drawn.shape_type[0], drawn.data[0])])
    labels = np.zeros((2, 3, 20, 30), int)
    labels[1, 2, 5:9, 10:20] = 1
    save_labels(Labels(labels), image)
    rois = conn.getRoiService().findByImage(image.getId(), None).rois
    shapes = [shape for roi in rois for shape in roi.copyShapes()]
    assert sorted(type(shape).__name__ for shape in shapes) in (["MaskI", "PolygonI"], ["MaskI", "RectangleI"])
    (mask,) = (shape for shape in shapes if isinstance(shape, omero.model.MaskI))
    assert [getattr(mask, name).val for name in ("x", "y", "width", "height", "theZ", "theT")] == [10, 5, 10, 4, 2, 1]
    assert bytes(mask.bytes) == np.packbits(np.ones(40, bool)).tobytes()
