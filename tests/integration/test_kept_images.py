"""Kept images in whole runs on OMERO: a change behind the step, with and without them."""

import shutil

import pytest
from snake import workflow
from wire import make_plate, wire

from openhcs_omero.omero.derived import find_derived
from openhcs_omero.omero.plate import load_plate

__all__ = ["wire", "workflow"]

STEPS = """
import numpy as np


def even(image, filemanager, metadata, backend="disk"):
    plate = np.mean([estimate.mean() for estimate in metadata["plate_estimate"].values()])
    print("even runs")
    return np.asfortranarray(image / plate), {"level": plate}


even.plate_estimate = lambda planes: np.mean(list(planes), axis=0)


def last(image, filemanager, metadata, backend="disk", by=1):
    return (image * by).astype("float32"), {"mean": np.float32(image.mean())}
"""


@pytest.mark.slow
def test_a_changed_last_step(workflow, conn):
    plate = make_plate(conn, {"A01": 2, "B01": 1}, shape=(1, 2, 1, 20, 30))
    (workflow.folder / "kept_steps.py").write_text(STEPS)

    def run(by, keep=True):
        steps = [{"call": "kept_steps:even", "keep": keep}, {"call": "kept_steps:last", "params": {"by": by}}]
        workflow.configure(plate, steps=steps, scratch="scratch", heatmaps=[])
        done = workflow.succeed()
        log = (workflow.results(plate) / "logs" / "process_well_A01.log").read_text()
        derived = load_plate(conn, find_derived(conn, plate, "processed"))
        tables = [(workflow.results(plate) / name).read_bytes() for name in ("features.csv", "wells.csv")]
        return done, log, {(well, image.site): image.sha1 for well, image in derived.images()}, tables

    _, log, first, _ = run(by=1)
    assert log.count("even runs") == 2
    done, log, second, tables = run(by=2)
    assert done.wells == ["A01", "B01"] and "estimate" not in done.jobs
    assert "starts from the images that step 1 left in scratch/kept/" in log and "even runs" not in log
    assert all(second[place] != first[place] for place in first)
    shutil.rmtree(workflow.folder / "scratch")
    assert run(by=2, keep=False)[0].nothing_done  # to keep images changes no results
    run(by=1)
    shutil.rmtree(workflow.folder / "scratch")
    _, log, whole, whole_tables = run(by=2)
    assert log.count("even runs") == 2 and (whole, whole_tables) == (second, tables)
