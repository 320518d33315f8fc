"""Plates with holes of every origin, and the tables that a run makes of them without Snakemake."""

import csv
import io
from pathlib import Path

import numpy as np
from ome_zarr_plates import Style, chunk_file, write_plate
from plate_folders import (
    images_of,
    write_cellvoyager,
    write_imagexpress,
    write_incell,
    write_openhcs,
    write_phenix,
    write_tiffs,
)

from openhcs_omero.core.config import read_config
from openhcs_omero.core.inspection import look, prepare
from openhcs_omero.core.rules import derive, process_well, put_together
from openhcs_omero.core.state import list_wells
from openhcs_omero.core.well_file import MANIFEST, well_file
from openhcs_omero.microscopes.detect import handler_of

FORMATS = {
    "imagexpress": write_imagexpress,
    "phenix": write_phenix,
    "cellvoyager": write_cellvoyager,
    "incell": write_incell,
    "openhcs": lambda folder, images: write_openhcs(folder, images, "disk"),
    "ome_zarr": lambda folder, images: write_plate(folder, images, Style(levels=1)),
}
EVERY = {**FORMATS, "tiffs": write_tiffs}
IMAGES = images_of(["A01", "B02", "C03"], sites=3, shape=(2, 2, 2, 3, 4))
HOLES = [(place, plane) for place in IMAGES for plane in np.ndindex(2, 2, 2)]
TABLES = ("features", "wells", "objects", "columns", "failed")


def lose(plane):
    """Delete the file of a plane, given by its path in a listing."""
    Path(chunk_file(plane) if "?" in plane else plane).unlink()


def holed(kind, folder, lost):
    """A plate named `plate` as a microscope writes it, without the planes `lost`."""
    folder.mkdir(parents=True)
    path = EVERY[kind](folder / "plate", IMAGES)
    files = handler_of(path).listing(path).files
    for place, plane in lost:
        lose(files[place][plane])
    return path


def measure(image, filemanager, metadata, backend="disk"):
    """The mean of each channel, and how many planes were not acquired."""
    means = {f"mean_c{c}": [float(part[c].mean()) for part in image] for c in range(image.shape[1])}
    return image, {**means, "filled": len(metadata["filled"]), "objects": [{"area": int(image.max())}]}


def tables_of(plate, results, **more):
    """The tables of a plate, and the sites that were skipped by well; raises PlateError where that stops a run."""
    config = {"plates": [plate], "steps": [{"call": f"{__name__}:measure"}], "results": str(results), **more}
    chosen = read_config(config)
    [label] = chosen.plates
    plan, folder = look(config, prepare), chosen.folder(label)
    derive(chosen, label, folder / "derived.json")
    for well in plan.wells(label):
        process_well(chosen, label, well, folder / "derived.json", [], well_file(folder, well), Path("log"))
    list_wells(folder / "wells.tsv")
    tables = {name: folder / f"{name}.csv" for name in TABLES}
    put_together(chosen, label, folder / "wells.tsv", {**tables, "manifest": folder / MANIFEST})
    return {name: path.read_bytes() for name, path in tables.items()}, plan.states[label].skipped


def as_imported(table, plate):
    """A table of a folder as it should be of the plate with this id that was imported from it.

    Sites count from 1 there, also where some were skipped, and nothing is skipped any more.
    """
    if not table:
        return table
    header, *rows = csv.reader(io.StringIO(table.decode()))
    dropped = ("skipped_sites", "skipped_planes")
    columns = [column for column in header if column not in dropped]
    sites = {}
    made = io.StringIO()
    out = csv.writer(made, lineterminator="\n")
    out.writerow(columns)
    for values in rows:
        row = dict(zip(header, values))
        if row.get("column") in dropped:  # the table that describes the others
            continue
        if "plate" in row:
            row["plate"] = str(plate)
        if row.get("site"):
            of_well = sites.setdefault(row["well"], {})
            row["site"] = str(of_well.setdefault(row["site"], len(of_well) + 1))
        out.writerow([row[column] for column in columns])
    return made.getvalue().encode()
