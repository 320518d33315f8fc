"""The head process's session while it runs."""

import errno
import os
import signal
import threading
import time

import pytest
from omero.clients import Glacier2
from omero_embedded import process
from wire import wire

from openhcs_omero.omero import connection, login

__all__ = ["wire"]


def test_the_session_is_kept_alive_while_the_head_runs(omero_server, conn, wire, monkeypatch, tmp_path):
    """A thread sends keep-alives, because a server closes an idle session."""
    monkeypatch.setenv("OMERO_SESSIONDIR", str(tmp_path))
    monkeypatch.setenv("OMERO_PASSWORD", "pw")
    monkeypatch.setattr(connection, "LOOK_AFTER", 0.05)
    server = connection.Server(omero_server.host, omero_server.port, conn.getUser().getName())
    session = connection.connect(server).c.getSessionId()
    wire.start()
    connection.look_after(server, end=False)
    try:
        wait_until(lambda: wire.calls.count("keepAlive") >= 3)
        wire.stop()
        assert connection.connect(server).c.getSessionId() == session
    finally:
        connection.close_all()


def test_the_watch_continues_after_an_error_on_its_own_machine(omero_server, conn, monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("OMERO_SESSIONDIR", str(tmp_path))
    monkeypatch.setenv("OMERO_PASSWORD", "pw")
    monkeypatch.setattr(connection, "LOOK_AFTER", 0.05)
    server = connection.Server(omero_server.host, omero_server.port, conn.getUser().getName())
    first = connection.connect(server)
    save, full = connection.session_store.save, [True] * 3

    def save_where_there_is_room(*arguments):
        if full:
            full.pop()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return save(*arguments)

    monkeypatch.setattr(connection.session_store, "save", save_where_there_is_room)
    connection.look_after(server, end=False)
    try:
        first.c.closeSession()
        wait_until(lambda: connection.POOL._open[server, ""].conn is not first)
        session = connection.connect(server).c.getSessionId()
        assert not full and session in {path.name for path in tmp_path.rglob("*")}
    finally:
        connection.close_all()
    said = capfd.readouterr().err
    assert said.count(os.strerror(errno.ENOSPC)) == 1 and server.address in said


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A separate server, and a function that suspends its process; the process resumes at the end."""
    monkeypatch.setenv("OMERO_SESSIONDIR", str(tmp_path / "sessions"))
    monkeypatch.setattr(login, "ANSWER", 1)
    monkeypatch.setattr(connection, "LOOK_AFTER", 0.05)
    monkeypatch.setattr(connection, "DOWN_PATIENCE", 2)
    with process.start(tmp_path / "data") as server:
        monkeypatch.setenv("OMERO_PASSWORD", server.password)
        try:
            yield (
                connection.Server(server.host, server.port, "root"),
                lambda: os.kill(server.process.pid, signal.SIGSTOP),
            )
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
            connection.close_all()


def in_time(ask):
    """Run `ask` in a thread, as it may hang; return whether it ends in time."""
    ended = threading.Event()
    threading.Thread(target=lambda: (ask(), ended.set()), daemon=True).start()
    return ended.wait(30)


def test_a_hanging_server_ends_the_head_in_bounded_time(stopped, monkeypatch, capfd):
    server, stop = stopped
    connection.connect(server)
    stop()
    told = []
    before = signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    try:
        connection.look_after(server)
        wait_until(lambda: told)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert in_time(connection.close_all)
    said = capfd.readouterr().err
    assert (
        f"error: {server.address} does not answer" in said and "did not answer for" in said and "Traceback" not in said
    )


@pytest.mark.parametrize("stored", [False, True])
def test_logging_in_to_a_hanging_server_ends_in_bounded_time(stopped, monkeypatch, stored):
    """The server hangs after answering that it is there."""
    server, stop = stopped
    if stored:
        connection.connect(server)
        monkeypatch.setattr(connection.POOL, "_open", {})
    create = Glacier2.RouterPrx.createSession

    def stopping(router, *arguments):
        router.ice_ping()
        stop()
        return create(router, *arguments)

    monkeypatch.setattr(Glacier2.RouterPrx, "createSession", stopping)
    errors = []

    def log_in():
        with pytest.raises(connection.ServerDown) as caught:
            connection.connect(server)
        errors.append(str(caught.value))

    assert in_time(log_in)
    assert errors == [f"{server.address} does not answer: it hangs, or is still starting"]


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
