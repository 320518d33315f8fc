"""Finding an OMERO server, starting one where there is none, and connecting to it: all in bounded time."""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from openhcs_omero.errors import ConnectError, OpenHCSError
from openhcs_omero.omero.connection import Server, ServerDown, connect, disconnect
from openhcs_omero.omero.waiting import is_up, opens_sessions, within

if TYPE_CHECKING:
    from openhcs_omero.omero.connection import BlitzGateway

COMPOSE_FILE = Path(__file__).with_name("docker-compose.yml")
START_PATIENCE = 60  # seconds for the embedded server, which takes two
PAUSE = 0.5  # seconds between two attempts to connect
EMBEDDED = "`openhcs-omero serve` or manager.start_embedded() runs the embedded server, which needs nothing else"


class OMEROInstanceManager:
    """An OMERO server: whether it runs, a connection to it, and starting one.

    Used as a context manager it closes its connection at the end, and stops the embedded server if it started one.

    Parameters
    ----------
    host, port, user
        What is left out comes from OMERO_HOST, OMERO_PORT and OMERO_USER, else localhost, 4064 and whoever logged in
        last by `omero login`. The password comes from OMERO_PASSWORD, a stored session or a prompt.
    """

    def __init__(self, host: str | None = None, port: int | None = None, user: str | None = None) -> None:
        self.server = Server.from_config({"host": host, "port": port, "user": user})
        self._conn: BlitzGateway | None = None
        self._embedded: subprocess.Popen[str] | None = None
        self._reason = ""

    @property
    def host(self) -> str:
        return self.server.host

    @property
    def port(self) -> int:
        return self.server.port

    def is_running(self) -> bool:
        """Whether an OMERO server answers there; it takes four seconds at most to say so."""
        return is_up(self.server)

    def connect(self, timeout: float = 10) -> bool:
        """Log in; False where that was not possible within `timeout` seconds.

        A server that is down, hangs or is still starting is waited for. Why it failed is what `get_connection` says.

        Raises
        ------
        ConnectError
            Where waiting is of no use: the server refuses the user, or there is no password and no session to join.
        """
        end = time.monotonic() + timeout
        password = os.environ.get("OMERO_PASSWORD")  # `connect` takes it out of the environment, also where it fails
        while True:
            try:
                self._conn = within(end - time.monotonic(), lambda: connect(self.server), self.server.address)
                return True
            except ServerDown as error:
                self._reason = str(error)
            except ConnectError as error:
                self._reason = str(error)
                if opens_sessions(self.server, end - time.monotonic()):
                    raise  # it is not that the server is still starting
            if time.monotonic() + PAUSE >= end:
                return False
            time.sleep(PAUSE)
            if password is not None:
                os.environ["OMERO_PASSWORD"] = password

    def get_connection(self) -> BlitzGateway:
        """The connection, opened where `connect` was not called before.

        Raises
        ------
        ConnectError
            Where there is none to be had: why, and what to do.
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
        """Start a real OMERO.server with its database and OMERO.web; `wait_for_ready` says when it serves.

        The containers and their volumes stay when this process ends: `docker compose -p openhcs-omero down` stops them.

        Raises
        ------
        OpenHCSError
            Where there is no Docker, OMERO_PASSWORD is not set, or `docker compose` failed.
        """
        if shutil.which("docker") is None:
            raise OpenHCSError(f"there is no Docker here to start OMERO with: install it, or {EMBEDDED}")
        if not os.environ.get("OMERO_PASSWORD"):
            raise OpenHCSError("OMERO_PASSWORD is not set: it is the password that root gets on the new server")
        environment = {**os.environ, "OMERO_PORT": str(self.port)}
        done = subprocess.run(["docker", "compose", "-f", str(compose_file), "up", "--detach"], env=environment,
                              capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise OpenHCSError(f"docker compose did not start OMERO ({said[-1] if said else 'it said nothing'}): mend "
                               f"that, or {EMBEDDED}")
        self.server = replace(self.server, host="localhost", user=self.server.user or "root")

    def start_embedded(self, data: Path | str = "~/.openhcs-omero", port: int = 0) -> None:
        """Start the embedded server, a process that ends with this manager; returns when it serves.

        Parameters
        ----------
        data
            Folder that keeps all that is in it; root's password is made there, in ``root-password``.
        port
            0 for any that is free.

        Raises
        ------
        OpenHCSError
            What the server said where it did not start.
        """
        data = Path(data).expanduser()
        command = [sys.executable, "-m", "openhcs_omero.cli", "serve", "--data", str(data), "--port", str(port)]
        environment = {key: value for key, value in os.environ.items() if key != "OMERO_PASSWORD"}
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, start_new_session=True)
        self._embedded = process
        said = _first_lines(process.stdout, "ready on")
        ready = re.search(r"ready on (\S+) port (\d+)", said)
        if not ready:
            self._stop_embedded()
            reason = re.sub("^(?i:error): ", "", said.strip()) or f"it said nothing in {START_PATIENCE} seconds"
            raise OpenHCSError(f"the embedded server did not start: {reason}")
        self.server = replace(self.server, host=ready[1], port=int(ready[2]), user="root")
        if (data / "root-password").exists():  # else it was given when the folder was made, and OMERO_PASSWORD is it
            os.environ["OMERO_PASSWORD"] = (data / "root-password").read_text().strip()
        self._conn = within(START_PATIENCE, lambda: connect(self.server), self.server.address)

    def close(self) -> None:
        """Close the connection, and stop the embedded server if this manager started one."""
        if self._conn is not None:
            self._conn = None
            disconnect(self.server)
        self._stop_embedded()

    def _stop_embedded(self) -> None:
        process, self._embedded = self._embedded, None
        if process is None:
            return
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()

    def __enter__(self) -> OMEROInstanceManager:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()


def _first_lines(stream: IO[str] | None, wanted: str) -> str:
    """What a process says up to the wanted line, its end or the end of patience; the rest is read and thrown away."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        for line in stream or ():
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, name="embedded-server", daemon=True).start()
    said, end = "", time.monotonic() + START_PATIENCE
    with suppress(queue.Empty):
        while wanted not in said and (line := lines.get(timeout=max(0.0, end - time.monotonic()))) is not None:
            said += line
    return said
