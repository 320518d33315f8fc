"""Lists of derived plates, and what `verify` finds after files on the server or source images changed."""

import pytest
from omero.rtypes import rstring
from typer.testing import CliRunner
from wire import block, make_plate, wire

from openhcs_omero.cli import app
from openhcs_omero.omero import queries
from openhcs_omero.omero.annotations import save_text
from openhcs_omero.omero.derived import derive_plate
from openhcs_omero.omero.derived_well import write_well
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.verifying import list_derived_plates, verify
from openhcs_omero.plates.image import NewImage

__all__ = ["wire"]


@pytest.fixture
def source(conn):
    return load_plate(conn, make_plate(conn, {"A01": 2, "B03": 1}, name="screen"))


@pytest.fixture
def derived(conn, source):
    made = derive_plate(conn, source, "processed", {})
    for well in ("A01", "B03"):
        images = source.wells[well].images
        write_well(
            conn,
            made,
            well,
            {site: NewImage("x", block(site), source_image=image.image_id) for site, image in images.items()},
            {},
        )
    save_text(conn, "Plate", made, "notes.txt", b"all is well")
    return made


@pytest.fixture
def cli(conn, omero_server, monkeypatch):
    """The exit code and the output of a command, run in this process as the user."""

    def run(*arguments):
        monkeypatch.setattr("openhcs_omero.cli._connect", lambda *_: conn)
        done = CliRunner().invoke(app, list(arguments))
        return done.exit_code, done.stdout.strip()

    return run


def problems(conn, derived):
    seen = []
    found = list(verify(conn, derived, lambda done, total: seen.append((done, total))))
    assert seen[-1] == (3, 3)
    return found


def test_a_list_of_derived_plates(conn, source, derived, wire):
    empty = derive_plate(conn, source, "again", {})
    wire.start()
    first, second = list_derived_plates(conn)
    wire.stop()
    assert wire.calls.count("projection") == len(wire.calls) == 5
    assert (first.plate_id, first.path) == (derived, f"/omero/plate_{source.plate_id}_processed")
    assert (first.source_id, first.source_name, first.state) == (source.plate_id, "screen", "complete")
    assert first.size == 3 * block(1).nbytes
    assert (second.plate_id, second.state, second.size) == (empty, "2 wells empty", 0)
    queries.delete(conn, source.group_id, Plate=[source.plate_id])
    assert {plate.state for plate in list_derived_plates(conn)} == {"the source plate is gone"}


def test_nothing_has_changed(conn, source, derived, cli):
    assert problems(conn, derived) == []
    path = f"/omero/plate_{source.plate_id}_processed"
    assert cli("verify", path) == (0, f"{path} is as it was written, and its source has not changed since")
    status, line = cli("derived")
    assert (
        status == 0 and line.split()[0] == path and line.endswith(f"complete        from 'screen' ({source.plate_id})")
    )
    assert cli("verify", str(source.plate_id))[0] == 1


@pytest.mark.embedded_only  # changes files of the server
def test_files_that_changed_on_the_server(conn, derived, omero_server):
    image = load_plate(conn, derived).wells["A01"].images[2]
    [pixels] = list((omero_server.data / "Pixels").rglob(str(image.pixels_id)))
    data = bytearray(pixels.read_bytes())
    data[3] ^= 1
    pixels.write_bytes(data)
    [[file]] = queries.rows(conn, "select f.id from OriginalFile f where f.name = 'notes.txt'")
    [text] = list((omero_server.data / "Files").rglob(str(file)))
    text.write_bytes(b"all is Well")
    assert problems(conn, derived) == [
        f"site 2 of well A01 has other pixels than were written (image {image.image_id})",
        "the file notes.txt has other content than was written",
    ]


def test_source_images_that_changed(conn, source, derived):
    first, gone = source.wells["A01"].images[1].image_id, source.wells["B03"].images[1].image_id
    image = queries.query(conn).get("Image", first)
    image.name = rstring("renamed")
    queries.update(conn).saveObject(image)
    queries.delete(conn, source.group_id, Well=[source.wells["B03"].well_db_id])
    assert problems(conn, derived) == [
        f"the source of site 1 of well A01 was changed since (image {first})",
        f"the source of site 1 of well B03 is gone (image {gone})",
    ]
