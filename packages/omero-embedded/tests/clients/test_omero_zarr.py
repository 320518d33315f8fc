"""omero-cli-zarr, as it comes from the package index: plates and images as OME-Zarr."""

from __future__ import annotations

import numpy as np
import omero
import pytest
from omero.rtypes import rint, rstring

pytest.importorskip("omero_zarr")
zarr = pytest.importorskip("zarr")
pytestmark = pytest.mark.clients
SHAPE = (2, 3, 40, 50)  # CZYX


def values(number: int) -> np.ndarray:
    """(C, Z, Y, X) of an image, unlike any other's; no plane is all zeros, which the exporter takes for missing."""
    return (np.arange(np.prod(SHAPE)) % 60_000 + 1000 * number + 1).reshape(SHAPE).astype(np.uint16)


@pytest.fixture
def plate(conn) -> int:
    """A plate with two fields in A1 and one in B3."""
    made = omero.model.PlateI()
    made.name = rstring("plate")
    for number, (row, column, fields) in enumerate([(0, 0, 2), (1, 2, 1)]):
        well = omero.model.WellI()
        well.row, well.column = rint(row), rint(column)
        for field in range(fields):
            planes = iter(values(10 * number + field).swapaxes(0, 1).reshape(-1, *SHAPE[2:]))
            image = conn.createImageFromNumpySeq(planes, f"{row} {column} {field}", sizeZ=3, sizeC=2)
            sample = omero.model.WellSampleI()
            sample.image = omero.model.ImageI(image.getId(), False)
            well.addWellSample(sample)
        made.addWell(well)
    return conn.getUpdateService().saveAndReturnObject(made).id.val


@pytest.mark.parametrize("form", ["0.4", "0.5"])
def test_export_of_a_plate(run, plate, tmp_path, form):
    run("zarr", "--output", tmp_path, "export", f"Plate:{plate}", "--output", tmp_path, "--format", form)
    group = zarr.open_group(tmp_path / f"{plate}.ome.zarr", mode="r")
    about = group.attrs.get("ome", group.attrs)
    assert {well["path"] for well in about["plate"]["wells"]} == {"A/1", "B/3"}
    assert about["plate"]["field_count"] == 2
    for path, number in (("A/1/0", 0), ("A/1/1", 1), ("B/3/0", 10)):
        field = group[path]
        assert (field["0"][:] == values(number)).all(), path
        shown = field.attrs.get("ome", field.attrs)
        assert [axis["name"] for axis in shown["multiscales"][0]["axes"]] == ["c", "z", "y", "x"]
        assert len(shown["omero"]["channels"]) == 2


def test_export_of_an_image(run, conn, tmp_path):
    image = conn.createImageFromNumpySeq(iter([values(5)[0, 0]]), "image").getId()
    run("zarr", "export", f"Image:{image}", "--output", tmp_path)
    group = zarr.open_group(tmp_path / f"{image}.ome.zarr", mode="r")
    assert (group["0"][:] == values(5)[0, 0]).all()
    run("zarr", "export", "Image:987654321", "--output", tmp_path, status=None)


def test_export_of_masks(run, conn, tmp_path):
    image = conn.createImageFromNumpySeq(iter([np.zeros((16, 24), np.uint8)]), "image")
    inside = np.zeros((4, 8), bool)
    inside[1:3, 2:7] = True
    mask = omero.model.MaskI()
    mask.x, mask.y, mask.width, mask.height = (omero.rtypes.rdouble(number) for number in (5, 9, 8, 4))
    mask.bytes = np.packbits(inside).tobytes()
    roi = omero.model.RoiI()
    roi.image = image._obj.proxy()
    roi.addShape(mask)
    conn.getUpdateService().saveObject(roi)
    run("zarr", "export", f"Image:{image.getId()}", "--output", tmp_path)
    run("zarr", "masks", f"Image:{image.getId()}", "--output", tmp_path)
    group = zarr.open_group(tmp_path / f"{image.getId()}.ome.zarr", mode="r")
    label = group["labels/0"]
    (largest, *_) = label.attrs["ome"]["multiscales"][0]["datasets"]
    labels = label[largest["path"]][:].squeeze()
    expected = np.zeros((16, 24), bool)
    expected[9:13, 5:13] = inside
    assert ((labels > 0) == expected).all()
