"""Backends in pools of worker processes: one connection per process, and no session left open."""

import multiprocessing
import os
import pickle

import numpy as np
import pytest
from wire import block, count, images_in_no_well, make_plate

from openhcs_omero.io.omero_local import OMEROLocalBackend
from openhcs_omero.omero.connection import disconnect
from openhcs_omero.omero.derived import find_derived
from openhcs_omero.omero.pixels import read_site
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.server import NoSession, Server

TASKS = 240


def read(task):
    """What a worker reads: the plane's sum, its process, its session and its connection."""
    backend, path = task
    plane = backend.load(path)
    return int(plane.sum()), os.getpid(), backend.conn.c.getSessionId(), id(backend.conn)


def open_sessions(root):
    """Sessions open on the server, except the administrator's."""
    rows = root.c.sf.getQueryService().projection(
        "select s.uuid from Session s where s.closed is null", None, {"omero.group": "-1"}
    )
    return {row[0].val for row in rows} - {root.c.getSessionId()}


@pytest.mark.parametrize(("start", "terminated"), [("spawn", True), ("fork", False)])
def test_hundreds_of_tasks_leave_no_session(start, terminated, root, omero_server, conn, tmp_path, monkeypatch):
    monkeypatch.setenv("OMERO_SESSIONDIR", str(tmp_path / "sessions"))
    plate = make_plate(conn, {"A01": 2})
    before = open_sessions(root)
    monkeypatch.setenv("OMERO_PASSWORD", "pw")
    backend = OMEROLocalBackend(server=Server(omero_server.host, omero_server.port, conn.getUser().getName()))
    own = backend.conn
    during = open_sessions(root)
    assert len(during) == len(before) + 1  # the session is counted
    paths = backend.list_files(f"/omero/plate_{plate}/A01")
    sums = {path: int(backend.load(path).sum()) for path in paths}
    tasks = [(backend, paths[n % len(paths)]) for n in range(TASKS)]
    with multiprocessing.get_context(start).Pool(2, maxtasksperchild=2) as pool:
        done = pool.map(read, tasks, chunksize=40)
        assert open_sessions(root) == during, "a worker opened a session of its own"
        if not terminated:  # otherwise `with` ends it by SIGTERM
            pool.close()
            pool.join()
    assert [total for total, *_ in done] == [sums[path] for _, path in tasks]
    assert {session for _, _, session, _ in done} == {own.c.getSessionId()}
    by_process = {}
    for _, process, _, connection in done:
        by_process.setdefault(process, set()).add(connection)
    assert len(by_process) >= 3 and all(len(connections) == 1 for connections in by_process.values())
    assert np.array_equal(backend.load(paths[0]), block(1)[0, 0, 0])  # the parent's connection still works
    disconnect(backend.server)
    assert open_sessions(root) == before
    (session,) = during - before
    assert not list((tmp_path / "sessions").rglob(session))


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_workers_close_the_sessions_that_they_open(start, root, omero_server, conn, tmp_path, monkeypatch):
    """If no earlier process logged in, the workers do; after the pool shuts down, no session and no file is left."""
    monkeypatch.setenv("OMERO_SESSIONDIR", str(tmp_path / "sessions"))
    plate = make_plate(conn, {"A01": 1})
    before = open_sessions(root)
    monkeypatch.setenv("OMERO_PASSWORD", "pw")
    backend = OMEROLocalBackend(server=Server(omero_server.host, omero_server.port, conn.getUser().getName()))
    path = f"/omero/plate_{plate}/A01/A01_s001_z000_c000.tif"
    with multiprocessing.get_context(start).Pool(2) as pool:
        done = pool.map(read, [(backend, path)] * 40, chunksize=1)
        sessions = {session for _, _, session, _ in done}
        assert sessions and open_sessions(root) == before | sessions
        assert {found.name for found in (tmp_path / "sessions").rglob("*-*-*")} == sessions
        pool.close()
        pool.join()
    assert {total for total, *_ in done} == {int(block(1)[0, 0, 0].sum())}
    assert open_sessions(root) == before
    assert not list((tmp_path / "sessions").rglob("*-*-*"))


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_a_worker_joins_the_session_of_its_backend(start, root, omero_server, conn, tmp_path, monkeypatch):
    """Whatever password is in its environment, and even if the same user has a newer session."""
    monkeypatch.setenv("OMERO_SESSIONDIR", str(tmp_path / "sessions"))
    plate = make_plate(conn, {"A01": 1})
    path = f"/omero/plate_{plate}/A01/A01_s001_z000_c000.tif"
    own, newer = (omero_server.login(conn.getUser().getName(), "pw") for _ in range(2))
    backend = OMEROLocalBackend(omero_conn=own)
    OMEROLocalBackend(omero_conn=newer)
    monkeypatch.setenv("OMERO_PASSWORD", "somebody else's")
    before = open_sessions(root)
    with multiprocessing.get_context(start).Pool(2) as pool:
        done = pool.map(read, [(backend, path)] * 4, chunksize=1)
        pool.close()
        pool.join()
    assert {session for _, _, session, _ in done} == {own.c.getSessionId()}
    assert open_sessions(root) == before
    pickled = pickle.dumps(backend)
    newer.close()
    own.close()
    with multiprocessing.get_context("spawn").Pool(1) as pool, pytest.raises(NoSession, match="has ended"):
        pool.apply(load, [pickled, path])


def load(pickled, path):
    return pickle.loads(pickled).load(path)


barrier = None


def begin(shared):
    """Keep the barrier at which all workers of a pool wait before their first task."""
    global barrier
    barrier = shared


def write(task):
    """Write the planes of a well, one channel after the other; all workers start at the same time."""
    global barrier
    backend, plate, well, image = task
    if barrier is not None:
        barrier.wait(timeout=120)
        barrier = None
    for c, plane in enumerate(image):
        backend.save_batch([plane, plane + 1], [f"{plate}/{well}/{well}_s{s:03d}_z000_c{c:03d}.tif" for s in (1, 2)])
    return os.getpid()


def test_several_processes_write_wells_of_the_same_derived_plate(omero_server, conn, tmp_path, monkeypatch):
    """The plate doesn't exist before; in the end there is one plate with one image per site, and no well is black."""
    monkeypatch.setenv("OMERO_SESSIONDIR", str(tmp_path / "sessions"))
    wells = ["A01", "A02", "B01", "B02", "C01", "C02"]
    plate_id = make_plate(conn, dict.fromkeys(wells, 1))
    backend = OMEROLocalBackend(omero_conn=conn)
    context, plate = multiprocessing.get_context("fork"), f"/omero/plate_{plate_id}_p"
    images = {
        well: np.full((2, 5, 7), 100 * n, "uint16") + np.arange(35, dtype="uint16").reshape(5, 7)
        for n, well in enumerate(wells, start=1)
    }
    with context.Pool(3, begin, [context.Barrier(3)]) as pool:
        workers = pool.map(write, [(backend, plate, well, images[well]) for well in wells], chunksize=2)
        pool.close()
        pool.join()
    assert len(set(workers)) == 3
    assert count(conn, "Plate", "Image") == {"Plate": 2, "Image": 6 + 12} and images_in_no_well(conn) == []
    derived = load_plate(conn, find_derived(conn, plate_id, "p"))
    assert all(sorted(derived.wells[well].images) == [1, 2] for well in wells)
    for well in wells:
        for site in (1, 2):
            shown = read_site(conn, derived.image(well, site))[0, :, 0]
            assert shown.min() > 0 and np.array_equal(shown, images[well] + site - 1)
