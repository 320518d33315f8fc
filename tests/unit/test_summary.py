"""The summary names a lost server also if no well lost it."""

import os
from types import SimpleNamespace

import pytest

from openhcs_omero.core.summary import about_screen, summary

SAID = "OMERO at omero.example.org:4064 went away; run the same command again"


@pytest.fixture
def plan(tmp_path):
    """A plan of one plate, of whose two wells one was processed."""
    for name, text in (
        ("processed/A01.zip", ""),
        ("derived.json", "{}"),
        ("logs/annotate.log", f"Traceback\n{SAID}\n"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    settings = SimpleNamespace(plates={"7": "/omero/plate_7"}, folder=lambda label: tmp_path, has_qc=False)
    return SimpleNamespace(settings=settings, problems={}, wells=lambda label: ["A01", "A02"])


def test_a_server_that_was_lost_by_the_last_job(plan, tmp_path):
    assert summary(plan)[0].splitlines()[-1] == SAID
    (tmp_path / "annotations.json").write_text("{}")  # a later run wrote what the job was to write
    assert SAID not in summary(plan)[0]


def test_a_server_that_was_lost_by_wells(plan, tmp_path):
    (tmp_path / "logs" / "process_well_A02.log").write_text(f"{SAID}\n")
    assert summary(plan)[0].splitlines()[-1] == SAID.replace("away;", "away during 1 well;")


def test_results_of_all_plates_that_were_not_made(tmp_path):
    """Of two plates, one has no tables; later, one has tables that are newer than those of all plates."""
    settings = SimpleNamespace(
        plates={"7": "/omero/plate_7", "8": "/omero/plate_8"},
        folder=lambda label: tmp_path / label,
        screen_folder=tmp_path / "screen",
    )
    plan = SimpleNamespace(settings=settings, problems={}, wells=lambda label: [])
    for name in ("7/wells.csv", "screen/screen_wells.csv", "8/wells.csv"):
        said = about_screen(plan, {})
        assert f"in {tmp_path}/screen, are not up to date" in said and "because plate" in said
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("")
    os.utime(tmp_path / "screen" / "screen_wells.csv", (1, 1))
    said = about_screen(plan, {})
    assert "plate 8" not in said and "run the same command again" in said
    os.utime(tmp_path / "screen" / "screen_wells.csv")
    assert about_screen(plan, {}) == ""
    (tmp_path / "8" / "wells.csv").unlink()
    assert "are without plate 8 (aggregate: it broke), which" in about_screen(plan, {"8": "aggregate: it broke"})
