"""Commands of Python in forks of a process that has imported omero-py: they start in a tenth of the time."""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path

import omero.plugins

DEVNULL = subprocess.DEVNULL
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["omero.cli", *(f"omero.plugins.{one.name}" for one in pkgutil.iter_modules(omero.plugins.__path__))]
)


def run(command: list[str], *, env: dict[str, str], timeout: float, **_: object) -> subprocess.CompletedProcess[str]:
    """Do what `subprocess.run` does with `python -c CODE ARGUMENT...`, with the output as text and nothing to read."""
    _, code, *arguments = command[command.index("-c") :]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("out", "err")]
        process = _SERVER.Process(target=_execute, args=(code, arguments, env, paths))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, process.exitcode, *(path.read_text() for path in paths))


def _execute(code: str, arguments: list[str], env: dict[str, str], paths: list[Path]) -> None:
    for number, path in enumerate(paths, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["-c", *arguments]
    exec(code, {"__name__": "__main__"})
