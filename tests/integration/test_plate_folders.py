"""Plates in folders next to plates in OMERO: the same steps, tables and reruns; and their import."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import zarr
from ome_zarr_plates import Style, write_image, write_plate
from plate_folders import CHANNELS, PIXEL_SIZE, images_of, write_imagexpress, write_openhcs, write_phenix
from s3 import bucket, s3_environment, s3_server
from snake import Workflow, workflow

from openhcs_omero.core.orchestrator.orchestrator import PipelineOrchestrator
from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.microscopes.detect import handler_of
from openhcs_omero.microscopes.importing import import_folder
from openhcs_omero.omero import queries
from openhcs_omero.omero.derived import find_derived
from openhcs_omero.omero.pixels import read_metadata, read_site
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.processing.synthetic import Screen, sites

__all__ = ["bucket", "s3_environment", "s3_server", "workflow"]

TABLES = ("features.csv", "objects.csv", "wells.csv")
STEPS = [
    {"call": "openhcs_omero.processing.illumination:correct_illumination", "channels": [0], "params": {"dark": 100}},
    {"call": "openhcs_omero.processing.spots:count_spots", "channels": [0]},
    {"call": "openhcs_omero.processing.cells:segment_cells", "channels": [1], "params": {"diameter": 22}},
    {
        "call": "openhcs_omero.processing.cells:cell_counting_cpu",
        "name": "old",
        "channels": [1],
        "params": {"diameter": 22},
    },
]
AFTER_A_WELL = {"aggregate": 1, "annotate": 1, "heatmaps": 1, "montage": 1, "all": 1}


def tables(workflow, label, output="processed"):
    """The tables of a plate, without its label."""
    folder = workflow.results(label, output)
    texts = [(folder / name).read_text() for name in TABLES]
    assert all(f"\n{label},A01," in text for text in texts if text)
    return [text.replace(f"\n{label},", "\n") for text in texts]


@pytest.mark.slow
def test_one_plate_in_several_formats(workflow, conn, bucket, s3_environment):
    """One run reads it by OMERO id, from an ImageXpress folder, a Phenix folder and OME-Zarr, which is on S3, too.

    A second run reads the results.
    """
    screen = Screen(rows=1, columns=2, sites=1, size=128)
    images = {(truth.well, truth.site): image[None, :, None] for truth, image in sites(screen)}
    assert {image.shape for image in images.values()} == {(1, 2, 1, 128, 128)}
    ixm = write_imagexpress(workflow.folder / "ixm", images)
    write_phenix(workflow.folder / "plate_phenix", images)
    address = bucket(write_plate(workflow.folder / "remote.zarr", images))
    write_plate(workflow.folder / "local.zarr", images)
    plate = import_folder(conn, ixm)
    workflow.environment |= s3_environment
    plates = (plate, "ixm", "plate_phenix", "local.zarr", address)
    workflow.configure(*plates, steps=STEPS, heatmaps=[], rois={True: "both"})  # as YAML reads `on`
    workflow.succeed()
    first, *others = (tables(workflow, label) for label in (plate, "ixm", "phenix", "local.zarr", "remote.zarr"))
    assert others == [first] * 4
    assert sum(int(row["spots_c0"]) for row in read_rows(workflow.results("ixm") / "features.csv")) > 0
    derived = load_plate(conn, find_derived(conn, plate, "processed"))
    for label in ("ixm", "phenix"):
        handler = handler_of(workflow.results(label))
        for well, image in derived.images():
            np.testing.assert_array_equal(
                handler.load_site(workflow.results(label), well, image.site, FileManager()), read_site(conn, image)
            )

    for label, source in ((plate, derived), (plate, load_plate(conn, plate))):
        images = {image.image_id: (well, image.site) for well, image in source.images()}
        shown = queries.rows(conn, "select r.image.id, r.name from Roi r where r.image.id in (:ids)", ids=list(images))
        cells = read_rows(workflow.results(label) / "objects.csv")
        assert sorted((*images[image], name) for image, name in shown) == sorted(
            (row["well"], int(row["site"]), f"nuclei {row['label']}") for row in cells if row["labels"]
        )
    tiff = workflow.results("ixm") / "images" / "A01" / "A01_s001_nuclei_labels.tif"
    assert np.array_equal(tifffile.imread(tiff), tifffile.imread(tiff.with_name("A01_s001_labeled.tif")))

    labels = [f"{plate}_processed", "ixm_processed"]
    workflow.configure(
        f"/omero/plate_{plate}_processed",
        "results/plate_ixm_processed",
        steps=STEPS[1:2],
        output="again",
        heatmaps=[],
        materialization_backend="zarr",
    )
    workflow.succeed()
    first, second = (tables(workflow, label, "again") for label in labels)
    assert first == second and "spots_c0" in first[0]
    again = load_plate(conn, find_derived(conn, derived.plate_id, "again"))
    assert list(again.wells) == list(derived.wells)
    assert (workflow.results(labels[1], "again") / "zarr" / "plate.zarr").is_dir()


@pytest.fixture
def offline(tmp_path):
    """The workflow of a user who has no OMERO."""
    return Workflow(None, None, tmp_path / "work")


@pytest.mark.slow
def test_reruns_of_a_folder(offline, monkeypatch):
    images = images_of(["A01", "B03"], sites=1, shape=(1, 2, 1, 8, 8))
    folder = write_imagexpress(offline.folder / "day_1", images, guids=False)
    offline.configure("day_1", heatmaps=["bright"])
    run = offline.succeed()
    assert run.jobs == {"wells": 1, "derive_plate": 1, "estimate": 2, "process_well": 2, **AFTER_A_WELL}
    results = offline.results("day_1")
    before = (results / "features.csv").read_text()

    changed = {("B03", 1): images["B03", 1] + 300}
    os.utime(folder / "day_1.HTD")  # its time says nothing about the images
    replacement = write_imagexpress(offline.folder / "other" / "day_1", changed, guids=False)
    (replacement / "day_1_B03_s1_w2.TIF").replace(folder / "day_1_B03_s1_w2.TIF")
    run = offline.succeed()
    assert run.wells == ["B03"] and run.jobs == {"wells": 1, "process_well": 1, **AFTER_A_WELL}
    after = (results / "features.csv").read_text()
    assert after != before and after.splitlines()[:2] == before.splitlines()[:2]
    handler = handler_of(results)
    np.testing.assert_array_equal(
        handler.load_site(results, "B03", 1, FileManager())[0, 1, 0], changed["B03", 1][0, 1, 0] + 1
    )
    kept = json.loads((results / "images" / "B03" / "B03_s001_results.json").read_text())
    assert str(kept["bright"]) == read_rows(results / "features.csv")[1]["bright"]

    for key in [key for key in os.environ if key.startswith("OMERO_")]:
        monkeypatch.delenv(key)
    monkeypatch.chdir(offline.folder)
    monkeypatch.syspath_prepend(str(offline.folder))
    events = []
    found = PipelineOrchestrator(
        [folder.relative_to(offline.folder)], ["my_steps:measure"], {"heatmaps": ["bright"]}, progress=events.append
    ).run()
    assert any("Nothing to be done" in event.get("line", "") for event in events)
    assert list(found) == ["day_1"] and found["day_1"].derived_plate == "results/plate_day_1_processed"
    assert list(found["day_1"].tables["features"]["well"]) == ["A01", "B03"] and found["day_1"].annotations == {}


NO_OMERO = """
import sys


class NoOmero:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"omero", "Ice", "IcePy", "Glacier2"}:
            raise ImportError(f"{name} is not to be imported")


sys.meta_path.insert(0, NoOmero())
"""


def test_a_folder_without_omero(offline):
    """A run on a folder imports neither omero-py nor Ice in any of its processes."""
    (offline.folder / "blocked").mkdir()
    (offline.folder / "blocked" / "sitecustomize.py").write_text(NO_OMERO)
    offline.environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(offline.folder / "blocked"), os.environ.get("PYTHONPATH")])
    )
    for module in ("omero", "Ice"):
        run = subprocess.run([sys.executable, "-c", f"import {module}"], env=offline.environment, capture_output=True)
        assert run.returncode == 1 and b"is not to be imported" in run.stderr
    write_imagexpress(offline.folder / "day_1", images_of(["A01", "B03"], sites=1, shape=(1, 2, 1, 8, 8)))
    offline.configure("day_1", heatmaps=["bright"])
    assert offline.succeed().jobs["process_well"] == 2
    assert len(read_rows(offline.results("day_1") / "features.csv")) == 2


FILLED = """
import numpy as np


def look(image, filemanager, metadata, backend="disk"):
    return image, {"filled": len(metadata["filled"]), "sum": int(image.sum(dtype=np.int64))}
"""


@pytest.mark.slow
def test_incomplete_plates(offline):
    """Plates are skipped, filled, or processed as far as wells are complete; the log says which."""
    (offline.folder / "looking.py").write_text(FILLED)
    images = images_of(["A01", "B03"], sites=2, shape=(1, 2, 1, 8, 8))
    for name in ("skipped", "filled", "chosen"):
        folder = write_imagexpress(offline.folder / name, images, guids=False)
        (folder / f"{name}_B03_s1_w2.TIF").unlink()
    plates = [
        {"path": "skipped", "incomplete": "skip"},
        {"path": "filled", "incomplete": "fill"},
        {"path": "chosen", "wells": ["A01"]},
    ]
    offline.configure(*plates, steps=[{"call": "looking:look"}], heatmaps=[])
    run = offline.succeed()
    expected = {(well, site): int(image.sum(dtype=np.int64)) for (well, site), image in images.items()}
    found = {
        name: {
            (row["well"], int(row["site"])): (int(row["filled"]), int(row["sum"]))
            for row in read_rows(offline.results(name) / "features.csv")
        }
        for name in ("skipped", "filled", "chosen")
    }
    whole = {place: (0, total) for place, total in expected.items() if place != ("B03", 1)}
    assert found["skipped"] == whole
    assert found["filled"] == {**whole, ("B03", 1): (1, int(images["B03", 1][0, 0].sum(dtype=np.int64)))}
    assert found["chosen"] == {place: value for place, value in whole.items() if place[0] == "A01"}
    lacks = "well B03 lacks files of site 1: timepoint 1, channel 2, plane 1 (as the files number them)"
    assert f"plate skipped: {lacks}; left out" in run.output
    assert f"plate filled: {lacks}; filled with black planes" in run.output
    results = handler_of(offline.results("skipped"))  # a plate without that site
    np.testing.assert_array_equal(
        results.load_site(offline.results("skipped"), "B03", 2, FileManager()), images["B03", 2]
    )
    results.check_complete(offline.results("skipped"), ["A01", "B03"])
    offline.configure("chosen", steps=[{"call": "looking:look"}], heatmaps=[])
    run = offline()
    assert run.status != 0 and lacks in run.output and run.jobs == {}


def test_steps_do_not_get_the_password(offline):
    """When no plate is in OMERO, no login removes the password from the environment."""
    (offline.folder / "looking.py").write_text(
        "import os\n\ndef look(image, filemanager, metadata, backend='disk'):\n"
        "    return image, {'password': os.environ.get('OMERO_PASSWORD', 'none')}\n"
    )
    write_imagexpress(offline.folder / "day_1", images_of(["A01"], sites=1, shape=(1, 1, 1, 8, 8)), guids=False)
    offline.configure("day_1", steps=[{"call": "looking:look"}], heatmaps=[])
    offline.environment["OMERO_PASSWORD"] = "s3cret"
    offline.succeed()
    assert [row["password"] for row in read_rows(offline.results("day_1") / "features.csv")] == ["none"]


WRITERS = {
    "ImageXpress": write_imagexpress,
    "OME-Zarr": write_plate,
    "Opera Phenix": write_phenix,
    **{
        f"OpenHCS {backend}": lambda folder, images, backend=backend: write_openhcs(folder, images, backend)
        for backend in ("disk", "zarr", "virtual_workspace")
    },
}


@pytest.mark.parametrize("kind", WRITERS)
def test_importing_a_plate_folder(conn, tmp_path, kind):
    images = images_of(["A01", "B03"])
    folder = WRITERS[kind](tmp_path / "plate", images)
    plate = load_plate(conn, import_folder(conn, folder, "mine"))
    assert (plate.name, plate.rows, plate.columns) == ("mine", 8, 12)
    found = {(well, image.site): image for well, image in plate.images()}
    assert set(found) == set(images)
    for place, image in found.items():
        np.testing.assert_array_equal(read_site(conn, image), images[place])
    about = read_metadata(conn, [found["B03", 2]])[found["B03", 2].image_id]
    assert about.channel_names == CHANNELS[:2]
    assert about.pixel_size[1:] == pytest.approx((PIXEL_SIZE, PIXEL_SIZE))
    assert about.pixel_size[0] == (2 if kind in ("Opera Phenix", "OME-Zarr") else None)
    if kind == "OME-Zarr":
        assert about.colors == ((0, 0, 255), (0, 255, 0))


def test_importing_images_with_channels_of_their_own(conn, tmp_path):
    """As of several acquisitions with other stains: each image keeps its names, and its number of channels."""
    images = images_of(["A01"], sites=2, shape=(1, 2, 1, 6, 5))
    folder = write_plate(tmp_path / "plate", images, Style(levels=1), runs=["day 1", "day 2"])
    pixels = images_of(["A01"], sites=1, shape=(1, 3, 1, 6, 5), seed=1)["A01", 1]
    shutil.rmtree(folder / "A/1/1/0")
    group = zarr.open_group(folder / "A/1/1")
    write_image(group, pixels, Style(levels=1))
    described = dict(group.attrs["ome"])
    described["omero"]["channels"][1]["label"] = "GFP"
    group.attrs["ome"] = described
    plate = load_plate(conn, import_folder(conn, folder))
    first, second = plate.wells["A01"].images.values()
    about = read_metadata(conn, [first, second])
    assert about[first.image_id].channel_names == ("DAPI", "FITC")
    assert about[second.image_id].channel_names == ("DAPI", "GFP", "Cy5")
    np.testing.assert_array_equal(read_site(conn, second), pixels)
