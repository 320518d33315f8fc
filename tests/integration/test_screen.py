"""A screen through the workflow: plate map, tables, analysis and report, for plates in a folder and in OMERO."""

import base64
import csv
import json
import re

import imagecodecs
import numpy as np
import pytest
from plate_folders import write_imagexpress
from snake import Workflow, workflow

from openhcs_omero.core.tables import read_rows
from openhcs_omero.microscopes.importing import import_folder
from openhcs_omero.omero.annotations import list_texts
from openhcs_omero.omero.derived import find_derived

__all__ = ["workflow"]

ANALYSIS = {
    "normalise": ["percent_of_control", "robust_z_score"],
    "hits": {"feature": "bright", "by": "robust_z_score", "above": 5},
    "dose_response": {"feature": "bright"},
}
STEP = '''
def measure(image, filemanager, metadata, backend="disk"):
    """Say how bright the image is, and which compound the step was told of."""
    told = metadata.get("treatment", {})
    return image, {"bright": float(image.mean()), **({"told": told.get("compound")} if told else {})}
'''
WELLS = [f"{letter}{column:02}" for letter in "ABCD" for column in range(1, 7)]
TREATMENT_FILES = ["dose_response.csv", "hits.csv", "normalised.csv", "quality.csv"]


def kind_of(well):
    return {"A": "negative", "B": "positive"}.get(well[0], "") if well[1:] < "04" else ""


def brightness(well, number):
    """Controls are at 100 and 400, C05 is a hit, and all other wells are near 100."""
    return {"positive": 400, "negative": 100}.get(kind_of(well), 800 if well == "C05" else 100) + number % 7


def write_plate(folder):
    images = {(well, 1): np.full((1, 1, 1, 8, 8), brightness(well, n), "uint16") for n, well in enumerate(WELLS)}
    return write_imagexpress(folder, images)


def write_map(path, **changes):
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["well", "compound", "concentration (uM)", "control", "barcode"])
        rows.writerows([well, changes.get(well, f"C{n}"), 10, kind_of(well), "007"] for n, well in enumerate(WELLS))


@pytest.fixture
def screen(tmp_path):
    """A run on a folder, without OMERO."""
    made = Workflow(None, None, tmp_path / "work")
    (made.folder / "screen_steps.py").write_text(STEP)
    write_plate(made.folder / "day_1")
    write_map(made.folder / "map.csv")
    made.configure(
        "day_1",
        steps=[{"call": "screen_steps:measure"}],
        plate_map="map.csv",
        analysis=ANALYSIS,
        qc={"stop_below": {"z_prime": 0.3}},
    )
    return made


def test_results_are_beside_the_tables_and_a_changed_map_reruns_no_well(screen):
    run = screen.succeed()
    folder = screen.results("day_1")
    wells = {row["well"]: row for row in read_rows(folder / "wells.csv")}
    assert list(wells["A01"])[:9] == [
        "plate",
        "well",
        "row",
        "column",
        "sites",
        "compound",
        "concentration (uM)",
        "control",
        "barcode",
    ]
    assert wells["C05"]["compound"] == "C16" and wells["C05"]["barcode"] == "007"
    assert wells["A01"]["control"] == "negative"
    assert list(read_rows(folder / "features.csv")[0])[5:9] == list(wells["A01"])[5:9]
    [quality] = read_rows(folder / "quality.csv")
    values = {
        kind: [float(row["bright"]) for row in wells.values() if row["control"] == kind]
        for kind in ("negative", "positive")
    }
    p, n = (np.array(values[kind]) for kind in ("positive", "negative"))
    expected = 1 - 3 * (p.std(ddof=1) + n.std(ddof=1)) / abs(p.mean() - n.mean())
    assert float(quality["z_prime"]) == pytest.approx(expected) and quality["gate"] == "passed"
    assert [row["well"] for row in read_rows(folder / "hits.csv")] == ["C05"]
    assert {row["reason"] for row in read_rows(folder / "dose_response.csv")} == {"no fit: 1 dose, 4 are needed"}
    normalized = read_rows(folder / "normalised.csv")
    assert len(normalized) == 24 and normalized[0]["barcode"] == "007"
    assert [path.name for path in (folder / "figures" / "heatmaps").glob("*.png")] == ["bright.png"]
    about = screen.folder / "results" / "screen_processed"
    data = json.loads(re.search(r"const DATA = (.*);</script>", (about / "report.html").read_text())[1])
    [(key, picture)] = data["thumbnails"].items()
    assert key == "day_1\tC05" and picture.startswith("data:image/png;base64,")
    assert imagecodecs.png_decode(base64.b64decode(picture.partition(",")[2])).shape == (8, 8)
    assert run.jobs["process_well"] == 24 and run.jobs["analyze"] == 1
    assert screen.succeed().nothing_done

    write_map(screen.folder / "map.csv", C05="aspirin")
    run = screen.succeed()
    assert run.wells == [] and {"aggregate", "analyze", "annotate"} <= set(run.jobs)
    assert [row["compound"] for row in read_rows(folder / "hits.csv")] == ["aspirin"]
    assert screen.succeed().nothing_done


def test_a_changed_map_reruns_changed_wells_if_steps_read_treatments(screen):
    steps = screen.folder / "screen_steps.py"
    steps.write_text(f"{STEP}\n\nmeasure.reads_treatment = True\n")
    screen.succeed()
    told = {row["well"]: row["told"] for row in read_rows(screen.results("day_1") / "features.csv")}
    assert told["C05"] == "C16"
    write_map(screen.folder / "map.csv", C05="aspirin")
    assert screen.succeed().wells == ["C05"]
    told = {row["well"]: row["told"] for row in read_rows(screen.results("day_1") / "features.csv")}
    assert told["C05"] == "aspirin"


def test_a_plate_that_fails_the_gate_has_no_hits_and_the_report_shows_it(screen):
    screen.configure(
        "day_1",
        steps=[{"call": "screen_steps:measure"}],
        plate_map="map.csv",
        analysis=ANALYSIS,
        qc={"stop_below": {"z_prime": 0.99}},
    )
    screen.succeed()
    folder = screen.results("day_1")
    assert (folder / "hits.csv").read_text() == "" and (folder / "dose_response.csv").read_text() == ""
    assert read_rows(folder / "quality.csv")[0]["gate"] == "stopped: z_prime is below 0.99"
    assert "stopped: z_prime" in (screen.folder / "results" / "screen_processed" / "report.html").read_text()


@pytest.mark.parametrize(
    "config, message",
    [
        ({"plate_map": "nowhere"}, "the plate map nowhere can't be read"),
        (
            {"plate_map": "bad.csv"},
            "bad.csv, row 2, column well: plate day_1 has no well P01, it has 8 rows and 12 col",
        ),
        ({"analysis": {"normalise": ["zscore"]}}, "the configuration of analysis.normalise.0 is wrong"),
        ({"qc": {"stop_below": {"z": 1}}}, "the configuration of qc.stop_below is wrong"),
    ],
)
def test_errors_are_reported_before_anything_runs(screen, config, message):
    (screen.folder / "bad.csv").write_text("well,compound\nP01,x\n")
    screen.configure("day_1", steps=[{"call": "screen_steps:measure"}], **config)
    run = screen()
    assert run.status != 0 and message in run.output and run.jobs == {} and "Traceback" not in run.output


def test_results_are_attached_to_plates_in_omero(workflow, conn):
    (workflow.folder / "screen_steps.py").write_text(STEP)
    folder = write_plate(workflow.folder / "day_1")
    plate = import_folder(conn, folder)
    write_map(workflow.folder / "map.csv")
    workflow.configure(
        plate,
        steps=[{"call": "screen_steps:measure"}],
        plate_map="map.csv",
        analysis={**ANALYSIS, "web": "http://omero.example.org"},
    )
    workflow.succeed()
    derived = find_derived(conn, plate, "processed")
    attached = {file.name for file in list_texts(conn, "Plate", derived)}
    assert set(TREATMENT_FILES) <= attached
    record = json.loads((workflow.results(plate) / "processed" / "C05.json").read_text())
    page = (workflow.folder / "results" / "screen_processed" / "report.html").read_text()
    assert '"web":"http://omero.example.org"' in page and record["images"]
    assert workflow.succeed().nothing_done


def test_without_plate_map_and_analysis_nothing_is_added(screen):
    screen.configure("day_1", steps=[{"call": "screen_steps:measure"}])
    run = screen.succeed()
    assert "analyze" not in run.jobs and not (screen.folder / "results" / "screen_processed").exists()
    names = {path.name for path in screen.results("day_1").iterdir()}
    assert not names & {"treatments.json", *TREATMENT_FILES}
    assert list(read_rows(screen.results("day_1") / "wells.csv")[0])[:6] == [
        "plate",
        "well",
        "row",
        "column",
        "sites",
        "bright",
    ]
