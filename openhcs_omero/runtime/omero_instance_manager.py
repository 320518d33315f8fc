"""Find an OMERO server, start one if there is none, and connect to it, all in bounded time."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs_omero import password
from openhcs_omero.errors import ConnectError, OpenHCSError
from openhcs_omero.omero.connection import connect, disconnect
from openhcs_omero.omero.identity import WrongIdentity
from openhcs_omero.omero.probe import is_up, opens_sessions, within
from openhcs_omero.omero.server import Server, ServerDown
from openhcs_omero.runtime.embedded import certificate_of, start_embedded

if TYPE_CHECKING:
    from omero_embedded.process import EmbeddedServer

    from openhcs_omero.omero.connection import BlitzGateway

COMPOSE_FILE = Path(__file__).with_name("docker-compose.yml")
START_PATIENCE = 60  # seconds to log in to a server that is ready
PAUSE = 0.5  # seconds between two attempts to connect
EMBEDDED = "`openhcs-omero serve` or manager.start_embedded() runs the embedded server, which needs nothing else"


class OMEROInstanceManager:
    """Manage an OMERO server: check whether it runs, connect to it, or start one.

    As a context manager, it closes its connection at the end and stops the embedded server if it started one.

    Parameters
    ----------
    host, port, user
        Default to OMERO_HOST, OMERO_PORT and OMERO_USER, or else to localhost, 4064 and the user of the last
        `openhcs-omero login`. To log in, OMERO_PASSWORD, a stored session or a prompt is used.
    """

    def __init__(self, host: str | None = None, port: int | None = None, user: str | None = None) -> None:
        self.server = Server.from_config({"host": host, "port": port, "user": user})
        self._conn: BlitzGateway | None = None
        self._embedded: EmbeddedServer | None = None
        self._reason = ""

    @property
    def host(self) -> str:
        return self.server.host

    @property
    def port(self) -> int:
        return self.server.port

    def is_running(self) -> bool:
        """Whether an OMERO server answers; takes at most four seconds."""
        return is_up(self.server)

    def connect(self, timeout: float = 10) -> bool:
        """Log in, waiting for a server that is down, hangs or is still starting.

        Parameters
        ----------
        timeout
            Seconds to wait.

        Returns
        -------
        bool
            False if it was not possible in time. `get_connection` then raises an error that says why.

        Raises
        ------
        ConnectError
            If waiting can't help: the server refuses the user, or there is neither a password nor a session to join.
        """
        end = time.monotonic() + timeout
        while True:
            try:
                self._conn = within(end - time.monotonic(), lambda: connect(self.server), self.server.address)
                return True
            except ServerDown as error:
                self._reason = str(error)
            except ConnectError as error:
                self._reason = str(error)
                if isinstance(error, WrongIdentity) or opens_sessions(self.server, end - time.monotonic()):
                    raise  # the cause is not a server that is still starting
            if time.monotonic() + PAUSE >= end:
                return False
            time.sleep(PAUSE)

    def get_connection(self) -> BlitzGateway:
        """The connection; it is opened if `connect` was not called before.

        Raises
        ------
        ConnectError
            If no connection is possible. The message says why and what to do.
        """
        if self._conn is None and not self.connect():
            raise ConnectError(f"{self._reason}; {EMBEDDED}")
        assert self._conn is not None
        return self._conn

    def wait_for_ready(self, timeout: float = 60) -> bool:
        """Wait until the server opens sessions; False if it does not within `timeout` seconds."""
        end = time.monotonic() + timeout
        while not opens_sessions(self.server, end - time.monotonic()):
            if time.monotonic() + PAUSE >= end:
                return False
            time.sleep(PAUSE)
        return True

    def start_via_docker_compose(self, compose_file: Path = COMPOSE_FILE) -> None:
        """Start a real OMERO.server with its database and OMERO.web; use `wait_for_ready` to wait for it.

        The containers keep running when this process ends; `docker compose -p openhcs-omero down` stops them.

        Raises
        ------
        OpenHCSError
            If there is no Docker, OMERO_PASSWORD is not set, or `docker compose` fails.
        """
        if shutil.which("docker") is None:
            raise OpenHCSError(f"Docker, which would start OMERO, is not installed: install it, or {EMBEDDED}")
        secret = password.read()
        if not secret:
            raise OpenHCSError("OMERO_PASSWORD is not set: it becomes the password of root on the new server")
        environment = password.child_environment({"OMERO_PORT": str(self.port), password.VARIABLE: secret})
        done = subprocess.run(
            ["docker", "compose", "-f", str(compose_file), "up", "--detach"],
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise OpenHCSError(
                f"docker compose did not start OMERO ({said[-1] if said else 'it said nothing'}): mend "
                f"that, or {EMBEDDED}"
            )
        self.server = replace(self.server, host="localhost", user=self.server.user or "root")

    def start_embedded(self, data: Path | str = "~/.openhcs-omero", port: int = 0) -> None:
        """Start the embedded server, a process that ends with this manager; returns when the server is ready.

        Parameters
        ----------
        data
            Folder for the server's data. The password of root is created there, in ``root-password``.
        port
            Port to listen on; 0 for any free port.

        Raises
        ------
        OpenHCSError
            If the server is not installed or does not start.
        """
        data = Path(data).expanduser()
        self._embedded = server = start_embedded(data, port, detached=True)
        self.server = replace(self.server, host=server.host, port=server.port, user="root", ca=certificate_of(data))
        given = server.password or ""  # without one, it was set when the folder was created, and is in OMERO_PASSWORD
        self._conn = within(START_PATIENCE, lambda: connect(self.server, given=given), self.server.address)

    def close(self) -> None:
        """Close the connection, and stop the embedded server if this manager started one."""
        if self._conn is not None:
            self._conn = None
            disconnect(self.server)
        server, self._embedded = self._embedded, None
        if server is not None:
            server.stop()

    def __enter__(self) -> OMEROInstanceManager:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()
