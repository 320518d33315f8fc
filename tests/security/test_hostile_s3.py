"""Malicious OME-Zarr plates on S3: each gives one sentence, in bounded time and memory."""

import json
import os
import subprocess
import sys

import numpy as np
import ome_zarr_plates
import pytest
from s3 import bucket, s3_environment, s3_server

from openhcs_omero.errors import PlateError
from openhcs_omero.microscopes.importing import scan

__all__ = ["bucket", "s3_environment", "s3_server"]


def with_array(**values):
    """Change the description of an array."""
    return lambda text: json.dumps({**json.loads(text), **values}).encode()


CASES = {
    "a document of 21 MB": ("zarr.json", lambda text: text + b" " * 21_000_000, "too large for a document"),
    "a document nested without end": ("zarr.json", lambda text: b"[" * 1_000_000, "can't be read as OME-Zarr"),
    "a document that is not UTF-8": ("zarr.json", lambda text: b"\xff\xfe{", "can't be read as OME-Zarr"),
    "an array of terabytes": ("A/1/0/0/zarr.json", with_array(shape=[1, 1, 1, 10**8, 10**8]), "too large to be read"),
    "an array without size": ("A/1/0/0/zarr.json", with_array(shape=[1, 1, 1, -6, 5]), "can't be read"),
    "a chunk of 21 MB": ("A/1/0/0/c/0/0/0/0/0", lambda data: data + bytes(21_000_000), "too many for a part"),
}


@pytest.mark.parametrize("case", CASES)
def test_objects(bucket, tmp_path, case):
    images = {("A01", 1): np.ones((1, 1, 1, 6, 5), "uint16")}
    folder = ome_zarr_plates.write_plate(tmp_path / "plate.zarr", images, ome_zarr_plates.Style(levels=1))
    name, change, sentence = CASES[case]
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    with pytest.raises(PlateError, match=sentence) as caught:
        scan(bucket(folder))
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there(s3_environment):
    """In a process of its own, which says nothing more when it ends."""
    environment = {**os.environ, **s3_environment, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    command = [sys.executable, "-W", "ignore", "-m", "openhcs_omero.cli", "info", "s3://screens/p.zarr"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "127.0.0.1:9" in done.stderr and done.stderr.count("\n") == 1, done.stderr
