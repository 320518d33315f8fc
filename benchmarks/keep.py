"""A change of the last of three steps, with the images after the second one kept: the time per well.

The steps compute for 1 s, 1 s and 0.05 s per well. The figures include reading from OMERO and writing the results.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.common import BenchServer, Ratio, wells_of
from benchmarks.plates import delete_plates, make_plate
from openhcs_omero.core import rules, worker_pool
from openhcs_omero.core.config import read_config
from openhcs_omero.core.inspection import look, prepare

STEPS = """
import time


def work(image, filemanager, metadata, backend="disk", seconds=1.0, level=0):
    end = time.thread_time() + seconds
    while time.thread_time() < end:  # it computes, so that a busy machine slows it down as it does the rest
        image.mean()
    return image + level, {"mean": float(image.mean())}
"""


def measure(server: BenchServer, quick: bool) -> Iterator[Ratio]:
    wells = 2 if quick else 8
    with server.login() as conn:
        plate = make_plate(conn, 96, (1, 2, 1, 64, 64) if quick else (1, 2, 1, 1024, 1024))
    try:
        with tempfile.TemporaryDirectory(prefix="openhcs-bench-") as folder, _working(server, Path(folder)):
            _wells(plate, wells, 0)  # later runs replace its images, which takes longer
            changed = min(_wells(plate, wells, level) for level in (1, 2))
            shutil.rmtree("scratch")
            whole = _wells(plate, wells, 3)
        yield Ratio(
            "a well after a change of the last of three steps, against a whole run",
            changed,
            whole,
            "s",
            0.15,
            "less",
        )
    finally:
        with server.login() as conn:
            delete_plates(conn, [plate])


@contextlib.contextmanager
def _working(server: BenchServer, folder: Path) -> Iterator[None]:
    """Work in a folder as the user of the server."""
    before, where = dict(os.environ), Path.cwd()
    os.environ.update(server.environment())
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), str(where), os.environ.get("PYTHONPATH", "")])
    (folder / "steps_of_keep.py").write_text(STEPS)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(where)
        os.environ.clear()
        os.environ.update(before)


def _wells(plate: int, count: int, level: int) -> float:
    """Process the wells; returns the seconds per well, without the first, for which the worker imports everything."""
    names = ["first", "second", "last"]
    config: dict[str, Any] = {
        "plates": [plate],
        "wells": wells_of(96)[: count + 1],
        "scratch": "scratch",
        "steps": [
            {"call": "steps_of_keep:work", "name": name, "params": {"seconds": seconds}, "keep": name == "second"}
            for name, seconds in zip(names, (1.0, 1.0, 0.05))
        ],
    }
    config["steps"][2]["params"]["level"] = level
    look(config, then=prepare)
    folder = read_config(config).folder(plate)
    if not (folder / "derived.json").exists():
        rules.derive(read_config(config), str(plate), folder / "derived.json")
    began = 0.0
    for number, well in enumerate(config["wells"]):
        if number == 1:
            began = time.perf_counter()
        wildcards = SimpleNamespace(plate=str(plate), well=well)
        worker_pool.process_well(
            config, wildcards, [str(folder / "derived.json")], str(folder / f"processed/{well}.zip"), f"logs/{well}.log"
        )
    return (time.perf_counter() - began) / count
