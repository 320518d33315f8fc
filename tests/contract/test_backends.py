"""One contract for every storage backend: run on disk, in memory, on Zarr and against OMERO.

Each test gets a backend and a folder in it: a plate with the wells A01 and A02, which takes paths of the virtual
path grammar. Steps may rely on everything that is tested here.
"""

import json
from dataclasses import dataclass

import numpy as np
import pandas
import pytest

from openhcs_omero.errors import OpenHCSError
from openhcs_omero.io.base import BadData, MissingFile, StorageBackend, StorageRegistry
from openhcs_omero.io.disk import DiskBackend
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.io.memory import MemoryBackend
from openhcs_omero.io.zarr import ZarrBackend
from openhcs_omero.processing.cells import cell_counting_cpu

rng = np.random.default_rng(7)


@dataclass
class Place:
    """A backend and the folder of a plate in it."""

    backend: StorageBackend
    plate: str


@pytest.fixture
def omero_place(conn, tmp_path, monkeypatch):
    """A derived plate, not created yet, of a plate in OMERO with the wells A01 and A02."""
    from openhcs_omero.io.omero_local import OMEROLocalBackend
    from openhcs_omero.microscopes.importing import import_folder

    monkeypatch.setenv("OMERO_SESSIONDIR", str(tmp_path / "sessions"))
    folder = tmp_path / "source"
    for well in ("A01", "A02"):
        DiskBackend().save(site()[0, 0, 0], folder / f"{well}_s001_z000_c000.tif")
    return Place(OMEROLocalBackend(omero_conn=conn), f"/omero/plate_{import_folder(conn, folder)}_contract")


@pytest.fixture(params=["disk", "memory", "zarr", "omero_local"])
def place(request, tmp_path):
    if request.param == "disk":
        return Place(DiskBackend(), str(tmp_path / "plate_7_processed"))
    if request.param == "zarr":
        return Place(ZarrBackend(), str(tmp_path / "plate_7_processed"))
    if request.param == "memory":
        return Place(MemoryBackend(), "/omero/plate_7_processed")
    return request.getfixturevalue("omero_place")


def site(shape=(1, 2, 1, 12, 10), dtype="uint16"):
    return rng.integers(0, 100, shape).astype(dtype)


def test_a_site_is_loaded_as_saved(place):
    path = f"{place.plate}/A01/A01_s001.tif"
    assert not place.backend.exists(path)
    for dtype in ("uint8", "int16", "uint16", "int32", "float32", "float64"):
        image = site(dtype=dtype)
        place.backend.save(image, path)
        back = place.backend.load(path)
        assert (back.shape, back.dtype) == (image.shape, image.dtype)
        np.testing.assert_array_equal(back, image)
    assert place.backend.exists(path)


def test_a_plane_is_loaded_as_saved(place):
    path = f"{place.plate}/A01/A01_s001_z000_c000.tif"
    plane = site()[0, 0, 0]
    place.backend.save(plane, path)
    assert place.backend.exists(path)
    back = place.backend.load(path)
    assert back.shape == (12, 10)
    np.testing.assert_array_equal(back, plane)
    assert place.backend.list_files(place.plate) == [path]
    assert place.backend.list_files(f"{place.plate}/A01") == [path]


def test_saved_data_are_copied(place):
    path = f"{place.plate}/A01/A01_s001.tif"
    image = site()
    kept = image.copy()
    place.backend.save(image, path)
    image[:] = 0
    np.testing.assert_array_equal(place.backend.load(path), kept)
    place.backend.load(path)[:] = 0
    np.testing.assert_array_equal(place.backend.load(path), kept)


def test_foreign_byte_order_and_strides(place):
    path = f"{place.plate}/A01/A01_s001.tif"
    image = site()
    place.backend.save(image.astype(">u2")[..., ::2], path)
    back = place.backend.load(path)
    assert back.dtype == np.dtype("uint16")
    np.testing.assert_array_equal(back, image[..., ::2])


def test_batches_of_planes(place):
    """All planes of two wells in one call, in any order; they are listed sorted, and load in the requested order."""
    images = {well: site((2, 2, 3, 6, 5)) for well in ("A02", "A01")}
    planes = {
        f"{place.plate}/{well}/{well}_s001_z{z:03d}_c{c:03d}_t{t:03d}.tif": image[t, c, z]
        for well, image in images.items()
        for t in range(2)
        for c in range(2)
        for z in range(3)
    }
    paths = list(planes)[::-1]
    place.backend.save_batch([planes[path] for path in paths], paths)
    assert place.backend.list_files(place.plate) == sorted(planes)
    for path, back in zip(paths, place.backend.load_batch(paths)):
        np.testing.assert_array_equal(back, planes[path])
    with pytest.raises(BadData, match="give one path per item"):
        place.backend.save_batch([images["A01"]], [])


def test_planes_one_after_the_other(place):
    """Adding or replacing a plane leaves the others unchanged."""
    first, second, third = (site()[0, 0, 0] for _ in range(3))
    paths = [f"{place.plate}/A01/A01_s001_z000_c{c:03d}.tif" for c in range(2)]
    place.backend.save(first, paths[0])
    place.backend.save(second, paths[1])
    place.backend.save(third, paths[0])
    np.testing.assert_array_equal(place.backend.load(paths[0]), third)
    np.testing.assert_array_equal(place.backend.load(paths[1]), second)
    assert place.backend.list_files(place.plate) == paths


def test_sites_one_after_the_other(place):
    images = [site() for _ in range(3)]
    for well in ("A01", "A02"):
        for number, image in enumerate(images, start=1):
            place.backend.save(image, f"{place.plate}/{well}/{well}_s{number:03d}.tif")
    images[1] = site()
    place.backend.save(images[1], f"{place.plate}/A01/A01_s002.tif")
    for number, image in enumerate(images, start=1):
        np.testing.assert_array_equal(place.backend.load(f"{place.plate}/A01/A01_s{number:03d}.tif"), image)


FOLDERS = ["{plate}/", "{plate}/A01/", "{plate}/A01/A01_s001_"]


@pytest.mark.parametrize("folder", FOLDERS, ids=["plate", "well", "site"])
def test_files_of_every_kind(place, folder):
    if folder.endswith("_"):
        place.backend.save(site(), f"{place.plate}/A01/A01_s001.tif")
    folder = folder.format(plate=place.plate)
    table = pandas.DataFrame({"well": ["A01", "A02"], "count": [3, 4]})
    before = set(place.backend.list_files(place.plate)) if place.backend.exists(place.plate) else set()
    files = {
        "result.json": {"n": 3, "names": ["µ", None]},
        "rows.json": [1, 2.5],
        "notes.txt": "two\nlines µm\n",
        "empty.txt": "",
        "raw.bin": bytes(range(256)),
    }
    for name, data in files.items():
        place.backend.save(data, folder + name)
    place.backend.save(table, folder + "table.csv")
    place.backend.save(table, folder + "table.tsv")
    for name, data in files.items():
        assert place.backend.exists(folder + name)
        assert place.backend.load(folder + name) == data
    for name in ("table.csv", "table.tsv"):
        pandas.testing.assert_frame_equal(place.backend.load(folder + name), table)
    expected = {folder + name for name in [*files, "table.csv", "table.tsv"]}
    assert set(place.backend.list_files(place.plate)) - before == expected


def test_a_file_is_replaced(place):
    path = f"{place.plate}/A01/x.json"
    for value in (1, 2, 3):
        place.backend.save({"n": value}, path)
    assert place.backend.load(path) == {"n": 3}
    assert place.backend.list_files(place.plate) == [path]


def test_text_and_bytes_are_written_to_text_files_unchanged(place):
    path = f"{place.plate}/x.json"
    place.backend.save('{"a": 1}', path)
    assert place.backend.load(path) == {"a": 1}
    place.backend.save(json.dumps([1]).encode(), path)
    assert place.backend.load(path) == [1]


def test_local_files(place, tmp_path):
    """A path instead of data stands for the contents of that file."""
    file = tmp_path / "measured.csv"
    file.write_text("well,n\nA01,3\n")
    place.backend.save(file, f"{place.plate}/A01/x.csv")
    assert place.backend.load(f"{place.plate}/A01/x.csv").to_dict("records") == [{"well": "A01", "n": 3}]
    with pytest.raises(MissingFile, match=f"there is no file {tmp_path}/other"):
        place.backend.save(tmp_path / "other", f"{place.plate}/A01/x.csv")
    for wrong, path in ((tmp_path, "A01/x.csv"), (file, "A01/A01_s001.tif")):
        with pytest.raises(BadData):
            place.backend.save(wrong, f"{place.plate}/{path}")
    assert place.backend.list_files(place.plate) == [f"{place.plate}/A01/x.csv"]


def test_numpy_results(place):
    path = f"{place.plate}/A01/x.json"
    place.backend.save({"n": np.int64(3), "mean": np.float32(0.5), "none": np.nan}, path)
    assert place.backend.load(path) == {"n": 3, "mean": 0.5, "none": None}


def test_an_image_next_to_the_site(place):
    """A step's label image is kept under its own name, not among the site's planes."""
    place.backend.save(site(), f"{place.plate}/A01/A01_s001.tif")
    labels = site((1, 1, 1, 12, 10), "int32")
    path = f"{place.plate}/A01/A01_s001_labels.tif"
    place.backend.save(labels, path)
    np.testing.assert_array_equal(place.backend.load(path), labels)
    assert path in place.backend.list_files(place.plate)
    place.backend.delete(path)
    assert not place.backend.exists(path)
    assert place.backend.exists(f"{place.plate}/A01/A01_s001.tif")


def test_deleting(place):
    image, text = f"{place.plate}/A01/A01_s001.tif", f"{place.plate}/A01/x.csv"
    place.backend.save(site(), image)
    place.backend.save("a,b\n1,2\n", text)
    for path in (text, image):
        place.backend.delete(path)
        assert not place.backend.exists(path)
        assert path not in place.backend.list_files(place.plate)
        with pytest.raises(MissingFile):
            place.backend.delete(path)
    assert place.backend.list_files(place.plate) == []
    place.backend.save(site(), image)
    assert place.backend.exists(image)


def test_directories(place):
    with pytest.raises(MissingFile):
        place.backend.list_files(place.plate)
    for _ in range(2):
        place.backend.ensure_directory(f"{place.plate}/A01")
    assert place.backend.exists(place.plate)
    assert place.backend.exists(f"{place.plate}/A01")
    assert place.backend.list_files(place.plate) == []
    assert place.backend.list_files(f"{place.plate}/A01") == []
    for what in (place.backend.delete, place.backend.load, lambda path: place.backend.save("x", path)):
        with pytest.raises(BadData):
            what(f"{place.plate}/A01")


def test_every_listed_file_loads(place):
    place.backend.save(site(), f"{place.plate}/A01/A01_s001.tif")
    place.backend.save("x", f"{place.plate}/A01/x.txt")
    listed = place.backend.list_files(place.plate)
    assert listed == sorted(listed)
    assert len(listed) >= 2
    for path in listed:
        assert place.backend.exists(path)
        place.backend.load(path)


@pytest.mark.parametrize(
    "name",
    ["A01/A01_s001.tif", "A01/A01_s001_z000_c000.tif", "A01/A01_s001_x.json", "A01/x.csv", "x.txt", "B09/x.csv"],
)
@pytest.mark.parametrize("made", [False, True], ids=["no plate", "plate"])
def test_missing_files(place, name, made):
    if made:
        place.backend.ensure_directory(place.plate)
    path = f"{place.plate}/{name}"
    assert not place.backend.exists(path)
    for what in (place.backend.load, place.backend.delete):
        with pytest.raises(MissingFile) as error:
            what(path)
        assert isinstance(error.value, FileNotFoundError)
        assert isinstance(error.value, OpenHCSError)
        assert str(error.value)[0] != "'"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("A01/A01_s001.tif", [[1]]),
        ("A01/A01_s001.tif", np.zeros((3, 4, 5), "uint8")),
        ("A01/A01_s001.tif", np.zeros((1, 1, 1, 4, 5), "int64")),
        ("A01/A01_s001.tif", np.zeros((1, 1, 1, 0, 5), "uint8")),
        ("A01/A01_s001.tif", b"II*"),
        ("A01/x.json", {"a": {1}}),
        ("A01/x.json", np.zeros((3, 4))),
        ("A01/x.csv", {"a": 1}),
        ("A01/x.txt", 7),
        ("A01/x.npy", np.zeros((3, 4))),
    ],
)
def test_data_that_does_not_fit(place, name, data):
    """It is refused, and what was there before stays."""
    path = f"{place.plate}/{name}"
    with pytest.raises(BadData) as error:
        place.backend.save(data, path)
    assert isinstance(error.value, ValueError)
    assert isinstance(error.value, OpenHCSError)
    assert not place.backend.exists(path)
    place.backend.save(b"kept", f"{place.plate}/A01/x.bin")
    with pytest.raises(BadData):
        place.backend.save_batch([b"new", data], [f"{place.plate}/A01/x.bin", path])
    assert not place.backend.exists(path)


def test_files_that_can_not_be_read(place):
    path = f"{place.plate}/A01/x.json"
    place.backend.save(b"{", path)
    with pytest.raises(BadData, match="can't be read as json"):
        place.backend.load(path)


def test_through_the_file_manager(place):
    registry = StorageRegistry({"omero_local": place.backend})
    manager = FileManager(registry)
    path = f"{place.plate}/A01/x.json"
    manager.ensure_directory(place.plate, backend="omero")
    manager.save({"n": 1}, path, backend="omero")
    assert manager.load(path, backend="omero_local") == {"n": 1}
    assert manager.exists(path, backend="omero")
    assert manager.list_files(place.plate, backend="omero") == [path]
    manager.save_batch([{"n": 2}], [path], backend="omero")
    assert manager.load_batch([path, path], backend="omero") == [{"n": 2}] * 2
    manager.delete(path, backend="omero")
    assert not manager.exists(path, backend="omero")


def test_a_step_saves_to_any_backend(place, request):
    """A built-in step gets the backend's name; neither the step nor what it saves differs between backends."""
    backend = request.node.callspec.params["place"].removesuffix("_local")
    manager = FileManager(StorageRegistry({"omero_local" if backend == "omero" else backend: place.backend}))
    y, x = np.mgrid[:64, :64]
    nuclei = 1000 * ((y - 20) ** 2 + (x - 20) ** 2 < 80) + 800 * ((y - 45) ** 2 + (x - 40) ** 2 < 100)
    image = np.stack([np.full((64, 64), 7), nuclei + 100]).astype("uint16")[None, :, None]
    place.backend.save(image, f"{place.plate}/A01/A01_s001.tif")
    metadata = {"plate": place.plate, "well": "A01", "site": 1}
    made, results = cell_counting_cpu(image, manager, metadata, backend=backend, channels=[1])
    assert results["cells_c1"] == 2
    labels = manager.load(f"{place.plate}/A01/A01_s001_labeled.tif", backend=backend)
    assert labels.dtype == np.uint16 and labels.shape == (1, 1, 1, 64, 64)
    np.testing.assert_array_equal(labels[0, 0, 0], made[0, 1, 0])
    kept = manager.load(f"{place.plate}/A01/A01_s001_results.json", backend=backend)
    assert kept == {key: value for key, value in results.items() if key != "objects"}
    np.testing.assert_array_equal(manager.load(f"{place.plate}/A01/A01_s001.tif", backend=backend), image)


def test_the_registry_names_what_is_missing():
    with pytest.raises(OpenHCSError, match=r"storage_registry\['omero_local'\] = OMEROLocalBackend"):
        FileManager(StorageRegistry()).load("/omero/plate_7/x.csv", backend="omero")
    with pytest.raises(OpenHCSError, match=r"no storage backend 'tape'; registered are: disk, memory.*, zarr"):
        FileManager().load("x", backend="tape")
