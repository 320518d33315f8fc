"""An OMERO server for the tests: the embedded one, started for the run, or a real one that the command line names."""
from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


def pytest_addoption(parser):
    group = parser.getgroup("omero", "a real OMERO.server instead of the embedded one (password in OMERO_PASSWORD)")
    group.addoption("--omero-host", help="its host")
    group.addoption("--omero-port", type=int, default=4064, help="its port")
    group.addoption("--omero-user", default="root", help="an administrator")


def pytest_configure(config):
    """Have Ctrl-C mean what it says to what the tests start; a shell's background processes ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class OmeroServer:
    """A running server. `data` is its data folder, None where it is a real one; the user is an administrator."""

    host: str
    port: int
    user: str
    password: str
    data: Path | None

    def login(self, user: str | None = None, password: str | None = None, **options):
        """A connected BlitzGateway, of the administrator unless a user is named."""
        from omero.gateway import BlitzGateway

        conn = BlitzGateway(user or self.user, password if user else self.password, host=self.host, port=self.port,
                            **{"secure": True, **options})
        if not conn.connect():
            raise ConnectionError(f"{user or self.user} could not log in: {conn.getLastError()}")
        return conn


def start_server(data: Path, *options: str, port: int = 0) -> tuple[subprocess.Popen, int]:
    """Start an embedded server; returns when it is ready, with its port. Raises AssertionError with what it said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "openhcs_omero.embedded", "--data", str(data), "--port", str(port), *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    ready = re.search(r"ready on \S+ port (\d+)", line)
    if not ready:
        process.kill()
        raise AssertionError(f"the server did not start: {line}{process.stderr.read()}")
    return process, int(ready[1])


def stop_server(process: subprocess.Popen) -> int:
    """Stop a server as an operator does; its exit status."""
    process.terminate()
    try:
        return process.wait(20)
    finally:
        process.kill()
        process.stdout.close()
        process.stderr.close()


@pytest.fixture(scope="session")
def omero_server(request, tmp_path_factory) -> Iterator[OmeroServer]:
    """A server to work on: root's name and password, host and port."""
    pytest.importorskip("omero")
    host = request.config.getoption("--omero-host")
    if host:
        yield OmeroServer(host, request.config.getoption("--omero-port"), request.config.getoption("--omero-user"),
                          os.environ["OMERO_PASSWORD"], None)
        return
    data = tmp_path_factory.mktemp("omero")
    process, port = start_server(data)
    yield OmeroServer("127.0.0.1", port, "root", (data / "root-password").read_text().strip(), data)
    stop_server(process)


@pytest.fixture(scope="session")
def root(omero_server) -> Iterator:
    """A BlitzGateway of the administrator."""
    conn = omero_server.login()
    yield conn
    conn.close()


@pytest.fixture
def make_user(omero_server, root) -> Iterator[Callable]:
    """`make_user(permissions="rw----", group=None)`: the BlitzGateway of a fresh user.

    The user is in a fresh group with these permissions, or in the group with an id. What the users own is deleted at
    the end of the test.
    """
    import omero
    from omero.rtypes import rbool, rstring

    admin = root.c.sf.getAdminService()
    made = []

    def make(permissions: str = "rw----", group: int | None = None):
        if group is None:
            new = omero.model.ExperimenterGroupI()
            new.name, new.ldap = rstring("group_" + uuid.uuid4().hex[:12]), rbool(False)
            new.details.permissions = omero.model.PermissionsI(permissions)
            group = admin.createGroup(new)
        user = omero.model.ExperimenterI()
        user.omeName, user.ldap = rstring("user_" + uuid.uuid4().hex[:12]), rbool(False)
        user.firstName, user.lastName = rstring("First"), rstring("Last")
        admin.createExperimenterWithPassword(
            user, rstring("pw"), omero.model.ExperimenterGroupI(group, False),
            [omero.model.ExperimenterGroupI(1, False)])
        conn = omero_server.login(user.omeName.val, "pw")
        made.append(conn)
        return conn

    yield make
    for conn in made:
        try:
            _delete_all(conn)
        finally:
            conn.close()


def _delete_all(conn) -> None:
    """Delete what a user owns: containers, images, annotations and files."""
    conn.SERVICE_OPTS.setOmeroGroup("-1")
    mine = {"owner": conn.getUserId()}
    for kind in ("Screen", "Plate", "Project", "Dataset", "Image", "Annotation", "OriginalFile"):
        ids = [found.getId() for found in conn.getObjects(kind, opts=mine)]
        if ids:
            conn.deleteObjects(kind, ids, deleteAnns=True, deleteChildren=True, wait=True)


@pytest.fixture
def conn(make_user):
    """A BlitzGateway of an ordinary user, alone in a private group."""
    return make_user()
