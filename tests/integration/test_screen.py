"""A screen through the workflow: plate map, tables, analysis and report, for plates in a folder and in OMERO."""

import base64
import csv
import json
import re

import imagecodecs
import numpy as np
import pytest
from plate_folders import write_imagexpress
from snake import Workflow, kill, wait_for, workflow

from openhcs_omero.core.outputs.omero import OMEROWell
from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.core.well_file import read_well_record, well_file
from openhcs_omero.microscopes.importing import import_folder
from openhcs_omero.omero.annotations import list_texts
from openhcs_omero.omero.derived import find_derived
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.tags import read_tags
from openhcs_omero.omero.well_pairs import read_pairs, set_pairs
from openhcs_omero.processing.synthetic import draw_site

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
    page = (about / "report.html").read_text()
    data = json.loads(json.loads(re.search(r"const DATA = JSON.parse\((.*)\);</script>", page)[1]))
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


@pytest.mark.slow
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


@pytest.mark.slow
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
        ({"analysis": {"normalise": ["zscore"]}}, "the configuration's analysis.normalise[0] is 'zscore'"),
        ({"qc": {"stop_below": {"z": 1}}}, "unknown key 'z' in qc.stop_below"),
        ({"qc": {"exclude": "saturated >"}}, "qc.exclude 'saturated >' is not a valid condition"),
        ({"qc": {"exclude": "focus_c3 < 1"}}, "qc.exclude names focus_c3, but the plates have 1 channels"),
        ({"plate_map": "omero"}, "plate_map is omero, but plate day_1 is in a folder"),
    ],
)
def test_errors_are_reported_before_anything_runs(screen, config, message):
    (screen.folder / "bad.csv").write_text("well,compound\nP01,x\n")
    screen.configure("day_1", steps=[{"call": "screen_steps:measure"}], **config)
    run = screen()
    assert run.status != 0 and message in run.output and run.jobs == {} and "Traceback" not in run.output


@pytest.mark.slow
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
    record = read_well_record(well_file(workflow.results(plate), "C05"), OMEROWell)
    page = (workflow.folder / "results" / "screen_processed" / "report.html").read_text()
    assert '\\"web\\": \\"http://omero.example.org' in page and record.images
    assert workflow.succeed().nothing_done


@pytest.mark.slow
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


BLURRY = """
import numpy as np

def measure(image, filemanager, metadata, backend="disk"):
    return image, {"bright": float(image.mean())}

measure.features = {"bright": {}}
"""


def textured(seed, blur=0.0):
    return draw_site(np.random.default_rng(seed), 128, 1.0, 5, blur)[2][None, :, None]


@pytest.mark.slow
def test_sites_with_bad_images_are_excluded_and_one_unreadable_plate_does_not_stop_the_others(workflow, conn):
    (workflow.folder / "screen_steps.py").write_text(BLURRY)
    images = {(well, site): textured(10 * n + site) for n, well in enumerate(WELLS[:8]) for site in (1, 2)}
    images["A02", 1] = textured(1, blur=5.0)
    for site in (1, 2):
        images["A03", site] = textured(site, blur=5.0)
    plate = import_folder(conn, write_imagexpress(workflow.folder / "day_1", images))
    (workflow.folder / "broken").mkdir()
    about = {
        "steps": [{"call": "screen_steps:measure"}],
        "analysis": {"hits": {"feature": "bright", "above": 0}},
        "qc": {"exclude": ["focus_z_c1 < -8", "bright < 0"]},
    }
    workflow.configure(plate, "broken", **about)
    run = workflow()
    folder = workflow.results(plate)
    assert run.status != 0 and "Traceback" not in run.output and "broken" in run.output
    assert "3 sites excluded from statistics by qc: see image_qc.csv" in run.output
    qc = {(row["well"], row["site"]): row for row in read_rows(folder / "image_qc.csv")}
    out = {key for key, row in qc.items() if row["excluded"]}
    assert out == {("A02", "1"), ("A03", "1"), ("A03", "2")} and len(qc) == 16
    assert {qc[key]["excluded"] for key in out} == {"focus_z_c1 < -8"}
    sites = {(row["well"], row["site"]): row for row in read_rows(folder / "features.csv")}
    assert {key for key, row in sites.items() if row["excluded"]} == out and all(
        row["bright"] for row in sites.values()
    )
    wells = {row["well"]: row for row in read_rows(folder / "wells.csv")}
    assert (wells["A02"]["sites"], wells["A02"]["sites_excluded"]) == ("2", "1")
    assert float(wells["A02"]["bright"]) == pytest.approx(float(sites["A02", "2"]["bright"]))
    assert wells["A03"]["bright"] == "" and wells["A03"]["sites_excluded"] == "2"
    normalized = {row["well"]: row for row in read_rows(folder / "normalised.csv")}
    assert normalized["A03"]["excluded"] == "all sites are excluded" and normalized["A02"]["excluded"] == ""
    page = (workflow.folder / "results" / "screen_processed" / "report.html").read_text()
    assert "3 of 16 sites are excluded, all sites of 1 wells" in page and "plate broken is not analyzed: " in page
    assert "0 of 8 wells are excluded: bright \\u003c 0" in page

    derived = load_plate(conn, find_derived(conn, plate, "processed"))
    tags = read_tags(conn, derived.plate_id)
    name = f"[plate_{plate}_processed]"
    excluded = [derived.image(well, int(site)).image_id for well, site in sorted(out)]
    assert tags[f"excluded by qc {name}"] == sorted(excluded)
    hits = [image.image_id for well, image in derived.images() if well != "A03"]
    assert tags[f"hit {name}"] == sorted(hits)
    attached = {file.name for file in list_texts(conn, "Plate", plate)}
    assert {"processed_image_qc.csv", "processed_normalised.csv"} <= attached

    workflow.configure(plate, **{**about, "qc": {"exclude": "focus_z_c1 < -1000"}})
    run = workflow.succeed()
    assert run.wells == [] and "measure_images" not in run.jobs and {"qc", "aggregate", "analyze"} <= set(run.jobs)
    assert not any(row["excluded"] for row in read_rows(folder / "features.csv"))
    assert list(read_tags(conn, derived.plate_id)) == [f"hit {name}"]
    assert workflow.succeed().nothing_done


@pytest.mark.slow
def test_a_plate_map_in_omero_is_read_and_written_to_the_derived_plate(workflow, conn):
    (workflow.folder / "screen_steps.py").write_text(STEP)
    images = {(well, 1): np.full((1, 1, 1, 8, 8), 100 + n, "uint16") for n, well in enumerate(WELLS[:3])}
    plate = import_folder(conn, write_imagexpress(workflow.folder / "day_1", images))
    structure = load_plate(conn, plate)
    set_pairs(conn, structure, {well: {"Compound": f"C{well}", "Concentration (uM)": "5"} for well in WELLS[:3]})
    workflow.configure(plate, steps=[{"call": "screen_steps:measure"}], plate_map="omero")
    workflow.succeed()
    [first, *_] = read_rows(workflow.results(plate) / "wells.csv")
    assert (first["compound"], first["concentration (uM)"]) == ("CA01", "5")
    derived = find_derived(conn, plate, "processed")
    assert read_pairs(conn, derived)["A01"] == {"compound": "CA01", "concentration (uM)": "5"}
    set_pairs(conn, structure, {"A01": {"Compound": "aspirin"}})
    run = workflow.succeed()
    assert run.wells == [] and {"aggregate", "annotate"} <= set(run.jobs)
    assert read_pairs(conn, derived) == {"A01": {"compound": "aspirin"}}
    set_pairs(conn, load_plate(conn, derived), {})  # somebody deletes them
    assert set(workflow.succeed().jobs) == {"annotate", "all"}
    assert read_pairs(conn, derived) == {"A01": {"compound": "aspirin"}}

    set_pairs(conn, structure, {"A01": {"Concentration (uM)": "much"}})
    run = workflow()
    assert run.status != 0 and run.jobs == {} and "Traceback" not in run.output
    assert f"the key-value pairs of plate {plate} in OMERO, row 2, column concentration (uM): 'much'" in run.output


def tables_of(made, plate):
    """The tables and answers of a run by name, with the plate's label replaced."""
    folder, screen = made.results(plate), made.folder / "results" / "screen_processed"
    files = [*folder.glob("*.csv"), *screen.glob("*.csv")]
    return {
        f"{file.parent == screen} {file.name}": re.sub(rf"(?m)^(\d+,)?{plate},", r"\1PLATE,", file.read_text())
        for file in files
    }


@pytest.mark.slow
def test_tables_are_equal_byte_for_byte_wherever_the_plate_is_and_after_a_kill(workflow, conn):
    """In ImageXpress's folder, in an OME-Zarr, and in OMERO, where the run is killed in the middle."""
    (workflow.folder / "screen_steps.py").write_text(STEP)
    folder = write_plate(workflow.folder / "day_1")
    write_map(workflow.folder / "map.csv")
    about = {
        "steps": [{"call": "screen_steps:measure"}],
        "plate_map": "map.csv",
        "analysis": ANALYSIS,
        "qc": {"exclude": "saturated > 0.5"},
    }
    workflow.configure("day_1", **about, materialization_backend="zarr")
    workflow.succeed()
    expected = tables_of(workflow, "day_1")
    assert {"False wells.csv", "False quality.csv", "False image_qc.csv", "True hits.csv"} <= set(expected)

    zarr = workflow.results("day_1")  # the images, unchanged, as an OME-Zarr
    workflow.configure(str(zarr), **about, results="again")
    workflow.succeed()
    made = Workflow(None, None, workflow.folder / "zarr")
    (workflow.folder / "again").rename(made.folder / "results")
    assert tables_of(made, "day_1_processed") == expected

    plate = import_folder(conn, folder)
    workflow.configure(plate, **about)
    process = workflow.start()
    wait_for(lambda: len(list(workflow.results(plate).glob("processed/*.zip"))) >= 5)
    kill(process)
    assert len(list(workflow.results(plate).glob("processed/*.zip"))) < 24
    workflow.succeed("--unlock")
    workflow.succeed()
    assert tables_of(workflow, plate) == expected
