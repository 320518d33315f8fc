"""Pixels and files of the embedded server beyond what the conformance suite asks."""

from __future__ import annotations

import hashlib

import numpy as np
import omero
import omero.clients
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from models import new, run, save
from omero.rtypes import rlong

SIZES = (5, 4, 3, 2, 2)  # x, y, z, c, t


def create(conn, pixels_type="uint16", x=6, y=4, z=1, c=1, t=1) -> tuple[int, int]:
    """An image without bytes: its id and its pixels'."""
    kind = conn.getQueryService().findByString("PixelsType", "value", pixels_type)
    image = conn.getPixelsService().createImage(x, y, z, t, list(range(c)), kind, "image", None).val
    return image, conn.getObject("Image", image).getPixelsId()


def open_store(conn, pixels: int):
    store = conn.c.sf.createRawPixelsStore()
    store.setPixelsId(pixels, False)
    return store


@pytest.fixture
def block(conn):
    """A written block (T, C, Z, Y, X), and a store that reads it."""
    x, y, z, c, t = SIZES
    values = np.arange(np.prod(SIZES), dtype=">u2").reshape(t, c, z, y, x)
    _, pixels = create(conn, "uint16", x, y, z, c, t)
    store = open_store(conn, pixels)
    for timepoint in range(t):
        store.setTimepoint(values[timepoint].tobytes(), timepoint)
    yield values, store
    store.close()


@given(data=st.data())
@settings(max_examples=40)
def test_a_hypercube_is_the_slice_of_the_block(block, data):
    values, store = block
    start = [data.draw(st.integers(0, size - 1)) for size in SIZES]
    size = [data.draw(st.integers(1, whole - at)) for whole, at in zip(SIZES, start)]
    step = [data.draw(st.integers(1, 3)) for _ in SIZES]
    wanted = values[tuple(slice(a, a + n, by) for a, n, by in zip(start, size, step))[::-1]]
    assert store.getHypercube(start, size, step) == wanted.tobytes()


@given(data=st.data())
@settings(max_examples=40)
def test_a_tile_is_the_part_of_the_plane(block, data):
    values, store = block
    x, y = data.draw(st.integers(0, 4)), data.draw(st.integers(0, 3))
    w, h = data.draw(st.integers(1, 5 - x)), data.draw(st.integers(1, 4 - y))
    assert store.getTile(2, 1, 1, x, y, w, h) == values[1, 1, 2, y : y + h, x : x + w].tobytes()


def test_planes_of_more_pixels_than_omero_keeps_plain_are_written_by_tiles(conn):
    width, height = 4000, 3000
    image, pixels = create(conn, "uint8", width, height)
    plane = np.random.default_rng(1).integers(0, 255, (height, width), "uint8")
    store = open_store(conn, pixels)
    assert store.requiresPixelsPyramid()
    with pytest.raises(omero.InternalException):
        store.setPlane(plane.tobytes(), 0, 0, 0)
    store.close()  # a real server opens these pixels no more
    image, pixels = create(conn, "uint8", width, height)
    store = open_store(conn, pixels)
    with pytest.raises(omero.ApiUsageException):
        store.getResolutionLevels()
    store.close()
    image, pixels = create(conn, "uint8", width, height)
    store = open_store(conn, pixels)
    tile_w, tile_h = store.getTileSize()
    for y in range(0, height, tile_h):
        for x in range(0, width, tile_w):
            part = plane[y : y + tile_h, x : x + tile_w]
            store.setTile(part.tobytes(), 0, 0, 0, x, y, part.shape[1], part.shape[0])
    store.close()
    back = conn.getObject("Image", image).getPrimaryPixels()
    assert back.sha1 == hashlib.sha1(plane.tobytes()).hexdigest()
    assert (back.getTile(0, 0, 0, (1990, 700, 300, 20)) == plane[700:720, 1990:2290]).all()
    check_levels(conn, pixels, plane)
    check_rendering(conn, pixels, plane)
    assert run(conn, omero.cmd.FindPyramids(limit=9)).pyramidFiles == [image]


def check_levels(conn, pixels, plane):
    """The levels of written pyramids: half as large each, of the plane's own values, read but not written."""
    store = open_store(conn, pixels)
    sizes = [(one.sizeX, one.sizeY) for one in store.getResolutionDescriptions()]
    assert sizes[:3] == [(4000, 3000), (2000, 1500), (1000, 750)] and store.getResolutionLevel() == len(sizes) - 1
    store.setResolutionLevel(len(sizes) - 2)
    assert store.getRowSize() == 2000 and len(store.getPlane(0, 0, 0)) == 2000 * 1500
    squares = plane[200:240, 100:150].reshape(20, 2, 25, 2).transpose(0, 2, 1, 3).reshape(20, 25, 4)
    tile = np.frombuffer(store.getTile(0, 0, 0, 50, 100, 25, 20), "uint8").reshape(20, 25)
    assert (squares == tile[..., None]).any(axis=2).all()
    for refused in (
        lambda: store.getStack(0, 0),
        lambda: store.getRegion(4, 0),
        lambda: store.getTile(0, 0, 0, 1990, 0, 20, 20),
    ):
        with pytest.raises(omero.InternalException):
            refused()
    store.close()


def check_rendering(conn, pixels, plane):
    """A pyramid is shown at each of its levels."""
    engine = conn.c.sf.createRenderingEngine()
    engine.lookupPixels(pixels)
    engine.resetDefaultSettings(True)
    engine.lookupRenderingDef(pixels)
    engine.load()
    engine.setChannelWindow(0, 0, 255)
    levels = engine.getResolutionLevels()
    assert engine.requiresPixelsPyramid() and engine.getResolutionLevel() == levels - 1 == 5
    region = omero.romio.PlaneDef(0, 0, 0, 0, 0, omero.romio.RegionDef(1990, 700, 30, 20), -1)
    shown = np.frombuffer(engine.render(region).bands[0], "uint8").reshape(20, 30).astype(int)
    assert abs(shown - plane[700:720, 1990:2020]).max() <= 1
    engine.setResolutionLevel(levels - 2)
    sizes = [(one.sizeX, one.sizeY) for one in engine.getResolutionDescriptions()]
    assert len(sizes) == levels and sizes[1] == (2000, 1500)
    whole = engine.render(omero.romio.PlaneDef(0, 0, 0, 0, 0, None, -1))
    assert (whole.sizeX1, whole.sizeX2) == (2000, 1500)
    engine.close()


def test_bytes_beyond_a_row_or_tile_go_into_the_next_one(conn):
    _, pixels = create(conn, "uint8", 4, 2, 2)
    store = open_store(conn, pixels)
    store.setRow(bytes([1] * 6), 0, 1, 0, 0)
    store.setTile(bytes([2] * 12), 0, 0, 0, 0, 1, 4, 1)
    store.setRegion(4, 14, bytes([3] * 9))
    store.save()
    assert store.getStack(0, 0).hex() == "0000000002020202" + "0202020202020303"
    assert store.getRegion(6, 12).hex() == "020203030000"
    store.close()
    with pytest.raises(omero.ApiUsageException):
        open_store(conn, create(conn)[1]).setRegion(4, 0, bytes(3))


def test_a_histogram_is_of_a_plane_or_a_region(conn):
    _, pixels = create(conn, "uint8", 4, 2, 3)
    store = open_store(conn, pixels)
    store.setStack(bytes(range(24)), 0, 0, 0)
    whole = omero.romio.PlaneDef(omero.romio.XY, 0, 0, 1, 0, None, -1)
    assert store.getHistogram([0], 2, False, whole) == {0: [4, 4]}
    part = omero.romio.PlaneDef(omero.romio.XY, 0, 0, 1, 0, omero.romio.RegionDef(0, 0, 2, 1), -1)
    assert store.getHistogram([0], 2, False, part) == {0: [2, 0]}
    assert store.findMinMax([0]) == {0: [8.0, 15.0]} and sum(store.getHistogram([0], 0, False, whole)[0]) == 8
    store.close()


PLANE = 6 * 4 * 2  # bytes


@given(
    writes=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(0, 2 * PLANE), st.booleans()),
        min_size=1,
        max_size=8,
    )
)
@example([(0, 0, 0, False), (0, 1, 0, False), (0, 2, 0, False), (0, 3, 0, True)])  # in order
@example([(0, 3, 0, False), (0, 1, 0, True), (0, 0, 0, False)])  # backwards
@example([(0, 0, 9, False), (0, 0, 5, True), (0, 0, 0, False), (0, 1, 0, True)])  # overlapping, again and again
@example([(0, 0, 0, False), (1, 0, 7, False), (0, 1, 0, True), (1, 0, 0, True)])  # by two writers
@settings(max_examples=25)
def test_the_hash_is_that_of_the_bytes_however_they_are_written(conn, writes):
    """Each write is of a plane or, from an offset on, of a plane's length; by one of two stores, which may save."""
    _, pixels = create(conn, z=4)
    stores = [open_store(conn, pixels) for _ in range(2)]
    truth = bytearray(4 * PLANE)

    for number, (writer, z, offset, save_it) in enumerate(writes, 1):
        data = bytes([number]) * PLANE
        if offset:
            stores[writer].setRegion(PLANE, offset, data)
        else:
            stores[writer].setPlane(data, z, 0, 0)
        start = offset or z * PLANE
        truth[start : start + PLANE] = data
        if save_it:
            assert stores[writer].save().sha1.val == hashlib.sha1(truth).hexdigest()
    for store in (*stores, open_store(conn, pixels)):
        assert store.calculateMessageDigest() == hashlib.sha1(truth).digest()
        store.close()
    again = open_store(conn, pixels)  # nobody has them open any more
    assert again.calculateMessageDigest() == hashlib.sha1(truth).digest()
    with pytest.raises(omero.ApiUsageException):
        again.setPlane(bytes(PLANE), 0, 0, 0)
    again.close()
    assert conn.getQueryService().get("Pixels", pixels).sha1.val == hashlib.sha1(truth).hexdigest()


def test_a_writer_that_goes_away_leaves_its_bytes_and_no_hash(conn, omero_server):
    _, pixels = create(conn)
    writer = omero.client(omero_server.host, omero_server.port)
    session = writer.joinSession(conn.c.getSessionId())
    store = session.createRawPixelsStore()
    store.setPixelsId(pixels, False)
    store.setPlane(bytes(range(48)), 0, 0, 0)
    session.detachOnDestroy()
    writer.closeSession()
    row = conn.getQueryService().get("Pixels", pixels)
    assert row.sha1.val == "Pending..."
    assert open_store(conn, pixels).getPlane(0, 0, 0) == bytes(range(48))


def test_bytes_are_deleted_with_their_rows(conn, omero_server):
    if omero_server.data is None:
        pytest.skip("looks into the data folder")
    image, pixels = create(conn)
    store = open_store(conn, pixels)
    store.setPlane(bytes(48), 0, 0, 0)
    store.close()
    file = save(conn, new("OriginalFile", name="name", path="path")).id.val
    raw = conn.c.sf.createRawFileStore()
    raw.setFileId(file)
    raw.write(b"abc", 0, 3)
    raw.close()
    paths = [
        next(path for path in (omero_server.data / folder).rglob(str(oid)) if path.is_file())
        for folder, oid in (("Pixels", pixels), ("Files", file))
    ]
    assert [path.stat().st_size for path in paths] == [48, 3]
    conn.deleteObjects("Image", [image], wait=True)
    conn.deleteObjects("OriginalFile", [file], wait=True)
    assert not any(path.exists() for path in paths)


@pytest.mark.embedded_only  # a real server lets members write what nobody has written
def test_unwritten_pixels_of_another_member_stay_unwritten(make_user):
    owner = make_user("rwr---")
    other = make_user(group=owner.getGroupFromContext().getId())
    _, pixels = create(owner)
    with pytest.raises(omero.SecurityViolation):
        open_store(other, pixels).setPlane(bytes(48), 0, 0, 0)
    open_store(owner, pixels).setPlane(bytes(48), 0, 0, 0)


@pytest.mark.parametrize(
    ("method", "args"), [("write", (b"abc", -1, 3)), ("write", (b"abc", 0, 4)), ("read", (-1, 3)), ("truncate", (-1,))]
)
def test_what_a_file_cannot_do_is_refused(conn, method, args):
    raw = conn.c.sf.createRawFileStore()
    raw.setFileId(save(conn, new("OriginalFile", name="name", path="path")).id.val)
    with pytest.raises(omero.ApiUsageException):
        getattr(raw, method)(*args)
    raw.close()


def test_an_unwritten_file_is_made_by_looking_at_it_and_saved_as_empty(make_user):
    owner = make_user("rwr---")
    other = make_user(group=owner.getGroupFromContext().getId())
    files = [save(owner, new("OriginalFile", name="name", path="path", size=size)) for size in (None, rlong(99))]
    raw = other.c.sf.createRawFileStore()
    raw.setFileId(files[0].id.val)
    with pytest.raises(omero.ResourceError):
        raw.size()
    raw.close()
    for file in files:
        raw = owner.c.sf.createRawFileStore()
        raw.setFileId(file.id.val)
        assert [raw.exists(), raw.size(), raw.exists()] == [False, 0, True]
        raw.close()
    query = owner.getQueryService()
    assert [query.get("OriginalFile", file.id.val).size.val for file in files] == [0, 0]


def test_regions_of_planes(conn):
    _, pixels = create(conn)
    store = open_store(conn, pixels)
    store.setPlane(bytes(range(48)), 0, 0, 0)
    assert store.getPlaneRegion(0, 0, 0, 2, 1) == bytes([2, 3, 4, 5])
    for count, offset, error in ((24, 1, omero.ResourceError), (1, 25, omero.ApiUsageException)):
        with pytest.raises(error):
            store.getPlaneRegion(0, 0, 0, count, offset)
    store.close()
