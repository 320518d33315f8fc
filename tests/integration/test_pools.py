"""Backends in pools of worker processes: a connection a process, and no session left behind."""

import multiprocessing
import os

import numpy as np
import pytest
from wire import block, make_plate

from openhcs_omero.io.omero_local import OMEROLocalBackend
from openhcs_omero.omero.connection import Server, disconnect

TASKS = 240


def read(task):
    """What a worker does: the plane's sum, who it is, the session that it is in, and its connection."""
    backend, path = task
    plane = backend.load(path)
    return int(plane.sum()), os.getpid(), backend.conn.c.getSessionId(), id(backend.conn)


def open_sessions(root):
    """Sessions that the server has open, but the administrator's own."""
    rows = root.c.sf.getQueryService().projection(
        "select s.uuid from Session s where s.closed is null", None, {"omero.group": "-1"})
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
    assert len(during) == len(before) + 1  # they are seen
    paths = backend.list_files(f"/omero/plate_{plate}/A01")
    sums = {path: int(backend.load(path).sum()) for path in paths}
    tasks = [(backend, paths[n % len(paths)]) for n in range(TASKS)]
    with multiprocessing.get_context(start).Pool(2, maxtasksperchild=2) as pool:
        done = pool.map(read, tasks, chunksize=40)
        assert open_sessions(root) == during, "a worker opened a session of its own"
        if not terminated:  # else by SIGTERM, as `with` does it
            pool.close()
            pool.join()
    assert [total for total, *_ in done] == [sums[path] for _, path in tasks]
    assert {session for _, _, session, _ in done} == {own.c.getSessionId()}
    by_process = {}
    for _, process, _, connection in done:
        by_process.setdefault(process, set()).add(connection)
    assert len(by_process) >= 3 and all(len(connections) == 1 for connections in by_process.values())
    assert np.array_equal(backend.load(paths[0]), block(1)[0, 0, 0])  # the parent's connection is as it was
    disconnect(backend.server)
    assert open_sessions(root) == before
    (session,) = during - before
    assert not list((tmp_path / "sessions").rglob(session))


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_workers_close_the_sessions_that_they_open(start, root, omero_server, conn, tmp_path, monkeypatch):
    """Where no process before them has logged in, workers do; when the pool is shut down no session stays, no file."""
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
