"""Plates by screens, tags, names and files, asked of a server."""

import os

import omero
import pytest
import yaml
from omero.rtypes import rstring
from snake import workflow
from typer.testing import CliRunner
from wire import make_plate, wire

from openhcs_omero.cli import app
from openhcs_omero.core.config_check import check_config
from openhcs_omero.core.orchestrator.snakefile import find_workflow
from openhcs_omero.core.selection import NAME, recall_plates, record_plates, select_plates
from openhcs_omero.errors import OpenHCSError
from openhcs_omero.omero import queries
from openhcs_omero.omero.derived import derive_plate
from openhcs_omero.omero.plate import load_plate

__all__ = ["wire", "workflow"]

SCHEMA = find_workflow() / "workflow" / "schemas" / "config.schema.yaml"
STEP = {"call": "openhcs_omero.processing.spots:count_spots"}


@pytest.fixture
def select(conn):
    def select(*entries):
        """The plates that entries stand for, and what is said about them."""
        config = {"plates": list(entries), "steps": [STEP]}
        check_config(config, SCHEMA)
        said = []
        select_plates(config, lambda: conn, said.append)
        return config["plates"], said

    return select


def refusal(select, *entries):
    with pytest.raises(OpenHCSError) as error:
        select(*entries)
    assert "\n" not in str(error.value)
    return str(error.value)


def make_screen(conn, name, plates):
    screen = omero.model.ScreenI()
    screen.name = rstring(name)
    for plate in plates:
        screen.linkPlate(omero.model.PlateI(plate, False))
    return queries.update(conn).saveAndReturnObject(screen).id.val


@pytest.fixture
def plates(conn):
    """Three plates of a screen, one of which is tagged, and a derived plate in the screen too."""
    made = [make_plate(conn, {"A01": 1}, name=name) for name in ("Assay_A_1", "Assay_A_2", "Assay_B_1")]
    screen = make_screen(conn, "Assay A", made)
    derived = derive_plate(conn, load_plate(conn, made[0]), "processed", {})
    somebody_links = omero.model.ScreenPlateLinkI()
    somebody_links.parent, somebody_links.child = omero.model.ScreenI(screen, False), omero.model.PlateI(derived, False)
    queries.update(conn).saveObject(somebody_links)
    tag = omero.model.TagAnnotationI()
    tag.textValue = rstring("batch 3")
    link = omero.model.PlateAnnotationLinkI()
    link.parent, link.child = omero.model.PlateI(made[1], False), tag
    queries.update(conn).saveObject(link)
    return screen, made


def test_plates_by_what_people_call_them(select, plates, tmp_path):
    screen, (first, second, third) = plates
    assert select({"screen": screen})[0] == select({"screen": "Assay A"})[0] == [first, second, third]
    assert select({"tag": "batch 3"}) == ([second], [f"{{'tag': 'batch 3'}} is 1 plate: plate {second} (Assay_A_2)"])
    assert select({"name": "Assay_A_*"})[0] == [first, second]
    assert select({"name": "Assay_?_[1]"})[0] == [first, third]
    listed = tmp_path / "plates.txt"
    listed.write_text(f"\ufeff{first}  # the first\n\n/omero/plate_{third}_x\n/data/day 1\n# {second}\n")
    assert select({"file": str(listed)})[0] == [first, f"/omero/plate_{third}_x", "/data/day 1"]


def test_entries_keep_their_other_keys(select, plates):
    screen, (first, _, third) = plates
    entry = {"screen": screen, "except": [third, "*_A_2"], "wells": ["A01"], "incomplete": "skip"}
    assert select(entry, third)[0] == [{"path": first, "wells": ["A01"], "incomplete": "skip"}, third]


def test_what_is_refused(select, plates, conn, tmp_path):
    screen, (first, second, _) = plates
    assert "there is no screen named 'Assay Z'" in refusal(select, {"screen": "Assay Z"})
    assert "there is no screen 999999" in refusal(select, {"screen": 999999})
    assert "there is no tag 'x'" in refusal(select, {"tag": "x"})
    assert "stands for no plate" in refusal(select, {"name": "assay*"})
    assert "stands for no plate after `except`" in refusal(select, {"tag": "batch 3", "except": [second]})
    assert f"plate {first} (Assay_A_1) is among" in refusal(select, first, {"screen": screen})
    assert "plate" in refusal(select, {"name": "Assay_A_1"}, f"/omero/plate_{first}")
    assert "must have one of the keys path, screen" in refusal(select, {"wells": ["A01"]})
    assert "must have one of the keys" in refusal(select, {"screen": 1, "tag": "x"})
    assert "can't be read: No such file" in refusal(select, {"file": str(tmp_path / "none.txt")})
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_text("1\n" * 1_100_000)
    for name in ("pipe", "long"):
        assert "is no regular file, or larger than 2 MB" in refusal(select, {"file": str(tmp_path / name)})
    again = make_screen(conn, "Assay A", [])
    assert f"2 screens named 'Assay A': choose one by its id, {screen}, {again}" in refusal(
        select, {"screen": "Assay A"}
    )


def test_a_thousand_plates_take_as_many_calls_as_three(select, plates, conn, wire):
    screen, _ = plates
    made = []
    for number in range(200):
        plate = omero.model.PlateI()
        plate.name = rstring(f"many_{number:03d}")
        made.append(plate)
    ids = queries.update(conn).saveAndReturnIds(made)
    many = make_screen(conn, "many", ids)
    calls = []
    for which in (screen, many):
        wire.start()
        select({"screen": which})
        wire.stop()
        calls.append(len(wire.calls))
    assert calls[0] == calls[1] < 6


def test_jobs_find_what_the_run_took(tmp_path):
    asked = [{"screen": "Assay A"}, 9]
    config = {"plates": list(asked), "results": str(tmp_path)}
    assert not recall_plates(config)
    record_plates(tmp_path, asked, [{"path": 7, "wells": ["A01"]}, 9])
    assert recall_plates(config) and config["plates"] == [{"path": 7, "wells": ["A01"]}, 9]
    assert not recall_plates({"plates": [{"screen": "Assay B"}], "results": str(tmp_path)})


@pytest.mark.slow
def test_a_run_over_a_screen(workflow, plates):
    """The derived plate that is in the screen is not processed, and a rerun finds nothing to do."""
    screen, made = plates
    workflow.configure(
        {"screen": screen, "except": ["Assay_B_*"]}, {"name": "Assay_B_1", "wells": ["A01"]}, heatmaps=[]
    )
    run = workflow.succeed()
    assert run.jobs["process_well"] == 3 and f"is 2 plates: plate {made[0]} (Assay_A_1), plate {made[1]}" in run.output
    assert all((workflow.results(plate) / "wells.csv").exists() for plate in made)
    used = yaml.safe_load((workflow.results(made[0]) / "run.yaml").read_text())["configuration"]["plates"]
    assert used == [made[0], made[1], {"path": made[2], "wells": ["A01"]}]
    assert (workflow.folder / "results" / NAME).exists()
    assert "Nothing to be done" in workflow.succeed().output
    shown = CliRunner().invoke(app, ["status", str(workflow.folder)]).stdout
    assert "3 plates: 3 of 3 wells are processed." in shown and "Assay_B_1" in shown and shown.count("done") == 3
    assert "The run ended at" in shown
    assert CliRunner().invoke(app, ["status", str(workflow.folder / "results")]).exit_code == 1
