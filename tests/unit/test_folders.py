"""Plates in folders as the configuration names them: refusals, notes, and results."""

import itertools
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
import zarr
from ome_zarr_models.v05.image_label import ImageLabel
from ome_zarr_models.v05.labels import Labels
from ome_zarr_plates import Style
from ome_zarr_plates import write_plate as write_zarr
from plate_folders import CHANNELS, PIXEL_SIZE, images_of, write_imagexpress, write_phenix

from openhcs_omero.core.config import read_config
from openhcs_omero.core.config_check import check_config
from openhcs_omero.core.inspection import look, prepare
from openhcs_omero.core.outputs.folder import SUBFOLDERS, FolderOutput
from openhcs_omero.core.plan import recorded_plan
from openhcs_omero.core.plates import Plate, choose_wells, open_plates
from openhcs_omero.core.records import DerivedPlate, WellRecord, parse_record, read_record, recorded_listing, to_json
from openhcs_omero.core.stale import find_stale, forget
from openhcs_omero.core.well import WellFailed, process
from openhcs_omero.core.well_file import read_well_record, well_file, well_files, write_well_file
from openhcs_omero.errors import OpenHCSError, PlateError
from openhcs_omero.io.atomic import write
from openhcs_omero.io.base import storage_registry
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.io.staged import StagedFiles
from openhcs_omero.microscopes.detect import FOLDERS, handler_of
from openhcs_omero.plates.image import ImageMetadata, NewImage

SCHEMA = Path(__file__).parents[2] / "workflow" / "schemas" / "config.schema.yaml"
STEP = {"call": "openhcs_omero.processing.spots:count_spots"}
SHAPE = (1, 2, 1, 6, 5)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory without OMERO, with a plate in it."""
    monkeypatch.chdir(tmp_path)
    for key in [key for key in os.environ if key.startswith(("OMERO_", "OPENHCS_OMERO_RUN"))]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("OPENHCS_OMERO_RUN", "test")
    monkeypatch.setattr("openhcs_omero.omero.connection.connect", None)  # a run on folders never connects
    return write_imagexpress(Path("day_1"), images_of(["A01", "B03"], shape=SHAPE))


def configuration(*plates, **config):
    whole = {"plates": list(plates), "steps": [STEP], **config}
    check_config(whole, SCHEMA)
    return whole


def plan(*plates, **config):
    return look(configuration(*plates, **config), then=prepare)


def refusal(*plates, **config):
    with pytest.raises(OpenHCSError) as error:
        plan(*plates, **config)
    assert "\n" not in str(error.value)
    return str(error.value)


def chosen(plate, **config):
    """The selected wells of a plate."""
    config = {"plates": [plate], "steps": [STEP], **config}
    check_config(config, SCHEMA)
    settings = read_config(config)
    [opened] = open_plates(settings, settings.plates, None)
    return choose_wells(opened, settings, lambda note: print(note, file=sys.stderr))


def test_pixels_of_a_type_that_can_not_be_processed_cost_their_well(tmp_path, capsys):
    images = images_of(["A01", "B03"], sites=1, shape=(1, 1, 1, 4, 5))
    images["B03", 1] = images["B03", 1].astype("complex64")
    folder = str(write_zarr(tmp_path / "day_1", images, Style(levels=1)))
    assert list(chosen(folder).wells) == ["A01", "B03"]
    assert "complex64; pixels of this type can't be processed" in (said := capsys.readouterr().err)
    assert "B03 will fail" in said
    with pytest.raises(PlateError, match=r"plate day_1: B03 site 1 .* complex64; pixels of this type can't be"):
        chosen(folder, wells=["B03"])
    settings = read_config({"plates": [folder], "steps": [STEP], "results": str(tmp_path / "results")})
    [plate] = open_plates(settings, settings.plates, None)
    with pytest.raises(WellFailed, match=r"reading the images: plate day_1: B03 site 1 .* complex64"):
        process(settings, plate, DerivedPlate("day_1", "day_1", None), "B03", [])


# ---- labels of plates


def test_labels():
    plates = [7, "/omero/plate_8", "/omero/plate_7_processed", "day_1", "../x/plate_9/", "/data/my plate (2)", "./2024"]
    settings = read_config({"plates": plates, "steps": []})
    assert dict(settings.plates) == {
        "7": "/omero/plate_7",
        "8": "/omero/plate_8",
        "7_processed": "/omero/plate_7_processed",
        "day_1": "day_1",
        "9": "../x/plate_9/",
        "my plate (2)": "/data/my plate (2)",
        "2024": "./2024",
    }
    assert settings.in_omero and not read_config({"plates": ["day_1"], "steps": []}).in_omero
    assert settings.folder("day_1") == Path("results/plate_day_1_processed")


@pytest.mark.parametrize(
    ("plates", "says"),
    [
        ([7, "/omero/plate_7"], "plates has 7 and '/omero/plate_7', whose results would both go to plate_7"),
        (["day_1", "./day_1/"], "plates has 'day_1' and './day_1/', whose results would both go to plate_day_1"),
        (["/a/x", "/b/plate_x"], "plates has '/a/x' and '/b/plate_x', whose results would both go to plate_x"),
        (["nowhere"], "there is no folder nowhere; a plate in OMERO is named by its id"),
        (["empty"], "empty is not a plate of a known microscope: expected openhcs_metadata.json (OpenHCS)"),
        (["{a}"], "plates has '{a}', but results can't be stored under that name: rename the folder"),
        (["/omero/plate_7/A01"], "is a well, not a plate"),
        (["/omero/7"], "'/omero/7' is not a virtual path: expected /omero/plate_<id>"),
    ],
)
def test_refused_plates(plates, says):
    Path("empty").mkdir()
    assert says in refusal(*plates)
    assert not Path("results").exists()


def test_settings_that_do_not_fit_the_plate(folder):
    assert refusal("day_1", wells=["C07"]).startswith("plate day_1: well C07 is not in the plate")
    assert "but plate day_1 has 2 channels, counted from 0" in refusal("day_1", steps=[{**STEP, "channels": [2]}])
    assert "it must be disk or zarr" in refusal("day_1", materialization_backend="omero_local")
    write_imagexpress(Path("empty wells"), images_of(["A01"], shape=SHAPE), wells=["A01", "A02"])
    refused = refusal("empty wells", wells=["A01", "A02"])
    assert refused.startswith("plate empty wells has wells without images (A02): choose wells")
    assert "no images in the wells A02-A02:" in refusal("empty wells", wells=["A02-A02"])
    next(folder.glob("*B03_s1_w1[0-9A-F]*")).unlink()
    assert "well B03 lacks files of site 1: timepoint 1, channel 1, plane 1" in refusal("day_1")


def test_omitted_wells(folder, capsys):
    """A hole in a well that was not selected stops nothing; `all` and ranges omit wells without images."""
    write_imagexpress(Path("empty wells"), images_of(["A01"], shape=SHAPE), wells=["A01", "A02"])
    next(folder.glob("*B03_s1_w1[0-9A-F]*")).unlink()
    for plate, wells in (
        ("empty wells", "all"),
        ("empty wells", ["A01-A02"]),
        ("day_1", ["A01"]),
        ({"path": "day_1", "wells": ["A01"]}, "all"),
    ):
        assert list(chosen(plate, wells=wells).wells) == ["A01"]
    assert capsys.readouterr().err.splitlines() == ["plate empty wells: 1 well has no images and is left out (A02)"] * 2


@pytest.mark.parametrize(("incomplete", "sites"), [("skip", [2]), ("fill", [1, 2])])
def test_incomplete_wells(folder, capsys, incomplete, sites):
    next(folder.glob("*B03_s1_w1[0-9A-F]*")).unlink()
    assert sorted(chosen("day_1", incomplete=incomplete).wells["B03"].images) == sites
    done = "left out" if incomplete == "skip" else "filled with black planes"
    assert capsys.readouterr().err == (
        "plate day_1: well B03 lacks files of site 1: timepoint 1, channel 1, plane 1 (as the files number them); "
        f"{done}\n"
    )


def test_planes_of_any_size():
    """Only OMERO stores large planes as pyramids; in folders, planes of any size are read and written."""
    large = np.zeros((1, 1, 1, 3200, 3200), "uint8")
    write_imagexpress(Path("large"), {("A01", 1): large})
    assert chosen("large").image("A01", 1).shape == large.shape
    for name in ("disk", "zarr"):
        backend = storage_registry[name]
        [file] = backend.save_site(NewImage("large", large), f"{name}/A01/A01_s001.tif")
        assert backend.load(file).shape == large.shape[3:]


def test_a_file_name_pattern_for_a_plate():
    """TIFFs with the user's own names make a plate like any other."""
    Path("own").mkdir()
    for well, channel in itertools.product(("A01", "B02"), ("DAPI", "GFP")):
        tifffile.imwrite(Path("own", f"{well}-{channel}.tif"), np.full((4, 6), 7, "uint16"))
    entry = {"path": "own", "pattern": r"(?P<well>[A-Z]\d+)-(?P<channel>\w+)"}
    assert {image.shape for _, image in chosen(entry).images()} == {(1, 2, 1, 4, 6)}
    assert "not a plate of a known microscope" in refusal("own")


def test_results_of_another_plate_with_the_same_name(folder):
    plan("day_1")
    Path("elsewhere").mkdir()
    folder.rename("elsewhere/day_1")
    assert "has the results of day_1, not of elsewhere/day_1: name another folder" in refusal("elsewhere/day_1")
    assert plan("elsewhere/day_1", results="other").states["day_1"].path == "elsewhere/day_1"
    Path("results/plate_day_1_processed/state.json").unlink()
    plan("elsewhere/day_1")


def test_jobs_read_what_the_head_process_wrote():
    assert plan("day_1").states == dict(recorded_plan(configuration("day_1")).states)
    with pytest.raises(OpenHCSError, match="has no usable state"):
        recorded_plan(configuration("day_2")).wells("day_2")


# ---- the record of a well


def test_the_record_of_a_well_contains_all_that_its_job_reads(tmp_path):
    images = images_of(["A01", "B03"])
    plates = [write_imagexpress(tmp_path / "ixm", images), write_phenix(tmp_path / "phenix", images)]
    for plate in plates:
        handler = handler_of(plate)
        write(tmp_path / "wells.json", to_json(WellRecord.of(str(plate), handler.listing(plate), "B03")))
        record = read_record(tmp_path / "wells.json", WellRecord)
        moved = plate.rename(plate.with_name(f"{plate.name} moved"))
        known = Plate("x", str(moved), handler, FileManager(), None, recorded_listing({"B03": record}, str(moved)))
        assert list(known.structure.wells) == ["B03"]
        read = {image.site: pixels for image, pixels in known.sites("B03")}
        assert list(read) == [1, 2]
        for site, pixels in read.items():
            np.testing.assert_array_equal(pixels, images["B03", site])
        np.testing.assert_array_equal(known.plane("B03", 1, (1, 0, 2)), images["B03", 1][1, 0, 2])
        about = known.metadata("B03")[2]
        assert about.channel_names == CHANNELS[:2] and about.pixel_size[2] == pytest.approx(PIXEL_SIZE)


# ---- results


@pytest.fixture(params=["disk", "zarr"])
def output(request, folder):
    return FolderOutput(storage_registry[request.param], request.param, Path("results/plate_day_1_processed"), "day_1")


def run(output, images, kept=("results.json",)):
    """Write all wells as jobs do, and publish them; return the results folder and the plate."""
    plate = handler_of("day_1").listing("day_1").structure
    results = Path("results/plate_day_1_processed")
    derived = output.derive(plate, {})
    write(results / "derived.json", to_json(derived))
    for well in plate.wells:
        new = {
            site: NewImage(f"{well} site {site}", image, CHANNELS[: image.shape[1]], (), (2.0, 0.5, 0.25))
            for (w, site), image in images.items()
            if w == well
        }
        files = StagedFiles(output.backend, derived.path, well, list(new))
        for name in kept:
            files.save({"n": 1}, f"{derived.path}/{well}/{well}_s001_{name}")
        record = output.write_well(derived, well, new, files.files, {})
        write_well_file(well_file(results, well), to_json(record))
    records = {well: read_well_record(path, output.well_type) for well, path in well_files(results).items()}
    write(results / "annotations.json", to_json(output.publish(derived, [], [], records, {"run": "1"}, {})))
    return results, plate


def test_the_results_can_be_read_as_a_plate(output):
    images = images_of(["A01", "B03"], shape=(2, 2, 3, 300, 20), dtype="int32")
    results, _ = run(output, images)
    handler = handler_of(results)
    assert handler.get_primary_backend(results, FileManager()) == output.name
    assert handler.get_channel_values(results) == {0: "DAPI", 1: "FITC"}
    assert handler.listing(results).pixel_size == (2.0, 0.5, 0.25) and not handler.listing(results).own
    for (well, site), image in images.items():
        np.testing.assert_array_equal(handler.load_site(results, well, site, FileManager()), image)
    found = FileManager().load(results / SUBFOLDERS[output.name] / "A01" / "A01_s001_results.json", output.name)
    assert found == {"n": 1}
    if output.name == "zarr":
        about = json.loads((results / "zarr/plate.zarr/A/1/0/zarr.json").read_text())["attributes"]["ome"]
        assert [channel["label"] for channel in about["omero"]["channels"]] == ["DAPI", "FITC"]
        scale = about["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
        assert scale == [1, 1, 2, 0.5, 0.25]


def test_images_keep_their_own_channels(output):
    """Images of other wells and sites have other channels, colors and pixel sizes, also in the records of jobs."""
    images = images_of(["A01", "B03"], shape=(1, 2, 1, 6, 5))
    images["B03", 2] = images_of(["B03"], shape=(1, 2, 3, 6, 5))["B03", 2]  # a stack
    plate = handler_of("day_1").listing("day_1").structure
    own = {
        ("A01", 1): ImageMetadata(("DAPI", "FITC"), ((0, 0, 255), None), (None, 0.5, 0.25)),
        ("A01", 2): ImageMetadata(("DAPI", "FITC"), ((0, 0, 255), None), (None, 0.5, 0.5)),
        ("B03", 1): ImageMetadata(("FITC", "DAPI"), ((0, 255, 0), (0, 0, 255)), (None, 0.5, 0.25)),
        ("B03", 2): ImageMetadata(("DAPI", "FITC"), ((0, 0, 255), None), (None, 0.5, 0.25)),
    }
    derived, records = output.derive(plate, {}), {}
    for well in plate.wells:
        new = {
            site: NewImage("x", images[well, site], about.channel_names, about.colors, about.pixel_size)
            for (w, site), about in own.items()
            if w == well
        }
        records[well] = output.write_well(derived, well, new, [], {})
    output.publish(derived, [], [], records, {}, {})
    results = Path("results/plate_day_1_processed")
    handler = handler_of(results)
    listing = handler.listing(results)
    listing.check_complete()
    for (well, site), about in own.items():
        np.testing.assert_array_equal(handler.load_site(results, well, site, FileManager()), images[well, site])
        assert handler.read_metadata(listing, well)[site] == about
        record = parse_record(to_json(WellRecord.of(str(results), listing, well)).encode(), WellRecord)
        assert handler.read_metadata(recorded_listing({well: record}, str(results)), well)[site] == about
    assert handler.channel_names(results, listing.structure.only(["A01"])) == ("DAPI", "FITC")
    with pytest.raises(PlateError, match="A01 site 1 has DAPI, FITC, but B03 site 1 has FITC, DAPI"):
        handler.channel_names(results, listing.structure)


def test_acquisitions_are_kept(output):
    """Each image is of the acquisition of its source image, also after a rerun of one well."""
    images = images_of(["A01", "B03"], sites=3, shape=SHAPE)
    plate = handler_of(write_imagexpress(Path("day_2"), images)).listing("day_2").structure
    wells = {
        name: replace(
            well,
            images={
                s: replace(i, acquisition=(0, "before") if s < 3 else (7, "after")) for s, i in well.images.items()
            },
        )
        for name, well in plate.wells.items()
    }
    plate = replace(plate, wells=wells, times={7: (1_700_000_000_000, None)})
    derived, records = output.derive(plate, {}), {}

    def write_well(name):
        new = {s: NewImage(name, images[name, s], acquisition=i.acquisition[0]) for s, i in wells[name].images.items()}
        records[name] = output.write_well(derived, name, new, [], {})

    for name in wells:
        write_well(name)
    output.publish(derived, [], [], records, {}, {})
    write_well("A01")
    folder = Path("results/plate_day_1_processed")
    for place in [folder, folder / "zarr/plate.zarr"] if output.name == "zarr" else [folder]:
        read = handler_of(place, acquisition="all").listing(place).structure
        assert [(w, i.site, i.acquisition) for w, i in read.images()] == [
            (w, i.site, i.acquisition) for w, i in plate.images()
        ]
        assert read.described_acquisitions() == plate.described_acquisitions()
        after = handler_of(place, acquisition="after")
        assert np.array_equal(after.load_site(place, "B03", 1, FileManager()), images["B03", 3])
    for path in (folder / "images/A01").glob("*_s001_*"):
        path.unlink()
        handler_of(folder, acquisition="after").listing(folder).check_complete()
        with pytest.raises(OpenHCSError, match="well A01 lacks files of site 1"):
            handler_of(folder, acquisition="before").listing(folder).check_complete()
    assert output.standing(plate, records).derived == derived
    assert output.standing(replace(plate, times={}), records).derived != derived


def write_with_labels(output, images, labels):
    """Write a plate with these labels for every site; return its structure and the records of its wells."""
    plate = handler_of("day_1").listing("day_1").structure
    derived, records = output.derive(plate, {}), {}
    for well in plate.wells:
        new = {
            site: NewImage(well, image, labels=labels, pixel_size=(2.0, 0.5, 0.25))
            for (w, site), image in images.items()
            if w == well
        }
        records[well] = output.write_well(derived, well, new, [], {})
    return plate, records


def test_labels_are_beside_the_images(output):
    images = images_of(["A01", "B03"], shape=(2, 2, 3, 300, 20))
    labels = {"nuclei": np.zeros((2, 1, 3, 300, 20), np.uint16), "cells": np.zeros((2, 2, 1, 300, 20), np.uint32)}
    labels["nuclei"][1, 0, 2, 5:9, 3], labels["cells"][0, 1, 0, 0, :7] = 300, 70000
    write_with_labels(output, images, labels)
    folder = Path("results/plate_day_1_processed") / SUBFOLDERS[output.name]
    for name, expected in labels.items():
        if output.name == "disk":
            assert np.array_equal(output.backend.load(folder / f"A01/A01_s001_{name}_labels.tif"), expected)
            continue
        group = zarr.open_group(folder / "plate.zarr/A/1/0/labels", mode="r")
        assert Labels.from_zarr(group).attributes.ome.labels == ["nuclei", "cells"]
        label = ImageLabel.from_zarr(group[name]).attributes.ome
        [level, smaller] = label.multiscales[0].datasets
        assert np.array_equal(group[name][level.path][...], expected)
        assert np.array_equal(group[name][smaller.path][...], expected[..., ::2, ::2])
        [about] = group[name].attrs["ome"]["image-label"]["properties"]
        assert about == {"label-value": int(expected.max()), "pixels": int((expected > 0).sum())}
        assert group[name].attrs["ome"]["image-label"]["source"] == {"image": "../../"}


def test_lost_labels_are_noticed_and_old_ones_removed(output):
    images = images_of(["A01", "B03"], shape=SHAPE)
    labels = {"nuclei": np.ones((SHAPE[0], 1, 1, *SHAPE[3:]), np.uint16)}
    plate, records = write_with_labels(output, images, labels)
    assert set(output.standing(plate, records).intact) == {"A01", "B03"}
    folder = Path("results/plate_day_1_processed") / SUBFOLDERS[output.name]
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and "labels" in str(path.relative_to(folder))]
    found[0].unlink()
    assert set(output.standing(plate, records).intact) == {"B03"}
    plate, records = write_with_labels(output, images, {})
    assert not list(folder.rglob("*labels*"))
    assert set(output.standing(plate, records).intact) == {"A01", "B03"}


def test_earlier_results_are_replaced(output):
    """Sites, planes and files that a step no longer makes are removed, even if the pixel type changes."""
    run(output, images_of(["A01", "B03"], sites=3, shape=(1, 2, 3, 6, 5)), kept=["results.json", "old.json"])
    images = images_of(["A01", "B03"], sites=2, shape=(1, 1, 1, 6, 5), dtype="float32", seed=1)
    results, plate = run(output, images)
    listed = output.backend.list_files(results / SUBFOLDERS[output.name])
    assert [Path(path).name for path in listed] == [
        f"{well}_s00{site}_{name}"
        for well in ("A01", "B03")
        for site in (1, 2)
        for name in (("results.json", "z000_c000.tif") if site == 1 else ("z000_c000.tif",))
    ]
    handler = handler_of(results)
    assert handler.get_site_values(results) == [1, 2]
    np.testing.assert_array_equal(handler.load_site(results, "B03", 2, FileManager()), images["B03", 2])
    output.derive(plate.only(["B03"]), {})  # only this well is still selected
    assert {Path(path).parent.name for path in output.backend.list_files(results / SUBFOLDERS[output.name])} == {"B03"}


def test_the_images_of_a_failed_well_are_removed(output):
    """If no well has results, everything stays as it was."""
    results, _ = run(output, images_of(["A01", "B03"], shape=SHAPE))
    derived = read_record(results / "derived.json", DerivedPlate)
    record = read_well_record(well_file(results, "A01"), output.well_type)
    before = (results / "openhcs_metadata.json").read_text()
    kept = output.publish(derived, [], [], {"A01": None, "B03": None}, {}, {})
    assert (results / "openhcs_metadata.json").read_text() == before and output.is_published(kept)
    assert output.has_images(derived, "B03")
    for _ in range(2):
        output.publish(derived, [], [], {"A01": record, "B03": None}, {}, {})
        assert output.has_images(derived, "A01") and not output.has_images(derived, "B03")
    assert set(handler_of(results).structure(results).wells) == {"A01"}


def test_images_of_the_other_backend_are_removed(output):
    results, plate = run(output, images_of(["A01", "B03"], shape=SHAPE))
    [other] = set(SUBFOLDERS) - {output.name}
    changed = FolderOutput(storage_registry[other], other, results, "day_1")
    forget(find_stale(changed, plate, results), results)
    assert not (results / "derived.json").exists()
    run(changed, images_of(["A01", "B03"], shape=SHAPE))
    assert not (results / SUBFOLDERS[output.name]).exists()
    assert handler_of(results).get_primary_backend(results, FileManager()) == other


def test_records_of_lost_results_are_removed(output):
    results, plate = run(output, images_of(["A01", "B03"], shape=SHAPE))
    found = [path for ending in ("json", "zip") for path in results.rglob(f"*.{ending}") if "images" not in path.parts]
    records = {path.relative_to(results).as_posix() for path in found if "zarr" not in path.parts}
    assert {"derived.json", "annotations.json", "processed/A01.zip", "processed/B03.zip"} <= records

    def lost():
        forget(find_stale(output, plate, results), results)
        gone = {name for name in records if not (results / name).exists()}
        run(output, images_of(["A01", "B03"], shape=SHAPE))
        return gone

    assert lost() == set()
    of_a01 = "images/A01/A01_s002_z000_c001.tif" if output.name == "disk" else "zarr/plate.zarr/A/1/1/0/c/0/1/0/0/0"
    (results / of_a01).unlink()
    assert lost() == {"processed/A01.zip"}
    (results / SUBFOLDERS[output.name] / "B03" / "B03_s001_results.json").write_text("{}")
    assert lost() == {"processed/B03.zip"}
    (results / "openhcs_metadata.json").unlink()
    assert lost() == {"annotations.json", "openhcs_metadata.json"}
    (results / SUBFOLDERS[output.name]).rename("away")
    assert lost() == {"derived.json", "processed/A01.zip", "processed/B03.zip"}


def test_the_examples_of_the_page(capsys):
    page = (SCHEMA.parents[2] / "docs" / "how-to" / "microscopes.md").read_text()
    write_phenix(Path("data/day_1"), images_of(["A01", "B03"]))
    names = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(code, names)
    assert capsys.readouterr().out.splitlines() == re.findall(r"^print\(.*\)  # (.*)$", page, re.MULTILINE)
    assert names["image"].shape == (2, 2, 3, 6, 5)
    config = yaml.safe_load(re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1])
    check_config(config, SCHEMA)
    assert list(read_config(config).plates) == ["7", "7_processed", "day_1", "day_2"]
    for handler in FOLDERS:
        assert f"`{handler.__name__}`" in page
