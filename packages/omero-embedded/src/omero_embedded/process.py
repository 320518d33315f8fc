"""The embedded server as a process of its own."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from omero_embedded.errors import CannotStart

START_TIMEOUT = 120  # seconds; a start takes two or three
STOP_TIMEOUT = 30  # seconds; a stop waits up to three for running calls


@dataclass(frozen=True)
class EmbeddedServer:
    """A running server. Used as a context manager, it stops at the end.

    Attributes
    ----------
    host, port
        Where it listens, with TLS.
    password
        Root's password; None if an earlier start took it from a file that this start did not name.
    data
        The data folder.
    process
        The server's process.
    websocket
        The URL for websockets, if they were asked for.
    """

    host: str
    port: int
    password: str | None
    data: Path
    process: subprocess.Popen[str]
    _stderr: IO[str]
    websocket: str | None = None

    def errors(self) -> str:
        """What the server has written to stderr so far. Its log is `server.log` in the data folder."""
        self._stderr.seek(0)
        return self._stderr.read()

    def stop(self) -> int:
        """Stop the server by SIGTERM, and return its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_TIMEOUT)
        finally:
            self.process.kill()
            self.process.wait()
            self._stderr.close()

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def start(
    data: Path,
    port: int = 0,
    password_file: Path | None = None,
    python: str | Path = sys.executable,
    detached: bool = False,
    options: Sequence[str] = (),
) -> EmbeddedServer:
    """Start a server on this machine, and return once it accepts logins.

    Parameters
    ----------
    data
        The data folder. It is created if it does not exist.
    port
        The port to listen on; 0 for any free one.
    password_file
        A file whose first line becomes root's password. Without it, a new folder gets a generated password.
    python
        An interpreter with omero-embedded installed.
    detached
        Whether the server keeps running when Ctrl-C is pressed in this process's terminal.
    options
        Further options of `omero-embedded serve`, such as ``["--insecure-port", "0"]``.

    Raises
    ------
    CannotStart
        If the server does not start; the message says why.
    """
    command = [python, "-m", "omero_embedded.cli", "serve", "--data", data, "--port", port, *options]
    if password_file is not None:
        command += ["--root-password-file", password_file]
    environment = {key: value for key, value in os.environ.items() if key != "OMERO_PASSWORD"}
    stderr = tempfile.TemporaryFile("a+")  # noqa: SIM115  (closed by stop)
    process = subprocess.Popen(
        [str(word) for word in command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=detached,
    )
    assert process.stdout is not None
    with process.stdout as stdout:  # the server writes one line, once it is ready
        line = stdout.readline() if select.select([stdout], [], [], START_TIMEOUT)[0] else ""
    ready = re.search(r"ready on (\S+) port (\d+)", line)
    secret = password_file or data / "root-password"
    password = secret.read_text().split("\n")[0].strip() if ready and secret.exists() else None
    server = EmbeddedServer(
        ready[1] if ready else "",
        int(ready[2]) if ready else 0,
        password,
        data,
        process,
        stderr,
        found[0] if (found := re.search(r"wss://\S+[^:\s]", line)) else None,
    )
    if ready:
        return server
    said = server.errors().strip() or f"no message within {START_TIMEOUT} seconds"
    server.stop()
    raise CannotStart(f"the embedded server did not start: {re.sub('^(?i:error): ', '', said)}")
