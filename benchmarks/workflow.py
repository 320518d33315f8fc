"""The whole workflow, compared with the same step in a plain loop over arrays in memory with as many processes.

The time beyond that of the loop is the cost of everything other than the step: Snakemake, its processes and OMERO. With
few wells, the fixed cost of a run dominates the cost per well, so the targets are for plates.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.common import ROOT, BenchServer, Ratio, noise, wells_of
from benchmarks.plates import delete_plates, make_plate, run_snakemake

PROCESSES = 2
SHAPE = (1, 2, 1, 512, 512)
STEPS = """
from benchmarks.workflow import work


def step(image, filemanager, metadata, backend="disk", seconds=1.0):
    return work(image, seconds), {"mean": float(image.mean())}
"""


def work(image: np.ndarray, seconds: float) -> np.ndarray:
    """Compute until this thread has used the given seconds of CPU time."""
    end, result = time.thread_time() + seconds, image
    while time.thread_time() < end:
        result = np.sort(image, axis=-1)
    return result


def measure(server: BenchServer, quick: bool) -> Iterator[Ratio]:
    with server.login() as conn:
        plate = make_plate(conn, 384, SHAPE)
    try:
        for seconds, wells in ((5.0, 6), (1.0, 24)) if quick else ((5.0, 96), (1.0, 384)):
            began = time.perf_counter()
            _loop(wells, seconds)
            plain = time.perf_counter() - began
            with tempfile.TemporaryDirectory(prefix="openhcs-bench-") as folder:
                before, began = sum(os.times()[2:4]), time.perf_counter()
                _workflow(server, Path(folder), plate, wells, seconds)
                took = time.perf_counter() - began
                cpu = sum(os.times()[2:4]) - before
            what = f"{wells} wells of {seconds:g} s of work"
            yield Ratio(f"{what}, against a loop in memory", took, plain, "s", None if quick else 1.25, "less")
            yield Ratio(f"{what}: CPU time a well beside its work", cpu / wells - seconds, None, "s")
    finally:
        with server.login() as conn:
            delete_plates(conn, [plate])


def _loop(wells: int, seconds: float) -> None:
    arrays = [noise(SHAPE, seed) for seed in range(wells)]
    with ProcessPoolExecutor(PROCESSES) as pool:
        list(pool.map(work, arrays, [seconds] * wells))


def _workflow(server: BenchServer, folder: Path, plate: int, wells: int, seconds: float) -> None:
    (folder / "steps.py").write_text(f"import sys\nsys.path.append({str(ROOT)!r})\n{STEPS}")
    steps = [{"call": "steps:step", "params": {"seconds": seconds}}]
    (folder / "config.yaml").write_text(json.dumps({"plates": [plate], "wells": wells_of(384)[:wells], "steps": steps}))
    run_snakemake(server, folder, "--snakefile", ROOT / "Snakefile")
