"""End to end: a plate in OMERO through `snakemake` and back into OMERO."""

import base64
import itertools
import json
import re
import subprocess
import threading
from importlib.metadata import version

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from omero.model import MapAnnotationI, PixelsI, PlaneInfoI, TimeI
from omero.model.enums import UnitsTime
from omero.rtypes import rint, rstring
from PIL import Image
from snake import Workflow, kill, wait_for, workflow
from wire import add_well, block, images_in_no_well, make_plate

from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.io.omero_local import OMEROLocalBackend
from openhcs_omero.microscopes.importing import import_folder
from openhcs_omero.omero import queries
from openhcs_omero.omero.annotations import list_texts, read_text
from openhcs_omero.omero.derived import find_derived
from openhcs_omero.omero.marks import NAMESPACE
from openhcs_omero.omero.omero_tables import list_tables
from openhcs_omero.omero.pixels import read_site
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.writing import write_well_images
from openhcs_omero.plates.image import NewImage
from openhcs_omero.processing.synthetic import Screen, sites, write_plate

__all__ = ["workflow"]

SCREEN = Screen(rows=2, columns=3, sites=2, size=256)
STEPS = [
    {"call": "openhcs_omero.processing.illumination:correct_illumination", "params": {"dark": 100}},
    {"call": "openhcs_omero.processing.spots:count_spots", "channels": [0]},
    {"call": "openhcs_omero.processing.cells:cell_counting_cpu", "channels": [1], "params": {"diameter": 22}},
]
TABLES = ("features.csv", "objects.csv", "wells.csv")
ABOUT = ("columns.csv", "run.yaml")  # on derived plates


@pytest.fixture
def screen(conn, tmp_path):
    """The id of a synthetic plate in OMERO, and its contents by well and site."""
    truths = write_plate(tmp_path / "images", SCREEN)
    plate = import_folder(conn, tmp_path / "images", "synthetic")
    return plate, {(truth.well, truth.site): truth for truth in truths}


@pytest.mark.slow
def test_a_synthetic_screen(workflow, conn, screen):
    plate, truth = screen
    workflow.configure(plate, steps=STEPS)
    run = workflow.succeed()
    assert run.jobs["process_well"] == 6 and run.jobs["estimate"] == 2

    results = workflow.results(plate)
    features = {(row["well"], int(row["site"])): row for row in read_rows(results / "features.csv")}
    assert set(features) == set(truth)
    for place, row in features.items():
        assert abs(int(row["spots_c0"]) - truth[place].spots) <= 5
        assert abs(int(row["cells_c1"]) - truth[place].cells) <= 1
    wells = read_rows(results / "wells.csv")
    assert [row["well"] for row in wells] == ["A01", "A02", "A03", "B01", "B02", "B03"]
    assert float(wells[0]["spots_c0"]) == np.mean([int(features["A01", site]["spots_c0"]) for site in (1, 2)])
    objects = read_rows(results / "objects.csv")
    assert len(objects) == sum(int(row["cells_c1"]) for row in features.values())
    assert {row["step"] for row in objects} == {"cell_counting_cpu"}

    derived = find_derived(conn, plate, "processed")
    for object_id, ns, start, more in (
        (plate, f"{NAMESPACE}/processed", "processed_", []),
        (derived, NAMESPACE, "", [*ABOUT]),
    ):
        attached = [text.name for text in list_texts(conn, "Plate", object_id, ns)]
        assert attached == sorted([start + name for name in TABLES] + more)
        for name in TABLES:
            assert read_text(conn, "Plate", object_id, start + name) == (results / name).read_bytes()
        assert list(list_tables(conn, object_id, ns)) == [f"{start}features.csv", f"{start}wells.csv"]
    for name in (*TABLES, "columns.csv", "failed.csv"):
        table = pq.read_table(results / name.replace(".csv", ".parquet"))
        assert table.num_rows == len(read_rows(results / name))
    schema = pq.read_schema(results / "wells.parquet")
    assert schema.field("cell_area_c1").metadata[b"unit"] == b"px" and schema.field("sites").type == pa.int64()
    check_derived(conn, plate, derived, features)
    check_provenance(conn, plate, derived, results)

    drawn = {path.stem for path in (results / "figures" / "heatmaps").glob("*.png")}
    assert drawn == {"spots_c0", "spot_height_c0", "cells_c1", "cell_area_c1", "cell_intensity_c1"}
    for picture in [*(results / "figures" / "heatmaps").glob("*.png"), results / "figures" / "montage.png"]:
        assert np.ptp(np.asarray(Image.open(picture).convert("L"))) > 100

    workflow.succeed("--report", "report.html")
    report = (workflow.folder / "report.html").read_text()
    assert all(word in report for word in (f"Plate {plate}", "montage", "spots_c0", "count_spots"))
    assert workflow.succeed().nothing_done


def check_provenance(conn, plate, derived, results):
    """The derived plate tells how it was made: fully in a file, briefly in its key-value pairs."""
    run = yaml.safe_load(read_text(conn, "Plate", derived, "run.yaml"))
    assert run == yaml.safe_load((results / "run.yaml").read_text())
    assert run["configuration"]["steps"] == STEPS and run["plate"] == f"/omero/plate_{plate}"
    assert [step["call"] for step in run["steps"]] == [step["call"] for step in STEPS]
    cells = run["steps"][2]
    assert cells["params"] == {"diameter": 22} and len(cells["source"]) == 64
    assert cells["distributions"]["scikit-image"] == version("scikit-image")
    assert run["versions"]["snakemake"] == version("snakemake") and run["versions"]["omero_server"].startswith("5.")
    assert run["begun"] <= run["finished"] and run["wells"]["failed"] == []
    assert run["wells"]["processed"] == ["A01", "A02", "A03", "B01", "B02", "B03"]
    crate = {entity["@id"]: entity for entity in json.loads((results / "ro-crate-metadata.json").read_text())["@graph"]}
    for role, plate_id in (("source", plate), ("derived", derived)):
        named = [crate[part["@id"]] for part in crate[f"#{role}-plate"]["hasPart"]]
        images = {(f"Image:{image.image_id}", image.sha1) for _, image in load_plate(conn, plate_id).images()}
        assert {(image["identifier"], image["sha1"]) for image in named} == images
    assert crate["#agent"]["name"] == conn.getUser().getFullName()
    [mark] = [
        annotation
        for annotation in conn.getObject("Plate", derived).listAnnotations(ns=NAMESPACE)
        if annotation.OMERO_TYPE is MapAnnotationI
    ]
    pairs = dict(mark.getValue())
    assert pairs["run"] == run["run"] and pairs["source_plate"] == str(plate)
    assert pairs["step 3"] == "openhcs_omero.processing.cells:cell_counting_cpu(diameter=22, channels=[1])"


def check_derived(conn, plate, derived, features):
    """Derived images are marked and hold the corrected pixels, labels in channel 1; the step's files are attached."""
    source, made = load_plate(conn, plate), load_plate(conn, derived)
    raw = {(truth.well, truth.site): image for truth, image in sites(SCREEN)}
    assert set(made.wells) == set(source.wells)
    for well, image in made.images():
        pixels = read_site(conn, image)
        assert pixels.shape == (1, 2, 1, 256, 256) and pixels.dtype == np.uint16
        assert pixels[0, 1].max() == int(features[well, image.site]["cells_c1"])
        ratio = pixels[0, 0, 0].astype(float) / raw[well, image.site][0]
        assert 0.5 < ratio.mean() < 1.5 and ratio.std() > 0.02
    image = made.image("B02", 2)
    [mark] = [
        annotation
        for annotation in conn.getObject("Image", image.image_id).listAnnotations(ns=NAMESPACE)
        if annotation.OMERO_TYPE is MapAnnotationI
    ]
    pairs = dict(mark.getValue())
    assert pairs["source_plate"] == str(plate) and pairs["well"] == "B02" and len(pairs["run"]) == 32
    assert pairs["source_image"] == str(source.image("B02", 2).image_id)
    kept = json.loads(read_text(conn, "Image", image.image_id, "results.json"))
    assert kept["cells_c1"] == int(features["B02", 2]["cells_c1"])
    labels = OMEROLocalBackend(omero_conn=conn).load(f"/omero/plate_{plate}_processed/B02/B02_s002_labeled.tif")
    assert np.array_equal(labels, read_site(conn, image)[:, [1]])


@pytest.mark.slow
def test_two_plates_some_wells_and_two_outputs(workflow, conn):
    plates = [make_plate(conn, {"A01": 1, "A02": 1, "B01": 1, "B02": 1}, name=name) for name in ("one", "two")]
    workflow.configure(*plates, wells=["B01-B02", "A1"])
    run = workflow.succeed()
    assert run.wells == ["A01", "A01", "B01", "B01", "B02", "B02"]
    workflow.configure(plates[0], output="second", heatmaps=["bright"])
    assert workflow.succeed().jobs["process_well"] == 4
    for output, wells in (("processed", {"A01", "B01", "B02"}), ("second", {"A01", "A02", "B01", "B02"})):
        assert set(load_plate(conn, find_derived(conn, plates[0], output)).wells) == wells
        ns = f"{NAMESPACE}/{output}"
        assert len(list_texts(conn, "Plate", plates[0], ns)) == 3
    drawn = (workflow.results(plates[0], "second") / "figures" / "heatmaps").glob("*.png")
    assert [path.stem for path in drawn] == ["bright"]
    workflow.configure(*plates, wells=["B01-B02", "A1"])
    assert workflow.succeed().nothing_done


@pytest.mark.slow
def test_unselected_wells_of_another_size(workflow, conn):
    plate = make_plate(conn, {"A01": 1, "A02": 1})
    group = queries.current_group(conn)
    [image] = write_well_images(conn, [NewImage("other", block(1, (1, 1, 1, 9, 9)))], "test", group)
    add_well(conn, plate, "D04", image.image_id)
    workflow.configure(plate, wells=["A01-A02"], steps=[STEPS[0]])
    assert workflow.succeed().wells == ["A01", "A02"]


@pytest.mark.slow
def test_a_plate_of_another_user(omero_server, make_user, tmp_path):
    """In a read-only group, the results go to the user's own derived plate, and the source plate stays unchanged."""
    owner = make_user("rwr---")
    plate = make_plate(owner, {"A01": 1})
    me = make_user(group=owner.getEventContext().groupId)
    mine = Workflow(omero_server, me, tmp_path / "work")
    mine.configure(plate)
    assert mine.succeed().jobs["process_well"] == 1
    derived = find_derived(me, plate, "processed")
    assert {file.name for file in list_texts(me, "Plate", derived, NAMESPACE)} == {*TABLES, *ABOUT}
    assert list_texts(me, "Plate", plate, f"{NAMESPACE}/processed") == []
    assert mine.succeed().nothing_done
    mine.configure(derived, output="next")  # a derived plate can be a source
    assert mine.succeed().jobs["process_well"] == 1
    [shown] = [image for _, image in load_plate(me, find_derived(me, derived, "next")).images()]
    assert np.array_equal(read_site(me, shown), block(1) + 2)


def test_the_password_does_not_leak(workflow, conn):
    plate = make_plate(conn, {"A01": 1})
    spy = workflow.folder / "spy.py"
    spy.write_text("""
import os
import pathlib


def spy(image, filemanager, metadata, backend="disk"):
    secret = "dr0w-terc3s"[::-1]
    seen = {"cmdline": [], "environ": []}
    for name in seen:
        for path in pathlib.Path("/proc").glob(f"[0-9]*/{name}"):
            try:
                seen[name].append(path.read_bytes().decode(errors="replace"))
            except OSError:
                pass
    read_parents = any("OMERO_SESSIONDIR" in text for text in seen["environ"])
    return image, {"in_environment": secret in str(os.environ), "read_parents": read_parents,
                   "in_argv": sum(secret in line for line in seen["cmdline"]),
                   "in_any_environment": sum(secret in text for text in seen["environ"])}
""")
    conn.c.sf.getAdminService().changePasswordWithOldPassword(*map(rstring, ("pw", "s3cret-w0rd")))
    workflow.environment["OMERO_PASSWORD"] = "s3cret-w0rd"
    workflow.configure(plate, steps=[{"call": "spy:spy"}])
    run = workflow.succeed()
    conn.c.sf.getAdminService().changePasswordWithOldPassword(*map(rstring, ("s3cret-w0rd", "pw")))  # to clean up by
    row = read_rows(workflow.results(plate) / "features.csv")[0]
    assert row["in_argv"] == "0" and row["in_environment"] == "False"
    assert row["in_any_environment"] == "0" and row["read_parents"] == "True"
    assert "s3cret-w0rd" not in run.output
    found = subprocess.run(["grep", "-rl", "s3cret-w0rd", str(workflow.folder)], capture_output=True, text=True)
    assert found.stdout == "" and found.returncode == 1
    assert list((workflow.folder / "sessions").rglob("*-*-*")) == []


def test_a_failing_step_fails_only_its_well(workflow, conn):
    """The well's record says so, also if its code crashes, and the others are published. To be killed fails its job."""
    plate = make_plate(conn, {"A01": 1, "A02": 1, "A03": 1, "B01": 1, "B02": 1, "B03": 1})
    step = workflow.folder / "picky.py"
    step.write_text("""
import os, signal


def picky(image, filemanager, metadata, backend="disk"):
    with open("processes", "a") as processes:
        print(os.getpid(), metadata["well"], file=processes)
    if metadata["well"] == "A02":
        raise ValueError("no cells here")
    if metadata["well"] == "A03":
        os.kill(os.getpid(), signal.SIGKILL)
    if metadata["well"] == "B02":
        os.abort()
    if metadata["well"] == "B03":
        image = image[..., ::2, ::2]
    return image, {"sum": int(image.sum()), "labels": {"spots": (image[:, :1, :1] > 0).astype(int)}}
""")
    workflow.configure(plate, steps=[{"call": "picky:picky"}], rois={"on": "both"})
    run = workflow("--keep-going", "--cores", "1")
    assert run.status == 1 and run.jobs["process_well"] == 5
    assert re.search(r"B03 of .*, site 1: .* leaves labels 'spots' .*, which do not fit the source image", run.output)
    assert "running the steps: the process crashed (SIGABRT); the log says where" in run.output
    log = (workflow.results(plate) / "logs" / "process_well_B02.log").read_text()
    assert "Fatal Python error: Aborted" in log and 'picky.py", line 13 in picky' in log
    assert "ValueError: no cells here" in run.output
    assert f"well A03 of plate {plate} was not processed: its process was ended by signal 9" in run.output
    log = (workflow.results(plate) / "logs" / "process_well_A02.log").read_text()
    assert "Traceback" in log and "picky.py" in log and "no cells here" in log
    begun = [line.split() for line in (workflow.folder / "processes").read_text().splitlines()]
    for (process, well), (following, _) in itertools.pairwise(begun):
        assert (process == following) == (well not in ("A03", "B02"))
    derived = load_plate(conn, find_derived(conn, plate, "processed"))
    assert derived.wells_with_images() == ["A01", "B01"]
    step.write_text(re.sub('"[AB]0."', '"Z99"', step.read_text()))
    assert {"A02", "A03", "B02", "B03"} <= set(workflow.succeed().wells)
    assert load_plate(conn, find_derived(conn, plate, "processed")).wells_with_images() == [
        "A01",
        "A02",
        "A03",
        "B01",
        "B02",
        "B03",
    ]


@pytest.mark.slow
def test_a_time_series(workflow, conn):
    """One row per site and timepoint, with the time from OMERO; the same for wells and OMERO.tables."""
    plate = make_plate(conn, {"A01": 2, "A02": 1}, shape=(3, 1, 1, 6, 5))
    for t in range(3):
        info = PlaneInfoI()
        info.theT, info.theC, info.theZ = map(rint, (t, 0, 0))
        info.deltaT = TimeI(1500 * t, UnitsTime.MILLISECOND)
        info.pixels = PixelsI(load_plate(conn, plate).image("A01", 1).pixels_id, False)
        queries.update(conn).saveObject(info)
    (workflow.folder / "brightness.py").write_text("""
def brightness(image, filemanager, metadata, backend="disk"):
    return image, {"max": [int(timepoint.max()) for timepoint in image], "shape": str(image.shape)}
""")
    workflow.configure(plate, steps=[{"call": "brightness:brightness"}])
    workflow.succeed()
    results = workflow.results(plate)
    images = {(well, image.site): read_site(conn, image) for well, image in load_plate(conn, plate).images()}
    assert [
        (row["well"], row["site"], row["t"], row["time_s"], row["max"]) for row in read_rows(results / "features.csv")
    ] == [
        (well, str(site), str(t), str(1.5 * t) if (well, site) == ("A01", 1) else "", str(pixels[t].max()))
        for (well, site), pixels in images.items()
        for t in range(3)
    ]
    wells = read_rows(results / "wells.csv")
    assert [(row["well"], row["t"]) for row in wells] == [(well, str(t)) for well in ("A01", "A02") for t in range(3)]
    assert wells[2]["time_s"] == "3" and wells[0]["shape"] == "(3, 1, 1, 6, 5)"
    assert float(wells[2]["max"]) == (images["A01", 1][2].max() + images["A01", 2][2].max()) / 2
    tables = list(list_tables(conn, plate, f"{NAMESPACE}/processed"))
    assert tables == ["processed_features.csv", "processed_wells.csv"]
    assert (results / "figures" / "heatmaps" / "max.png").exists()
    assert workflow.succeed().nothing_done
    for analysis, problem in (
        ({"normalise": ["z_score"]}, f"plate {plate} has 3 timepoints, and an analysis is of one: name it in analysis"),
        ({"timepoint": 3}, f"analysis.timepoint is 3, but plate {plate} has 3, counted from 0"),
    ):
        workflow.configure(plate, steps=[{"call": "brightness:brightness"}], analysis=analysis)
        refused = workflow("-n")
        assert refused.status == 1 and problem in refused.output


@pytest.mark.slow
def test_a_failed_well_costs_only_that_well(workflow, conn):
    """The others are published with a list of the failed ones; the next run processes only those."""
    plate = make_plate(conn, {"A01": 2, "A02": 2, "B01": 1})
    step = workflow.folder / "picky.py"
    step.write_text("""
import sys


def picky(image, filemanager, metadata, backend="disk"):
    if (metadata["well"], metadata["site"]) == ("A02", 2):
        raise ValueError("no cells here")
    if metadata["well"] == "B01":
        sys.exit(3)
    return image, {"sum": int(image.sum())}
""")
    workflow.configure(plate, steps=[{"call": "picky:picky"}])
    run = workflow()
    results, derived = workflow.results(plate), find_derived(conn, plate, "processed")
    assert run.status == 1 and run.jobs["process_well"] == 3 and run.jobs["annotate"] == 1
    reasons = {"A02": "ValueError: no cells here", "B01": "it called sys.exit(3)"}
    last = run.output[run.output.index("2 wells failed; the next run") :]
    assert all(f"{well} of plate {plate}" in last and reason in last for well, reason in reasons.items())
    failed = read_rows(results / "failed.csv")
    assert {row["well"]: (row["site"], row["step"], row["reason"]) for row in failed} == {
        "A02": ("2", "step 1 (picky:picky)", reasons["A02"]),
        "B01": ("1", "step 1 (picky:picky)", reasons["B01"]),
    }
    for row in failed:
        assert "picky.py" in (workflow.folder / row["log"]).read_text()
    assert [row["well"] for row in read_rows(results / "features.csv")] == ["A01", "A01"]
    assert read_text(conn, "Plate", derived, "failed.csv") == (results / "failed.csv").read_bytes()
    assert "failed.csv" not in {text.name for text in list_texts(conn, "Plate", plate)}
    assert load_plate(conn, derived).wells_with_images() == ["A01"]
    workflow.succeed("--report", "report.html")
    report = (workflow.folder / "report.html").read_text()
    assert base64.b64encode((results / "failed.csv").read_bytes()).decode() in report
    page = (workflow.folder / "results" / "index.html").read_text()
    assert "1 plate: 1 of 3 wells are processed" in page and "1 plate: 1 of 3 wells are processed" in report
    done = (results / "processed" / "A01.zip").stat().st_mtime_ns

    again = workflow()
    assert again.status == 1 and again.wells == ["A02", "B01"] and "2 wells failed" in again.output
    assert (results / "processed" / "A01.zip").stat().st_mtime_ns == done
    step.write_text(WIDE)
    assert workflow.succeed().jobs["process_well"] == 3
    assert "failed.csv" not in {text.name for text in list_texts(conn, "Plate", derived)}
    check_wide(conn, derived, results)
    assert workflow.succeed().nothing_done

    step.write_text(WIDE.replace("A00", "A02"))
    assert workflow().status == 1
    assert load_plate(conn, derived).wells_with_images() == ["A01", "B01"] and images_in_no_well(conn) == []
    [failed] = read_rows(results / "failed.csv")
    assert (failed["well"], failed["earlier_images"]) == ("A02", "removed")
    assert [row["well"] for row in read_rows(results / "wells.csv")] == ["A01", "B01"]
    assert workflow().wells == ["A02"]
    assert read_rows(results / "failed.csv")[0]["earlier_images"] == ""


WIDE = """
def picky(image, filemanager, metadata, backend="disk"):
    if metadata["well"] == "A00":
        raise ValueError("no cells here")
    return image, {"sum": 1, **{f"texture_{number:04d}_of_the_nuclei": number for number in range(900)}}
"""


def check_wide(conn, derived, results):
    """More features than an OMERO.table takes become several tables, as log and run.yaml say; the CSV is attached."""
    assert list(list_tables(conn, derived, NAMESPACE)) == [
        *(f"features.csv ({number} of 2)" for number in (1, 2)),
        *(f"wells.csv ({number} of 4)" for number in (1, 2, 3, 4)),
    ]
    notes = [
        "features.csv has 903 columns, more than an OMERO.table takes, so it became 2 tables",
        "wells.csv has 2706 columns, more than an OMERO.table takes, so it became 4 tables",
    ]
    log = (results / "logs" / "annotate.log").read_text()
    assert [line for line in log.splitlines() if "OMERO.table" in line] == notes
    assert yaml.safe_load(read_text(conn, "Plate", derived, "run.yaml"))["notes"] == notes
    assert read_text(conn, "Plate", derived, "wells.csv") == (results / "wells.csv").read_bytes()


@pytest.mark.slow
def test_if_all_wells_fail_no_plate_is_left(workflow, conn):
    plate = make_plate(conn, {"A01": 1, "A02": 1})
    (workflow.folder / "broken.py").write_text("""
def broken(image, filemanager, metadata, backend="disk"):
    raise ValueError("no dye")
""")
    workflow.configure(plate, steps=[{"call": "broken:broken"}], heatmaps=["sum"])
    run = workflow()
    assert run.status == 1 and "2 wells failed" in run.output and run.jobs["annotate"] == 1
    assert find_derived(conn, plate, "processed") is None and list_texts(conn, "Plate", plate) == []
    assert workflow().wells == ["A01", "A02"]
    workflow.configure(plate)
    workflow.succeed()
    assert load_plate(conn, find_derived(conn, plate, "processed")).wells_with_images() == ["A01", "A02"]
    assert workflow.succeed().nothing_done


def test_steps_that_print_fork_and_read(workflow, conn):
    """Wells share a process, and each has its own log, however their steps print."""
    plate = make_plate(conn, {"A01": 1, "A02": 1})
    (workflow.folder / "busy.py").write_text("""
import logging
import multiprocessing
import subprocess
import sys

log = logging.getLogger("busy")
log.propagate = False
log.addHandler(logging.StreamHandler())


def twice(number):
    return 2 * number


def say(text, file=sys.stderr):
    print(text, file=file)


def busy(image, filemanager, metadata, backend="disk"):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map(twice, [2]) == [4]
    subprocess.run(["cat"], check=True)
    print("printed", metadata["well"])
    say(f"said {metadata['well']}")
    log.warning("noted %s", metadata["well"])
    subprocess.run(["echo", "echoed", metadata["well"]], check=True)
    return image, {}
""")
    workflow.configure(plate, steps=[{"call": "busy:busy"}])
    assert workflow("--cores", "1").status == 0
    for well in ("A01", "A02"):
        log = (workflow.results(plate) / "logs" / f"process_well_{well}.log").read_text()
        *lines, time = log.splitlines()
        assert lines == [f"printed {well}", f"said {well}", f"noted {well}", f"echoed {well}"]
        assert re.fullmatch(r"processed in [0-9.]+ s", time)


def test_a_killed_process_is_detected_before_its_children_end(workflow, conn):
    plate = make_plate(conn, {"A01": 1})
    (workflow.folder / "parent.py").write_text("""
import os
import signal
import time


def parent(image, filemanager, metadata, backend="disk"):
    if os.fork() == 0:
        while os.path.exists("config.yaml"):
            time.sleep(0.05)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
""")
    workflow.configure(plate, steps=[{"call": "parent:parent"}])
    head = workflow.start()
    try:
        assert head.wait(120) == 1  # the output ends when the child does, which is when the configuration is removed
    finally:
        (workflow.folder / "config.yaml").unlink()
        kill(head)
    assert "its process was ended by signal 9" in head.stdout.read()


def test_killing_the_head_process_ends_its_wells(workflow, conn):
    plate = make_plate(conn, {"A01": 1})
    (workflow.folder / "endless.py").write_text("""
import time


def endless(image, filemanager, metadata, backend="disk"):
    print("begun", file=open("begun", "w"), flush=True)
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        open("interrupted", "w").close()
        raise
""")
    workflow.configure(plate, steps=[{"call": "endless:endless"}])
    head = workflow.start()
    guard = threading.Timer(300, kill, [head])
    guard.start()
    wait_for((workflow.folder / "begun").exists)
    head.kill()
    head.stdout.read()  # until the last process that holds it open ends
    guard.cancel()
    assert head.wait() == -9 and (workflow.folder / "interrupted").exists()


@pytest.mark.slow
def test_steps_that_return_other_shapes_types_or_nothing(workflow, conn):
    plate = make_plate(conn, {"A01": 1, "A02": 1})
    (workflow.folder / "odd.py").write_text("""
import numpy as np


def projected(image, filemanager, metadata, backend="disk"):
    one = image.max(axis=(1, 2), keepdims=True)
    path = f"{metadata['plate']}/{metadata['well']}/{metadata['well']}_s{metadata['site']:03d}_labeled.tif"
    filemanager.save(one, path, backend=backend)
    return one.astype(np.float32) / 2, {}


def none(image, filemanager, metadata, backend="disk"):
    return None
""")
    workflow.configure(plate, steps=[{"call": "odd:projected"}])
    workflow.succeed()
    image = load_plate(conn, find_derived(conn, plate, "processed")).image("A02", 1)
    assert image.shape == (1, 1, 1, 4, 6) and image.pixel_type == "float32"
    assert [text.name for text in list_texts(conn, "Image", image.image_id)] == ["labeled.tif"]
    assert read_rows(workflow.results(plate) / "wells.csv")[1]["well"] == "A02"
    attached = [text.name for text in list_texts(conn, "Plate", plate)]
    assert attached == ["processed_features.csv", "processed_wells.csv"]
    workflow.configure(plate, steps=[{"call": "odd:none"}])
    run = workflow()
    assert run.status == 1 and "step 1 (odd:none): returned NoneType; a step returns (image" in run.output
    assert load_plate(conn, find_derived(conn, plate, "processed")).image("A02", 1) == image
