"""Backends of disks refuse the paths of OMERO, whoever runs them, and make nothing."""

import os
from pathlib import Path

import numpy as np
import pytest

from openhcs_omero.core.config import read_config
from openhcs_omero.errors import ConfigError
from openhcs_omero.io import atomic
from openhcs_omero.io.base import BadData, storage_registry
from openhcs_omero.io.filemanager import FileManager

PLANE = np.zeros((4, 4), "uint16")
IN_OMERO = ("/omero/plate_7/A01/A01_s001_z000_c000.tif", "//omero/plate_7/x.csv", "/tmp/../omero/plate_7/A01/y.json")


@pytest.fixture(autouse=True)
def no_folder():
    there = Path("/omero").exists()
    yield
    assert Path("/omero").exists() == there


@pytest.mark.parametrize("path", IN_OMERO)
@pytest.mark.parametrize("backend", ["disk", "zarr"])
def test_backends(backend, path):
    files, data = FileManager(), PLANE if path.endswith("tif") else b"1"
    for refused in (
        lambda: files.save(data, path, backend),
        lambda: files.save_batch([data], [path], backend),
        lambda: files.load(path, backend),
        lambda: files.delete(path, backend),
        lambda: files.list_files(os.path.dirname(path), backend),
        lambda: files.ensure_directory(os.path.dirname(path), backend),
    ):
        with pytest.raises(BadData, match="is a path in OMERO"):
            refused()
    assert not files.exists(path, backend)


def test_a_relative_path(monkeypatch):
    monkeypatch.chdir("/")
    with pytest.raises(BadData, match="is a path in OMERO"):
        storage_registry["disk"].ensure_directory("omero/plate_7")


def test_other_folders_of_that_name(tmp_path):
    storage_registry["disk"].save(b"1", tmp_path / "omero" / "x.csv")
    assert storage_registry["disk"].exists(tmp_path / "omero" / "x.csv")
    assert not storage_registry["disk"].exists("/omero_data")


def test_virtual_workspaces():
    backend = storage_registry["virtual_workspace"]
    for refused in (lambda: backend.load(IN_OMERO[0]), lambda: backend.list_files("/omero/plate_7")):
        with pytest.raises(BadData, match="is a path in OMERO"):
            refused()
    assert not backend.exists("/omero/plate_7")


@pytest.mark.parametrize("results", ["/omero/results", "/omero", "//omero/x"])
def test_results(results):
    with pytest.raises(ConfigError, match=r"^results: .* is a path in OMERO"):
        read_config({"plates": [1], "steps": [{"call": "a:b"}], "results": results})


def test_everything_else_that_is_written():
    with pytest.raises(BadData, match="is a path in OMERO"):
        atomic.write(Path("/omero/x/y.csv"), "")
