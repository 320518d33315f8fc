"""A synthetic screen of two replicate plates with known hits, dose responses and faults, for the demo.

Both plates have the same compounds: negative controls in the first column, positive controls in the last one, two
compounds as dose series along rows, and single compounds everywhere else, a few of which are active. Spots in the cells
are the response. Plates have faults as real ones do: there are more spots at the edge, and a few wells are empty or out
of focus. In one column of the second plate, all wells have too many spots.
"""

from __future__ import annotations

import csv
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from openhcs_omero.plates.paths import well_name
from openhcs_omero.processing.synthetic import draw_site, write_metadata

BASE, TOP = 0.5, 8.5  # spots per cell without a compound, and at saturation
EDGE = 0.6  # more spots per cell at the edge
FAULT = 2.0  # more spots per cell in the bad column
BLUR = 5.0  # px, standard deviation of images out of focus
EC50 = {"dosed-1": 0.3, "dosed-2": 2.0}  # uM
SLOPE = 1.2
SINGLE_DOSE = 10.0  # uM


@dataclass(frozen=True)
class TwoPlates:
    """The layout of the screen.

    Parameters
    ----------
    rows, columns
        Numbers of rows and columns of wells.
    size
        Side length of an image in px.
    cells
        Number of cells per image.
    doses
        Number of doses of a dose series, in threefold steps down from 30 uM.
    hits
        Number of active compounds besides those of the dose series.
    seed
        The same seed makes the same screen, byte for byte.
    """

    rows: int = 16
    columns: int = 24
    size: int = 128
    cells: int = 6
    doses: int = 10
    hits: int = 8
    seed: int = 1

    @property
    def names(self) -> tuple[str, str]:
        """The names of the plates."""
        return "Demo screen 1", "Demo screen 2"


@dataclass(frozen=True)
class WellTruth:
    """The truth about a well.

    Parameters
    ----------
    plate
        Name of the plate.
    well, compound, concentration, control
        What the plate map says; the concentration is in uM.
    active
        Whether the compound has an effect.
    fault
        "", "edge", "bad column", "empty" or "out of focus".
    level
        Expected number of spots per cell.
    cells, spots
        What was drawn.
    """

    plate: str
    well: str
    compound: str
    concentration: float
    control: str
    active: bool
    fault: str
    level: float
    cells: int = 0
    spots: int = 0


def layout(screen: TwoPlates) -> list[WellTruth]:
    """What is in the wells of both plates, without images."""
    rng = np.random.default_rng(screen.seed)
    inner = [(r, c) for r in range(1, screen.rows - 1) for c in range(2, screen.columns - 2)]
    dosed = {
        (row, 2 + number): (compound, 30.0 / 3.0**number)
        for compound, row in zip(EC50, (screen.rows // 3, 2 * screen.rows // 3))
        for number in range(screen.doses)
    }
    free = [place for place in inner if place not in dosed]
    chosen = [free[number] for number in rng.choice(len(free), screen.hits + 8, replace=False)]
    hits, faults = chosen[: screen.hits], chosen[screen.hits :]
    bad = screen.columns // 2
    wells = []
    for number, plate in enumerate(screen.names):
        empty, blurred = faults[4 * number : 4 * number + 2], faults[4 * number + 2 : 4 * number + 4]
        for place in np.ndindex(screen.rows, screen.columns):
            compound, dose, control, level = _content(screen, place, dosed, hits)
            edge = not control and place[0] in (0, screen.rows - 1)  # the outer columns have controls
            fault = (
                "empty"
                if place in empty
                else "out of focus"
                if place in blurred
                else "bad column"
                if number == 1 and place[1] == bad
                else "edge"
                if edge
                else ""
            )
            level += {"edge": EDGE, "bad column": FAULT}.get(fault, 0.0)
            active = compound in EC50 or place in hits
            wells.append(WellTruth(plate, well_name(*place), compound, dose, control, active, fault, level))
    return wells


def _content(screen: TwoPlates, place: tuple[int, ...], dosed: dict, hits: list) -> tuple[str, float, str, float]:
    """Compound, concentration, control and expected spots per cell, without faults."""
    row, column = place
    if column == 0:
        return "DMSO", 0.0, "negative", BASE
    if column == screen.columns - 1:
        return "reference", SINGLE_DOSE, "positive", TOP
    if place in dosed:
        compound, dose = dosed[row, column]
        return compound, dose, "", BASE + (TOP - BASE) / (1 + (EC50[compound] / dose) ** SLOPE)
    level = BASE
    if place in hits:
        level = BASE + (TOP - BASE) * (0.6 + 0.4 * hits.index((row, column)) / len(hits))
    return f"C{row * screen.columns + column:04}", SINGLE_DOSE, "", level


def images(screen: TwoPlates, plate: str) -> Iterator[tuple[WellTruth, np.ndarray]]:
    """Yield every well of a plate: its truth and its image, (C, Y, X) = (2, size, size) uint16."""
    for number, well in enumerate(layout(screen)):
        if well.plate != plate:
            continue
        rng = np.random.default_rng([screen.seed, number])
        cells = 0 if well.fault == "empty" else screen.cells
        blur = BLUR if well.fault == "out of focus" else 0.0
        drawn, spots, image = draw_site(rng, screen.size, well.level, cells, blur)
        yield replace(well, cells=drawn, spots=spots), image


def write_screen(folder: Path, screen: TwoPlates) -> list[WellTruth]:
    """Write each plate to a folder of TIFFs that is named for it, and plate_map.csv beside them."""
    with ProcessPoolExecutor(len(screen.names), multiprocessing.get_context("spawn")) as pool:
        first, second = pool.map(_write_plate, [folder] * 2, [screen] * 2, screen.names)
    truths = first + second
    with (folder / "plate_map.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["well", "compound", "concentration (uM)", "control"])
        rows.writerows([truth.well, truth.compound, f"{truth.concentration:.6g}", truth.control] for truth in first)
    return truths


def _write_plate(folder: Path, screen: TwoPlates, plate: str) -> list[WellTruth]:
    import tifffile

    home = folder / plate
    home.mkdir(parents=True, exist_ok=True)
    truths = []
    for truth, image in images(screen, plate):
        for channel, plane in enumerate(image):
            tifffile.imwrite(home / f"{truth.well}_s001_z000_c{channel:03d}.tif", plane)
        truths.append(truth)
    write_metadata(home)
    return truths
