"""A pytest plugin: an OMERO server for tests, and a new user on it for each test.

    def test_wells(omero_server, omero_gateway):
        plate_id = omero_server.make_plate(omero_gateway, rows=2, columns=3)
        assert len(list(omero_gateway.getObject("Plate", plate_id).listChildren())) == 6

pytest finds the plugin wherever omero-embedded is installed. The server starts when a test first asks for it, and stops
after the last test. Nothing of OMERO is imported before that.

`pytest --omero-host HOST [--omero-port PORT] [--omero-user USER]` runs the same tests against another server. The
password then comes from the environment variable OMERO_PASSWORD.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from omero_embedded.process import start
from omero_embedded.testing import OmeroServer, OmeroUser

if TYPE_CHECKING:
    from omero.gateway import BlitzGateway

SCOPES = ("session", "package", "module", "class", "function")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that name a server or a data folder."""
    group = parser.getgroup("omero", "the OMERO server of the tests (password of --omero-host in OMERO_PASSWORD)")
    group.addoption("--omero-host", help="host of a running server to test against; without it, one is started")
    group.addoption("--omero-port", type=int, default=4064, help="its port (4064)")
    group.addoption("--omero-user", default="root", help="an administrator of it (root)")
    group.addoption(
        "--omero-data",
        type=Path,
        metavar="FOLDER",
        help="start the server on this folder, and keep it after the tests (default: a temporary folder)",
    )
    group.addoption(
        "--omero-scope", choices=SCOPES, default="session", help="start one server for each of these (session)"
    )


def _scope(fixture_name: str, config: pytest.Config) -> Any:
    return config.getoption("--omero-scope")


@pytest.fixture(scope=_scope)
def omero_server(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OmeroServer]:
    """An OMERO server for this test run, with `login()`, `make_user()` and `make_plate()`."""
    host, folder = pytestconfig.getoption("--omero-host"), pytestconfig.getoption("--omero-data")
    if host:
        if "OMERO_PASSWORD" not in os.environ:
            pytest.exit(f"--omero-host {host} needs the password in the environment variable OMERO_PASSWORD")
        other = OmeroServer(
            host,
            pytestconfig.getoption("--omero-port"),
            pytestconfig.getoption("--omero-user"),
            os.environ["OMERO_PASSWORD"],
            None,
        )
        yield other
        other.close()
        return
    if folder:
        folder /= os.environ.get("PYTEST_XDIST_WORKER", "")  # a server for each worker of pytest-xdist
    with start(folder or tmp_path_factory.mktemp("omero")) as started:
        if started.password is None:
            pytest.exit(f"--omero-data {folder} has a root password of its own: name a folder that --omero-data made")
        server = OmeroServer(started.host, started.port, "root", started.password, started.data)
        yield server
        server.close()


@pytest.fixture
def omero_user(omero_server: OmeroServer) -> Iterator[OmeroUser]:
    """A new user, alone in a new private group. What the user owns is deleted after the test."""
    user = omero_server.make_user()
    yield user
    omero_server.delete_data_of(user)


@pytest.fixture
def omero_gateway(omero_server: OmeroServer, omero_user: OmeroUser) -> Iterator[BlitzGateway]:
    """A connected BlitzGateway of `omero_user`."""
    conn = omero_server.login(omero_user.name, omero_user.password)
    yield conn
    conn.close()
