"""A campaign, in which each plate is a run of its own; the plates are in folders."""

import pytest
from plate_folders import images_of, write_imagexpress
from snake import ROOT, Workflow, kill, wait_for

from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.core.status import read_status

STEP = """
import os
import time
from pathlib import Path


def measure(image, filemanager, metadata, backend="disk", folder=""):
    Path(folder, f"begun_{metadata['well']}_{os.getpid()}").touch()
    while os.path.exists(f"{folder}/wait"):
        time.sleep(0.05)
    if os.path.exists(f"{folder}/broken") and metadata["well"] == "B03":
        raise ValueError("no cells here")
    return image, {"bright": int(image.max())}
"""


@pytest.fixture
def campaign(tmp_path):
    """Three plates of different wells, and a step."""
    campaign = Workflow(None, None, tmp_path / "work")
    campaign.snakefile = ROOT / "workflow" / "campaign.smk"
    for name, wells in {"day 1": ["A01"], "day_2": ["A02", "B03"], "day_3": ["A04"]}.items():
        write_imagexpress(campaign.folder / name, images_of(wells, sites=1, shape=(1, 1, 1, 6, 5)))
    (campaign.folder / "own.py").write_text(STEP)
    steps = [{"call": "own:measure", "params": {"folder": str(campaign.folder)}}]
    campaign.configure("day 1", {"path": "day_2"}, "day_3", steps=steps, heatmaps=[])
    return campaign


def wells(campaign, plate):
    table = campaign.folder / "runs" / plate / "results" / f"plate_{plate}_processed" / "wells.csv"
    return [row["well"] for row in read_rows(table)] if table.exists() else []


@pytest.mark.slow
def test_each_plate_is_a_run(campaign):
    """A failed well costs its plate alone. After a kill, and when it is repaired, the same command continues."""
    (campaign.folder / "wait").touch()
    head = campaign.start("--keep-going")
    wait_for(lambda: len(list(campaign.folder.glob("begun*"))) == 2)
    config = campaign.folder / "config.yaml"
    before = config.read_text()
    config.write_text(f"{before}\noutput: other\n")
    another = campaign()
    assert another.status == 1 and "Error: another run is active in" in another.output and not another.jobs
    assert "other" not in (campaign.folder / "runs" / "day_3" / "config.json").read_text()
    config.write_text(before)
    kill(head)
    for path in [campaign.folder / "wait", *campaign.folder.glob("begun*")]:
        path.unlink()
    campaign.succeed("--unlock")

    (campaign.folder / "broken").touch()
    run = campaign("--keep-going")
    log = (campaign.folder / "runs" / "day_2" / "run.log").read_text()
    assert run.status == 1 and run.jobs == {"run_plate": 2, "gather_wells": 1}, run.output
    table = campaign.folder / "runs" / "screen_wells.csv"
    assert [row["well"] for row in read_rows(table)] == ["A01", "A02", "A04"]
    assert "3 plates: 3 of 4 wells are processed, 1 failed" in (campaign.folder / "runs" / "index.html").read_text()
    assert "runs/day_2/run.log" in run.output and "B03 of plate day_2, site 1" in log
    assert [wells(campaign, plate) for plate in ("day 1", "day_2", "day_3")] == [["A01"], ["A02"], ["A04"]]
    assert len(list(campaign.folder.glob("begun*"))) == 4, "and no well was processed twice"

    (campaign.folder / "broken").unlink()
    assert campaign.succeed("--keep-going").jobs == {"run_plate": 1, "gather_wells": 1, "all": 1}
    assert [row["well"] for row in read_rows(table)] == ["A01", "A02", "B03", "A04"]
    assert wells(campaign, "day_2") == ["A02", "B03"]
    page = (campaign.folder / "runs" / "day_2" / "results" / "index.html").read_text()
    assert "2 of 2 wells are processed" in page
    page = (campaign.folder / "runs" / "index.html").read_text()
    assert "3 plates: 4 of 4 wells are processed" in page and 'http-equiv="refresh"' not in page
    assert 'href="day%201/results/plate_day%201_processed/wells.csv"' in page and 'href="day_2/run.log"' in page
    status = read_status(campaign.folder)
    assert [plate.done for plate in status.plates] == [1, 2, 1] and status.ended
    assert campaign.succeed().nothing_done


def test_a_wrong_configuration_is_one_sentence(campaign):
    campaign.configure("day_2", "./day_2", steps=[{"call": "own:measure"}])
    run = campaign()
    assert run.status == 1 and "Error: plates has 'day_2' and './day_2'" in run.output and "File" not in run.output
    assert not (campaign.folder / "runs").exists()
