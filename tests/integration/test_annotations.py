"""Files attached to plates, wells and images."""

import omero
import pytest
from wire import Killed, count, make_plate, wire

from openhcs_omero.errors import PlateError
from openhcs_omero.omero import queries
from openhcs_omero.omero.annotations import NAMESPACE, delete_text, list_texts, read_text, save_text, texts_of
from openhcs_omero.omero.plate import load_plate

__all__ = ["wire"]

CSV = "well,µ\nA01,3\n".encode()


@pytest.fixture
def plate(conn):
    return load_plate(conn, make_plate(conn, {"A01": 1}))


@pytest.fixture(params=["Plate", "Well", "Image"])
def target(request, plate):
    """The kind and id of an object that files are attached to."""
    well = plate.wells["A01"]
    return request.param, {"Plate": plate.plate_id, "Well": well.well_db_id, "Image": well.images[1].image_id}[
        request.param
    ]


def test_a_file_is_attached(conn, target):
    annotation_id = save_text(conn, *target, "features.csv", CSV, description="per site")
    assert read_text(conn, *target, "features.csv") == CSV
    [file] = list_texts(conn, *target)
    assert (file.annotation_id, file.name, file.size, file.namespace) == (
        annotation_id,
        "features.csv",
        len(CSV),
        NAMESPACE,
    )
    [annotation] = conn.getObject(*target).listAnnotations(ns=NAMESPACE)
    assert annotation.getFileName() == "features.csv" and annotation.getDescription() == "per site"
    assert annotation.getFile().getMimetype() == "text/csv" and annotation.getFile().getHash() == file.sha1
    assert b"".join(annotation.getFileInChunks()) == CSV


def test_an_attached_file_is_replaced(conn, target):
    first = save_text(conn, *target, "x.csv", CSV)
    save_text(conn, *target, "y.csv", CSV)
    save_text(conn, *target, "x.csv", b"elsewhere", ns="mine")
    before = count(conn, "OriginalFile", "FileAnnotation")
    second = save_text(conn, *target, "x.csv", b"new")
    assert second != first and count(conn, "OriginalFile", "FileAnnotation") == before
    assert read_text(conn, *target, "x.csv", NAMESPACE) == b"new"
    assert read_text(conn, *target, "x.csv", "mine") == b"elsewhere"
    assert [file.name for file in list_texts(conn, *target, NAMESPACE)] == ["x.csv", "y.csv"]


@pytest.mark.parametrize("size", [0, 1, 1000, 2500])
def test_files_of_all_sizes(conn, plate, monkeypatch, tmp_path, size):
    monkeypatch.setattr("openhcs_omero.omero.annotations.CHUNK", 1000)
    data, sent, write = bytes(i * 7 % 256 for i in range(size)), [], omero.api.RawFileStorePrx.write
    monkeypatch.setattr(
        omero.api.RawFileStorePrx, "write", lambda self, part, *rest: sent.append(part) or write(self, part, *rest)
    )
    (tmp_path / "x").write_bytes(data)
    save_text(conn, "Plate", plate.plate_id, "x.txt", tmp_path / "x")  # it is never in memory as a whole
    assert b"".join(sent) == data and all(len(part) <= 1000 for part in sent)
    assert read_text(conn, "Plate", plate.plate_id, "x.txt") == data
    save_text(conn, "Plate", plate.plate_id, "x.txt", data)
    assert read_text(conn, "Plate", plate.plate_id, "x.txt") == data
    assert list_texts(conn, "Plate", plate.plate_id)[0].size == size


@pytest.mark.parametrize(
    ("name", "mimetype"),
    [
        ("a.json", "application/json"),
        ("a.tsv", "text/tab-separated-values"),
        ("a.TXT", "text/plain"),
        ("a.png", "image/png"),
        ("none", "application/octet-stream"),
    ],
)
def test_mimetypes(conn, plate, name, mimetype):
    save_text(conn, "Plate", plate.plate_id, name, b"x")
    assert next(iter(conn.getObject("Plate", plate.plate_id).listAnnotations())).getFile().getMimetype() == mimetype


def test_a_file_of_another_user_is_read(conn, plate, tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"by hand")
    annotation = conn.createFileAnnfromLocalFile(str(tmp_path / "notes.txt"), ns="by.hand")
    conn.getObject("Plate", plate.plate_id).linkAnnotation(annotation)
    save_text(conn, "Plate", plate.plate_id, "notes.txt", b"ours")
    assert read_text(conn, "Plate", plate.plate_id, "notes.txt", "by.hand") == b"by hand"
    assert read_text(conn, "Plate", plate.plate_id, "notes.txt") == b"ours"


def test_files_of_more_objects_than_a_query_takes_are_found(conn, target, monkeypatch):
    """However many objects and files there are, no call has more parameters than PostgreSQL allows."""
    for name in ("x.csv", "y.csv"):
        save_text(conn, *target, name, CSV)
    save_text(conn, *target, "x.csv", b"other", "mine")
    asked, rows = [], queries.rows

    def counted(*args, **values):
        asked.append(sum(len(value) for value in values.values() if isinstance(value, list)))
        return rows(*args, **values)

    monkeypatch.setattr(queries, "rows", counted)
    kind, object_id = target
    many = [*range(object_id + 100_000, object_id + 135_000), object_id, object_id]
    found = texts_of(conn, kind, many)
    assert sum(asked) == len(found) == 35_001 and max(asked) == 10_000 and len(asked) == 4
    assert [(file.name, file.namespace) for file in found.pop(object_id)] == [("x.csv", "mine"), ("y.csv", NAMESPACE)]
    assert not any(found.values())
    assert [file.name for file in texts_of(conn, kind, many, "mine")[object_id]] == ["x.csv"]
    assert texts_of(conn, kind, []) == {}


def test_an_attached_file_is_deleted(conn, target):
    for ns in (NAMESPACE, "mine"):
        save_text(conn, *target, "x.csv", CSV, ns)
    save_text(conn, *target, "y.csv", CSV)
    delete_text(conn, *target, "x.csv")
    assert [file.name for file in list_texts(conn, *target)] == ["y.csv"]
    assert count(conn, "OriginalFile") == {"OriginalFile": 1}
    for ask in (read_text, delete_text):
        with pytest.raises(PlateError, match=r"^no file 'x\.csv' is attached to (plate|well|image) \d+$"):
            ask(conn, *target, "x.csv")


def test_missing_objects_and_files(conn, make_user):
    hidden = make_plate(make_user(), {"A01": 1})
    for plate_id in (987654321, hidden):
        with pytest.raises(PlateError, match=f"there is no plate {plate_id}, or this user may not see it"):
            save_text(conn, "Plate", plate_id, "x.csv", CSV)
        assert list_texts(conn, "Plate", plate_id) == []
    assert count(conn, "OriginalFile", "FileAnnotation") == {"OriginalFile": 0, "FileAnnotation": 0}


def test_a_user_without_permission_can_not_annotate(make_user):
    owner = make_user("rwr---")
    member = make_user(group=owner.getEventContext().groupId)
    plate_id = make_plate(owner, {"A01": 1})
    with pytest.raises(PlateError, match="this user may not write a file to plate"):
        save_text(member, "Plate", plate_id, "x.csv", CSV)
    mine = queries.rows(
        member, "select count(f) from OriginalFile f where f.details.owner.id = :me", me=member.getUserId()
    )
    assert mine == [[0]]


def test_killed_while_saving(conn, plate, wire):
    """Whenever the process dies, readers find the old file or the new one, and nothing is left over."""
    target, seen = ("Plate", plate.plate_id), []
    save_text(conn, *target, "x.csv", b"warm")
    for point in range(40):
        save_text(conn, *target, "x.csv", b"old")
        wire.start(dies_at=point)
        try:
            save_text(conn, *target, "x.csv", b"new")
            break
        except Killed:
            wire.stop()
        seen.append(read_text(conn, *target, "x.csv"))
        save_text(conn, *target, "x.csv", b"last")
        assert read_text(conn, *target, "x.csv") == b"last"
        assert count(conn, "OriginalFile", "FileAnnotation") == {"OriginalFile": 1, "FileAnnotation": 1}
    wire.stop()
    assert seen == sorted(seen, reverse=True) and set(seen) == {b"old", b"new"}
