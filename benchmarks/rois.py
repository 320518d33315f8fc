"""What regions of interest cost: a well of four sites with 300 objects each, in a run with 1 s of work per well.

The figures are CPU of the client and the server, which a busy machine disturbs less than the time on the wall.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Literal

import numpy as np
from omero.gateway import BlitzGateway

from benchmarks.common import BenchServer, Ratio, best, noise, wells_of
from benchmarks.plates import delete_plates, make_plate
from openhcs_omero.omero.derived import derive_plate
from openhcs_omero.omero.derived_well import write_well
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.plates.image import NewImage
from openhcs_omero.plates.labels import RoiOptions

SITES, SIDE = 4, 512
GRID = (20, 15)  # 300 objects
WORK = 1.0  # seconds per well


def measure(server: BenchServer, quick: bool) -> Iterator[Ratio]:
    with server.login() as conn:
        plate = make_plate(conn, 96, (1, 1, 1, 4, 4))
        source = load_plate(conn, plate)
        derived = derive_plate(conn, source, "rois", {})
        try:
            yield from _measure(conn, derived, server.cpu, 1 if quick else 8)
        finally:
            delete_plates(conn, [derived, plate])


def objects() -> np.ndarray:
    """Labels of a site, (T, C, Z, Y, X): round objects of 16 to 20 px on a grid, some of which touch."""
    labels = np.zeros((1, 1, 1, SIDE, SIDE), "uint16")
    y, x = np.mgrid[:SIDE, :SIDE]
    rng = np.random.default_rng(0)
    for number, (row, column) in enumerate(np.ndindex(GRID), 1):
        center = (np.array((row, column)) + 0.5) * SIDE / np.array(GRID)
        labels[0, 0, 0][np.hypot(y - center[0], x - center[1]) < rng.uniform(8, 13)] = number
    return labels


def _measure(conn: BlitzGateway, derived: int, cpu: Callable[[], float], rounds: int) -> Iterator[Ratio]:
    wells, labels = iter(wells_of(96)), {"cells": objects()}
    pixels = [noise((1, 2, 1, SIDE, SIDE), site) for site in range(SITES)]
    number = count()

    def write(named: dict[str, np.ndarray], form: Literal["masks", "polygons"]) -> None:
        sites = {site: NewImage(f"{next(number)}", image, labels=named) for site, image in enumerate(pixels, 1)}
        write_well(conn, derived, next(wells), sites, {}, rois=RoiOptions("derived", form))

    seconds = best(
        {
            "none": lambda: write({}, "masks"),
            "masks": lambda: write(labels, "masks"),
            "polygons": lambda: write(labels, "polygons"),
        },
        rounds,
        cpu,
    )
    for form in ("masks", "polygons"):
        extra, run = seconds[form] - seconds["none"], WORK + seconds[form]
        yield Ratio(f"4 sites x 300 objects as {form}, of a well with 1 s of work", extra, run, "s of CPU", 0.2, "less")
