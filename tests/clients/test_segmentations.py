"""Other programs, from the package index, read the segmentations that a step returned."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from openhcs_omero.omero.derived import derive_plate, find_derived
from openhcs_omero.omero.derived_well import write_well
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.plates.image import NewImage
from openhcs_omero.plates.labels import RoiOptions

zarr = pytest.importorskip("zarr")
pytestmark = pytest.mark.clients
# the `omero` command, which itself refuses to be root
OMERO = "import sys, omero.cli; sys.exit(omero.cli.argv(['omero'] + sys.argv[1:]))"


@pytest.fixture
def labels():
    """Two nuclei, (T, C, Z, Y, X), which touch."""
    array = np.zeros((1, 1, 1, 16, 24), "uint16")
    array[..., 3:9, 4:10], array[..., 5:12, 10:20] = 1, 2
    array[..., 3, 4] = 0
    return array


def derived_image(omero_server, conn, labels, form):
    """The id of a derived image with the labels as regions of interest."""
    plate = omero_server.make_plate(conn, shape=(1, 1, 1, 16, 24))
    source = load_plate(conn, plate)
    derived = derive_plate(conn, source, "processed", {})
    pixels = np.full(labels.shape, 7, "uint16")
    image = NewImage("A01", pixels, source_image=source.image("A01", 1).image_id, labels={"nuclei": labels})
    write_well(conn, derived, "A01", {1: image}, {}, [], rois=RoiOptions("derived", form))
    return load_plate(conn, find_derived(conn, plate, "processed")).image("A01", 1).image_id


def test_omero_cli_zarr_exports_the_labels(omero_server, conn, labels, tmp_path):
    pytest.importorskip("omero_zarr")
    image = derived_image(omero_server, conn, labels, "masks")
    where = ("-s", omero_server.host, "-p", str(omero_server.port), "-u", conn.getUser().getName())
    target = (f"Image:{image}", "--output", tmp_path)
    for words in (("login", *where), ("zarr", "export", *target), ("zarr", "masks", *target)):
        subprocess.run(
            [sys.executable, "-c", OMERO, *words],
            check=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "OMERO_USERDIR": str(tmp_path), "OMERO_PASSWORD": "pw"},
        )
    label = zarr.open_group(tmp_path / f"{image}.ome.zarr", mode="r")["labels/0"]
    (largest, *_) = label.attrs["ome"]["multiscales"][0]["datasets"]
    read = label[largest["path"]][:].squeeze()
    numbers = {value: set(read[labels[0, 0, 0] == value].tolist()) for value in (0, 1, 2)}
    assert numbers[0] == {0} and all(len(numbers[value]) == 1 for value in (1, 2)) and numbers[1] != numbers[2]


def test_napari_omero_shows_the_outlines(omero_server, conn, labels):
    loaders = pytest.importorskip("napari_omero.plugins.loaders", exc_type=ImportError)
    image = derived_image(omero_server, conn, labels, "polygons")
    ((shapes, _, kind),) = loaders.load_rois(conn, conn.getObject("Image", image), load_points=False)
    assert kind == "shapes" and len(shapes) == 2
    for shape, value in zip(shapes, (1, 2)):
        rows, columns = np.nonzero(labels[0, 0, 0] == value)
        outline = np.asarray(shape)[:, -2:]  # y, x; a pixel is from its number to the next
        assert np.allclose(outline.min(axis=0), (rows.min(), columns.min()), atol=0.5)
        assert np.allclose(outline.max(axis=0), (rows.max() + 1, columns.max() + 1), atol=0.5)
