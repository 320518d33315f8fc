"""An OMERO server with a plate, and folders in which `snakemake --profile cluster` runs as in a clone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from omero_embedded.process import EmbeddedServer, start

from openhcs_omero.core.well_file import well_files

ROOT = Path(__file__).resolve().parents[2]

# A step of these tests inverts its image, and on the way does what the test asks for.
STEPS = '''
import os, time
from pathlib import Path

met = set()  # wells that this process has begun


def invert(image, filemanager, metadata, backend="disk", gate="", free=0, hungry=(), broken=()):
    """Note that the well began and wait until the gate is open, but for the `free` first wells of a process.

    Where it is hungry, take 700 MB, at first too much; where it is broken, fail until it is mended.
    """
    well, taken = metadata["well"], 0
    met.add(well)
    if well in broken and not (Path(gate) / "mended").exists():
        raise ValueError(f"{well} is broken")
    if well in hungry:
        tried = Path(gate) / "tried"
        first = not tried.exists()
        tried.touch()
        ballast = b"\\1" * (700 * 10**6)
        taken = len(ballast)
        wait(lambda: not first, "Slurm did not kill a job over its memory limit")
    elif gate and len(met) > free:
        (Path(gate) / f"{well}.{os.getpid()}").touch()
        wait((Path(gate) / "open").exists, "nobody opened the gate")
    return (image.max() - image).astype(image.dtype), {"taken": taken}


def estimated(image, filemanager, metadata, backend="disk"):
    """Leave the image as it is; there is to be an estimate of the plate."""
    assert metadata["plate_estimate"]
    return image, {}


estimated.plate_estimate = lambda planes: sum(plane.astype(float) for plane in planes)


def wait(condition, reason):
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end, reason
        time.sleep(0.1)
'''


# Snakemake's own command, except that it asks Slurm every second: its executor polls ever less often otherwise.
HEAD = """
import signal, sys
from snakemake.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
from snakemake_executor_plugin_slurm import Executor
Executor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, seconds: None)
sys.argv[0] = "snakemake"
main()
"""


class Omero:
    """An embedded server that keeps its port and data over restarts. Its password occurs in no other text."""

    def __init__(self, folder: Path, password: str) -> None:
        self.folder, self.password, self.port = folder, password, 0
        self._secret = folder / "root-password"
        self._secret.touch(0o600)
        self._secret.write_text(password + "\n")
        self._server: EmbeddedServer | None = None

    def start(self) -> None:
        self._server = start(self.folder / "data", self.port, self._secret)
        self.port = self._server.port

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def login(self):
        from omero.gateway import BlitzGateway

        conn = BlitzGateway("root", self.password, host="127.0.0.1", port=self.port, secure=True)
        assert conn.connect(), conn.getLastError()
        return conn

    def derived(self, plate: int, output: str) -> dict[str, list[str]]:
        """SHA-1 of the derived images by well, in site order."""
        from openhcs_omero.omero.derived import derived_state, find_derived

        conn = self.login()
        try:
            found = find_derived(conn, plate, output)
            assert found is not None, "there is no derived plate"
            return {well: [sha1 for _, sha1 in images] for well, images in derived_state(conn, found).items()}
        finally:
            conn.close()

    def sessions(self) -> int:
        """Number of root's open sessions, without the one that asks."""
        conn = self.login()
        try:
            return len(conn.c.sf.getSessionService().getMyOpenSessions()) - 1
        finally:
            conn.close()


class Project:
    """A folder that looks like a clone of the repository to Snakemake, with its own configuration."""

    def __init__(
        self,
        folder: Path,
        omero: Omero,
        plate: int,
        wells: list[str] | str = "all",
        per_job: int | None = 8,
        changed: dict | None = None,
        **params,
    ) -> None:
        self.folder, self.omero, self.plate, self.output = folder, omero, plate, folder.name
        self.gate = folder / "gate"
        self.gate.mkdir(parents=True)
        for name in ("Snakefile", "workflow", "cluster", "profiles", "config"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "steps.py").write_text(STEPS)
        step = {"call": "steps:invert", "params": params}
        config = {
            "plates": [plate],
            "wells": wells,
            "output": self.output,
            "steps": [step],
            "heatmaps": [],
            **({"wells_per_job": per_job} if per_job else {}),
        }
        (folder / "own.yaml").write_text(json.dumps({**config, **(changed or {})}))
        self.results = folder / "results" / f"plate_{plate}_{self.output}"
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("OMERO_", "SLURM_"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMERO_HOST": "127.0.0.1",
            "OMERO_PORT": str(omero.port),
            "OMERO_USER": "root",
            "OMERO_SESSIONDIR": str(folder / "sessions"),
        }
        self.profile = "cluster"
        self._began = 0
        self._head: subprocess.Popen | None = None

    def change_profile(self, line: str, changed: str) -> None:
        """From now on, run with a copy of the cluster profile in which one line is changed."""
        lines = (ROOT / "cluster" / "config.yaml").read_text().splitlines()
        assert lines.count(line) == 1, line
        (self.folder / "mine").mkdir()
        lines[lines.index(line)] = changed
        (self.folder / "mine" / "config.yaml").write_text("\n".join(lines))
        self.profile = "mine"

    def start(self, *options: str, password: bool = True) -> subprocess.Popen:
        """Start Snakemake; `said()` returns its output."""
        how = ["--profile", self.profile, "--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5"]
        secret = {"OMERO_PASSWORD": self.omero.password} if password else {}
        log = self.folder / "said.txt"
        self._began = log.stat().st_size if log.exists() else 0
        with log.open("a") as out:
            self._head = subprocess.Popen(
                [sys.executable, "-c", HEAD, "--configfile", "own.yaml", *how, *options],
                cwd=self.folder,
                env={**self.environment, **secret},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self._head

    def finish(self, head: subprocess.Popen, seconds: float = 600) -> int:
        """Open the gate and wait for Snakemake; return its exit status."""
        self.open_gate()
        try:
            return head.wait(seconds)
        except subprocess.TimeoutExpired:
            head.terminate()
            raise AssertionError(f"Snakemake did not end in {seconds} s:\n{self.said()}") from None

    def run(self, *options: str, **how) -> str:
        """Run Snakemake, which must succeed; return its output."""
        status = self.finish(self.start(*options, **how))
        assert status == 0, self.said()
        return self.said()

    def run_unlock(self) -> None:
        """Do what Snakemake asks for after a head process was killed."""
        assert self.start("--unlock").wait(60) == 0, self.said()

    def said(self) -> str:
        """The output so far of the Snakemake that was started last."""
        with (self.folder / "said.txt").open() as log:
            log.seek(self._began)
            return log.read()

    def open_gate(self) -> None:
        (self.gate / "open").touch()

    def close_gate(self) -> None:
        """Make the steps of the next run wait again."""
        for path in self.gate.iterdir():
            path.unlink()

    def begun(self) -> list[tuple[str, int]]:
        """(well, process id) of the steps that have reached the gate."""
        return [(path.stem, int(path.suffix[1:])) for path in sorted(self.gate.glob("*.*"))]

    def done(self) -> list[str]:
        """The wells that are processed."""
        return list(well_files(self.results))

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 300) -> None:
        """Poll until `condition` holds or Snakemake has ended."""
        end = time.monotonic() + seconds
        while not condition():
            assert self._head is None or self._head.poll() is None, f"it ended before {what}:\n{self.said()}"
            assert time.monotonic() < end, f"waited {seconds} s for {what}:\n{self.said()}"
            time.sleep(0.1)

    def derived(self) -> dict[str, list[str]]:
        return self.omero.derived(self.plate, self.output)


def processed_wells(said: str) -> list[str]:
    """The wells that a run of Snakemake announced, each as often as it was announced."""
    return re.findall(r"Process well (\w+) of plate", said)
