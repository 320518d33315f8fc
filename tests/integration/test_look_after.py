"""The head process's session while it runs."""

import time

from wire import wire

from openhcs_omero.omero import connection

__all__ = ["wire"]


def test_the_session_is_kept_alive_while_the_head_runs(omero_server, conn, wire, monkeypatch, tmp_path):
    """By signs of life from a thread of its own: a server ends a session that is idle."""
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


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
