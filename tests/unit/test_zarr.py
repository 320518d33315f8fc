"""OME-Zarr plates: the layout that NGFF requires, and what happens to plates when something goes wrong.

The contract of all backends is tested in tests/contract; reading by other programs is tested in test_zarr_readers.
"""

import json
import multiprocessing
import pickle
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_zarr_models.v05.hcs import HCS
from ome_zarr_models.v05.image import Image

from openhcs_omero.errors import OpenHCSError
from openhcs_omero.io import ngff, storage_registry
from openhcs_omero.io.base import BadData, MissingFile
from openhcs_omero.io.formats import PIXEL_TYPES
from openhcs_omero.io.ngff import STORE
from openhcs_omero.io.zarr import ZarrBackend

rng = np.random.default_rng(11)


@pytest.fixture
def backend():
    return ZarrBackend()


@pytest.fixture
def plate(tmp_path):
    return tmp_path / "plate_7"


def site(shape=(1, 2, 1, 12, 10), dtype="uint16"):
    return rng.integers(0, 200, shape).astype(dtype)


def path_of(plate, well="A01", number=1, plane=""):
    return f"{plate}/{well}/{well}_s{number:03d}{plane}.tif"


def valid(plate) -> HCS:
    """Read and validate the plate's metadata with the OME-Zarr models; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hcs = HCS.from_zarr(zarr.open_group(plate / STORE, mode="r"))
        wells = [well.path for well in hcs.ome_attributes.plate.wells]
        assert [group.ome_attributes.version for group in hcs.well_groups] == ["0.5"] * len(wells)
        for well in wells:
            group = zarr.open_group(plate / STORE / well, mode="r")
            for image in group.attrs["ome"]["well"]["images"]:
                Image.from_zarr(group[image["path"]])
    return hcs


def fields(plate) -> dict[str, list[str]]:
    """Wells and their images according to the metadata only."""
    found = {}
    for well in valid(plate).ome_attributes.plate.wells:
        attributes = zarr.open_group(plate / STORE / well.path, mode="r").attrs["ome"]
        found[well.path] = [image["path"] for image in attributes["well"]["images"]]
    return found


def test_the_backend_registers_itself():
    assert isinstance(storage_registry["zarr"], ZarrBackend)
    assert isinstance(pickle.loads(pickle.dumps(storage_registry["zarr"])), ZarrBackend)


def test_the_layout(backend, plate):
    images = {(well, n): site() for well in ("C11", "A02", "AA01", "A01") for n in (1, 2)}
    for (well, n), image in images.items():
        backend.save(image, path_of(plate, well, n))
    hcs = valid(plate)
    described = hcs.ome_attributes.plate
    assert [row.name for row in described.rows] == ["A", "C", "AA"]
    assert [column.name for column in described.columns] == ["1", "2", "11"]
    assert [(well.path, well.rowIndex, well.columnIndex) for well in described.wells] == [
        ("A/1", 0, 0),
        ("A/2", 0, 1),
        ("C/11", 1, 2),
        ("AA/1", 2, 0),
    ]
    assert (described.field_count, described.name, described.version) == (2, "plate_7", "0.5")
    assert fields(plate) == {well: ["0", "1"] for well in ("A/1", "A/2", "C/11", "AA/1")}
    array = zarr.open_array(plate / STORE / "C/11/1/0", mode="r")
    np.testing.assert_array_equal(array[:], images["C11", 2])
    assert array.metadata.dimension_names == ("t", "c", "z", "y", "x")
    assert array.chunks == (1, 1, 1, 12, 10)


def test_smaller_levels_are_means(backend, plate):
    image = site((1, 1, 2, 301, 600))
    backend.save(image, path_of(plate))
    backend.save(image[0, 0, 1], path_of(plate, plane="_z000_c000"))
    group = zarr.open_group(plate / STORE / "A/1/0", mode="r")
    datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
    assert [level["coordinateTransformations"][0]["scale"] for level in datasets] == [
        [1, 1, 1, 1, 1],
        [1, 1, 1, 2, 2],
        [1, 1, 1, 4, 4],
    ]
    assert [group[level["path"]].shape for level in datasets] == [
        (1, 1, 2, 301, 600),
        (1, 1, 2, 151, 300),
        (1, 1, 2, 76, 150),
    ]
    for z in (0, 1):
        plane = image[0, 0, 1]
        expected = np.rint(plane[:300].reshape(150, 2, 300, 2).mean(axis=(1, 3)))
        np.testing.assert_array_equal(group["1"][0, 0, z, :150], expected)
        np.testing.assert_array_equal(group["1"][0, 0, z, 150], np.rint(plane[300].reshape(300, 2).mean(axis=1)))


def test_planes_of_zeros_are_stored(backend, plate):
    backend.save(np.zeros((1, 2, 1, 4, 4), "uint8"), path_of(plate))
    assert len(backend.list_files(plate)) == 2
    assert not backend.load(path_of(plate)).any()


def test_a_hole_is_not_a_black_plane(backend, plate):
    plane = site()[0, 0, 0]
    backend.save(plane, path_of(plate, plane="_z001_c002"))
    assert backend.list_files(plate) == [path_of(plate, plane="_z001_c002")]
    assert not backend.exists(path_of(plate, plane="_z000_c002"))
    for path in (path_of(plate), path_of(plate, plane="_z000_c002")):
        with pytest.raises(MissingFile, match="_z000_c00"):
            backend.load(path)
    valid(plate)


@settings(max_examples=20)
@given(
    planes=st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=6, unique=True),
    named=st.booleans(),
    dtype=st.sampled_from(PIXEL_TYPES),
    batched=st.booleans(),
    number=st.integers(1, 1200),
)
def test_planes_in_any_order(tmp_path_factory, planes, named, dtype, batched, number):
    plate, backend = tmp_path_factory.mktemp("plates") / "p", ZarrBackend()
    data = {
        path_of(plate, "B02", number, f"_z{z:03d}_c{c:03d}" + (f"_t{t:03d}" if named else "")): site(
            (1, 1, 1, 3, 4), dtype
        )[0, 0, 0]
        for t, c, z in planes
    }
    if batched:
        backend.save_batch(list(data.values()), list(data))
    else:
        for path, plane in data.items():
            backend.save(plane, path)
    assert backend.list_files(plate) == sorted(data)
    for path, plane in data.items():
        back = backend.load(path)
        assert back.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(back, plane)
    assert fields(plate) == {"B/2": [str(number - 1)]}
    for path in data:
        backend.delete(path)
    assert backend.list_files(plate) == []


def test_planes_of_another_size_or_type(backend, plate):
    first = path_of(plate, plane="_z000_c000")
    backend.save(site()[0, 0, 0], first)
    backend.save(site(dtype="float32")[0, 0, 0], first)  # a plane that is the only one may be replaced by another type
    for other in (site((1, 1, 1, 5, 5), "float32"), site(dtype="uint16")):
        with pytest.raises(BadData, match="one size and type"):
            backend.save(other[0, 0, 0], path_of(plate, plane="_z000_c001"))
    with pytest.raises(BadData, match="either all planes of a site have _t in their names, or none"):
        backend.save(site(dtype="float32")[0, 0, 0], path_of(plate, plane="_z000_c001_t001"))
    with pytest.raises(BadData, match="either all planes of a site have _t in their names, or none"):
        backend.save_batch([site()[0, 0, 0]] * 2, [first, path_of(plate, plane="_z000_c001_t001")])
    with pytest.raises(BadData, match="given twice"):
        backend.save_batch([site(), site()[0, 0, 0]], [path_of(plate), first])
    assert backend.list_files(plate) == [first]


@pytest.mark.parametrize(
    "name",
    ["A01/A02_s001.tif", "A01/A01_s000.tif", "A01/A01_s1.tif", "image.tif", "A01/x.tif", "A01/A01_s001_z0_c0.tif", "x"],
)
def test_invalid_paths_are_refused(backend, plate, name):
    for what in (backend.load, backend.delete, lambda path: backend.save(site(), path)):
        with pytest.raises(BadData, match="is not a file of a plate: expected"):
            what(f"{plate}/{name}")
    assert not backend.exists(f"{plate}/{name}")
    assert not plate.exists()


def test_deleting_leaves_no_empty_groups(backend, plate):
    for well, n in (("A01", 1), ("A01", 2), ("B02", 1), ("B03", 1)):
        backend.save(site(), path_of(plate, well, n))
    backend.delete(path_of(plate, "A01", 1))
    backend.delete(path_of(plate, "B02", 1))
    assert fields(plate) == {"A/1": ["1"], "B/3": ["0"]}
    assert not (plate / STORE / "B/2").exists()
    backend.delete(path_of(plate, "B03", 1))
    assert not (plate / STORE / "B").exists()
    backend.delete(path_of(plate, "A01", 2))
    assert not (plate / STORE).exists()
    assert backend.list_files(plate) == []
    assert backend.exists(f"{plate}/A01")


def test_foreign_files_in_the_store_stay(backend, plate):
    backend.save(site(), path_of(plate))
    (plate / STORE / "OME").mkdir()
    (plate / STORE / "OME" / "METADATA.ome.xml").write_text("<OME/>")
    backend.save(site(), path_of(plate, "B01"))
    backend.delete(path_of(plate))
    backend.delete(path_of(plate, "B01"))
    assert (plate / STORE / "OME" / "METADATA.ome.xml").exists()


def test_listing_from_above(backend, tmp_path):
    for name in ("one", "two"):
        backend.save(site((1, 1, 1, 3, 3)), path_of(tmp_path / name))
    backend.save("x", f"{tmp_path}/two/A01/notes.txt")
    expected = [path_of(tmp_path / name, plane="_z000_c000") for name in ("one", "two")]
    assert backend.list_files(tmp_path) == [*expected, f"{tmp_path}/two/A01/notes.txt"]


def test_a_save_that_fails_leaves_what_was_there(backend, plate, monkeypatch):
    before = site()
    backend.save(before, path_of(plate))

    def full(*args, **kw):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("openhcs_omero.io.zarr._write_planes", full)
    with pytest.raises(OpenHCSError, match="can't be written: No space left on device"):
        backend.save(site((1, 1, 1, 5, 5)), path_of(plate))
    monkeypatch.undo()
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, to: full() if self.suffix == ".part" else rename(self, to))
    with pytest.raises(OpenHCSError, match="No space left"):
        backend.save(site((1, 1, 1, 5, 5)), path_of(plate))
    monkeypatch.undo()
    np.testing.assert_array_equal(backend.load(path_of(plate)), before)
    assert sorted(path.name for path in plate.iterdir()) == [".plate.lock", "A01", STORE]
    assert sorted(path.name for path in (plate / STORE / "A/1").iterdir()) == ["0", "zarr.json"]


@pytest.mark.parametrize("broken", ["zarr.json", "0/zarr.json", "0/c/0/0/0/0/0"])
def test_damaged_stores(backend, plate, broken):
    backend.save(site(), path_of(plate))
    (plate / STORE / "A/1/0" / broken).write_bytes(b"{")
    with pytest.raises(BadData, match="can't be read as OME-Zarr") as error:
        backend.load(path_of(plate))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda scale: scale.update(datasets=[]), "multiscales.0.datasets: Tuple should have at least 1 item"),
        (lambda scale: scale["axes"].pop(), "multiscales.0: Value error, The length of axes does not match"),
        (lambda scale: scale["axes"].reverse(), "multiscales.0.axes: .*All space axes must be at the end"),
    ],
)
def test_metadata_that_break_the_specification(backend, plate, change, said):
    backend.save(site(), path_of(plate))
    document = plate / STORE / "A/1/0/zarr.json"
    metadata = json.loads(document.read_text())
    change(metadata["attributes"]["ome"]["multiscales"][0])
    document.write_text(json.dumps(metadata))
    with pytest.raises(BadData, match=f"zarr.json can't be read as OME-Zarr: {said}") as error:
        backend.load(path_of(plate))
    assert "\n" not in str(error.value)


def write_wells(plate, row):
    for column in range(1, 5):
        ZarrBackend().save(np.full((1, 1, 1, 8, 8), column, "uint16"), path_of(plate, f"{row}{column:02d}"))


def test_processes_that_write_to_the_same_plate(backend, plate):
    """In the end the metadata have all wells, whichever process wrote last."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_wells, args=(plate, row)) for row in "AB"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert fields(plate) == {f"{row}/{column}": ["0"] for row in "AB" for column in range(1, 5)}
    assert (backend.load(path_of(plate, "B03")) == 3).all()


def test_two_saves_at_the_same_time(backend, plate, monkeypatch):
    """One save has read the list of wells but not yet written it when the other adds its well."""
    looked, added = threading.Event(), threading.Event()
    stored = ngff.stored_wells

    def slowly(root):
        found = stored(root)
        if threading.current_thread() is slow and not looked.is_set():
            looked.set()
            added.wait(0.5)  # this never happens, because the other save has to wait
        return found

    def quickly():
        backend.save(site(), path_of(plate, "B01"))
        added.set()

    monkeypatch.setattr(ngff, "stored_wells", slowly)
    slow = threading.Thread(target=backend.save, args=(site(), path_of(plate, "A01")))
    quick = threading.Thread(target=quickly)
    slow.start()
    assert looked.wait(30)
    quick.start()
    slow.join(30)
    quick.join(30)
    assert fields(plate) == {"A/1": ["0"], "B/1": ["0"]}


def test_unchanged_metadata_are_not_rewritten(backend, plate):
    backend.save(site(), path_of(plate))
    documents = [plate / STORE / name for name in ("zarr.json", "A/zarr.json", "A/1/zarr.json")]
    stamps = [path.stat().st_mtime_ns for path in documents]
    backend.save(site(), path_of(plate))
    assert [path.stat().st_mtime_ns for path in documents] == stamps


def test_metadata_for_viewers(backend, plate):
    """NGFF metadata of channels and sizes: adding them keeps the pixels; saving the site again removes the metadata."""
    image = site((1, 2, 3, 300, 20), "float32")
    image[0, 1, 0, 0, 0] = np.nan
    path = path_of(plate)
    for names, colors, size in ((("DAPI", None), ((0, 0, 255), None), (2.0, 0.5, 0.25)), ((), (), (None,) * 3)):
        backend.save(image, path)
        backend.describe(path, names, colors, size)
        np.testing.assert_array_equal(backend.load(path), image)
        (place,) = (plate / STORE).glob("*/*/0")
        [scale] = Image.from_zarr(zarr.open_group(place, mode="r")).attributes.ome.multiscales
        units = ["micrometer" if length else None for length in size]
        assert [axis.unit for axis in scale.axes] == [None, None, *units]
        known = [length or 1 for length in size]
        assert [level.coordinateTransformations[0].scale for level in scale.datasets] == [
            [1, 1, known[0], known[1] * 2**level, known[2] * 2**level] for level in (0, 1)
        ]
        told = zarr.open_group(place, mode="r").attrs["ome"]["omero"]["channels"]
        assert [channel["label"] for channel in told] == ["DAPI" if names else "channel 0", "channel 1"]
        assert [channel["color"] for channel in told] == ["0000FF" if colors else "FFFFFF", "FFFFFF"]
        assert all(channel["window"]["start"] < channel["window"]["end"] for channel in told)
