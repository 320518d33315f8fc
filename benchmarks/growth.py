"""How the cost of a run grows with the number of plates.

First the head process alone: CPU seconds, memory and files until its first cluster job. The plates have 384 wells with
one site of a few pixels, because the head process never reads pixels. A fake Slurm accepts jobs and does nothing with
them. When it gets the first job, the head process has inspected all plates and built the whole DAG.

Then whole runs on this machine, of plates of four wells: the calls to OMERO of all processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.common import ROOT, BenchServer, Ratio
from benchmarks.plates import copy_plate, delete_plates, make_plate

STEPS = """
def same(image, filemanager, metadata, backend="disk"):
    return image, {}
"""
PATIENCE = 3600  # seconds
SMALL = 4  # wells of a plate in a whole run
WATCHING = {"keepAlive", "keepAllAlive"}  # calls that depend on time


@dataclass(frozen=True)
class Cost:
    """What the head process of a run needed: CPU in seconds, memory in MB, files of the whole run; and all calls."""

    cpu: float
    memory: float
    files: int
    calls: Counter[str]


def measure(server: BenchServer, quick: bool) -> Iterator[Ratio]:
    yield from _planned(server, (1, 2) if quick else (1, 10, 40, 300))
    yield from _run(server, (1, 2) if quick else (10, 40))


def _planned(server: BenchServer, counts: tuple[int, ...]) -> Iterator[Ratio]:
    with server.login() as conn:
        plates = [make_plate(conn, 384, (1, 1, 1, 4, 4))]
        plates += copy_plate(conn, plates[0], counts[-1] - 1)
    try:
        for count in counts:
            with tempfile.TemporaryDirectory(prefix="openhcs-bench-") as folder:
                cost = _until_submitted(server, Path(folder), plates[:count])
            what = f"{count} plates of 384 wells"
            yield Ratio(f"{what}: CPU until the first well is submitted", cost.cpu, None, "s")
            yield Ratio(f"{what}: memory of the head process", cost.memory, None, "MB")
            yield Ratio(f"{what}: files until then", cost.files, None, "files")
            yield Ratio(f"{what}: calls to OMERO until then", cost.calls.total(), None, "calls")
    finally:
        with server.login() as conn:
            delete_plates(conn, plates)


def _run(server: BenchServer, counts: tuple[int, ...]) -> Iterator[Ratio]:
    """Run all plates; the calls per plate of the largest run are compared with those of the smallest."""
    per_plate: list[float] = []
    for count in counts:
        with server.login() as conn:
            plates = [make_plate(conn, 96, (1, 1, 1, 4, 4))]
            plates += copy_plate(conn, plates[0], count - 1)
        try:
            with tempfile.TemporaryDirectory(prefix="openhcs-bench-") as folder:
                cost = _to_the_end(server, Path(folder), plates)
        finally:
            with server.login() as conn:
                delete_plates(conn, plates)
        what = f"run {count} plates of {SMALL} wells"
        print(what, dict(cost.calls.most_common()), file=sys.stderr)
        per_plate.append(cost.calls.total() / count)
        yield Ratio(f"{what}: CPU of the head process", cost.cpu, None, "s")
        yield Ratio(f"{what}: memory of the head process", cost.memory, None, "MB")
        yield Ratio(f"{what}: files", cost.files, None, "files")
    yield Ratio(
        f"calls per plate, {counts[-1]} plates against {counts[0]}", per_plate[-1], per_plate[0], "calls", 1.05, "less"
    )


def _until_submitted(server: BenchServer, folder: Path, plates: list[int]) -> Cost:
    """The head process alone, until it submits a job to Slurm."""
    submitted = folder / "submitted"
    _pretend_slurm(folder / "bin", submitted)
    options = ["--profile", str(ROOT / "cluster"), "--quiet", "all"]
    return _watch(server, folder, {"plates": plates, "wells_per_job": 8}, options, submitted.exists)


def _to_the_end(server: BenchServer, folder: Path, plates: list[int]) -> Cost:
    config = {"plates": plates, "wells": [f"A01-A{SMALL:02}"]}
    return _watch(server, folder, config, ["--cores", "2", "--quiet", "all"], lambda: False)


def _watch(
    server: BenchServer, folder: Path, config: dict[str, object], options: list[str], enough: Callable[[], bool]
) -> Cost:
    """Watch the head process, without its jobs, until it ends well or it is enough."""
    (folder / "steps.py").write_text(STEPS)
    (folder / "config.yaml").write_text(json.dumps({**config, "steps": [{"call": "steps:same"}]}))
    environment = {**server.environment(), "OPENHCS_BENCH_CALLS": str(folder / "calls")}
    environment["PATH"] = f"{folder / 'bin'}{os.pathsep}{environment['PATH']}"
    paths = [str(ROOT / "benchmarks" / "counting"), str(ROOT), environment.get("PYTHONPATH")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--configfile", "config.yaml"]
    with (folder / "said.txt").open("w") as said:
        head = subprocess.Popen(
            [*command, *options],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        process, end, cpu, memory = psutil.Process(head.pid), time.monotonic() + PATIENCE, 0.0, 0
        while not enough() and head.poll() is None:
            if time.monotonic() > end:
                break
            with process.oneshot():
                used, memory = process.cpu_times(), max(memory, process.memory_info().rss)
            cpu = used.user + used.system
            time.sleep(0.1)
        if not enough() and head.poll() != 0:
            sys.exit(f"Snakemake did not come to its end:\n{(folder / 'said.txt').read_text()}")
        calls = Counter(name for name in (folder / "calls").read_text().split() if name not in WATCHING)
        files = sum(len(names) for place in ("results", ".snakemake") for *_, names in os.walk(folder / place))
        return Cost(cpu, memory / 1e6, files, calls)
    finally:
        if head.poll() is None:
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
