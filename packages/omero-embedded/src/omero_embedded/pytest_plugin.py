"""A pytest plugin with the fixture `omero_server`: an OMERO server for tests, which needs nothing but this package.

    def test_upload(omero_server):
        conn = omero_server.login()  # a BlitzGateway

pytest finds the plugin wherever omero-embedded is installed. The server starts on an empty folder when a test first
asks for it, and stops after the last test. Nothing of OMERO is imported before that.

`pytest --omero-host HOST [--omero-port PORT] [--omero-user USER]` runs the same tests against another server. The
password then comes from the environment variable OMERO_PASSWORD.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from omero_embedded.process import start

if TYPE_CHECKING:
    from omero.gateway import BlitzGateway


@dataclass(frozen=True)
class OmeroServer:
    """The server that the tests use.

    Attributes
    ----------
    host, port
        Where it listens, with TLS.
    user, password
        An administrator: root on an embedded server.
    data
        The data folder of an embedded server, with its log in ``server.log``; None for another server.
    """

    host: str
    port: int
    user: str
    password: str
    data: Path | None

    def login(self, user: str | None = None, password: str | None = None, **options) -> BlitzGateway:
        """Log in.

        Parameters
        ----------
        user, password
            Who logs in; by default the administrator.
        **options
            Further arguments of BlitzGateway.

        Returns
        -------
        BlitzGateway
            A connected gateway. Close it when the test is done.

        Raises
        ------
        ConnectionError
            If the server refuses the login.
        """
        from omero.gateway import BlitzGateway

        conn = BlitzGateway(user or self.user, password if user else self.password, host=self.host, port=self.port,
                            **{"secure": True, **options})
        if not conn.connect():
            reason = conn.getLastError()
            conn.close()
            raise ConnectionError(f"{user or self.user} could not log in: {reason}")
        return conn


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that name another server."""
    group = parser.getgroup("omero", "an OMERO server other than the embedded one (password in OMERO_PASSWORD)")
    group.addoption("--omero-host", help="host of the server to test against")
    group.addoption("--omero-port", type=int, default=4064, help="its port (4064)")
    group.addoption("--omero-user", default="root", help="an administrator of it (root)")


@pytest.fixture(scope="session")
def omero_server(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OmeroServer]:
    """An OMERO server for this test run: `host`, `port`, `user`, `password`, `data`, and `login()`."""
    host = pytestconfig.getoption("--omero-host")
    if host:
        if "OMERO_PASSWORD" not in os.environ:
            pytest.exit(f"--omero-host {host} needs the password in the environment variable OMERO_PASSWORD")
        yield OmeroServer(host, pytestconfig.getoption("--omero-port"), pytestconfig.getoption("--omero-user"),
                          os.environ["OMERO_PASSWORD"], None)
        return
    with start(tmp_path_factory.mktemp("omero")) as server:
        assert server.password is not None  # the folder was empty
        yield OmeroServer(server.host, server.port, "root", server.password, server.data)
