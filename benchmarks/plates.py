"""Plates for the benchmarks that run the workflow."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from omero.gateway import BlitzGateway
from omero.model import ImageI, PlateI, WellI, WellSampleI
from omero.rtypes import rint, rstring

from benchmarks.common import BenchServer, noise, wells_of
from openhcs_omero.omero import queries
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.writing import write_well_images
from openhcs_omero.plates.image import NewImage
from openhcs_omero.plates.paths import parse_well

AT_ONCE = 48  # images per call
PLATES_AT_ONCE = 5


def make_plate(conn: BlitzGateway, wells: int, shape: tuple[int, ...], dtype: str = "uint16") -> int:
    """Create a plate with one site per well, and return its id.

    Parameters
    ----------
    conn
        The connection.
    wells
        96, 384 or 1536.
    shape
        Shape of each image, (T, C, Z, Y, X).
    dtype
        Pixel type of the images.
    """
    group = queries.current_group(conn)
    plate, names = PlateI(), wells_of(wells)
    plate.name = rstring("benchmark")
    for begin in range(0, wells, AT_ONCE):
        some = names[begin : begin + AT_ONCE]
        images = [NewImage(name, noise(shape, begin + n, dtype)) for n, name in enumerate(some)]
        for name, image in zip(some, write_well_images(conn, images, "benchmark", group)):
            well, sample = WellI(), WellSampleI()
            well.row, well.column = map(rint, parse_well(name))
            sample.image = ImageI(image.image_id, False)
            well.addWellSample(sample)
            plate.addWell(well)
    made = queries.update(conn).saveAndReturnObject(plate, queries.context(conn, group)).id.val
    os.sync()  # the next measurement must not wait for these pixels to be written to disk
    return made


def copy_plate(conn: BlitzGateway, plate_id: int, count: int) -> list[int]:
    """Create plates with the wells and the images of a plate with one site per well, and return their ids."""
    images = [(*parse_well(name), image.image_id) for name, image in load_plate(conn, plate_id).images()]
    options, ids = queries.context(conn, queries.current_group(conn)), []
    for begin in range(0, count, PLATES_AT_ONCE):
        plates = [PlateI() for _ in range(min(PLATES_AT_ONCE, count - begin))]
        for plate in plates:
            plate.name = rstring("benchmark")
            for row, column, image in images:
                well, sample = WellI(), WellSampleI()
                well.row, well.column = rint(row), rint(column)
                sample.image = ImageI(image, False)
                well.addWellSample(sample)
                plate.addWell(well)
        ids += queries.update(conn).saveAndReturnIds(plates, options)
    return ids


def delete_plates(conn: BlitzGateway, plates: list[int]) -> None:
    """Delete plates with all of their contents, and the plates derived from them."""
    from openhcs_omero.omero.derived import find_derived

    derived = [find_derived(conn, plate, "processed") for plate in plates]
    queries.delete(conn, queries.current_group(conn), Plate=[*plates, *(one for one in derived if one is not None)])


# Processes some of the wells (every argv[2]-th, starting at argv[1]) as their jobs would, but without Snakemake. Run it
# in a folder with a config.yaml, after Snakemake has listed the wells and created the derived plate.
WITHOUT_SNAKEMAKE = """
import json, sys
from openhcs_omero.core.config import read_config
from openhcs_omero.core.rules import process_well
from openhcs_omero.core.well_file import well_file

settings = read_config(json.load(open("config.yaml")))
(plate,) = settings.plates
folder = settings.folder(plate)
(folder / "processed").mkdir(exist_ok=True)
first, step = map(int, sys.argv[1:])
for well in sorted(json.loads((folder / "wells.json").read_text()))[first::step]:
    process_well(settings, plate, well, folder / "derived.json", [], well_file(folder, well), folder / "well.log")
"""


def run_snakemake(server: BenchServer, folder: Path, *options: str | Path) -> str:
    """Run Snakemake with two cores and the folder's config.yaml, check that it succeeds, and return its output."""
    command = [sys.executable, "-m", "snakemake", "--configfile", "config.yaml", "--cores", "2"]
    return run([*command, *options], folder, server.environment())


def run(command: Sequence[str | Path], folder: Path, environment: Mapping[str, str]) -> str:
    """Run a command, check that it succeeds, and return its output."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nthis did not work: {' '.join(map(str, command))}")
    return done.stdout
