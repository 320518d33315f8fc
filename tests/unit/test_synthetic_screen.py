"""The synthetic screen of the demo: its truth, and that the steps and the analysis find it, on smaller plates."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from openhcs_omero.analysis.image_qc import compare_sites, measure_site
from openhcs_omero.analysis.screen import analyze
from openhcs_omero.analysis.settings import read_settings
from openhcs_omero.demo import FEATURE, configuration
from openhcs_omero.processing.cells import label_cells
from openhcs_omero.processing.spots import find_spots
from openhcs_omero.processing.synthetic_screen import EC50, TwoPlates, images, layout, write_screen

SMALL = TwoPlates(rows=8, columns=12, doses=7, hits=3)


def test_the_layout_is_that_of_a_screen():
    wells = layout(TwoPlates())
    assert len(wells) == 2 * 384 and layout(TwoPlates()) == wells
    for plate in TwoPlates().names:
        mine = [well for well in wells if well.plate == plate]
        assert Counter(well.control for well in mine) == {"": 352, "negative": 16, "positive": 16}
        faults = Counter(well.fault for well in mine)
        assert faults["empty"] == faults["out of focus"] == 2 and faults["edge"] == (
            44 if plate == TwoPlates().names[0] else 42
        )
        assert faults["bad column"] == (0 if plate == TwoPlates().names[0] else 16)
        assert len({well.compound for well in mine if well.active}) == 8 + len(EC50)
    first, second = wells[:384], wells[384:]
    assert [well.compound for well in first] == [well.compound for well in second]


def test_the_folders_can_be_imported(tmp_path):
    truths = write_screen(tmp_path, TwoPlates(rows=6, columns=8, doses=2, hits=0, size=64, cells=1))
    assert len(truths) == 96 and len(list((tmp_path / "Demo screen 1").glob("*.tif"))) == 96
    assert sum(truth.cells for truth in truths) == sum(truth.fault != "empty" for truth in truths)
    with (tmp_path / "plate_map.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 48 and rows[0] == {
        "well": "A01",
        "compound": "DMSO",
        "concentration (uM)": "0",
        "control": "negative",
    }


@pytest.fixture(scope="module")
def screen():
    """The truth and the measurements of all wells, and what the analysis of the demo makes of them."""
    rows, sites = [], []
    for truth, image in (well for plate in SMALL.names for well in images(SMALL, plate)):
        rows.append({**vars(truth), "measured": len(find_spots(image[0])[0]), "found": label_cells(image[1], 22).max()})
        quality = measure_site(image[None, :, None])
        sites.append({"plate": truth.plate, "well": truth.well, "site": 1, "reason": "", **quality})
    truth, config = pd.DataFrame(rows), configuration(Path("."), [1, 2])
    qc = pd.concat([compare_sites(plate, range(2)) for _, plate in pd.DataFrame(sites).groupby("plate", sort=False)])
    excluded = ((qc["empty"] == 1) | (qc["focus_z_c1"] < -8)).to_numpy()
    table = pd.DataFrame(
        {
            "plate": truth["plate"],
            "well": truth["well"],
            "sites": 1,
            "sites_excluded": excluded.astype(int),
            "compound": truth["compound"],
            "concentration (uM)": truth["concentration"],
            "control": truth["control"].replace("", None),
            FEATURE: truth["measured"].astype(float).mask(excluded),
            "cells_c1": truth["found"].astype(float).mask(excluded),
        }
    )
    settings = read_settings({"analysis": config["analysis"], "qc": config["qc"]})
    return truth.assign(excluded=excluded), analyze(table, settings)


def test_the_steps_count_what_was_drawn(screen):
    truth, _ = screen
    sharp = truth[truth["fault"] != "out of focus"]
    assert (sharp["found"] == sharp["cells"]).mean() > 0.98
    assert sharp["measured"].sum() == pytest.approx(sharp["spots"].sum(), rel=0.02)


def test_exactly_the_bad_wells_are_excluded(screen):
    truth, answers = screen
    assert (truth["excluded"] == truth["fault"].isin(["empty", "out of focus"])).all()
    assert "8 of 192 sites are excluded, all sites of 8 wells" in answers.notes


def test_all_planted_hits_and_no_others_are_found(screen):
    truth, answers = screen
    assert set(answers.hits["compound"]) == set(truth.loc[truth["active"], "compound"])


def test_ec50s_are_within_their_confidence_intervals(screen):
    fits = screen[1].dose_response.set_index("compound")
    for compound, true in EC50.items():
        assert fits.loc[compound, "ec50_low"] < true < fits.loc[compound, "ec50_high"]


def test_quality_shows_the_controls_and_the_bad_column(screen):
    truth, answers = screen
    quality = answers.quality[answers.quality["feature"] == FEATURE].set_index("plate")
    for plate, mine in truth.groupby("plate"):
        p, n = (mine.loc[mine["control"] == kind, "measured"].to_numpy() for kind in ("positive", "negative"))
        z_prime = 1 - 3 * (p.std(ddof=1) + n.std(ddof=1)) / abs(p.mean() - n.mean())
        assert quality.loc[plate, "z_prime"] == pytest.approx(z_prime)
    first, second = (abs(quality.loc[plate, "column_effect"]) for plate in SMALL.names)
    assert second > 3 > first and np.isfinite(quality["edge_effect"]).all()
