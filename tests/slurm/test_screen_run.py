"""A screen of twelve plates through Slurm, with its analysis; the tables are those of a run on this machine."""

from __future__ import annotations

import subprocess
import sys

import omero.model
import pytest
from omero.rtypes import rstring
from slurm_project import ROOT, processed_wells

from openhcs_omero.core.plate_tables import read_rows

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

PLATES, WELLS = 12, ["A01", "A02", "B03"]
MAP = "well,compound,concentration (uM),control\nA01,DMSO,0,negative\nA02,reference,10,positive\nB03,sample,10,\n"
STEPS = [
    {"call": "openhcs_omero.processing.spots:count_spots", "channels": [0]},
    {"call": "openhcs_omero.processing.cells:segment_cells", "channels": [1]},
]
ANALYSIS = {"features": ["spots_c0", "cells_c1"], "normalise": ["percent_of_control"]}


def make_screen(omero_server, plates):
    conn = omero_server.login()
    try:
        screen = omero.model.ScreenI()
        screen.name = rstring("Slurm screen")
        for plate in plates:
            screen.linkPlate(omero.model.PlateI(plate, False))
        return conn.getUpdateService().saveAndReturnObject(screen).id.val
    finally:
        conn.close()


def tables_of(folder):
    """The tables of all plates, and those of the screen, by their paths."""
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.csv")}
    assert len(found) > PLATES * 5
    return found


def test_a_screen_of_twelve_plates(project, omero, make_plate):
    plates = [make_plate() for _ in range(PLATES)]
    screen = make_screen(omero, plates)
    changed = {"plates": [{"screen": screen}], "plate_map": "map.csv", "steps": STEPS, "analysis": ANALYSIS}
    own = project("screen", WELLS, per_job=3, changed=changed)
    (own.folder / "map.csv").write_text(MAP)
    said = own.run()
    assert len(processed_wells(said)) == PLATES * len(WELLS) and f"is {PLATES} plates" in said
    table = own.folder / "results" / "screen_screen" / "screen_wells.csv"
    assert sorted({int(row["plate"]) for row in read_rows(table)}) == sorted(plates)
    assert "Nothing to be done" in own.run()
    on_slurm = tables_of(own.folder / "results")

    other = own.folder / "here"
    other.mkdir()
    for name in ("own.yaml", "map.csv"):
        (other / name).write_text((own.folder / name).read_text())
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--configfile", "own.yaml"]
    done = subprocess.run(
        [*command, "--cores", "2"],
        cwd=other,
        env={**own.environment, "OMERO_PASSWORD": omero.password},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert tables_of(other / "results") == on_slurm


def test_a_plate_whose_tables_fail_is_left_out(project, make_plate):
    """The job that analyzes all plates, on a node, knows which ones are left out."""
    good, bad = make_plate(), make_plate()
    plates = [good, {"path": bad, "plate_map": "clash.csv"}]
    changed = {"plates": plates, "plate_map": "map.csv", "analysis": {"features": ["taken"]}}
    own = project("left", WELLS, changed=changed)
    (own.folder / "map.csv").write_text(MAP)
    (own.folder / "clash.csv").write_text(MAP.replace("compound", "taken"))
    assert own.finish(own.start("--retries", "0")) == 1
    folder = own.folder / "results" / "screen_left"
    assert {row["plate"] for row in read_rows(folder / "screen_wells.csv")} == {str(good)}, own.said()
    [left_out] = read_rows(folder / "left_out.csv")
    assert left_out["plate"] == str(bad) and f"are without plate {bad} ({left_out['reason']})" in own.said()
    assert f"plate {bad} is not analyzed: {left_out['reason']}" in (folder / "analyze.log").read_text()
