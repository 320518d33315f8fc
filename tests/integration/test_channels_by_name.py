"""Channels named in the configuration are looked up in each plate."""

import numpy as np
import pytest
import yaml
from snake import workflow
from wire import add_well, make_plate

from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.omero import queries
from openhcs_omero.omero.writing import write_well_images
from openhcs_omero.plates.image import NewImage

__all__ = ["workflow"]

STEPS = """
import numpy as np


def level(image, filemanager, metadata, backend="disk", nuclei_channel: int = 0, channels: list[int] | None = None):
    return image, {"nuclei": float(image[:, nuclei_channel].mean()), "cells": float(image[:, channels].mean()),
                   "even": float(np.mean(metadata["plate_estimate"][channels[0]]))}


level.plate_estimate = lambda planes, nuclei_channel=0: np.mean([plane.mean() for plane in planes]) * np.ones((2, 2))
"""
VALUE = {"GFP": 7, "DAPI": 40}
STEP = {"call": "named_steps:level", "channels": ["GFP"], "params": {"nuclei_channel": "DAPI"}}
SPOTS = {"call": "openhcs_omero.processing.spots:count_spots", "channels": ["GFP"]}


def named_plate(conn, *names):
    """A plate with one site in A01 and B01, whose channels have these names and the values of `VALUE`."""
    pixels = np.array([VALUE.get(name, 0) for name in names], "uint16").reshape(1, -1, 1, 1, 1) + np.zeros(
        (1, len(names), 1, 8, 8), "uint16"
    )
    plate = make_plate(conn, {"C01": 0})
    for well in ("A01", "B01"):
        [image] = write_well_images(conn, [NewImage(well, pixels, names)], "test", queries.current_group(conn))
        add_well(conn, plate, well, image.image_id)
    return plate


@pytest.mark.slow
def test_each_plate_has_its_own_numbers(workflow, conn):
    first, second = named_plate(conn, "GFP", "DAPI"), named_plate(conn, "DAPI", "GFP", "other")
    (workflow.folder / "named_steps.py").write_text(STEPS)
    workflow.configure(first, second, steps=[STEP, SPOTS], heatmaps=["spots_cGFP", "nuclei"])
    done = workflow.succeed()
    assert done.jobs["process_well"] == 4 and done.jobs["estimate"] == 2
    for plate, number in ((first, 0), (second, 1)):
        folder = workflow.results(plate)
        for row in read_rows(folder / "features.csv"):
            assert (row["nuclei"], row["cells"], row["even"]) == ("40.0", "7.0", "7.0")
            assert row[f"spots_c{number}"] == "0"
        assert {file.name for file in (folder / "figures" / "heatmaps").glob("*.png")} == {
            f"spots_c{number}.png",
            "nuclei.png",
        }
        run = yaml.safe_load((folder / "run.yaml").read_text())
        assert run["steps"][0]["channels"] == [number] and run["configuration"]["steps"][0]["channels"] == ["GFP"]
    assert workflow("-n").nothing_done and workflow.succeed().nothing_done


def test_a_name_that_a_plate_lacks(workflow, conn):
    plate = named_plate(conn, "GFP", "GFP")
    workflow.configure(plate, steps=[SPOTS])
    run = workflow()
    [told] = [line for line in run.output.splitlines() if line.startswith("Error: ")]
    assert f"plate {plate} has several channels of that name: its channels are 0 GFP, 1 GFP" in told
    assert run.status == 1 and not run.jobs and not list(workflow.folder.glob("results/*/*"))
