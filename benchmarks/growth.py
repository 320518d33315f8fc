"""How the cost of the head process grows with the number of plates: CPU seconds and memory until its first cluster job.

The plates have 384 wells with one site of a few pixels, because the head process never reads pixels. A fake Slurm
accepts jobs and does nothing with them. When it gets the first job, the head process has inspected all plates and built
the whole DAG.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.common import ROOT, BenchServer, Ratio
from benchmarks.plates import copy_plate, delete_plates, make_plate

STEPS = """
def same(image, filemanager, metadata, backend="disk"):
    return image, {}
"""
PATIENCE = 3600  # seconds


def measure(server: BenchServer, quick: bool) -> Iterator[Ratio]:
    counts = (1, 2) if quick else (1, 10, 40, 300)
    with server.login() as conn:
        plates = [make_plate(conn, 384, (1, 1, 1, 4, 4))]
        plates += copy_plate(conn, plates[0], counts[-1] - 1)
    try:
        for count in counts:
            with tempfile.TemporaryDirectory(prefix="openhcs-bench-") as folder:
                cpu, memory = _head(server, Path(folder), plates[:count])
            yield Ratio(f"{count} plates of 384 wells: CPU until the first well is submitted", cpu, None, "s")
            yield Ratio(f"{count} plates of 384 wells: memory of the head process", memory, None, "MB")
    finally:
        with server.login() as conn:
            delete_plates(conn, plates)


def _head(server: BenchServer, folder: Path, plates: list[int]) -> tuple[float, float]:
    """CPU seconds and MB of the head process, without its jobs, until it submits a job to Slurm."""
    submitted = folder / "submitted"
    _pretend_slurm(folder / "bin", submitted)
    (folder / "steps.py").write_text(STEPS)
    (folder / "config.yaml").write_text(
        json.dumps({"plates": plates, "steps": [{"call": "steps:same"}], "wells_per_job": 8})
    )
    environment = server.environment()
    environment["PATH"] = f"{folder / 'bin'}{os.pathsep}{environment['PATH']}"
    with (folder / "said.txt").open("w") as said:
        head = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "snakemake",
                "--snakefile",
                str(ROOT / "Snakefile"),
                "--configfile",
                "config.yaml",
                "--profile",
                str(ROOT / "cluster"),
                "--quiet",
                "all",
            ],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        process, end, memory = psutil.Process(head.pid), time.monotonic() + PATIENCE, 0
        while not submitted.exists():
            if head.poll() is not None or time.monotonic() > end:
                sys.exit(f"Snakemake submitted nothing:\n{(folder / 'said.txt').read_text()}")
            memory = max(memory, process.memory_info().rss)
            time.sleep(0.1)
        used = process.cpu_times()
        return used.user + used.system, memory / 1e6
    finally:
        os.killpg(head.pid, signal.SIGKILL)
        head.wait()


def _pretend_slurm(folder: Path, submitted: Path) -> None:
    """Create programs with the names of Slurm's that always succeed; the first submitted job creates a file."""
    folder.mkdir()
    programs = dict.fromkeys(("squeue", "scancel", "sacct", "sacctmgr", "scontrol", "sinfo"), "")
    programs["sbatch"] = f"touch '{submitted}'\necho 1\n"
    for name, does in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{does}")
        (folder / name).chmod(0o755)
