"""Run the workflow in a folder as a user of an OMERO server does, and look at what it did."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from openhcs_omero.runtime.embedded import certificate_of

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"

STEPS = '''
import numpy as np


def measure(image, filemanager, metadata, backend="disk", level=1):
    """Add a level to the image; say how bright it is and what the plate's mean is."""
    plate = metadata["plate_estimate"][0]
    results = {"bright": int(image.max()), "of_plate": round(float(plate.mean()), 3)}
    filemanager.save(results, f"{metadata['plate']}/{metadata['well']}/{metadata['well']}_s{metadata['site']:03d}_"
                     "results.json", backend=backend)
    return (image + level).astype(image.dtype), {**results, "objects": [{"label": 1, "area": 2.5}]}


measure.plate_estimate = lambda planes, level=1: np.mean([plane.mean() for plane in planes]) * np.ones((2, 2))
'''


@dataclass
class Run:
    """A finished run.

    Attributes
    ----------
    jobs
        Number of finished jobs per rule.
    wells
        The wells that were started, sorted by name.
    """

    status: int
    output: str
    cpu: float

    @property
    def jobs(self) -> dict[str, int]:
        return dict(Counter(re.findall(r"^Finished jobid: \d+ \(Rule: (\w+)\)", self.output, re.MULTILINE)))

    @property
    def wells(self) -> list[str]:
        return sorted(re.findall(r"Process well (\w+) of plate", self.output))

    @property
    def nothing_done(self) -> bool:
        return "Nothing to be done" in self.output and not self.jobs


class Workflow:
    """Runs Snakemake in `folder` as the user of `conn`, whose password is "pw" (`make_user`), or without a user."""

    def __init__(self, server, conn, folder: Path):
        self.folder, self.snakefile = folder, ROOT / "Snakefile"
        (folder / "sessions").mkdir(parents=True)
        (folder / "my_steps.py").write_text(STEPS)
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("OMERO_")},
            "OMERO_SESSIONDIR": str(folder / "sessions"),
        }
        if conn is not None:
            self.environment |= {
                "OMERO_HOST": server.host,
                "OMERO_PORT": str(server.port),
                "OMERO_USER": conn.getUser().getName(),
                "OMERO_PASSWORD": "pw",
            }
            if server.data is not None:  # the embedded server's: its identity is checked, so no log has a warning
                self.environment["OMERO_CA"] = certificate_of(server.data)

    def configure(self, *plates, **config):
        """Write the configuration; the defaults are all wells and the step in `STEPS`."""
        whole = {"plates": list(plates), "steps": [{"call": "my_steps:measure"}], **config}
        (self.folder / "config.yaml").write_text(yaml.safe_dump(whole))

    def results(self, plate, output="processed"):
        return self.folder / "results" / f"plate_{plate}_{output}"

    def start(self, *options, **environment):
        """Start Snakemake in a new process group."""
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            str(self.snakefile),
            "--cores",
            "2",
            "--configfile",
            "config.yaml",
            *options,
        ]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __call__(self, *options, **environment) -> Run:
        process = self.start(*options, **environment)
        guard = threading.Timer(300, kill, [process])
        guard.start()
        try:
            output = process.stdout.read()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            guard.cancel()
            process.stdout.close()
        return Run(process.returncode, output, used.ru_utime + used.ru_stime)

    def succeed(self, *options) -> Run:
        run = self(*options)
        assert run.status == 0, run.output + self.logs()
        return run

    def logs(self) -> str:
        return "".join(f"\n{path.name}: {path.read_text()}" for path in self.folder.glob("results/*/logs/*.log"))


def kill(process) -> None:
    """Kill a run and everything it started, and wait until all of it is gone."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("processes of a killed run are still there")


def wait_for(what, seconds=300):
    """Wait until `what()` is true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def workflow(omero_server, conn, tmp_path) -> Workflow:
    return Workflow(omero_server, conn, tmp_path / "work")
