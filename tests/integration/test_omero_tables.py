"""Features as OMERO.tables, next to the files attached to a plate."""

import math

import omero
import pytest
from wire import Killed, count, make_plate, wire

from openhcs_omero.errors import PlateError, RightsError
from openhcs_omero.omero import queries, table_columns
from openhcs_omero.omero.annotations import list_texts
from openhcs_omero.omero.omero_tables import attach_table, list_tables
from openhcs_omero.omero.plate import load_plate

__all__ = ["wire"]

SITES = b"""plate,well,row,column,site,spots,area,kind,good,a/b
7,A01,A,1,1,3,1.5,round,True,1
7,A01,A,1,2,4,,\xc2\xb5m,False,2
7,B03,B,3,1,-5,2.5,,True,3
"""
WELLS = b"well\tspots\nA01\t3.5\nB03\t-5\n"


@pytest.fixture
def plate(conn):
    return load_plate(conn, make_plate(conn, {"A01": 2, "B03": 2}))


def found(conn, plate_id, object_type="Plate"):
    """(annotation id, file id) of a plate's bulk annotations, queried as OMERO.web and OMERO.parade do."""
    return [
        tuple(row)
        for row in queries.rows(
            conn,
            f"select a.id, f.id from {object_type}AnnotationLink l join l.child a join a.file f "
            "where l.parent.id = :id and a.ns = :ns and f.mimetype = :type order by f.id",
            id=plate_id,
            ns="openmicroscopy.org/omero/bulk_annotations",
            type="OMERO.tables",
        )
    ]


def content(conn, file_id):
    """Columns of a table: name -> (column class, values)."""
    table = conn.c.sf.sharedResources().openTable(omero.model.OriginalFileI(file_id, False), {"omero.group": "-1"})
    try:
        places = range(len(table.getHeaders()))
        columns = table.read(list(places), 0, table.getNumberOfRows()).columns
    finally:
        table.close()
    return {column.name: (type(column), list(column.values)) for column in columns}


def test_one_row_per_site(conn, plate):
    annotation = attach_table(conn, plate, "features.csv", SITES)
    [(found_annotation, file)] = found(conn, plate.plate_id)
    assert found_annotation == annotation
    columns = content(conn, file)
    a, b = plate.wells["A01"], plate.wells["B03"]
    area = columns.pop("area")
    assert area[0] is omero.grid.DoubleColumn and area[1][::2] == [1.5, 2.5] and math.isnan(area[1][1])
    assert columns == {
        "Plate": (omero.grid.PlateColumn, [plate.plate_id] * 3),
        "Well": (omero.grid.WellColumn, [a.well_db_id, a.well_db_id, b.well_db_id]),
        "Image": (omero.grid.ImageColumn, [a.images[1].image_id, a.images[2].image_id, b.images[1].image_id]),
        "Well Name": (omero.grid.StringColumn, ["A01", "A01", "B03"]),
        "site": (omero.grid.LongColumn, [1, 2, 1]),
        "row": (omero.grid.StringColumn, ["A", "A", "B"]),
        "column": (omero.grid.LongColumn, [1, 1, 3]),
        "spots": (omero.grid.LongColumn, [3, 4, -5]),
        "kind": (omero.grid.StringColumn, ["round", "µm", ""]),
        "good": (omero.grid.BoolColumn, [True, False, True]),
        "a\\b": (omero.grid.LongColumn, [1, 2, 3]),
    }
    assert list(list_tables(conn, plate.plate_id)) == ["features.csv"]
    assert list_texts(conn, "Plate", plate.plate_id) == []  # it is not listed as a text file


def test_formulas_are_stored_as_they_are(conn, plate):
    """The CSV file has an apostrophe before them, for spreadsheets."""
    attach_table(conn, plate, "wells.csv", b"well,'=note,n\nA01,'=1+1,-1\nB03,'@x,-2\n")
    columns = content(conn, found(conn, plate.plate_id)[0][1])
    assert columns["=note"][1] == ["=1+1", "@x"] and columns["n"][1] == [-1, -2]


def test_one_row_per_well(conn, plate):
    """OMERO.parade finds a well by its id in the column `Well`; these rows have no image."""
    attach_table(conn, plate, "wells.tsv", WELLS)
    [(_, file)] = found(conn, plate.plate_id)
    assert content(conn, file) == {
        "Plate": (omero.grid.PlateColumn, [plate.plate_id] * 2),
        "Well": (omero.grid.WellColumn, [plate.wells[name].well_db_id for name in ("A01", "B03")]),
        "Well Name": (omero.grid.StringColumn, ["A01", "B03"]),
        "spots": (omero.grid.DoubleColumn, [3.5, -5.0]),
    }
    table = conn.c.sf.sharedResources().openTable(omero.model.OriginalFileI(file, False))
    assert table.getWhereList(f"(Well=={plate.wells['B03'].well_db_id})", {}, 0, 2, 1) == [1]  # as OMERO.web queries it
    table.close()


def test_a_large_file_is_read_in_chunks(conn, plate, monkeypatch, tmp_path, wire):
    """Whatever is in a chunk, the columns have the types that they have in the whole file."""
    mixed = [b"n,m,o,p,q", b"1,,007,True,2", b"2.5,3,x,False,18446744073709551615", b",4,1.50,,3"]
    path = tmp_path / "features.csv"
    path.write_bytes(b"\n".join(map(b",".join, zip(SITES.splitlines(), mixed))))
    attach_table(conn, plate, "features.csv", path.read_bytes())
    before, noted = found(conn, plate.plate_id), list_tables(conn, plate.plate_id)
    columns = content(conn, before[0][1])
    assert columns["spots"][1] == [3, 4, -5] and columns["kind"][1] == ["round", "\xb5m", ""]
    assert columns["n"][1][:2] == [1, 2.5] and columns["m"][1][1:] == [3, 4] and columns["q"][1] == [2, 2.0**64, 3]
    assert columns["o"][1] == ["007", "x", "1.50"] and columns["p"][1] == ["True", "False", ""]

    monkeypatch.setattr(table_columns, "CELLS", 1)
    attach_table(conn, plate, "features.csv", path)
    assert (found(conn, plate.plate_id), list_tables(conn, plate.plate_id)) == (before, noted)
    attach_table(conn, plate, "features.csv", b"")
    wire.start()
    attach_table(conn, plate, "features.csv", path)
    assert wire.stop().count("addData") == 3
    again = content(conn, found(conn, plate.plate_id)[0][1])
    assert repr(again) == repr(columns) and list_tables(conn, plate.plate_id) == noted


def test_writing_the_same_table_again_changes_nothing(conn, plate, wire):
    for name, data in (("features.csv", SITES), ("wells.tsv", WELLS)):
        attach_table(conn, plate, name, data)
    before = found(conn, plate.plate_id), list_tables(conn, plate.plate_id)
    wire.start()
    attach_table(conn, plate, "features.csv", SITES)
    assert not {"newTable", "saveObject", "saveAndReturnObject", "submit"} & set(wire.stop())
    assert (found(conn, plate.plate_id), list_tables(conn, plate.plate_id)) == before


def test_a_table_is_replaced(conn, plate):
    """The table is replaced if the file or the images of the plate are different."""
    attach_table(conn, plate, "other.csv", SITES)
    first = attach_table(conn, plate, "features.csv", SITES)
    before, rest = list_tables(conn, plate.plate_id), count(conn, "OriginalFile", "FileAnnotation")
    assert attach_table(conn, plate, "features.csv", SITES.replace(b"-5", b"6")) == first
    files = dict(found(conn, plate.plate_id))
    assert content(conn, files[first])["spots"][1] == [3, 4, 6]
    after = list_tables(conn, plate.plate_id)
    assert after["other.csv"] == before["other.csv"] and after["features.csv"] != before["features.csv"]
    assert count(conn, "OriginalFile", "FileAnnotation") == rest
    other = load_plate(conn, make_plate(conn, {"A01": 2, "B03": 2}))
    attach_table(conn, other, "features.csv", SITES)
    mixed = type(plate)(**{**vars(plate), "wells": other.wells})
    attach_table(conn, mixed, "features.csv", SITES)
    assert list_tables(conn, plate.plate_id)["features.csv"] not in (before["features.csv"], after["features.csv"])


def test_files_that_are_not_feature_tables(conn, plate):
    several = SITES + b"7,A01,A,1,1,9,9,x,True,1\n"
    for name, data in (
        ("objects.csv", several),
        ("x.csv", b"dose,response\n1,2\n"),
        ("x.csv", b"well,site\n"),
        ("x.csv", b"rank,well,score\n"),
        ("x.csv", b""),
        ("x.csv", b"\xff\xfe\x00"),
        ("x.csv", b"well,n\nD09,1\n"),
        ("x.csv", b"well,n\nhere,1\n"),
        ("x.csv", b"well,n\n,1\n"),
        ("x.csv", b"well,site,n\nA01,3,1\n"),
        ("x.csv", b"well,site,n\nA01,one,1\n"),
    ):
        assert attach_table(conn, plate, name, SITES)
        assert attach_table(conn, plate, name, data) is None, data
        assert found(conn, plate.plate_id) == [] and count(conn, "OriginalFile") == {"OriginalFile": 0}
    assert attach_table(conn, plate, "x.json", SITES) is None


def test_tables_in_other_namespaces_are_not_replaced(conn, plate):
    for ns in ("one", "two"):
        attach_table(conn, plate, "features.csv", SITES, ns)
    assert len(found(conn, plate.plate_id)) == 2
    attach_table(conn, plate, "features.csv", b"", "one")
    assert list_tables(conn, plate.plate_id, "one") == {} and list(list_tables(conn, plate.plate_id, "two"))


@pytest.mark.parametrize("missing", ["service", "table"])
def test_without_a_tables_service(conn, plate, monkeypatch, missing):
    """No table is written and no error raised; an old table is removed when it no longer matches its file."""
    attach_table(conn, plate, "features.csv", SITES)
    prx = omero.grid.SharedResourcesPrx
    if missing == "service":
        monkeypatch.setattr(prx, "areTablesEnabled", lambda *_: False)
    monkeypatch.setattr(prx, "newTable", lambda *_: None)
    assert attach_table(conn, plate, "wells.tsv", WELLS) is None
    assert len(found(conn, plate.plate_id)) == 1
    assert attach_table(conn, plate, "features.csv", SITES.replace(b"-5", b"6")) is None
    assert found(conn, plate.plate_id) == [] and count(conn, "OriginalFile") == {"OriginalFile": 0}


def test_a_user_without_permission_can_not_attach_tables(make_user):
    owner = make_user("rwr---")
    member = make_user(group=owner.getEventContext().groupId)
    plate = load_plate(member, make_plate(owner, {"A01": 2, "B03": 1}))
    with pytest.raises(RightsError, match=rf"^this user may not write a table to plate {plate.plate_id}: [^\n]+$"):
        attach_table(member, plate, "features.csv", SITES)
    mine = queries.rows(
        member, "select count(f) from OriginalFile f where f.details.owner.id = :me", me=member.getUserId()
    )
    assert mine == [[0]]


def test_tables_of_two_users_stay(make_user):
    owner = make_user("rwra--")
    member = make_user(group=owner.getEventContext().groupId)
    plate = load_plate(owner, make_plate(owner, {"A01": 2, "B03": 1}))
    for user in (owner, member, owner):
        attach_table(user, plate, "features.csv", SITES.replace(b"-5", str(user.getUserId()).encode()))
    assert len(found(owner, plate.plate_id)) == 2


def test_a_deleted_plate(conn, plate):
    queries.delete(conn, plate.group_id, Plate=[plate.plate_id])
    with pytest.raises(PlateError, match=f"plate {plate.plate_id} was deleted, or another process"):
        attach_table(conn, plate, "features.csv", SITES)
    assert count(conn, "OriginalFile") == {"OriginalFile": 0}


def test_killed_while_saving(conn, plate, wire):
    """Whenever the process dies, readers find the old table or the new one, and nothing is left over."""
    seen = []
    for point in range(60):
        attach_table(conn, plate, "features.csv", SITES)
        [before] = found(conn, plate.plate_id)
        wire.start(dies_at=point)
        try:
            attach_table(conn, plate, "features.csv", SITES.replace(b"-5", b"6"))
            break
        except Killed:
            wire.stop()
        [(annotation, file)] = found(conn, plate.plate_id)
        values = content(conn, file)["spots"][1]
        assert annotation == before[0] and values in ([3, 4, -5], [3, 4, 6])
        seen.append(values[2])
        attach_table(conn, plate, "features.csv", SITES.replace(b"-5", b"7"))
        assert content(conn, found(conn, plate.plate_id)[0][1])["spots"][1] == [3, 4, 7]
        assert count(conn, "OriginalFile", "FileAnnotation") == {"OriginalFile": 1, "FileAnnotation": 1}
    wire.stop()
    assert seen == sorted(seen) and set(seen) == {-5, 6}


def test_killed_while_saving_the_first_table(conn, plate, wire):
    for point in range(60):
        wire.start(dies_at=point)
        try:
            attach_table(conn, plate, "features.csv", SITES)
            break
        except Killed:
            wire.stop()
        assert len(found(conn, plate.plate_id)) <= 1
        attach_table(conn, plate, "features.csv", SITES)
        assert count(conn, "OriginalFile", "FileAnnotation") == {"OriginalFile": 1, "FileAnnotation": 1}
        attach_table(conn, plate, "features.csv", b"")
        assert count(conn, "OriginalFile", "FileAnnotation") == {"OriginalFile": 0, "FileAnnotation": 0}
    wire.stop()
    assert point > 5


def test_another_process_saves_in_between(omero_server, conn, plate, wire):
    """Wherever another process does all its work between two calls, one complete table and nothing else is left."""
    other, outcomes = omero_server.login(conn.getUser().getName(), "pw"), set()
    for point in range(60):
        attach_table(conn, plate, "features.csv", b"" if point % 2 else SITES)
        theirs = []

        def all_of_it(number, point=point, theirs=theirs):
            if number == point:
                wire.on = False
                theirs.append(attach_table(other, plate, "features.csv", SITES.replace(b"-5", b"6")))
                wire.on = True

        wire.start(before=all_of_it)
        try:
            attach_table(conn, plate, "features.csv", SITES.replace(b"-5", b"7"))
        except PlateError as error:
            assert "another process" in str(error)
        wire.stop()
        if not theirs:
            break
        tables = found(conn, plate.plate_id)
        shown = content(conn, tables[-1][1])["spots"][1]
        assert len(tables) <= 2 and shown in ([3, 4, 6], [3, 4, 7]), point
        outcomes.add(shown[2])
        attach_table(conn, plate, "features.csv", SITES)
        assert count(conn, "OriginalFile", "FileAnnotation") == {"OriginalFile": 1, "FileAnnotation": 1}
    other.close()
    assert point > 10 and outcomes == {6, 7}


def wide(features, name="measurement_of_the_cells_{:04d}"):
    """A table of two wells with so many features; the last one is text."""
    names = [name.format(number) for number in range(features)]
    rows = [
        [well, *(str(number + shift) for number in range(features)), text]
        for well, shift, text in (("A01", 0.5, "x"), ("B03", 1.5, "y"))
    ]
    return "\n".join(",".join(row) for row in [["well", *names, "last"], *rows]).encode() + b"\n"


def tables_on(conn, plate):
    """The contents of the plate's tables, by the name recorded for them."""
    return dict(
        zip(list_tables(conn, plate.plate_id), (content(conn, file) for _, file in found(conn, plate.plate_id)))
    )


def test_more_features_than_a_table_takes(conn, plate):
    """They become several tables with the same rows; with fewer features there is one table again."""
    notes = []
    first = attach_table(conn, plate, "wells.csv", wide(1600), say=notes.append)
    assert notes == ["wells.csv has 1601 columns, more than an OMERO.table takes, so it became 3 tables"]
    parts = tables_on(conn, plate)
    assert list(parts) == [f"wells.csv ({number} of 3)" for number in (1, 2, 3)]
    assert first == found(conn, plate.plate_id)[0][0]
    keys = ["Plate", "Well", "Well Name"]
    together = {}
    for part in parts.values():
        assert list(part)[:3] == keys and part["Well Name"][1] == ["A01", "B03"]
        together |= {name: values for name, (_, values) in part.items() if name not in keys}
    assert together.pop("last") == ["x", "y"] and len(together) == 1600
    assert all(values == [number + 0.5, number + 1.5] for number, values in enumerate(together.values()))
    assert sum(len(part) for part in parts.values()) == 1601 + 9

    attach_table(conn, plate, "other.csv", WELLS.replace(b"\t", b","))
    assert attach_table(conn, plate, "wells.csv", wide(3)) is not None
    assert list(list_tables(conn, plate.plate_id)) == ["other.csv", "wells.csv"]
    assert count(conn, "OriginalFile", "FileAnnotation") == {"OriginalFile": 2, "FileAnnotation": 2}
    attach_table(conn, plate, "wells.csv", wide(900))
    attach_table(conn, plate, "wells.csv", b"")
    assert list(list_tables(conn, plate.plate_id)) == ["other.csv"]


def test_only_tables_with_changes_are_replaced(conn, plate):
    attach_table(conn, plate, "wells.csv", wide(1600))
    before = found(conn, plate.plate_id)
    attach_table(conn, plate, "wells.csv", wide(1600).replace(b",x", b",z"))
    after = found(conn, plate.plate_id)
    assert {one[0] for one in before} == {one[0] for one in after}
    assert len({one[1] for one in before} & {one[1] for one in after}) == 2


@pytest.mark.parametrize("length", [1, 8, 60, 500])
def test_however_long_the_names_are_the_tables_fit(conn, plate, length):
    attach_table(conn, plate, "wells.csv", wide(1400, "{:04d}" + "n" * length))
    assert sum(len(part) - 3 for part in tables_on(conn, plate).values()) == 1401


def test_columns_that_a_table_can_not_have(conn, plate):
    notes = []
    rows = [
        ["well", "Image", "__row", "n/a", "n\\a", "long", "µ" * 20_000, "n"],
        ["A01", "1", "2", "3", "4", "é" * 3000, "6", "7"],
    ]
    attach_table(conn, plate, "wells.csv", "\n".join(",".join(row) for row in rows).encode(), say=notes.append)
    [table] = tables_on(conn, plate).values()
    assert {name: values for name, (_, values) in table.items()} == {
        "Plate": [plate.plate_id],
        "Well": [plate.wells["A01"].well_db_id],
        "Well Name": ["A01"],
        "Image": [1],
        "n\\a": [3],
        "n": [7],
    }
    assert [note.removeprefix("wells.csv: the column ").replace("µ" * 100, "µ") for note in notes] == [
        "__row is not in the OMERO.table, because names that start with __ are the server's own",
        "n\\a is not in the OMERO.table, because it has another column of that name",
        "long is not in the OMERO.table, because it has a text of 6000 bytes, and a table takes 4096",
        "µ is not in the OMERO.table, because its name is too long",
    ]


def test_a_table_that_the_server_refuses(conn, plate, monkeypatch):
    """The earlier table goes, because it no longer matches its file, and nothing is left over."""
    attach_table(conn, plate, "features.csv", SITES)
    monkeypatch.setattr("openhcs_omero.omero.table_columns.HEADER_BYTES", 10**9)
    notes = []
    assert attach_table(conn, plate, "features.csv", wide(1600), say=notes.append) is None
    [note] = notes
    assert note.startswith("features.csv is not an OMERO.table, because the server refuses it: ") and "\n" not in note
    assert found(conn, plate.plate_id) == [] and count(conn, "OriginalFile") == {"OriginalFile": 0}


@pytest.mark.slow
def test_killed_while_saving_several_tables(conn, plate, wire, monkeypatch):
    """Readers find all earlier tables or all new ones."""
    monkeypatch.setattr("openhcs_omero.omero.table_columns.HEADER_BYTES", 500)
    seen = []
    for point in range(80):
        attach_table(conn, plate, "wells.csv", wide(6))
        wire.start(dies_at=point)
        try:
            attach_table(conn, plate, "wells.csv", wide(6).replace(b".5", b".25"))
            break
        except Killed:
            wire.stop()
        parts = tables_on(conn, plate)
        values = {values[0] % 1 for part in parts.values() for _, values in list(part.values())[3:] if values[0] != "x"}
        assert len(parts) == 2 and len(values) == 1
        seen.append(values.pop())
        attach_table(conn, plate, "wells.csv", wide(1))
        assert count(conn, "OriginalFile", "FileAnnotation") == {"OriginalFile": 1, "FileAnnotation": 1}
    wire.stop()
    assert seen == sorted(seen, reverse=True) and set(seen) == {0.25, 0.5}
