"""Plates, sites and planes as read from a server."""

import dataclasses
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import omero
import pytest
from omero.gateway import MapAnnotationWrapper
from omero.model.enums import UnitsLength
from omero.rtypes import rint, rstring
from wire import SHAPE, add_well, block, make_plate, wire

from openhcs_omero.errors import PlateError
from openhcs_omero.io.omero_local import OMEROLocalBackend
from openhcs_omero.microscopes.describe_omero import describe_plate
from openhcs_omero.microscopes.omero import OMEROHandler
from openhcs_omero.omero import queries
from openhcs_omero.omero.annotations import save_text
from openhcs_omero.omero.pixels import close_store, read_metadata, read_plane, read_site, read_sites
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.plate_map import read_plate_map
from openhcs_omero.omero.writing import write_well_images
from openhcs_omero.plates.image import NewImage
from openhcs_omero.plates.paths import PlatePath

__all__ = ["wire"]


def test_the_structure_of_a_plate(conn):
    plate_id = make_plate(conn, {"B03": 1, "A01": 2, "H12": 0}, name="screen 1")
    plate = load_plate(conn, plate_id)
    assert (plate.plate_id, plate.name, plate.rows, plate.columns) == (plate_id, "screen 1", 8, 12)
    assert plate.group_id == conn.getEventContext().groupId
    assert list(plate.wells) == ["A01", "B03", "H12"] and plate.wells_with_images() == ["A01", "B03"]
    assert (plate.max_sites, plate.max_t, plate.max_c, plate.max_z) == (2, 1, 2, 3)
    well = plate.wells["A01"]
    assert (well.row, well.col, sorted(well.images)) == (0, 0, [1, 2])
    image = plate.image("A01", 2)
    assert (image.shape, image.pixel_type, image.index, image.name) == (SHAPE, "uint16", 1, "A01 2")
    gateway = conn.getObject("Image", image.image_id)
    assert image.pixels_id == gateway.getPixelsId()
    assert image.sha1 == gateway.getPrimaryPixels().getSha1()
    assert image.update_event == gateway._obj.details.updateEvent.id.val
    assert conn.getObject("Well", well.well_db_id).getWellPos() == "A1"


def test_opening_a_plate_takes_one_call(conn, wire):
    small, large = make_plate(conn), make_plate(conn, {f"{row}{column:02d}": 1 for row in "ABC" for column in (1, 2)})
    load_plate(conn, small)
    for plate_id, wells in ((small, 2), (large, 6)):
        wire.start()
        plate = load_plate(conn, plate_id)
        plate.fingerprint(), plate.list_paths(), plate.check_types()
        assert wire.stop() == ["projection"]
        assert len(plate.wells) == wells


def test_plates_that_do_not_exist(conn, make_user):
    with pytest.raises(PlateError, match=r"^there is no plate 987654321, or this user may not see it$"):
        load_plate(conn, 987654321)
    hidden = make_plate(make_user())
    with pytest.raises(PlateError, match=f"there is no plate {hidden}, or this user may not see it"):
        load_plate(conn, hidden)


def test_plates_without_wells_or_images(conn):
    bare = make_plate(conn, name="bare")
    queries.delete(
        conn, queries.current_group(conn), Well=[well.well_db_id for well in load_plate(conn, bare).wells.values()]
    )
    with pytest.raises(PlateError, match=rf"^plate {bare} \(bare\) has no wells"):
        load_plate(conn, bare)
    assert load_plate(conn, bare, require_images=False).wells == {}
    empty = make_plate(conn, {"A01": 0})
    with pytest.raises(PlateError, match="has wells but no images"):
        load_plate(conn, empty)
    assert list(load_plate(conn, empty, require_images=False).wells) == ["A01"]


def test_what_is_not_as_it_should_be_is_said(conn):
    """An image without pixels, and a well outside of the plate's format."""
    bare = omero.model.ImageI()
    bare.name = rstring("bare")
    bare = queries.update(conn).saveAndReturnObject(bare).id.val
    plate = make_plate(conn, {"A01": 1})
    add_well(conn, plate, "J13", bare)
    found = load_plate(conn, plate)
    assert (found.rows, found.columns) == (10, 13) and found.wells_with_images() == ["A01"]
    [note] = found.notes
    assert note.startswith(f"image {bare} (bare) of well J13 has no pixels: it is left out")
    handler = OMEROHandler(OMEROLocalBackend(omero_conn=conn))
    assert handler.notes(plate) == found.notes
    assert describe_plate(handler.backend, PlatePath(plate))["notes"] == [note]


def test_wells_without_a_place(conn):
    """They are left out and named, with what is written on them, and the others are processed."""
    plate = make_plate(conn, {"A01": 1, "B02": 1, "C03": 1})
    wells = load_plate(conn, plate).wells
    for name, row in (("B02", None), ("C03", rint(-1))):
        well = queries.query(conn).get("Well", wells[name].well_db_id)
        well.row = row
        queries.update(conn).saveObject(well)
        pair = MapAnnotationWrapper(conn)
        pair.setNs(omero.constants.metadata.NSCLIENTMAPANNOTATION)
        pair.setValue([["compound", "aspirin"]])
        pair.save()
        conn.getObject("Well", well.id.val).linkAnnotation(pair)
    found = load_plate(conn, plate)
    assert list(found.wells) == ["A01"]
    words = {"B02": "it has no row or no column in OMERO", "C03": "row -1"}
    for name, note in zip(words, found.notes, strict=True):
        start = f"well {wells[name].well_db_id} has no place on the plate, and is left out with its images: "
        assert note.startswith(start) and words[name] in note
    assert read_plate_map(conn, found)[0] == []
    queries.delete(conn, queries.current_group(conn), Well=[wells["A01"].well_db_id])
    with pytest.raises(PlateError, match=rf"plate {plate} can't be processed: well \d+ has no place on the plate"):
        load_plate(conn, plate)


def test_a_plate_in_another_group_of_the_user(omero_server, root, make_user):
    here, there = make_user(), make_user("rwr---")
    other = there.getEventContext().groupId
    root.c.sf.getAdminService().addGroups(
        omero.model.ExperimenterI(here.getUserId(), False), [omero.model.ExperimenterGroupI(other, False)]
    )
    plate_id = make_plate(there)
    again = omero_server.login(here.getUser().getName(), "pw")
    try:
        assert again.getEventContext().groupId != other
        plate = load_plate(again, plate_id)
        assert plate.group_id == other
        assert np.array_equal(read_site(again, plate.image("A01", 1)), block(1))
        assert np.array_equal(read_plane(again, plate.image("A01", 2), 2, 1, 0), block(2)[0, 1, 2])
    finally:
        again.close()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_pixels_of_all_types(conn, dtype):
    shape = (2, 3, 2, 5, 7)
    plate = load_plate(conn, make_plate(conn, {"A01": 1}, shape=shape, dtype=dtype))
    image, truth = plate.image("A01", 1), block(1, shape, dtype)
    assert image.shape == shape and image.pixel_type == dtype
    site = read_site(conn, image)
    assert site.dtype == np.dtype(dtype) and np.array_equal(site, truth)
    plane = read_plane(conn, image, z=1, c=2, t=1)
    assert plane.dtype == np.dtype(dtype) and np.array_equal(plane, truth[1, 2, 1])


@pytest.mark.parametrize(
    ("read_call", "write_call", "max_call", "calls"),
    [
        (10**6, 10**6, 10**6, ["getTimepoint"] * 2),
        (200, 100, 10**6, ["getStack"] * 6),
        (200, 10**6, 200, ["getStack"] * 6),
        (100, 70, 10**6, ["getPlane"] * 12),
    ],
)
def test_a_site_is_read_and_written_in_few_calls(conn, wire, monkeypatch, read_call, write_call, max_call, calls):
    shape = (2, 3, 2, 5, 7)
    monkeypatch.setattr("openhcs_omero.omero.pixels.READ_CALL", read_call)
    monkeypatch.setattr("openhcs_omero.omero.writing.WRITE_CALL", write_call)
    monkeypatch.setattr("openhcs_omero.omero.writing.MAX_CALL", max_call)
    wire.start()
    plate_id = make_plate(conn, {"A01": 1}, shape=shape)
    assert [call for call in wire.stop() if call.startswith("set") and call != "setPixelsId"] == [
        call.replace("get", "set") for call in calls
    ]
    plate = load_plate(conn, plate_id)
    wire.start()
    site = read_site(conn, plate.image("A01", 1))
    assert wire.stop() == ["createRawPixelsStore", "setPixelsId", *calls]
    assert np.array_equal(site, block(1, shape))


def test_a_wells_images_are_written_in_three_calls_each(conn, wire, monkeypatch):
    """One save and one query for all rows, three stores for all pixels; each byte of the pixels is sent once."""
    sent: list[int] = []
    set_timepoint = omero.api.RawPixelsStorePrx.setTimepoint
    monkeypatch.setattr(
        omero.api.RawPixelsStorePrx,
        "setTimepoint",
        lambda self, data, *rest: (sent.append(data.nbytes), set_timepoint(self, data, *rest))[1],
    )
    images = [NewImage(f"site {site}", block(site), annotations=[("k", "v")]) for site in range(9)]
    group = queries.current_group(conn)
    queries.update(conn), queries.query(conn)  # created once per session
    wire.start()
    write_well_images(conn, images, "test", group)
    assert Counter(wire.stop()) == {
        "saveAndReturnIds": 1,
        "projection": 1,
        "createRawPixelsStore": 3,
        "close": 3,
        "setPixelsId": 9,
        "setTimepoint": 9,
        "save": 9,
    }
    assert sent == [block(0).nbytes] * 9


def test_planes_of_an_image_share_a_store(conn, wire):
    plate = load_plate(conn, make_plate(conn))
    wire.start()
    for image in (plate.image("A01", 1), plate.image("A01", 2)):
        for z in range(3):
            read_plane(conn, image, z, 0, 0)
    planes = ["setPixelsId", "getPlane", "getPlane", "getPlane"]
    assert wire.stop() == ["createRawPixelsStore", *planes, *planes]


def test_sites_are_read_ahead_with_three_stores(conn, wire):
    plate = load_plate(conn, make_plate(conn, {"A01": 5}))
    images = [plate.image("A01", site) for site in range(1, 6)]
    wire.start()
    for site, (image, pixels) in enumerate(read_sites(conn, images), 1):
        assert image == images[site - 1] and np.array_equal(pixels, block(site))
    assert Counter(wire.stop()) == {"createRawPixelsStore": 3, "setPixelsId": 5, "getTimepoint": 5, "close": 3}
    next(iter(read_sites(conn, images)))
    assert not [name for name in conn.c.sf.activeServices() if name.endswith("RawPixelsStore")]
    assert not list(read_sites(conn, []))


def test_a_site_that_can_not_be_read_ends_the_reading_ahead(conn):
    plate = load_plate(conn, make_plate(conn, {"A01": 2}))
    gone = dataclasses.replace(plate.image("A01", 1), pixels_id=2**40)
    with pytest.raises(omero.ValidationException):
        list(read_sites(conn, [plate.image("A01", 2), gone]))
    assert not [name for name in conn.c.sf.activeServices() if name.endswith("RawPixelsStore")]


def test_a_thread_closes_its_own_store(conn):
    image = load_plate(conn, make_plate(conn, {"A01": 1})).image("A01", 1)
    read_plane(conn, image, 0, 0, 0)

    def read():
        read_site(conn, image)
        opened = stores()
        close_store()
        close_store()
        return opened

    def stores():
        return len([name for name in conn.c.sf.activeServices() if name.endswith("RawPixelsStore")])

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(read).result() == 2
    assert stores() == 1
    close_store()
    assert np.array_equal(read_plane(conn, image, 1, 1, 0), block(1)[0, 1, 1])


@pytest.mark.parametrize("pixel_type", ["complex", "double-complex"])
def test_pixel_types_that_can_not_be_processed(conn, pixel_type):
    plate_id = make_plate(conn, {"A01": 1})
    pixels = queries.query(conn).get("Pixels", load_plate(conn, plate_id).image("A01", 1).pixels_id)
    pixels.pixelsType = omero.model.PixelsTypeI()
    pixels.pixelsType.value = rstring(pixel_type)
    queries.update(conn).saveObject(pixels)
    plate = load_plate(conn, plate_id)
    with pytest.raises(PlateError, match=rf"^plate {plate_id}: A01 site 1 is .*, {pixel_type}; [^\n]*float64$"):
        plate.check_types()
    with pytest.raises(PlateError, match=f"type '{pixel_type}', which can't be processed"):
        read_site(conn, plate.image("A01", 1))


@pytest.mark.parametrize("plane", [(3, 0, 0), (0, 2, 0), (0, 0, 1), (-1, 0, 0)])
def test_planes_that_do_not_exist(conn, plane):
    image = load_plate(conn, make_plate(conn, {"A01": 1})).image("A01", 1)
    with pytest.raises(PlateError, match=r"has no plane .* it has 3 z, 2 channels, 1 timepoints"):
        read_plane(conn, image, *plane)


def test_fingerprints_change_with_the_plate(conn):
    plate_id = make_plate(conn)
    before = load_plate(conn, plate_id)
    save_text(conn, "Plate", plate_id, "x.csv", b"a\n1\n")
    save_text(conn, "Image", before.image("A01", 1).image_id, "x.csv", b"a\n1\n")
    assert load_plate(conn, plate_id).fingerprint() == before.fingerprint()
    sample = queries.query(conn).get("WellSample", before.image("B03", 2).well_sample_id)
    [new] = write_well_images(conn, [NewImage("new", block(99))], "test", before.group_id)
    sample.image = omero.model.ImageI(new.image_id, False)
    queries.update(conn).saveObject(sample)
    after = load_plate(conn, plate_id)
    assert after.fingerprint() != before.fingerprint()
    assert after.wells["A01"].fingerprint() == before.wells["A01"].fingerprint()
    assert after.wells["B03"].fingerprint() != before.wells["B03"].fingerprint()
    assert after.image("B03", 2).sha1 == new.sha1


def test_channels_and_pixel_sizes(conn):
    group = queries.current_group(conn)
    images = [
        NewImage(
            "named",
            block(1),
            channel_names=["DAPI", "GFP"],
            colors=[(0, 0, 255), (0, 255, 0)],
            pixel_size=(2.0, 0.65, 0.65),
        ),
        NewImage("bare", block(2)),
    ]
    written = write_well_images(conn, images, "test", group)
    structures = [
        dataclasses.replace(
            load_plate(conn, make_plate(conn)).image("A01", 1),
            image_id=image.image_id,
            pixels_id=conn.getObject("Image", image.image_id).getPixelsId(),
        )
        for image in written
    ]
    named, bare = (read_metadata(conn, structures)[image.image_id] for image in written)
    assert named.channel_names == ("DAPI", "GFP") and named.colors == ((0, 0, 255), (0, 255, 0))
    assert named.pixel_size == (2.0, 0.65, 0.65)
    assert bare.channel_names == (None, None) and bare.colors == (None, None)
    assert bare.pixel_size == (None, None, None)
    pixels = queries.query(conn).get("Pixels", conn.getObject("Image", written[1].image_id).getPixelsId())
    pixels.physicalSizeX = omero.model.LengthI(500.0, UnitsLength.NANOMETER)
    pixels.physicalSizeY = omero.model.LengthI(2.0, UnitsLength.PIXEL)
    queries.update(conn).saveObject(pixels)
    assert read_metadata(conn, structures)[written[1].image_id].pixel_size == (None, None, 0.5)
    assert read_metadata(conn, []) == {}


def test_the_gateway_reads_what_is_written(conn):
    [written] = write_well_images(
        conn, [NewImage("mine", block(5), annotations=[("k", "v")])], "test.ns", queries.current_group(conn)
    )
    image = conn.getObject("Image", written.image_id)
    assert image.getName() == "mine" and image.getPixelsType() == "uint16"
    assert np.array_equal(image.getPrimaryPixels().getPlane(2, 1, 0), block(5)[0, 1, 2])
    assert image.getPrimaryPixels().getSha1() == written.sha1
    assert [a.getValue() for a in image.listAnnotations(ns="test.ns")] == [[("k", "v")]]
    ranges = queries.rows(
        conn,
        "select s.globalMin, s.globalMax from Pixels px join px.channels c "
        "join c.statsInfo s where px.image.id = :id order by index(c)",
        id=written.image_id,
    )
    assert ranges == [[block(5)[:, c].min(), block(5)[:, c].max()] for c in (0, 1)]


def test_the_red_component_of_a_well_is_kept(conn):
    """A well with a color set by a user is read like any other."""
    plate_id = make_plate(conn, {"A01": 1})
    well = queries.query(conn).get("Well", load_plate(conn, plate_id).wells["A01"].well_db_id)
    well.red = rint(255)
    queries.update(conn).saveObject(well)
    assert load_plate(conn, plate_id).image("A01", 1).site == 1
