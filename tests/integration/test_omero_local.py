"""The backend for plates in OMERO, over the wire: what it does beyond the contract of all backends."""

import multiprocessing
import pickle

import numpy as np
import pandas
import pytest
from omero.gateway import FileAnnotationWrapper
from wire import Killed, count, images_in_no_well, wire

from openhcs_omero.errors import ConnectError, OpenHCSError
from openhcs_omero.io.base import BadData, MissingFile, storage_registry
from openhcs_omero.io.disk import DiskBackend
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.io.omero_local import OMEROLocalBackend
from openhcs_omero.microscopes.importing import import_folder
from openhcs_omero.omero import queries
from openhcs_omero.omero.annotations import NAMESPACE, save_text
from openhcs_omero.omero.derived import find_derived
from openhcs_omero.omero.omero_tables import list_tables
from openhcs_omero.omero.pixels import read_metadata
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.plates.paths import make_path

__all__ = ["wire"]

rng = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def sessions(tmp_path, monkeypatch):
    """A session store for one test, as `omero login` keeps it."""
    monkeypatch.setenv("OMERO_SESSIONDIR", str(tmp_path / "sessions"))
    return tmp_path / "sessions"


@pytest.fixture
def make_plate(conn, tmp_path):
    """`make_plate(["A01"], sites=1)` creates a plate of 2 channels in OMERO; returns its id and its planes by path."""

    def make(wells, sites=1, timepoints=1, conn=conn):
        folder = tmp_path / f"plate_{'_'.join(wells)}"
        planes = {}
        for well in wells:
            for site in range(1, sites + 1):
                for c in range(2):
                    for t in range(timepoints):
                        path = make_path(1, None, well, site, 0, c, t if timepoints > 1 else None)
                        planes[path] = rng.integers(0, 60000, (9, 7)).astype("uint16")
                        DiskBackend().save(planes[path], folder / str(path).rsplit("/", 1)[-1])
        plate_id = import_folder(conn, folder)
        renamed = {f"/omero/plate_{plate_id}/{str(path).split('/', 3)[3]}": plane for path, plane in planes.items()}
        return plate_id, renamed

    return make


@pytest.fixture
def backend(conn):
    return OMEROLocalBackend(omero_conn=conn)


def count_calls(monkeypatch):
    """A list that grows by one with each query."""
    calls = []
    rows = queries.rows
    monkeypatch.setattr(queries, "rows", lambda *args, **kwargs: calls.append(args) or rows(*args, **kwargs))
    return calls


# ---- reading


def test_a_source_plate_is_listed_and_read(backend, make_plate):
    plate_id, planes = make_plate(["A01", "B02", "AA03"], sites=2)
    assert backend.list_files(f"/omero/plate_{plate_id}") == sorted(planes)
    assert backend.list_files(f"/omero/plate_{plate_id}/B02/") == sorted(path for path in planes if "/B02/" in path)
    for path, plane in zip(planes, backend.load_batch(list(planes))):
        assert backend.exists(path)
        np.testing.assert_array_equal(plane, planes[path])
    site = backend.load(f"/omero/plate_{plate_id}/B02/B02_s002.tif")
    assert site.shape == (1, 2, 1, 9, 7)
    np.testing.assert_array_equal(site[0, 1, 0], planes[f"/omero/plate_{plate_id}/B02/B02_s002_z000_c001.tif"])


def test_names_have_timepoints_only_if_there_are_several(backend, make_plate):
    plate_id, planes = make_plate(["A01"], timepoints=3)
    start = f"/omero/plate_{plate_id}/A01/A01_s001_z000_c000"
    assert backend.list_files(f"/omero/plate_{plate_id}") == sorted(planes)
    np.testing.assert_array_equal(backend.load(f"{start}_t002.tif"), planes[f"{start}_t002.tif"])
    for missing in (f"{start}.tif", f"{start}_t003.tif"):
        assert not backend.exists(missing)
        with pytest.raises(MissingFile, match="no plane"):
            backend.load(missing)


def test_missing_planes_wells_and_plates(backend, make_plate):
    plate_id, _ = make_plate(["A01"])
    plate = f"/omero/plate_{plate_id}"
    for path, what in {
        f"{plate}/A01/A01_s001_z000_c002.tif": "no plane .* 2 channels",
        f"{plate}/A01/A01_s001_z001_c000.tif": "no plane",
        f"{plate}/A01/A01_s001_z000_c000_t000.tif": "names have _t only if",
        f"{plate}/A01/A01_s002.tif": "no site 2",
        f"{plate}/A02/A02_s001.tif": "no well 'A02'",
        f"{plate}/A01/x.csv": "no file",
        f"{plate}_processed/A01/A01_s001.tif": "no derived plate 'processed'",
        "/omero/plate_999999999/A01/A01_s001.tif": "no plate 999999999",
    }.items():
        assert not backend.exists(path)
        with pytest.raises(MissingFile, match=what):
            backend.load(path)
    for path in (f"{plate}/A1", f"{plate}/A01/A01_s001_z00.tif", "/data/x.tif", "x"):
        assert not backend.exists(path)
        for what in (backend.load, backend.delete, backend.list_files, backend.ensure_directory):
            with pytest.raises(BadData, match="expected /omero/plate_"):
                what(path)
    with pytest.raises(MissingFile):
        backend.ensure_directory("/omero/plate_999999999_x")


def test_a_plate_of_a_user_in_another_group_is_not_found(backend, make_plate, make_user):
    plate_id, planes = make_plate(["A01"])
    stranger = OMEROLocalBackend(omero_conn=make_user())
    path = next(iter(planes))
    assert backend.exists(path)
    assert not stranger.exists(path)
    for what in (stranger.load, stranger.delete, lambda path: stranger.save("x", f"/omero/plate_{plate_id}/x.txt")):
        with pytest.raises(MissingFile, match=f"no plate {plate_id}, or this user may not see it"):
            what(path)


def test_the_number_of_calls_to_read_a_plate(conn, make_plate, monkeypatch):
    """Listing a plate of six wells takes as many calls as one well, and the structure is queried once."""
    costs = []
    for wells in (["A01"], ["A01", "A02", "A03", "B01", "B02", "B03"]):
        plate_id, planes = make_plate(wells, sites=2)
        with monkeypatch.context() as patch:
            calls, backend = count_calls(patch), OMEROLocalBackend(omero_conn=conn)
            assert len(backend.list_files(f"/omero/plate_{plate_id}")) == len(planes)
            costs.append(len(calls))
            before = len(calls)
            for path in planes:
                backend.load(path)
            assert backend.plate_structure(plate_id).max_sites == 2
            assert len(calls) == before
    assert costs[0] == costs[1] <= 7


def test_files_attached_to_a_plate(conn, backend, make_plate, monkeypatch):
    plate_id, _ = make_plate(["A01", "B02"])
    plate = f"/omero/plate_{plate_id}"
    for path in ("x.txt", "a.csv", "A01/y.txt", "A01/A01_s001_z.txt"):
        backend.save(b"1", f"{plate}/{path}")
    backend.plate_structure(plate_id)
    calls = count_calls(monkeypatch)
    assert backend.list_attached(plate) == [f"{plate}/a.csv", f"{plate}/x.txt"] and len(calls) == 1
    assert backend.list_attached(f"{plate}/A01") == [f"{plate}/A01/y.txt"] and len(calls) == 2
    with pytest.raises(MissingFile, match="no directory"):
        backend.list_attached(f"{plate}/x.txt")


def test_feature_files_of_a_plate_are_also_tables(conn, backend, make_plate):
    """They are OMERO.tables too, as long as the file exists; `list_files` lists the file."""
    plate_id, planes = make_plate(["A01", "B02"])
    plate, frame = f"/omero/plate_{plate_id}", pandas.DataFrame({"well": ["A01", "B02"], "site": 1, "cells": [3, 4]})
    for path in (f"{plate}/x.csv", f"{plate}/A01/x.csv", f"{plate}_p/x.tsv"):
        backend.save(frame, path)
        pandas.testing.assert_frame_equal(backend.load(path), frame)
    backend.save("x", f"{plate}/x.txt")
    assert list(list_tables(conn, plate_id)) == ["x.csv"]
    assert list_tables(conn, find_derived(conn, plate_id, "p")) == {}  # it has no images yet
    assert backend.list_files(plate) == sorted([*planes, f"{plate}/x.csv", f"{plate}/x.txt", f"{plate}/A01/x.csv"])
    for well in ("A01", "B02"):
        backend.save(np.ones((1, 1, 1, 4, 5), "uint8"), f"{plate}_p/{well}/{well}_s001.tif")
    backend.save(frame, f"{plate}_p/x.tsv")
    assert list(list_tables(conn, find_derived(conn, plate_id, "p"))) == ["x.tsv"]
    backend.delete(f"{plate}/x.csv")
    assert list_tables(conn, plate_id) == {}


def test_file_names_from_other_programs_are_skipped(conn, backend, make_plate):
    plate_id, planes = make_plate(["A01"])
    for name in ("no ending", "../x.csv", ".hidden.csv", "A01_s001_z000_c000.tif", "fine µ.csv"):
        save_text(conn, "Plate", plate_id, name, b"x", "somebody else's")
    assert backend.list_files(f"/omero/plate_{plate_id}") == sorted([*planes, f"/omero/plate_{plate_id}/fine µ.csv"])
    assert backend.load_bytes(f"/omero/plate_{plate_id}/fine µ.csv") == b"x"


# ---- writing


def test_a_source_plate_takes_files_but_no_images(conn, backend, make_plate):
    plate_id, planes = make_plate(["A01"])
    plate, before = f"/omero/plate_{plate_id}", load_plate(conn, plate_id).fingerprint()
    for path in (f"{plate}/x.json", f"{plate}/A01/x.json", f"{plate}/A01/A01_s001_x.json"):
        backend.save({"path": path}, path)
        assert backend.load(path) == {"path": path}
    assert len(backend.list_files(plate)) == len(planes) + 3
    path = next(iter(planes))
    with pytest.raises(BadData, match=f"as {plate}_processed/A01/A01_s001_z000_c000.tif"):
        backend.save(planes[path], path)
    with pytest.raises(BadData, match="source plate"):
        backend.delete(f"{plate}/A01/A01_s001.tif")
    assert load_plate(conn, plate_id).fingerprint() == before


def test_a_derived_plate_has_all_wells_and_no_placeholders(conn, backend, make_plate):
    plate_id, _ = make_plate(["A01", "A02"], sites=2)
    image = rng.random((1, 2, 1, 9, 7)).astype("float32")
    backend.save(image, f"/omero/plate_{plate_id}_p/A02/A02_s001.tif")
    derived = load_plate(conn, find_derived(conn, plate_id, "p"))
    assert {name: len(well.images) for name, well in derived.wells.items()} == {"A01": 0, "A02": 1}
    assert derived.wells["A02"].images[1].pixel_type == "float32"
    # a second backend finds the same plate, and a save by a third one keeps what is there
    OMEROLocalBackend(omero_conn=conn).save(image, f"/omero/plate_{plate_id}_p/A01/A01_s001.tif")
    after = load_plate(conn, find_derived(conn, plate_id, "p"))
    assert after.plate_id == derived.plate_id
    assert after.wells["A02"].fingerprint() == derived.wells["A02"].fingerprint()


def test_no_well_is_black(conn, backend, make_plate):
    """In every well, each channel is what was saved, and no image exists before it is saved."""
    wells = ["A01", "A02", "B01"]
    plate_id, planes = make_plate(wells, sites=2)
    derived = f"/omero/plate_{plate_id}_processed"
    results = {
        path.replace(f"plate_{plate_id}", f"plate_{plate_id}_processed"): plane // 2 + 1
        for path, plane in planes.items()
    }
    for done, well in enumerate(wells, start=1):
        of_well = {path: plane for path, plane in results.items() if f"/{well}/" in path}
        backend.save_batch(list(of_well.values()), list(of_well))
        shown = load_plate(conn, find_derived(conn, plate_id, "processed"))
        assert shown.wells_with_images() == wells[:done] and set(shown.wells) == set(wells)
    fresh = OMEROLocalBackend(omero_conn=conn)
    assert fresh.list_files(derived) == sorted(results)
    for path, plane in results.items():
        read = fresh.load(path)
        assert read.min() > 0
        np.testing.assert_array_equal(read, plane)
    # under its own id it is a plate like any other, from which another plate can be derived
    again = find_derived(conn, plate_id, "processed")
    site = fresh.load(f"/omero/plate_{again}/B01/B01_s002.tif")
    fresh.save(site, f"/omero/plate_{again}_next/B01/B01_s001.tif")
    np.testing.assert_array_equal(fresh.load(f"/omero/plate_{again}_next/B01/B01_s001.tif"), site)


def test_a_derived_plate_of_another_user_is_read_but_not_written(make_plate, make_user):
    """In a group where others can read, each writer gets their own derived plate, without the other's planes."""
    owner = make_user("rwr---")
    member = make_user(group=owner.getEventContext().groupId)
    plate_id, _ = make_plate(["A01"], conn=owner)
    derived, plane = f"/omero/plate_{plate_id}_p", np.ones((4, 5), "uint8")
    start = f"{derived}/A01/A01_s001_z000"
    theirs, mine = OMEROLocalBackend(omero_conn=owner), OMEROLocalBackend(omero_conn=member)
    theirs.save_batch([plane, 2 * plane], [f"{start}_c000.tif", f"{start}_c001.tif"])
    np.testing.assert_array_equal(mine.load(f"{start}_c001.tif"), 2 * plane)
    mine.save(3 * plane, f"{start}_c000.tif")
    mine.save("mine", f"{derived}/x.txt")
    assert mine.list_files(derived) == [f"{start}_c000.tif", f"{derived}/x.txt"]
    np.testing.assert_array_equal(mine.load(f"{start}_c000.tif"), 3 * plane)
    np.testing.assert_array_equal(OMEROLocalBackend(omero_conn=owner).load(f"{start}_c000.tif"), plane)
    for output, write in (("q", lambda path: mine.ensure_directory(path)), ("r", lambda path: mine.save("x", path))):
        theirs.ensure_directory(f"/omero/plate_{plate_id}_{output}")
        write(f"/omero/plate_{plate_id}_{output}" + ("" if output == "q" else "/x.txt"))
        assert find_derived(owner, plate_id, output) != find_derived(member, plate_id, output)


def test_derived_images_name_their_source(conn, backend, make_plate):
    plate_id, _planes = make_plate(["A01"])
    source = load_plate(conn, plate_id).image("A01", 1)
    backend.save(
        backend.load(f"/omero/plate_{plate_id}/A01/A01_s001.tif"), f"/omero/plate_{plate_id}_p/A01/A01_s001.tif"
    )
    derived = load_plate(conn, find_derived(conn, plate_id, "p")).image("A01", 1)
    assert (derived.name, derived.sha1, derived.shape) == (source.name, source.sha1, source.shape)
    metadata = read_metadata(conn, [source, derived])
    assert metadata[source.image_id] == metadata[derived.image_id]
    pairs = queries.rows(
        conn,
        "select mv.name, mv.value from MapAnnotation a join a.mapValue mv where a.ns = :ns and mv.value = :id",
        ns="openhcs_omero/derived",
        id=str(source.image_id),
    )
    assert ["source_image", str(source.image_id)] in pairs


def test_sites_cannot_have_gaps(conn, backend, make_plate):
    plate_id, _ = make_plate(["A01"])
    well = f"/omero/plate_{plate_id}_p/A01"
    image = np.ones((1, 1, 1, 4, 5), "uint8")
    with pytest.raises(OpenHCSError, match="site 2 can't be written before site 1"):
        backend.save(image, f"{well}/A01_s002.tif")
    backend.save_batch([image, 2 * image], [f"{well}/A01_s002.tif", f"{well}/A01_s001.tif"])
    assert backend.load(f"{well}/A01_s001.tif").max() == 2
    with pytest.raises(BadData, match="not the last site"):
        backend.delete(f"{well}/A01_s001.tif")
    images = queries.rows(conn, "select i.id from Image i")
    backend.delete(f"{well}/A01_s002.tif")
    assert backend.exists(f"{well}/A01_s001.tif")
    assert len(queries.rows(conn, "select i.id from Image i")) == len(images) - 1
    backend.delete(f"{well}/A01_s001.tif")
    assert backend.list_files(f"/omero/plate_{plate_id}_p") == []


def test_images_have_no_holes(backend, make_plate):
    plate_id, _ = make_plate(["A01"])
    start = f"/omero/plate_{plate_id}_p/A01/A01_s001"
    plane = np.ones((4, 5), "uint8")
    for paths, what in (
        (["z001_c000"], "A01_s001_z000_c000.tif is missing"),
        (["z000_c000", "z001_c000", "z000_c001"], "A01_s001_z001_c001.tif is missing"),
        (["z000_c000_t000"], "names of planes have _t if"),
        (["z000_c000_t000", "z000_c000"], "names of planes have _t if"),
        (["z000_c000", "z000_c000"], "given twice"),
    ):
        with pytest.raises(BadData, match=what):
            backend.save_batch([plane] * len(paths), [f"{start}_{path}.tif" for path in paths])
    assert not backend.exists(f"/omero/plate_{plate_id}_p")
    with pytest.raises(BadData, match="one size and type"):
        backend.save_batch([plane, plane[:2]], [f"{start}_z000_c000.tif", f"{start}_z000_c001.tif"])
    with pytest.raises(BadData, match=r"is a site with the axes \(T, C, Z, Y, X\)"):
        backend.save(plane, f"{start}.tif")
    with pytest.raises(BadData, match=r"is a plane with the axes \(Y, X\)"):
        backend.save(plane[None, None, None], f"{start}_z000_c000.tif")
    backend.save_batch([plane, plane], [f"{start}_z000_c000.tif", f"{start}_z000_c001.tif"])
    with pytest.raises(BadData, match="delete the site"):
        backend.delete(f"{start}_z000_c000.tif")
    with pytest.raises(BadData, match="one size and type"):
        backend.save(plane.astype("uint16"), f"{start}_z000_c000.tif")


def test_wells_that_are_not_on_the_plate(backend, make_plate):
    plate_id, _ = make_plate(["A01"])
    with pytest.raises(BadData, match="no such well"):
        backend.save(np.ones((1, 1, 1, 4, 5), "uint8"), f"/omero/plate_{plate_id}_p/H12/H12_s001.tif")
    with pytest.raises(MissingFile, match="no well 'H12'"):
        backend.save("x", f"/omero/plate_{plate_id}/H12/x.txt")
    with pytest.raises(MissingFile, match="no site 1"):
        backend.save("x", f"/omero/plate_{plate_id}_p/A01/A01_s001_x.txt")


def test_a_refused_save_creates_no_plate(conn, backend, make_plate):
    plate_id, _ = make_plate(["A01"])
    derived, image = f"/omero/plate_{plate_id}_p", np.ones((1, 1, 1, 4, 5), "uint8")
    for items in (
        {"A01/A01_s001_x.txt": "x"},
        {"H12/x.txt": "x"},
        {"H12/H12_s001.tif": image},
        {"A01/A01_s002.tif": image},
        {"A01/A01_s001.tif": image, "A01/A01_s002_x.txt": "x"},
    ):
        with pytest.raises(OpenHCSError):
            backend.save_batch(list(items.values()), [f"{derived}/{name}" for name in items])
        assert find_derived(conn, plate_id, "p") is None
    items = {"A01/A01_s001_x.txt": "1", "A01/x.txt": "2", "A01/A01_s001.tif": image, "x.txt": "3"}
    backend.save_batch(list(items.values()), [f"{derived}/{name}" for name in items])
    assert [backend.load(f"{derived}/{name}") for name in items if name.endswith(".txt")] == ["1", "2", "3"]


def test_files_attached_to_a_replaced_image_stay(conn, backend, make_plate):
    plate_id, _ = make_plate(["A01"])
    start = f"/omero/plate_{plate_id}_p/A01/A01_s001"
    image = np.ones((1, 1, 1, 4, 5), "uint8")
    backend.save_batch(["note", image], [f"{start}_x.txt", f"{start}.tif"])
    files = queries.rows(conn, "select f.id from OriginalFile f")
    backend.save(3 * image, f"{start}.tif")
    assert backend.load(f"{start}_x.txt") == "note"
    assert backend.load(f"{start}.tif").max() == 3
    assert len(queries.rows(conn, "select f.id from OriginalFile f")) == len(files)


def test_killed_while_replacing_an_image_with_attached_files(conn, backend, make_plate, wire):
    """Whenever the process dies, the shown image has the files attached, unchanged."""
    plate_id, _ = make_plate(["A01"])
    start = f"/omero/plate_{plate_id}_p/A01/A01_s001"
    image = np.zeros((1, 1, 1, 4, 5), "uint8")
    backend.save_batch(["note", image], [f"{start}_x.txt", f"{start}.tif"])

    def shown():
        return load_plate(conn, find_derived(conn, plate_id, "p")).image("A01", 1).image_id

    def beside():
        return sorted(
            (ann.getFileName(), ann.getNs(), ann.getDescription(), b"".join(ann.getFileInChunks()))
            for ann in conn.getObject("Image", shown()).listAnnotations()
            if isinstance(ann, FileAnnotationWrapper)
        )

    save_text(conn, "Image", shown(), "y.csv", b"1,2", "other", "by hand")
    files = [("x.txt", NAMESPACE, "", b"note"), ("y.csv", "other", "by hand", b"1,2")]
    outcomes = []
    for point in range(60):
        before = shown()
        wire.start(dies_at=point)
        try:
            backend.save(image + point, f"{start}.tif")
            break
        except Killed:
            wire.stop()
        backend = OMEROLocalBackend(omero_conn=conn)
        assert beside() == files
        outcomes.append(shown() != before)
    wire.stop()
    assert outcomes == sorted(outcomes) and set(outcomes) == {False, True}
    assert beside() == files and images_in_no_well(conn) == []
    backend.save("new", f"{start}_x.txt")
    assert beside() == [("x.txt", NAMESPACE, "", b"new"), files[1]]
    assert count(conn, "FileAnnotation", "OriginalFile") == {"FileAnnotation": 2, "OriginalFile": 2}


def test_nothing_is_left_over(conn, backend, make_plate):
    """However often a site is written, it has one image, and one file per name."""
    plate_id, _ = make_plate(["A01"])
    before = len(queries.rows(conn, "select i.id from Image i"))
    for value in range(4):
        backend.save(np.full((1, 1, 1, 4, 5), value, "uint8"), f"/omero/plate_{plate_id}_p/A01/A01_s001.tif")
        backend.save({"n": value}, f"/omero/plate_{plate_id}_p/A01/x.json")
    assert len(queries.rows(conn, "select i.id from Image i")) == before + 1
    assert len(queries.rows(conn, "select f.id from OriginalFile f where f.name = 'x.json'")) == 1
    assert len(queries.rows(conn, "select p.id from Plate p")) == 2


# ---- the backend as an object


def test_generate_filename(backend):
    name = backend.generate_filename({"plate_id": 7, "output": "p", "well": "A01", "site": 1, "z": 0, "channel": 2})
    assert name == "/omero/plate_7_p/A01/A01_s001_z000_c002.tif"
    for metadata in ({"plate_id": 7, "wall": "A01"}, {"well": "A01"}, {"plate_id": 7, "site": 1}, {"plate_id": "x"}):
        with pytest.raises(BadData, match="no path can be built from"):
            backend.generate_filename(metadata)


def test_registered_as_the_seed_says(backend, make_plate, monkeypatch):
    _plate_id, planes = make_plate(["A01"])
    monkeypatch.setitem(storage_registry, "omero_local", backend)
    np.testing.assert_array_equal(FileManager().load(next(iter(planes)), backend="omero"), next(iter(planes.values())))


def test_it_needs_a_connection(omero_server):
    with pytest.raises(TypeError, match="either omero_conn or server"):
        OMEROLocalBackend()
    closed = omero_server.login()
    closed.close()
    with pytest.raises(ConnectError, match="not connected"):
        OMEROLocalBackend(omero_conn=closed)


def read_elsewhere(backend, path, answers):
    """Load a path in a worker process, with the backend it was given."""
    try:
        answers.put(int(backend.load(path).astype(int).sum()))
    except Exception as error:
        answers.put(repr(error))


@pytest.mark.parametrize("start", ["spawn", "fork", "forkserver"])
def test_worker_processes(backend, make_plate, start):
    """In another process, a backend reads through a connection that this process opens."""
    _plate_id, planes = make_plate(["A01"])
    path, plane = next(iter(planes.items()))
    backend.load(path)
    context = multiprocessing.get_context(start)
    answers = context.Queue()
    worker = context.Process(target=read_elsewhere, args=(backend, path, answers))
    worker.start()
    try:
        assert answers.get(timeout=60) == int(plane.astype(int).sum())
    finally:
        worker.join(20)
        worker.kill()
    np.testing.assert_array_equal(backend.load(path), plane)


def test_a_pickle_contains_no_secret(conn, backend, sessions, make_plate):
    """It has neither password nor session; the session is in the store, in a file that only its owner can read."""
    plate_id, _ = make_plate(["A01"])
    structure = backend.plate_structure(plate_id)
    pickled = pickle.dumps(backend)
    assert conn.c.getSessionId().encode() not in pickled
    assert b"pw" not in pickled.replace(b"openhcs_omero", b"")
    back = pickle.loads(pickled)
    assert back.plate_structure(plate_id) == structure
    assert back._initial_conn is None
    (stored,) = sessions.rglob(conn.c.getSessionId())
    assert stored.stat().st_mode & 0o077 == 0
