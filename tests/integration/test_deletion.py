"""Deleting derived plates: `openhcs-omero delete`, and what the next run cleans up."""

import numpy as np
import pytest
from omero.model import MapAnnotationI, PlateAnnotationLinkI, PlateI
from typer.testing import CliRunner
from wire import Killed, add_well, block, count, images_in_no_well, make_plate, wire

from openhcs_omero.cli import app
from openhcs_omero.core.outputs.omero import OMEROOutput
from openhcs_omero.errors import PlateError, RightsError
from openhcs_omero.io.omero_local import OMEROLocalBackend
from openhcs_omero.omero import queries
from openhcs_omero.omero.annotations import list_texts, save_text
from openhcs_omero.omero.attachments import list_attachments
from openhcs_omero.omero.deletion import delete_derived, plan_deletion
from openhcs_omero.omero.derived import find_derived
from openhcs_omero.omero.marks import mark_of
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.writing import write_well_images
from openhcs_omero.plates.image import NewImage
from openhcs_omero.plates.labels import RoiOptions
from openhcs_omero.plates.paths import PlatePath

__all__ = ["wire"]

KINDS = ("Plate", "Well", "Image", "Roi", "OriginalFile", "Annotation")


def publish(conn, plate, output, folder, on="both"):
    """Derive a plate with one image, outline its objects on the source image too, and publish its tables as a run does.

    Returns the id of the derived plate.
    """
    made, source = OMEROOutput(OMEROLocalBackend(omero_conn=conn), output, RoiOptions(on)), load_plate(conn, plate)
    labels = {"nuclei": np.ones((1, 1, *block(3).shape[2:]), np.uint16)}
    image = NewImage("a", block(3), source_image=source.image("A01", 1).image_id, labels=labels)
    derived = made.derive(source.only(["A01"]), {})
    record = made.write_well(derived, "A01", {1: image}, [], {})
    for name, text in (("features.csv", "well,site,n\nA01,1,3\n"), ("wells.csv", "well,n\nA01,3\n"), ("run.yaml", "x")):
        (folder / name).write_text(text)
    tables = [folder / "features.csv", folder / "wells.csv"]
    made.attach_tables(derived, tables)
    made.publish(derived, tables, [folder / "run.yaml"], {"A01": record}, {}, {})
    return int(derived.derived_plate)


@pytest.fixture
def plate(conn):
    return make_plate(conn, {"A01": 1, "A02": 1})


@pytest.fixture
def command(omero_server, conn, monkeypatch, tmp_path):
    """Run `openhcs-omero` as the user of `conn`."""
    for key, value in {
        "HOST": omero_server.host,
        "PORT": omero_server.port,
        "USER": conn.getUser().getName(),
        "SESSIONDIR": tmp_path / "sessions",
    }.items():
        monkeypatch.setenv(f"OMERO_{key}", str(value))

    def run(*arguments, answer=None):
        monkeypatch.setenv("OMERO_PASSWORD", "pw")
        return CliRunner().invoke(app, list(map(str, arguments)), input=answer)

    return run


def names(conn, plate):
    return sorted(text.name for text in list_texts(conn, "Plate", plate))


def test_regions_on_source_images_go_when_they_are_no_longer_wanted(conn, plate, tmp_path):
    publish(conn, plate, "processed", tmp_path)
    assert count(conn, "Roi") == {"Roi": 2}
    publish(conn, plate, "processed", tmp_path, on="derived")
    [image] = queries.rows(conn, "select r.image.id from Roi r")
    assert image != [load_plate(conn, plate).image("A01", 1).image_id]


def test_the_plate_goes_with_its_attachments(conn, plate, command, tmp_path):
    before = count(conn, *KINDS)
    derived = publish(conn, plate, "processed", tmp_path)
    other = publish(conn, plate, "other", tmp_path)
    save_text(conn, "Plate", plate, "processed_features.csv", b"well,n\nA01,7\n")  # the user's own
    assert names(conn, plate) == [
        "other_features.csv",
        "other_wells.csv",
        "processed_features.csv",
        "processed_wells.csv",
    ]
    for answer in ("n\n", None):
        refused = command("delete", f"plate_{plate}_processed", answer=answer)
        assert refused.exit_code == 1 and "nothing was deleted" in refused.output
    assert f"plate {derived}, 'plate [processed]': 1 image in 1 well" in refused.output
    assert f"on plate {plate}, 2 files: processed_features.csv, processed_wells.csv" in refused.output
    assert f"on plate {plate}, 2 tables: processed_features.csv, processed_wells.csv" in refused.output
    assert find_derived(conn, plate, "processed") == derived

    assert command("delete", f"plate_{plate}_processed", answer="y\n").exit_code == 0
    assert find_derived(conn, plate, "processed") is None and find_derived(conn, plate, "other") == other
    assert names(conn, plate) == ["other_features.csv", "other_wells.csv", "processed_features.csv"]
    again = command("delete", f"plate_{plate}_processed", "--yes")
    assert again.exit_code == 0 and "there is nothing to delete" in again.output
    assert command("delete", f"plate_{other}", "--yes").exit_code == 0  # by its own id
    save_text(conn, "Plate", plate, "processed_features.csv", b"")
    left = count(conn, *KINDS)
    assert left == {**before, "OriginalFile": 1, "Annotation": before["Annotation"] + 1}


def test_what_is_not_a_derived_plate(conn, plate, command, tmp_path):
    refused = command("delete", f"/omero/plate_{plate}", "--yes")
    assert refused.exit_code == 1 and f"plate {plate} is not a derived plate" in refused.output
    refused = command("delete", f"/omero/plate_{plate}/A01", "--yes")
    assert refused.exit_code == 1 and "names a well: delete takes a derived plate" in refused.output
    with pytest.raises(PlateError, match="there is no plate 987654"):
        plan_deletion(conn, PlatePath(987654))

    derived = publish(conn, plate, "processed", tmp_path)
    link = PlateAnnotationLinkI()  # the key-value pairs of the derived plate, on another plate
    link.parent, link.child = PlateI(plate, False), MapAnnotationI(mark_of(conn, derived).id.val, False)
    queries.update(conn).saveObject(link)
    with pytest.raises(PlateError, match=f"plate {plate} is not a derived plate"):
        plan_deletion(conn, PlatePath(plate, "processed"))
    queries.delete(conn, queries.current_group(conn), Plate=[plate])  # it takes the key-value pairs along, or not
    assert load_plate(conn, derived).wells_with_images() == ["A01"]


def test_a_plate_with_images_of_the_user(conn, plate, tmp_path):
    derived = publish(conn, plate, "processed", tmp_path)
    [image] = write_well_images(conn, [NewImage("own", block(1))], "mine", queries.current_group(conn))
    add_well(conn, derived, "D04", image.image_id)
    with pytest.raises(PlateError, match=f"plate {derived} has 1 image that this software did not write"):
        plan_deletion(conn, PlatePath(plate, "processed"))


def test_a_plate_of_another_user(make_user, tmp_path):
    owner = make_user("rwra--")
    member = make_user(group=owner.getEventContext().groupId)
    plate = make_plate(owner, {"A01": 1})
    theirs = publish(member, plate, "processed", tmp_path)
    for path in (PlatePath(plate, "processed"), PlatePath(theirs)):
        with pytest.raises(RightsError, match=f"plate {theirs}, which is .*, belongs to another user"):
            plan_deletion(owner, path)
    mine = publish(owner, plate, "processed", tmp_path)
    delete_derived(owner, plan_deletion(owner, PlatePath(plate, "processed")))
    assert find_derived(owner, plate, "processed") == theirs != mine
    assert [one.name for one in list_attachments(member, plate) if not one.is_table] == [
        "processed_features.csv",
        "processed_wells.csv",
    ]
    delete_derived(member, plan_deletion(member, PlatePath(theirs)))
    assert count(owner, "Roi", "OriginalFile") == {"Roi": 0, "OriginalFile": 0}


@pytest.mark.slow
def test_killed_while_deleting(conn, plate, wire, tmp_path):
    """Wherever the process dies, the same command finishes the deletion."""
    before, survived = count(conn, *KINDS), set()
    for point in range(60):
        derived = publish(conn, plate, "processed", tmp_path)
        path = PlatePath(derived) if point % 2 else PlatePath(plate, "processed")
        wire.start(dies_at=point)
        try:
            delete_derived(conn, plan_deletion(conn, path))
            break
        except Killed:
            wire.stop()
        survived.add(bool(find_derived(conn, plate, "processed")))
        if find_derived(conn, plate, "processed") or path.output:
            delete_derived(conn, plan_deletion(conn, path))
        assert count(conn, *KINDS) == before
    wire.stop()
    # a server may finish the deletion of a client that died, so a plate that is gone is not seen in each run
    assert True in survived and count(conn, *KINDS) == before


def test_the_next_run_cleans_up_after_a_deletion_by_hand(conn, plate, tmp_path):
    """Attachments whose derived plate was deleted in OMERO.web go; those of other outputs and users stay."""
    publish(conn, plate, "kept", tmp_path)
    derived = publish(conn, plate, "processed", tmp_path)
    save_text(conn, "Plate", plate, "notes.txt", b"by hand", "mine")
    queries.delete(conn, queries.current_group(conn), Plate=[derived])
    assert len(list_attachments(conn, plate, "processed")) == 4
    OMEROOutput(OMEROLocalBackend(omero_conn=conn), "kept", RoiOptions()).clean_up(load_plate(conn, plate))
    assert list_attachments(conn, plate, "processed") == [] and len(list_attachments(conn, plate, "kept")) == 4
    assert names(conn, plate) == ["kept_features.csv", "kept_wells.csv", "notes.txt"]
    assert count(conn, "Roi") == {"Roi": 2}  # on both images of the kept output
    assert images_in_no_well(conn) == []


def test_attachments_of_earlier_versions_are_renamed(conn, plate, tmp_path):
    """Version 0.1 attached them to the source plate without the name of the output."""
    save_text(conn, "Plate", plate, "features.csv", b"old", "openhcs_omero/derived/processed")
    publish(conn, plate, "processed", tmp_path)
    assert names(conn, plate) == ["processed_features.csv", "processed_wells.csv"]


def test_files_of_one_name(conn, plate, command, tmp_path):
    """`get` lists them, and takes the id of one."""
    for text, ns in (("one", "a"), ("other", "b")):
        save_text(conn, "Plate", plate, "x.txt", text.encode(), ns)
    one, other = [row[0] for row in queries.rows(conn, "select a.id from FileAnnotation a join a.file f order by a.id")]
    path, user = f"/omero/plate_{plate}/x.txt", conn.getUser().getName()
    refused = command("get", path, tmp_path)
    assert refused.exit_code == 1 and f"{path} is the name of 2 files" in refused.output
    assert f"annotation {one} of {user}, 3 bytes, namespace a; annotation {other} of {user}, 5 bytes" in refused.output
    assert f"--annotation {other}" in refused.output
    for number, text in ((one, "one"), (other, "other")):
        assert command("get", path, tmp_path, "--annotation", number).exit_code == 0
        assert (tmp_path / "x.txt").read_text() == text
    wrong = command("get", path, tmp_path, "--annotation", 1)
    assert wrong.exit_code == 1 and "is not attached as annotation 1, but as annotation" in wrong.output
    assert command("get", f"plate_{plate}", tmp_path).exit_code == 0  # the whole plate with all files
    copies = {path.name: path.read_text() for path in (tmp_path / f"plate_{plate}").glob("*.txt")}
    assert copies == {f"x.{one}.txt": "one", f"x.{other}.txt": "other"}
    save_text(conn, "Plate", plate, "x.txt", b"new", "b")
    assert OMEROLocalBackend(omero_conn=conn).load_bytes(path, other + 1) == b"new"
