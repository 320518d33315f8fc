"""Saving over the wire: what goes beyond the conformance cases."""

import omero
import pytest
from models import annotated, count, image, new, plate, ref, rows, save
from omero.model.enums import UnitsLength
from omero.rtypes import rint, rstring
from omero.sys import ParametersI

SAMPLES = "select index(s), s.image.name from Well w join w.wellSamples s where w.id = :id order by index(s)"


def well_with_samples(conn, well_id):
    return conn.getQueryService().findByQuery(
        "select w from Well w join fetch w.wellSamples where w.id = :id", ParametersI().addId(well_id)
    )


@pytest.fixture
def update(conn):
    return conn.getUpdateService()


@pytest.fixture
def well_id(conn):
    """A well with the images "0 0", "0 1", "0 2"."""
    return save(conn, plate(wells=1, sites=3)).copyWells()[0].id.val


def test_a_plate_with_images_and_channels_is_one_save(conn):
    saved = save(conn, plate(wells=3, sites=2))
    found = rows(
        conn,
        "select w.column, index(s), i.name, index(p), index(c), c.logicalChannel.name, "
        "p.pixelsType.value from Plate x join x.wells w join w.wellSamples s join s.image i "
        "join i.pixels p "
        "join p.channels c where x.id = :id order by w.column, index(s), index(c)",
        id=saved.id.val,
    )
    assert found == [
        [w, s, f"{w} {s}", 0, c, f"channel {c}", "uint16"] for w in range(3) for s in range(2) for c in range(2)
    ]
    pixels = saved.copyWells()[0].getWellSample(0).image.getPrimaryPixels()
    assert pixels.pixelsType.isLoaded() and pixels.getChannel(1).pixels is pixels


@pytest.mark.embedded_only  # a real server saves in an order of its own
def test_ids_follow_the_order_of_the_graph(conn):
    saved = save(conn, plate(wells=3, sites=2))
    ids = [s.image.id.val for w in saved.copyWells() for s in w.copyWellSamples()]
    assert ids == sorted(ids)


def test_nothing_is_saved_if_one_object_is_invalid(conn, update):
    for bad in (new("Plate"), new("Well", plate=ref("Plate", 987654321)), ref("Plate", 987654321)):
        with pytest.raises(omero.ValidationException):
            update.saveArray([plate(), new("TagAnnotation", textValue="t"), bad])
        with pytest.raises((omero.ValidationException, omero.ApiUsageException)):
            update.saveAndReturnIds([plate(), bad])
    assert count(conn, "Plate", "Well", "WellSample", "Image", "Pixels", "Channel", "Annotation") == {}


def test_ids_come_in_the_order_of_the_objects(conn, update):
    ids = update.saveAndReturnIds([new("Plate", name="a"), new("Screen", name="b"), new("Plate", name="c")])
    assert [
        rows(conn, f"select x.name from {cls} x where x.id = :id", id=oid)
        for cls, oid in zip(("Plate", "Screen", "Plate"), ids)
    ] == [[["a"]], [["b"]], [["c"]]]
    assert update.saveAndReturnArray([]) == []
    with pytest.raises(omero.ApiUsageException):
        update.saveObject(None)


def test_an_object_in_two_places_is_saved_once(conn):
    tag = new("TagAnnotation", textValue="both")
    made = [new("Plate", name="a"), new("Plate", name="b")]
    for one in made:
        one.linkAnnotation(tag)
    first, second = conn.getUpdateService().saveAndReturnArray(made)
    assert first.copyAnnotationLinks()[0].child is second.copyAnnotationLinks()[0].child
    assert count(conn, "TagAnnotation", "PlateAnnotationLink") == {"TagAnnotation": 1, "PlateAnnotationLink": 2}


def test_loaded_references_are_saved_too(conn, update):
    sample = save(conn, plate(wells=1, sites=1)).copyWells()[0].getWellSample(0)
    sample.image.name = rstring("renamed through the sample")
    update.saveObject(sample)
    assert rows(conn, "select i.name from Image i where i.id = :id", id=sample.image.id.val) == [
        ["renamed through the sample"]
    ]


def test_stale_through_a_reference(conn, update):
    saved = save(conn, new("Plate", name="before"))
    mine = conn.getQueryService().get("Plate", saved.id.val)
    saved.name = rstring("after")
    update.saveObject(saved)
    with pytest.raises(omero.OptimisticLockException):
        update.saveObject(new("Well", row=0, column=0, plate=mine))
    assert count(conn, "Well") == {}


def test_samples_change_places(conn, update, well_id):
    well = well_with_samples(conn, well_id)
    first, second, third = well.copyWellSamples()
    well._wellSamplesSeq = [third, first, second]
    update.saveObject(well)
    assert rows(conn, SAMPLES, id=well_id) == [[0, "0 2"], [1, "0 0"], [2, "0 1"]]
    well = well_with_samples(conn, well_id)
    well.removeWellSample(well.getWellSample(1))
    update.saveObject(well)
    assert rows(conn, SAMPLES, id=well_id) == [[0, "0 2"], [1, "0 1"]]
    assert count(conn, "WellSample", "Image") == {"WellSample": 2, "Image": 3}


def test_a_gap_stays_a_gap(conn, update, well_id):
    well = well_with_samples(conn, well_id)
    conn.deleteObjects("WellSample", [well.getWellSample(0).id.val], wait=True)
    well = well_with_samples(conn, well_id)
    assert well.copyWellSamples()[0] is None
    well.addWellSample(new("WellSample", image=image("added")))
    update.saveObject(well)
    assert rows(conn, SAMPLES, id=well_id) == [[1, "0 1"], [2, "0 2"], [3, "added"]]


def test_an_image_is_swapped_in_place(conn, update, well_id):
    sample = well_with_samples(conn, well_id).getWellSample(1)
    old, made = sample.image.id.val, save(conn, image("better"))
    sample.image = made.proxy()
    update.saveObject(sample)
    assert rows(conn, SAMPLES, id=well_id) == [[0, "0 0"], [1, "better"], [2, "0 2"]]
    conn.deleteObjects("Image", [old], wait=True)
    assert count(conn, "WellSample", "Image") == {"WellSample": 3, "Image": 3}


@pytest.mark.parametrize("part, owner, collection", [("Channel", "Pixels", "channels"), ("Rectangle", "Roi", "shapes")])
def test_an_element_of_a_list_needs_the_list(conn, update, part, owner, collection):
    stored = save(conn, image()).getPrimaryPixels() if owner == "Pixels" else save(conn, new("Roi"))
    made = new(part)
    setattr(made, owner.lower(), stored.proxy())
    if part == "Channel":
        made.logicalChannel = new("LogicalChannel")
    with pytest.raises(omero.InternalException):
        update.saveObject(made)
    fetched = conn.getQueryService().findByQuery(
        f"select x from {owner} x left outer join fetch x.{collection} where x.id = :id",
        ParametersI().addId(stored.id.val),
    )
    before = len(getattr(fetched, f"_{collection}Seq"))
    setattr(made, owner.lower(), None)
    getattr(fetched, f"add{'Shape' if owner == 'Roi' else part}")(made)
    again = update.saveAndReturnObject(fetched)
    assert len(getattr(again, f"_{collection}Seq")) == before + 1


def test_units_round_trip(conn):
    saved = save(conn, image())
    pixels = saved.getPrimaryPixels()
    pixels.physicalSizeX = omero.model.LengthI(0.325, UnitsLength.MICROMETER)
    pixels = save(conn, pixels)
    pixels.physicalSizeX = omero.model.LengthI(325.0, UnitsLength.NANOMETER)
    event = pixels.details.updateEvent.id.val
    pixels = save(conn, pixels)
    assert pixels.details.updateEvent.id.val > event
    found = conn.getQueryService().get("Pixels", pixels.id.val).physicalSizeX
    assert (found.getValue(), found.getUnit()) == (325.0, UnitsLength.NANOMETER)
    pixels.physicalSizeX = None
    save(conn, pixels)
    assert conn.getQueryService().get("Pixels", pixels.id.val).physicalSizeX is None


def test_external_information_goes_along(conn):
    made = new("Plate", name="p")
    made.details.externalInfo = new("ExternalInfo", entityId=omero.rtypes.rlong(5), entityType="run", uuid="u")
    oid = save(conn, made).id.val
    assert rows(conn, "select e.uuid from Plate p join p.details.externalInfo e where p.id = :id", id=oid) == [["u"]]
    conn.deleteObjects("Plate", [oid], wait=True)
    assert count(conn, "ExternalInfo") == {}


def test_another_kind_of_object_with_that_id(conn, update):
    tag = save(conn, new("TagAnnotation", textValue="t"))
    with pytest.raises(omero.ValidationException):
        update.saveObject(new("CommentAnnotation", id=tag.id, textValue="c"))
    with pytest.raises(omero.ValidationException):
        update.saveObject(
            new("PlateAnnotationLink", parent=new("Plate", name="p"), child=ref("CommentAnnotation", tag.id))
        )


def test_others_may_annotate_but_not_change(make_user):
    owner = make_user("rwra--")
    other = make_user(group=owner.getGroupFromContext().getId())
    theirs = save(owner, plate(wells=1, sites=1))
    mine = other.getQueryService().get("Plate", theirs.id.val)
    mine.name = rstring("mine now")
    for bad in (
        mine,
        new("Well", row=3, column=3, plate=ref("Plate", theirs.id.val)),
        new("ScreenPlateLink", parent=new("Screen", name="s"), child=ref("Plate", theirs.id.val)),
    ):
        with pytest.raises(omero.SecurityViolation):
            other.getUpdateService().saveObject(bad)
    link = save(other, annotated(theirs, "by the other"))
    assert link.details.owner.id.val == other.getUserId()
    assert [a.getValue() for a in owner.getObject("Plate", theirs.id.val).listAnnotations()] == ["by the other"]
    with pytest.raises(omero.SecurityViolation):
        other.getUpdateService().deleteObject(theirs)


def test_system_types_are_for_administrators(conn, root, update):
    kind = conn.getQueryService().findByString("PixelsType", "value", "uint8")
    kind.bitSize = rint(9)
    for bad in (
        kind,
        new("PixelsType", value="uint9", bitSize=9),
        new("Experimenter", omeName="x", firstName="x", lastName="x", ldap=omero.rtypes.rbool(False)),
    ):
        with pytest.raises(omero.SecurityViolation):
            update.saveObject(bad)


@pytest.mark.embedded_only  # a real server lets everybody do it
def test_enumerations_are_made_by_administrators(conn):
    with pytest.raises(omero.SecurityViolation):
        conn.getTypesService().createEnumeration(new("Immersion", value="Milk"))


def test_the_gateway_saves_what_it_loaded(conn):
    made = conn.getObject("Plate", save(conn, plate(wells=1, sites=1)).id.val)
    made.setName("by the gateway")
    made.save()
    assert conn.getObject("Plate", made.getId()).getName() == "by the gateway"
    shown = next(next(made.listChildren()).listChildren()).getImage()
    shown.setDescription("described")
    shown.save()
    assert conn.getObject("Image", shown.getId()).getDescription() == "described"
