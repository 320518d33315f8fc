"""A run of the workflow as a process that reports events and can be cancelled."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from openhcs_omero import password
from openhcs_omero.core.orchestrator.snakefile import find_profile, find_workflow
from openhcs_omero.core.provenance import BEGUN_VARIABLE, RUN_VARIABLE
from openhcs_omero.io.atomic import write_if_changed

Event = dict[str, Any]
Progress = Callable[[Event], None]


class WorkflowProcess:
    """Runs Snakemake with a configuration in the working directory.

    Parameters
    ----------
    config
        The whole configuration.
    cores
        CPUs for jobs on this machine; None leaves the choice to the profile.
    profile
        A Snakemake profile: the name of one next to the workflow, or a folder. None runs on this machine.
    folders
        Folders where jobs look for the modules of steps, in addition to Python's own path.
    """

    def __init__(
        self, config: Mapping[str, Any], cores: int | None, profile: str | None, folders: Sequence[str]
    ) -> None:
        text = json.dumps(config, indent=1)
        results = Path(config.get("results", "results"))
        configfile = results / "configs" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
        self.log = results / "pipeline.log"
        self.command = [
            "--snakefile",
            str(find_workflow() / "Snakefile"),
            "--nocolor",
            "--replace-workflow-config",
            "--configfile",
            str(configfile.resolve()),
        ]
        if cores is not None or profile is None:
            self.command += ["--cores", str(cores or "all")]
        if profile is not None:
            # the workflow's own profile, for the local machine, would take precedence over this one
            self.command += [
                "--profile",
                str(find_profile(profile)),
                "--workflow-profile",
                "none",
                "--keep-going",
                "--rerun-incomplete",
            ]
        write_if_changed(configfile, text)
        self._paths = [*folders, os.environ.get("PYTHONPATH", "")]
        self._process: subprocess.Popen[bytes] | None = None
        self.cancelled = False

    def unlock(self) -> None:
        """Remove the lock of a run that was killed; call this only if no other run is active here."""
        if any(Path(".snakemake", "locks").glob("*")):
            subprocess.run(
                [sys.executable, "-m", "snakemake", *self.command, "--unlock"],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
            )

    def events(self) -> Generator[Event, None, None]:
        """Run to the end and yield the events of the run (see events.py); `status` is known afterwards."""
        if self.cancelled:
            return
        reading, writing = os.pipe()
        try:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", __name__.rpartition(".")[0] + ".head", str(writing), *self.command],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    pass_fds=[writing],
                    env=self._environment(),
                    start_new_session=True,
                )
        finally:
            os.close(writing)
        if self.cancelled:  # while the process was starting
            self.cancel()
        try:
            with os.fdopen(reading, encoding="utf-8") as stream:
                yield from _parsed(stream)
        finally:  # also if the caller was interrupted and stops reading
            self._end()

    def _end(self) -> None:
        assert self._process is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        # what remains of the process group are jobs that a killed head did not end or was just starting
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def cancel(self) -> None:
        """End the run and its jobs; finished results are kept."""
        self.cancelled = True
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    @property
    def status(self) -> int | None:
        """The exit status; None while the process is running."""
        return None if self._process is None else self._process.poll()

    def _environment(self) -> dict[str, str]:
        inherited = password.child_environment()
        for name in (RUN_VARIABLE, BEGUN_VARIABLE):
            inherited.pop(name, None)
        return {**inherited, "PYTHONPATH": os.pathsep.join(path for path in self._paths if path)}


def _parsed(stream: TextIO) -> Iterator[Event]:
    for line in stream:
        with contextlib.suppress(ValueError):  # the incomplete last line of a killed process
            yield json.loads(line)
