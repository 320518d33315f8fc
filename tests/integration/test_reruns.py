"""Which jobs Snakemake runs again after a change."""

import re
import time

import pytest
from omero.model import ImageI
from snake import kill, workflow
from wire import add_well, block, count, images_in_no_well, make_plate, wire

from openhcs_omero.core.inspection import look, prepare
from openhcs_omero.core.plan import recorded_plan
from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.omero import queries
from openhcs_omero.omero.annotations import list_texts, read_text
from openhcs_omero.omero.connection import close_all, connect
from openhcs_omero.omero.derived import derived_state, find_derived
from openhcs_omero.omero.marks import NAMESPACE
from openhcs_omero.omero.omero_tables import list_tables
from openhcs_omero.omero.pixels import read_site
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.writing import write_well_images
from openhcs_omero.plates.image import NewImage

__all__ = ["wire", "workflow"]

SHIFT = """
BY = 1


def shift(image, filemanager, metadata, backend="disk"):
    return (image + BY).astype(image.dtype), {"shift": BY}
"""
AFTER_A_WELL = {"aggregate": 1, "annotate": 1, "heatmaps": 1, "montage": 1, "all": 1}


def new_image(conn, seed):
    group = queries.current_group(conn)
    return write_well_images(conn, [NewImage("new", block(seed))], "test", group)[0].image_id


def replace_image(conn, plate_id, well, site, seed):
    """Replace a site's image and delete the old one, as a client that corrects it does; return the new image's id."""
    old = load_plate(conn, plate_id).image(well, site)
    sample = queries.query(conn).findByQuery(
        "select ws from WellSample ws join fetch ws.well join fetch ws.image where ws.id = :id",
        queries.parameters(id=old.well_sample_id),
    )
    sample.image = ImageI(new_image(conn, seed), False)
    queries.update(conn).saveObject(sample)
    queries.delete(conn, queries.current_group(conn), Image=[old.image_id])
    return sample.image.id.val


def wait_for_images(conn, more_than):
    end = time.monotonic() + 60
    while count(conn, "Image")["Image"] <= more_than:
        assert time.monotonic() < end
        time.sleep(0.02)


def delete_well(conn, plate_id, name):
    well = load_plate(conn, plate_id, require_images=False).well(name)
    queries.delete(conn, queries.current_group(conn), Well=[well.well_db_id])


def shown(conn, plate_id, output="processed"):
    """SHA-1 of the pixels that the derived plate shows, by well and site."""
    plate = load_plate(conn, find_derived(conn, plate_id, output))
    return {(well, image.site): image.sha1 for well, image in plate.images()}


@pytest.fixture
def plate(conn):
    return make_plate(conn, {"A01": 2, "A02": 2, "B01": 2}, name="screen")


@pytest.fixture
def done(workflow, conn, plate):
    """The workflow after one run."""
    workflow.configure(plate)
    run = workflow.succeed()
    assert run.jobs == {"wells": 1, "derive_plate": 1, "estimate": 2, "process_well": 3, **AFTER_A_WELL}
    assert run.wells == ["A01", "A02", "B01"]
    return workflow


def test_a_changed_source_plate(done, conn, plate):
    assert done.succeed().nothing_done
    before = shown(conn, plate)

    replace_image(conn, plate, "A02", 2, seed=77)
    run = done.succeed()
    assert run.wells == ["A02"] and run.jobs == {"wells": 1, "process_well": 1, **AFTER_A_WELL}
    after = shown(conn, plate)
    assert {place for place in after if after[place] != before[place]} == {("A02", 2)}
    changed = read_rows(done.results(plate) / "features.csv")[3]
    assert (changed["well"], changed["site"], changed["bright"]) == ("A02", "2", str(block(77).max()))
    assert done.succeed().nothing_done

    add_well(conn, plate, "C03", new_image(conn, 90))
    replace_image(conn, plate, "B01", 1, seed=55)  # although the derived plate changes, its wells are looked at
    run = done.succeed()
    assert run.wells == ["B01", "C03"]
    assert run.jobs == {"wells": 1, "derive_plate": 1, "process_well": 2, **AFTER_A_WELL}
    assert set(shown(conn, plate)) == {*after, ("C03", 1)} and shown(conn, plate)["B01", 1] != after["B01", 1]
    assert done.succeed().nothing_done

    delete_well(conn, plate, "A01")
    run = done.succeed()
    assert run.wells == [] and run.jobs == {"wells": 1, "derive_plate": 1, **AFTER_A_WELL}
    assert set(shown(conn, plate)) == {("A02", 1), ("A02", 2), ("B01", 1), ("B01", 2), ("C03", 1)}
    for name in ("features.csv", "wells.csv", "objects.csv"):
        assert {row["well"] for row in read_rows(done.results(plate) / name)} == {"A02", "B01", "C03"}
    attached = read_text(conn, "Plate", plate, "processed_wells.csv").decode()
    assert attached == (done.results(plate) / "wells.csv").read_text() and "A01" not in attached
    assert done.succeed().nothing_done
    assert images_in_no_well(conn) == []


@pytest.mark.slow
def test_a_changed_choice_of_wells(done, conn, plate):
    done.configure(plate, wells=["A01-A02"])
    run = done.succeed()
    assert run.wells == [] and {well for well, _ in shown(conn, plate)} == {"A01", "A02"}
    done.configure(plate)
    run = done.succeed()
    assert run.wells == ["B01"] and {well for well, _ in shown(conn, plate)} == {"A01", "A02", "B01"}
    assert done.succeed().nothing_done


@pytest.mark.slow
def test_a_damaged_derived_plate(done, conn, plate):
    group, before = queries.current_group(conn), shown(conn, plate)
    derived = find_derived(conn, plate, "processed")

    sample = load_plate(conn, derived).image("B01", 2).well_sample_id
    queries.delete(conn, group, WellSample=[sample])
    tables = list_tables(conn, derived, NAMESPACE)
    run = done.succeed()
    assert run.wells == ["B01"] and run.jobs == {"process_well": 1, **AFTER_A_WELL}
    anew = list_tables(conn, derived, NAMESPACE)  # its table of sites refers to the new images of the well
    assert anew["features.csv"] != tables["features.csv"] and anew["wells.csv"] == tables["wells.csv"]
    assert shown(conn, plate) == before and done.succeed().nothing_done

    foreign = replace_image(conn, derived, "A01", 1, seed=5)
    assert done.succeed().wells == ["A01"]
    assert shown(conn, plate) == before and done.succeed().nothing_done

    delete_well(conn, derived, "A02")
    assert done.succeed().wells == ["A02"]
    assert shown(conn, plate) == before and done.succeed().nothing_done

    [text] = [text for text in list_texts(conn, "Plate", plate) if text.name == "processed_wells.csv"]
    tables = list_tables(conn, derived, NAMESPACE)
    table = max(
        row[0]
        for row in queries.rows(
            conn,
            "select a.id from PlateAnnotationLink l join l.child a join a.file f "
            "where l.parent.id = :id and f.mimetype = 'OMERO.tables'",
            id=derived,
        )
    )
    queries.delete(conn, group, FileAnnotation=[text.annotation_id, table])
    run = done.succeed()
    assert run.jobs == {"annotate": 1, "all": 1} and done.succeed().nothing_done
    assert read_text(conn, "Plate", plate, "processed_wells.csv") and list_tables(conn, derived, NAMESPACE) == tables

    queries.delete(conn, group, Plate=[derived])
    run = done.succeed()
    assert run.wells == ["A01", "A02", "B01"] and run.jobs["derive_plate"] == 1 and "estimate" not in run.jobs
    assert shown(conn, plate) == before and done.succeed().nothing_done
    assert images_in_no_well(conn) == [foreign]  # the workflow must not delete it


@pytest.mark.slow
def test_a_changed_step(done, conn, plate):
    before, derived = shown(conn, plate), find_derived(conn, plate, "processed")

    source = done.folder / "shift.py"
    source.write_text(SHIFT)
    done.configure(plate, steps=[{"call": "my_steps:measure", "params": {"level": 3}}, {"call": "shift:shift"}])
    run = done.succeed()
    assert run.wells == ["A01", "A02", "B01"] and run.jobs["estimate"] == 2
    after = shown(conn, plate)
    assert all(after[place] != before[place] for place in before) and done.succeed().nothing_done

    source.write_text(SHIFT.replace("BY = 1", "BY = 2"))
    run = done.succeed()
    assert run.wells == ["A01", "A02", "B01"] and "estimate" not in run.jobs
    assert all(shown(conn, plate)[place] != after[place] for place in before) and done.succeed().nothing_done

    assert find_derived(conn, plate, "processed") == derived
    assert queries.rows(conn, "select count(p) from Plate p")[0][0] == 2
    assert images_in_no_well(conn) == [] and len(derived_state(conn, derived)) == 3


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(r"Process well", id="in the first wells", marks=pytest.mark.slow),
        pytest.param(r"Finished jobid: \d+ \(Rule: process_well\)", id="after the first well", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run(workflow, conn, plate, after):
    workflow.configure(plate, output="undisturbed")
    workflow.succeed()
    images = count(conn, "Image")["Image"]
    workflow.configure(plate, output="killed")
    process = workflow.start()
    said = ""
    for line in process.stdout:
        said += line
        if re.search(after, line):
            break
    else:
        raise AssertionError(said)
    if after == "Process well":
        wait_for_images(conn, more_than=images)  # now the job is about to link them to the plate
    kill(process)
    workflow.succeed("--unlock")
    run = workflow.succeed()
    assert run.wells and workflow.succeed().nothing_done
    assert shown(conn, plate, "killed") == shown(conn, plate, "undisturbed")
    for name in ("features.csv", "wells.csv", "objects.csv"):
        assert len({(workflow.results(plate, output) / name).read_text() for output in ("killed", "undisturbed")}) == 1
    assert images_in_no_well(conn) == []
    assert queries.rows(conn, "select count(i) from Image i")[0][0] == 3 * 6
    assert queries.rows(conn, "select count(p) from Plate p")[0][0] == 3
    linked = {
        row[0]
        for kind in ("Plate", "Image", "Well")
        for row in queries.rows(conn, f"select l.child.id from {kind}AnnotationLink l")
    }
    assert {row[0] for row in queries.rows(conn, "select a.id from FileAnnotation a")} <= linked


@pytest.mark.parametrize("wells", [pytest.param(2, marks=pytest.mark.slow), 6])
def test_finding_nothing_to_do_takes_a_handful_of_calls(workflow, omero_server, conn, monkeypatch, wire, wells):
    plate = make_plate(conn, {f"A{i:02d}": 2 for i in range(1, wells + 1)})
    workflow.configure(plate)
    workflow.succeed()
    for key, value in workflow.environment.items():
        if key.startswith("OMERO_"):
            monkeypatch.setenv(key, value)
    monkeypatch.chdir(workflow.folder)
    monkeypatch.syspath_prepend(str(workflow.folder))
    config = {"plates": [plate], "steps": [{"call": "my_steps:measure"}]}
    plan = recorded_plan(config)
    records = sorted(workflow.results(plate).rglob("*.json"))
    connect(plan.settings.server())
    try:
        wire.start()
        again = look(config, then=prepare)
        calls = wire.stop()
    finally:
        close_all()
    assert dict(again.states) == dict(plan.states) and sorted(workflow.results(plate).rglob("*.json")) == records
    assert len(calls) <= 12, " ".join(map(str, calls))
    assert read_site(conn, load_plate(conn, plate).image("A01", 1)).shape == (1, 2, 3, 4, 6)
