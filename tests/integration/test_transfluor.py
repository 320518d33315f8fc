"""The real Transfluor images, one row of a 384-well plate: imported and processed, with the active wells on top."""

import numpy as np
import pytest
from PIL import Image
from snake import ROOT, workflow

from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.microscopes.importing import import_folder
from openhcs_omero.omero.derived import find_derived
from openhcs_omero.omero.plate import load_plate

__all__ = ["workflow"]

IMAGES = ROOT.parent / "shared" / "data" / "transfluor"
# From visual inspection: in these wells GFP has gathered into puncta; in all others it is diffuse.
PUNCTA = {"O01", "O05", "O06", "O07", "O08", "O09"}


@pytest.mark.skipif(not IMAGES.is_dir(), reason="the Transfluor images are not here")
@pytest.mark.slow
def test_wells_with_puncta_score_above_the_others(workflow, conn):
    plate = import_folder(conn, IMAGES)
    source = load_plate(conn, plate)
    assert len(source.wells) == 24 and sum(len(well.images) for well in source.wells.values()) == 72
    assert (source.rows, source.columns) == (16, 24)

    workflow.configure(
        plate,
        heatmaps=["spots_c0"],
        steps=[
            {"call": "openhcs_omero.processing.illumination:correct_illumination"},
            {"call": "openhcs_omero.processing.spots:count_spots"},
        ],
    )
    run = workflow.succeed()
    assert run.jobs["process_well"] == 24 and run.jobs["estimate"] == 1

    spots = {row["well"]: float(row["spots_c0"]) for row in read_rows(workflow.results(plate) / "wells.csv")}
    ranked = sorted(spots, key=spots.__getitem__, reverse=True)
    assert set(ranked[:6]) == PUNCTA, ranked
    assert spots[ranked[5]] > 3 * spots[ranked[6]]
    assert len(read_rows(workflow.results(plate) / "features.csv")) == 72

    derived = load_plate(conn, find_derived(conn, plate, "processed"))
    assert {(image.shape, image.pixel_type) for _, image in derived.images()} == {((1, 1, 1, 512, 512), "uint8")}
    with np.load(workflow.results(plate) / "estimates" / "1_correct_illumination_c0.npz") as estimates:
        [light] = estimates.values()
    assert light.shape == (512, 512) and 1.5 < light.max() / light.min() < 5
    assert Image.open(workflow.results(plate) / "figures" / "montage.png").width > 1000
    assert workflow.succeed().nothing_done
