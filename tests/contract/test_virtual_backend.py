"""What a virtual backend must implement: two methods, and `load` to read what is listed."""

import numpy as np
import pytest

from openhcs_omero.io.base import BadData, MissingFile, StorageRegistry, VirtualBackend
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.io.formats import decode, encode

PLANE = np.arange(12, dtype="uint16").reshape(3, 4)
NAMES = {"A01": [1, 2], "B03": [1]}


class Bucket:
    """A bucket with S3's ListObjectsV2 and GetObject: sorted keys, at most two per response."""

    def __init__(self, objects):
        self.objects = objects

    def list_objects_v2(self, Prefix, ContinuationToken=""):
        keys = sorted(key for key in self.objects if key.startswith(Prefix) and key > ContinuationToken)
        answer = {"Contents": [{"Key": key} for key in keys[:2]], "IsTruncated": len(keys) > 2}
        return {**answer, "NextContinuationToken": keys[1]} if answer["IsTruncated"] else answer

    def get_object(self, Key):
        return {"Body": self.objects[Key]}


class BucketBackend(VirtualBackend):
    """A plate in a bucket, under /bucket/<plate>/<WELL>/<WELL>_s001_c000.tif; only the keys say what exists."""

    def __init__(self, bucket):
        self.bucket = bucket

    def list_files(self, directory):
        prefix, found, token = f"{str(directory).removeprefix('/bucket/').rstrip('/')}/", [], ""
        while True:
            answer = self.bucket.list_objects_v2(Prefix=prefix, ContinuationToken=token)
            found += [f"/bucket/{entry['Key']}" for entry in answer["Contents"]]
            if not answer["IsTruncated"]:
                break
            token = answer["NextContinuationToken"]
        if not found:
            raise MissingFile(f"there is no directory {directory}")
        return found

    def generate_filename(self, metadata):
        well, site = metadata["well"], metadata["site"]
        return f"/bucket/{metadata['plate']}/{well}/{well}_s{site:03d}_c{metadata['channel']:03d}.tif"


class ReadableBucketBackend(BucketBackend):
    def load(self, path):
        if not self.exists(path):
            raise MissingFile(f"there is no file {path}")
        return decode(self.bucket.get_object(Key=str(path).removeprefix("/bucket/"))["Body"], path)


@pytest.fixture
def bucket():
    paths = [f"day_1/{well}/{well}_s{site:03d}_c000.tif" for well, sites in NAMES.items() for site in sites]
    return Bucket({path: encode(PLANE + number, path) for number, path in enumerate(paths)})


def test_two_methods_make_a_backend(bucket):
    backend = BucketBackend(bucket)
    made = [
        backend.generate_filename({"plate": "day_1", "well": well, "site": site, "channel": 0})
        for well, sites in NAMES.items()
        for site in sites
    ]
    assert backend.list_files("/bucket/day_1") == made
    assert backend.list_files("/bucket/day_1/B03") == made[2:]
    assert all(backend.exists(path) for path in [*made, "/bucket/day_1", "/bucket/day_1/A01/"])
    assert not any(backend.exists(f"/bucket/{path}") for path in ("day_1/C01", "day_1/A01/x.tif", "day"))
    with pytest.raises(BadData, match="BucketBackend only lists"):
        backend.load(made[0])


@pytest.mark.parametrize("given", ["list_files", "generate_filename"])
def test_both_methods_are_needed(given):
    half = type("Half", (VirtualBackend,), {given: getattr(BucketBackend, given)})
    [missing] = {"list_files", "generate_filename"} - {given}
    with pytest.raises(TypeError, match=missing):
        half()


def test_it_is_read_through_the_file_manager(bucket):
    files = FileManager(StorageRegistry({"bucket": ReadableBucketBackend(bucket)}))
    for number, path in enumerate(files.list_files("/bucket/day_1", backend="bucket")):
        np.testing.assert_array_equal(files.load(path, backend="bucket"), PLANE + number)
    with pytest.raises(MissingFile):
        files.load("/bucket/day_1/A01/A01_s009_c000.tif", backend="bucket")


def test_it_is_read_only_by_default(bucket):
    backend, path = BucketBackend(bucket), "/bucket/day_1/A01/A01_s001_c000.tif"
    before = dict(bucket.objects)
    writes = [
        lambda: backend.save(PLANE, path),
        lambda: backend.delete(path),
        lambda: backend.save_batch([1], [path]),
        lambda: backend.ensure_directory("/bucket/day_2"),
    ]
    for write in writes:
        with pytest.raises(BadData, match="BucketBackend is read-only"):
            write()
    assert bucket.objects == before
