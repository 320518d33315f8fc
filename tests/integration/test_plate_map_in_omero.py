"""Plate maps in OMERO: key-value pairs and bulk annotations in, key-value pairs and tags on derived plates out."""

from __future__ import annotations

import omero
import pytest
from omero.model import (
    FileAnnotationI,
    OriginalFileI,
    PlateI,
    ScreenI,
    WellAnnotationLinkI,
    WellI,
)
from omero.rtypes import rstring
from wire import Killed, make_plate, wire

from openhcs_omero.errors import PlateError, PlateMapError
from openhcs_omero.omero import queries
from openhcs_omero.omero.derived import delete_if_empty, derive_plate
from openhcs_omero.omero.derived_well import write_well
from openhcs_omero.omero.omero_tables import BULK_ANNOTATIONS, attach_table
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.plate_map import read_plate_map
from openhcs_omero.omero.tags import read_tags, set_tags
from openhcs_omero.omero.well_pairs import CLIENT, read_pairs, set_pairs
from openhcs_omero.omero.writing import map_annotation
from openhcs_omero.plates.image import NewImage

__all__ = ["wire"]


def annotate_well(conn, plate, well, pairs, namespace=CLIENT):
    link = WellAnnotationLinkI()
    link.parent, link.child = WellI(plate.wells[well].well_db_id, False), map_annotation(namespace, pairs)
    queries.update(conn).saveObject(link, queries.context(conn, plate.group_id))


def bulk_table(conn, plate, columns, kind="Plate", parent=None, name="bulk_annotations"):
    """Attach a table as omero-metadata's populate does."""
    resources, options = conn.c.sf.sharedResources(), queries.context(conn, plate.group_id)
    table = resources.newTable(resources.repositories(options).descriptions[0].id.val, name, options)
    table.initialize([type(c)(c.name, "", *([c.size] if hasattr(c, "size") else []), []) for c in columns], options)
    table.addData(columns, options)
    file_id = table.getOriginalFile(options).id.val
    table.close(options)
    link = getattr(omero.model, f"{kind}AnnotationLinkI")()
    link.parent = PlateI(plate.plate_id, False) if parent is None else parent
    link.child = FileAnnotationI()
    link.child.ns, link.child.file = rstring(BULK_ANNOTATIONS), OriginalFileI(file_id, False)
    queries.update(conn).saveObject(link, options)


def wells(plate, *names):
    return omero.grid.WellColumn("Well", "", [plate.wells[name].well_db_id for name in names])


def text(name, *values):
    return omero.grid.StringColumn(name, "", 20, list(values))


@pytest.fixture
def plate(conn):
    return load_plate(conn, make_plate(conn, {"A01": 1, "B03": 2, "C05": 1}))


@pytest.fixture
def derived(conn, plate):
    made = derive_plate(conn, plate, "processed", {})
    for well, sites in {"A01": 1, "B03": 2, "C05": 1}.items():
        images = {n: NewImage(f"{well} {n}", np_image(n)) for n in range(1, sites + 1)}
        write_well(conn, made, well, images, {})
    return load_plate(conn, made)


def np_image(n):
    import numpy as np

    return np.full((1, 1, 1, 4, 4), n, "uint16")


def images_of(plate, *names):
    return [image.image_id for name in names for image in plate.wells[name].images.values()]


# -- in ----------------------------------------------------------------------------------------------------------------


def test_key_value_pairs_of_wells_are_read(conn, plate):
    annotate_well(conn, plate, "B03", [("Compound", "aspirin"), ("Concentration (uM)", "10"), ("Well", "x")])
    annotate_well(conn, plate, "A01", [("Compound", "DMSO"), ("gene", "TP53")])
    annotate_well(conn, plate, "A01", [("gene", "BRCA1")], "openmicroscopy.org/mapr/gene")
    annotate_well(conn, plate, "A01", [("run", "7")], "openhcs_omero/derived")
    [source], notes = read_plate_map(conn, plate)
    assert notes == [] and source.place == f"the key-value pairs of plate {plate.plate_id} in OMERO"
    assert source.cells == [
        ["well", "Compound", "Concentration (uM)", "gene"],
        ["A01", "DMSO", "", "BRCA1; TP53"],
        ["B03", "aspirin", "10", ""],
    ]


def test_bulk_annotations_of_plates_and_screens_are_read(conn, plate):
    other = load_plate(conn, make_plate(conn, {"A01": 1}))
    screen = ScreenI()
    screen.name = rstring("screen")
    screen.linkPlate(PlateI(plate.plate_id, False))
    screen = queries.update(conn).saveAndReturnObject(screen)
    names = text("Well Name", "A01", "B03")
    bulk_table(conn, plate, [wells(plate, "A01", "B03"), names, text("control", "negative", "")])
    numbers = omero.grid.DoubleColumn("Concentration (uM)", "", [5.0, float("nan"), 2.5])
    mine = wells(plate, "A01", "C05")
    mine.values.insert(1, other.wells["A01"].well_db_id)
    ids = omero.grid.PlateColumn("Plate", "", [plate.plate_id, other.plate_id, plate.plate_id])
    bulk_table(conn, plate, [ids, mine, numbers], "Screen", ScreenI(screen.id.val, False), "screen.csv")
    attach_table(conn, plate, "wells.csv", b"well,spots\nA01,3\n")  # a result of this software
    sources, notes = read_plate_map(conn, plate)
    assert notes == []
    assert [source.cells for source in sources] == [
        [["well", "control"], ["A01", "negative"], ["B03", ""]],
        [["well", "Concentration (uM)"], ["A01", "5"], ["C05", "2.5"]],
    ]


def test_tables_that_are_not_about_wells_are_named(conn, plate):
    images = omero.grid.ImageColumn("Image", "", images_of(plate, "A01"))
    bulk_table(conn, plate, [wells(plate, "A01"), images, text("x", "1")], name="by image")
    bulk_table(conn, plate, [text("x", "1")], name="loose")
    sources, notes = read_plate_map(conn, plate)
    assert sources == []
    assert [note.partition(" is not used as a plate map: ")[2] for note in notes] == [
        "its rows are about images, not wells",
        "it has no column of wells",
    ]


def test_the_number_of_calls_does_not_depend_on_the_wells(conn, wire):
    calls = []
    for count in (2, 20):
        wanted = {f"A{n:02}": 0 for n in range(1, count + 1)}
        plate = load_plate(conn, make_plate(conn, wanted), require_images=False)
        for well in plate.wells:
            annotate_well(conn, plate, well, [("compound", well)])
        bulk_table(conn, plate, [wells(plate, *plate.wells), text("batch", *plate.wells)])
        read_plate_map(conn, plate)
        wire.start()
        sources, _ = read_plate_map(conn, plate)
        calls.append(wire.stop())
        assert [len(source.cells) for source in sources] == [count + 1] * 2
    assert calls[0] == calls[1] and len(calls[0]) <= 10


def test_an_unreadable_table_is_named(conn, plate):
    link = omero.model.PlateAnnotationLinkI()
    link.parent, link.child = PlateI(plate.plate_id, False), FileAnnotationI()
    link.child.ns, link.child.file = rstring(BULK_ANNOTATIONS), OriginalFileI()
    link.child.file.name, link.child.file.path = rstring("broken"), rstring("nowhere")
    queries.update(conn).saveObject(link)
    with pytest.raises(PlateMapError, match=rf"the table broken of plate {plate.plate_id} in OMERO can't be read: "):
        read_plate_map(conn, plate)


# -- out: pairs --------------------------------------------------------------------------------------------------------


def pairs_in_omero(conn, plate, well):
    """All pairs of a well as OMERO.web shows them."""
    return [
        tuple(row)
        for row in queries.rows(
            conn,
            "select mv.name, mv.value from MapAnnotation a join a.mapValue mv, WellAnnotationLink l "
            "where l.child.id = a.id and l.parent.id = :id and a.ns = :ns order by a.id",
            id=plate.wells[well].well_db_id,
            ns=CLIENT,
        )
    ]


def test_pairs_are_written_replaced_and_removed(conn, derived):
    first = {"A01": {"compound": "DMSO", "dose": ""}, "B03": {"compound": "aspirin"}}
    set_pairs(conn, derived, first)
    assert pairs_in_omero(conn, derived, "A01") == [("compound", "DMSO")]
    assert read_pairs(conn, derived.plate_id) == {"A01": {"compound": "DMSO"}, "B03": {"compound": "aspirin"}}
    set_pairs(conn, derived, {"A01": {"compound": "DMSO", "dose": "1"}})
    assert sorted(pairs_in_omero(conn, derived, "A01")) == [("compound", "DMSO"), ("dose", "1")]
    assert pairs_in_omero(conn, derived, "B03") == []
    set_pairs(conn, derived, {})
    assert read_pairs(conn, derived.plate_id) == {} and pairs_in_omero(conn, derived, "A01") == []


def test_unchanged_pairs_are_not_saved_again(conn, derived, wire):
    pairs = {"A01": {"compound": "DMSO"}}
    set_pairs(conn, derived, pairs)
    wire.start()
    set_pairs(conn, derived, pairs)
    assert not [call for call in wire.stop() if call.startswith("save") or call == "submit"]


def test_pairs_that_people_add_stay(conn, derived):
    annotate_well(conn, derived, "A01", [("checked by", "Ada")])
    set_pairs(conn, derived, {"A01": {"compound": "DMSO"}, "B03": {"compound": "x"}})
    ours = queries.query(conn).findAllByQuery(
        "select a from MapAnnotation a where a.description like 'from the plate map%' order by a.id", None
    )
    for annotation in ours:  # as OMERO.web saves an edit
        annotation.mapValue.append(omero.model.NamedValue("note", "odd"))
        queries.update(conn).saveObject(annotation)
    set_pairs(conn, derived, {"A01": {"compound": "ethanol"}})
    assert sorted(pairs_in_omero(conn, derived, "A01")) == [
        ("checked by", "Ada"),
        ("compound", "ethanol"),
        ("note", "odd"),
    ]
    assert pairs_in_omero(conn, derived, "B03") == [("note", "odd")]


def test_a_killed_process_leaves_all_pairs_or_none(conn, derived, wire):
    set_pairs(conn, derived, {"A01": {"compound": "old"}, "B03": {"compound": "old"}})
    new = {"A01": {"compound": "new"}, "C05": {"compound": "new"}}
    seen = []
    for step in range(20):
        wire.start(dies_at=step)
        try:
            set_pairs(conn, derived, new)
        except Killed:
            pass
        wire.stop()
        found = read_pairs(conn, derived.plate_id)
        compounds = {well: pairs["compound"] for well, pairs in found.items()}
        assert compounds in (
            {"A01": "old", "B03": "old"},
            {"A01": "new", "B03": "old", "C05": "new"},
            {"A01": "new", "C05": "new"},
        )
        seen.append(compounds)
        if len(seen[-1]) == 2 and seen[-1]["A01"] == "new":
            break
    assert seen[-1] == {"A01": "new", "C05": "new"}


# -- out: tags ---------------------------------------------------------------------------------------------------------


def tags_in_omero(conn):
    return [
        tuple(row)
        for row in queries.rows(
            conn,
            "select a.textValue, l.parent.id from TagAnnotation a, ImageAnnotationLink l where l.child.id = a.id "
            "and a.details.owner.id = :me order by l.parent.id",
            me=conn.getUserId(),
        )
    ]


def count_tags(conn):
    return queries.rows(
        conn, "select count(a) from TagAnnotation a where a.details.owner.id = :me", me=conn.getUserId()
    )[0][0]


def test_tags_are_replaced(conn, plate, derived):
    name = f"hit [plate_{plate.plate_id}_processed]"
    first, second = images_of(derived, "A01", "B03"), images_of(derived, "C05")
    set_tags(conn, derived.plate_id, {"hit": first, "odd": []})
    assert tags_in_omero(conn) == [(name, image) for image in sorted(first)]
    set_tags(conn, derived.plate_id, {"hit": second})
    assert tags_in_omero(conn) == [(name, second[0])] and count_tags(conn) == 1
    assert read_tags(conn, derived.plate_id) == {name: second}
    set_tags(conn, derived.plate_id, {})
    assert count_tags(conn) == 0 and len(load_plate(conn, derived.plate_id).wells) == 3


def test_the_same_tags_are_not_saved_again_and_those_of_others_stay(conn, derived, wire):
    own = omero.model.TagAnnotationI()
    own.textValue = rstring("hit")
    link = omero.model.ImageAnnotationLinkI()
    link.parent, link.child = omero.model.ImageI(images_of(derived, "A01")[0], False), own
    queries.update(conn).saveObject(link)
    set_tags(conn, derived.plate_id, {"hit": images_of(derived, "B03")})
    wire.start()
    set_tags(conn, derived.plate_id, {"hit": images_of(derived, "B03")})
    assert not [call for call in wire.stop() if call.startswith("save") or call == "submit"]
    set_tags(conn, derived.plate_id, {})
    assert [name for name, _ in tags_in_omero(conn)] == ["hit"]


def test_a_killed_process_leaves_the_earlier_or_the_new_tag(conn, derived, wire):
    old, new = images_of(derived, "A01"), images_of(derived, "B03")
    set_tags(conn, derived.plate_id, {"hit": old})
    for step in range(12):
        wire.start(dies_at=step)
        try:
            set_tags(conn, derived.plate_id, {"hit": new})
        except Killed:
            pass
        wire.stop()
        tagged = {image for _, image in tags_in_omero(conn)}
        assert tagged in (set(old), set(old) | set(new), set(new))
    assert tagged == set(new)
    set_tags(conn, derived.plate_id, {"hit": new})
    assert count_tags(conn) == 1


def test_tags_go_with_the_derived_plate(conn, plate, derived):
    set_tags(conn, derived.plate_id, {"hit": images_of(derived, "A01")})
    queries.delete(conn, derived.group_id, Plate=[derived.plate_id])  # as OMERO.web does: the tag stays
    assert count_tags(conn) == 1
    again = derive_plate(conn, plate, "processed", {})
    assert count_tags(conn) == 0
    write_well(conn, again, "A01", {1: NewImage("A01 1", np_image(1))}, {})
    made = load_plate(conn, again, require_images=False)
    set_tags(conn, again, {"hit": images_of(made, "A01")})
    queries.delete(conn, made.group_id, Well=[well.well_db_id for well in made.wells.values()])
    assert delete_if_empty(conn, again) and count_tags(conn) == 0


def test_only_derived_plates_are_tagged(conn, plate):
    with pytest.raises(PlateError, match="is no derived plate"):
        set_tags(conn, plate.plate_id, {"hit": images_of(plate, "A01")})
