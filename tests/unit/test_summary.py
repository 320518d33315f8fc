"""The summary names a lost server also if no well lost it."""

from types import SimpleNamespace

import pytest

from openhcs_omero.core.summary import summary

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
