"""The embedded server as a process of its own: for the demo, the instance manager and tests, here and elsewhere."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

PATIENCE = 120  # seconds for a start, which takes two or three
STOP_PATIENCE = 30  # seconds for a stop, which waits three for the calls that are running


class CannotStart(RuntimeError):
    """The server did not start; the message says why in one sentence."""


@dataclass(frozen=True)
class EmbeddedServer:
    """A running server; as a context manager it is stopped at the end.

    Attributes
    ----------
    host, port
        Where it serves, with TLS.
    password
        Root's; None where it was given when the folder was made, and is not kept there.
    data
        The folder of all that is in it.
    """

    host: str
    port: int
    password: str | None
    data: Path
    process: subprocess.Popen[str]
    _stderr: IO[str]

    def errors(self) -> str:
        """What it has said on stderr until now; its log is in the data folder."""
        self._stderr.seek(0)
        return self._stderr.read()

    def stop(self) -> int:
        """Stop it as an operator does; its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            self._stderr.close()

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def start(data: Path, port: int = 0, password_file: Path | None = None, python: str | Path = sys.executable,
          detached: bool = False) -> EmbeddedServer:
    """Start an embedded server on this machine; returns when it serves.

    Parameters
    ----------
    data
        Folder that keeps all that is in it; made where it is missing.
    port
        0 for any that is free.
    password_file
        Its first line is root's password from now on; without it one is made for a new folder.
    python
        The interpreter of an environment with the extra ``embedded``.
    detached
        Whether it goes on when Ctrl-C is pressed in this process's terminal.

    Raises
    ------
    CannotStart
        What the server said where it did not start.
    """
    command = [python, "-m", "omero_embedded.cli", "serve", "--data", data, "--port", port]
    if password_file is not None:
        command += ["--root-password-file", password_file]
    environment = {key: value for key, value in os.environ.items() if key != "OMERO_PASSWORD"}
    stderr = tempfile.TemporaryFile("a+")  # noqa: SIM115  (closed by stop)
    process = subprocess.Popen([str(word) for word in command], env=environment, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=detached)
    assert process.stdout is not None
    with process.stdout as stdout:  # it writes one line, when it is ready
        line = stdout.readline() if select.select([stdout], [], [], PATIENCE)[0] else ""
    ready = re.search(r"ready on (\S+) port (\d+)", line)
    secret = password_file or data / "root-password"
    password = secret.read_text().split("\n")[0].strip() if ready and secret.exists() else None
    server = EmbeddedServer(ready[1] if ready else "", int(ready[2]) if ready else 0, password, data, process, stderr)
    if ready:
        return server
    said = server.errors().strip() or f"it said nothing in {PATIENCE} seconds"
    server.stop()
    raise CannotStart(f"the embedded server did not start: {re.sub('^(?i:error): ', '', said)}")
