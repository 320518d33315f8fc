"""polystore's OMEROLocalBackend, as it comes from the package index, against the server of this run."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("polystore")
from polystore.omero_local import OMEROLocalBackend

pytestmark = pytest.mark.clients


@pytest.fixture
def backend(conn, tmp_path, monkeypatch) -> OMEROLocalBackend:
    monkeypatch.setenv("HOME", str(tmp_path))  # its locks lie there
    return OMEROLocalBackend(omero_conn=conn)


def planes(count: int) -> list[np.ndarray]:
    return [np.arange(12 * 9, dtype=np.uint16).reshape(12, 9) + 100 * index for index in range(count)]


def names(well: str, site: int, channels: int) -> list[str]:
    return [f"{well}_s{site:03d}_w{channel}_z001_t001.tif" for channel in range(1, channels + 1)]


def test_a_plate_written_is_read_again(conn, backend):
    source = "/omero/plate_1_outputs/images"
    written = dict(
        zip([f"{source}/{name}" for name in (*names("A01", 1, 2), *names("A01", 2, 2), *names("B03", 1, 2))], planes(6))
    )
    backend.save_batch(list(written.values()), list(written))
    (plate,) = conn.getObjects("Plate", attributes={"name": "plate_1_outputs_images"})
    assert sorted(well.getWellPos() for well in plate.listChildren()) == ["A1", "B3"]
    assert {ann.getNs() for ann in plate.listAnnotations()} == {"polystore.provenance"}
    fresh = OMEROLocalBackend(omero_conn=conn)
    folder = f"/omero/plate_{plate.getId()}"
    listed = fresh.list_files(folder)
    assert sorted(listed) == sorted(path.rpartition("/")[2] for path in written)
    for path, values in written.items():
        got = fresh.load(f"{folder}/{path.rpartition('/')[2]}")
        assert got.dtype == np.uint16 and (got == values).all()


def test_more_wells_are_added_to_a_plate(conn, backend):
    for well, values in zip(("A01", "C02"), planes(2)):
        backend.save_batch([values], [f"/omero/plate_2_outputs/images/{names(well, 1, 1)[0]}"])
    (plate,) = conn.getObjects("Plate", attributes={"name": "plate_2_outputs_images"})
    assert len(list(plate.listChildren())) == 2


def test_a_text_is_attached(conn, backend):
    backend.save_batch(planes(1), [f"/omero/plate_3_outputs/images/{names('A01', 1, 1)[0]}"])
    (plate,) = conn.getObjects("Plate", attributes={"name": "plate_3_outputs_images"})
    backend.save(
        '{"cells": 7}', "/omero/plate_3_outputs/images_results/A01.json", images_dir="/omero/plate_3_outputs/images"
    )
    plate = conn.getObject("Plate", plate.getId())
    (attached,) = (ann for ann in plate.listAnnotations() if ann.OMERO_TYPE.__name__ == "FileAnnotationI")
    assert b"".join(attached.getFileInChunks()) == b'{"cells": 7}'
