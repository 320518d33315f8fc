"""A plate whose jobs fail during a run costs that plate: the results of the screen are made of the others."""

import numpy as np
import pytest
from plate_folders import write_imagexpress
from snake import Workflow

from openhcs_omero.core.plate_tables import read_rows

STEP = """
def measure(image, filemanager, metadata, backend="disk"):
    return image, {"bright": int(image.max())}
"""
WELLS = ["A01", "A02", "B01", "B02"]
REASON = "aggregate: PlateMapError: the plate map's column bright has the name of a measurement: rename it"


@pytest.fixture
def screen(tmp_path):
    """Three plates; the plate map of the second one has a column that turns out to be the name of a measurement."""
    made = Workflow(None, None, tmp_path / "work")
    (made.folder / "own.py").write_text(STEP)
    entries = []
    for number in (1, 2, 3):
        images = {(well, 1): np.full((1, 1, 1, 8, 8), 10 * number + n, "uint16") for n, well in enumerate(WELLS)}
        write_imagexpress(made.folder / f"day_{number}", images)
        write_map(made, number, "bright" if number == 2 else "batch")
        entries.append({"path": f"day_{number}", "plate_map": f"map_{number}.csv"})
    made.configure(*entries, steps=[{"call": "own:measure"}], analysis={"normalise": ["z_score"]}, heatmaps=[])
    return made


def write_map(screen, number, column):
    rows = "".join(f"{well},{'negative' if well[0] == 'A' else ''},{number}\n" for well in WELLS)
    (screen.folder / f"map_{number}.csv").write_text(f"well,control,{column}\n{rows}")


def plates_in(folder, name="screen_wells.csv"):
    return sorted({row["plate"] for row in read_rows(folder / name)})


@pytest.mark.slow
def test_a_plate_without_tables_is_left_out_and_named(screen):
    folder = screen.folder / "results" / "screen_processed"
    run = screen()
    assert run.status == 1 and "Traceback" not in run.output, run.output
    assert run.jobs["aggregate"] == 2 and {"analyze", "gather_wells", "annotate"} <= set(run.jobs)
    assert plates_in(folder) == ["day_1", "day_3"] == plates_in(folder, "quality.csv")
    assert {row["feature"] for row in read_rows(folder / "quality.csv")} == {"bright"}
    assert all(row["bright_z_score"] for row in read_rows(folder / "screen_wells.csv"))
    assert read_rows(folder / "left_out.csv") == [{"plate": "day_2", "reason": REASON}]
    assert f"plate day_2 is not analyzed: {REASON}" in (folder / "report.html").read_text()
    assert f"are without plate day_2 ({REASON}), which left_out.csv lists" in run.output
    assert REASON.replace("'", "&#x27;") in (screen.folder / "results" / "index.html").read_text()
    assert (screen.results("day_1") / "annotations.json").exists()
    assert not (screen.results("day_2") / "annotations.json").exists()
    screen.succeed("--report", "report.html")
    report = (screen.folder / "report.html").read_text()
    assert [f'"Plate day_{number}"' in report for number in (1, 2, 3)] == [True, False, True]

    again = screen()  # the same fails again; nothing else is repeated but the results of the screen
    assert again.status == 1 and again.jobs == {"analyze": 1, "gather_wells": 1, "annotate": 2}
    assert plates_in(folder) == ["day_1", "day_3"]

    write_map(screen, 2, "batch")
    run = screen.succeed()
    assert run.wells == [] and run.jobs["aggregate"] == run.jobs["analyze"] == run.jobs["gather_wells"] == 1
    assert plates_in(folder) == ["day_1", "day_2", "day_3"] == plates_in(folder, "quality.csv")
    assert read_rows(folder / "left_out.csv") == []
    assert "is not analyzed" not in (folder / "report.html").read_text()
    assert screen.succeed().nothing_done
