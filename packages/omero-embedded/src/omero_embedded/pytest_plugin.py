"""A pytest plugin: the fixture `omero_server`, an OMERO server to test against that needs nothing beside this package.

    def test_upload(omero_server):
        conn = omero_server.login()  # a BlitzGateway

pytest finds it wherever `openhcs-omero[embedded]` is installed. The server is started when a test first asks for it, on
an empty folder of pytest's, and stopped after the last test. Nothing of OMERO is imported before that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from omero_embedded.process import start

if TYPE_CHECKING:
    from omero.gateway import BlitzGateway


@dataclass(frozen=True)
class OmeroServer:
    """A server that tests work on.

    Attributes
    ----------
    host, port
        Where it serves, with TLS.
    user, password
        An administrator's: root's.
    data
        Its data folder, with its log in ``server.log``; None where it is none of ours.
    """

    host: str
    port: int
    user: str
    password: str
    data: Path | None

    def login(self, user: str | None = None, password: str | None = None, **options) -> BlitzGateway:
        """A connected BlitzGateway, of the administrator unless a user is named; the options are BlitzGateway's.

        Raises
        ------
        ConnectionError
            Where the server refuses them.
        """
        from omero.gateway import BlitzGateway

        conn = BlitzGateway(user or self.user, password if user else self.password, host=self.host, port=self.port,
                            **{"secure": True, **options})
        if not conn.connect():
            reason = conn.getLastError()
            conn.close()
            raise ConnectionError(f"{user or self.user} could not log in: {reason}")
        return conn


@contextmanager
def embedded_server(data: Path) -> Iterator[OmeroServer]:
    """A server on a new folder for as long as the context lasts."""
    with start(data) as server:
        assert server.password is not None
        yield OmeroServer(server.host, server.port, "root", server.password, data)


@pytest.fixture(scope="session")
def omero_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OmeroServer]:
    """An OMERO server of this test run: `host`, `port`, `user`, `password`, `data`, and `login()`."""
    with embedded_server(tmp_path_factory.mktemp("omero")) as server:
        yield server
