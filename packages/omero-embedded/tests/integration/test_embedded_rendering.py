"""Rendering over the wire: default settings, whose settings are shown, thumbnails, projections, copies."""

from __future__ import annotations

import io

import numpy as np
import omero
import pytest
from omero.gateway import BlitzGateway
from omero.rtypes import rint, rlong, rtime
from PIL import Image


def make_image(conn: BlitzGateway, planes: np.ndarray, name: str = "image") -> int:
    """An image of (C, Z, Y, X) planes; its id."""
    count, depth = planes.shape[:2]
    each = (planes[c, z] for z in range(depth) for c in range(count))
    return conn.createImageFromNumpySeq(each, name, depth, count, 1).getId()


def ramp(channels: int = 1, depth: int = 1, dtype: str = "uint16") -> np.ndarray:
    sizes = channels, depth, 8, 16
    return (np.arange(np.prod(sizes)).reshape(sizes) * 10).astype(dtype)


def pixel(picture, x: int, y: int) -> tuple[int, ...]:
    return picture.convert("RGB").getpixel((x, y))


def test_defaults_of_channels(conn):
    image = conn.getObject("Image", make_image(conn, ramp(4, 3)))
    channels = image.getChannels()
    assert [c.isActive() for c in channels] == [True, True, True, False]
    assert [c.getColor().getHtml() for c in channels] == ["FF0000", "00FF00", "0000FF", "FF0000"]
    assert channels[1].getWindowStart() == 3 * 8 * 16 * 10 and channels[1].getWindowEnd() == (6 * 8 * 16 - 1) * 10
    assert image.getDefaultZ() == 1 and not image.isGreyscaleRenderingModel()


def test_one_channel_is_gray_and_spans_its_window(conn):
    image = conn.getObject("Image", make_image(conn, ramp()))
    assert image.isGreyscaleRenderingModel()
    picture = image.renderImage(0, 0, compression=1.0)
    assert pixel(picture, 0, 0)[0] < 6 and pixel(picture, 15, 7)[0] > 249
    image.setChannelInverted(0)
    assert pixel(image.renderImage(0, 0, compression=1.0), 15, 7)[0] < 6


def test_pixels_without_statistics_span_their_first_picture(conn):
    pixels_type = conn.getQueryService().findByString("PixelsType", "value", "uint16")
    image = conn.getPixelsService().createImage(16, 8, 1, 1, [0], pixels_type, "no statistics", "").val
    store = conn.c.sf.createRawPixelsStore()
    store.setPixelsId(conn.getObject("Image", image).getPixelsId(), False)
    store.setPlane(ramp()[0, 0].astype(">u2").tobytes(), 0, 0, 0)
    store.close()
    (channel,) = conn.getObject("Image", image).getChannels()
    assert (channel.getWindowStart(), channel.getWindowEnd()) == (0, 1270)


def test_projection_of_sections(conn):
    planes = np.zeros((1, 3, 8, 16), "uint8")
    planes[0, 2] = 200
    image = conn.getObject("Image", make_image(conn, planes))
    image.setActiveChannels([1], [[0, 255]])
    assert pixel(image.renderImage(0, 0), 3, 3)[0] < 6
    image.setProjection("intmax")
    assert abs(pixel(image.renderImage(0, 0), 3, 3)[0] - 200) < 6
    image.setProjection("intmean")
    assert pixel(image.renderImage(0, 0), 3, 3)[0] < 6  # a mean leaves the last section out


def test_saved_settings_are_loaded_and_reset(conn):
    oid = make_image(conn, ramp(2))
    image = conn.getObject("Image", oid)
    image.setActiveChannels([2], [[5, 50]], ["12AB34"])
    assert image.saveDefaults()
    again = conn.getObject("Image", oid)
    assert [c.isActive() for c in again.getChannels()] == [False, True]
    second = again.getChannels()[1]
    assert (second.getWindowStart(), second.getWindowEnd(), second.getColor().getHtml()) == (5, 50, "12AB34")
    assert len(again.getAllRenderingDefs()) == 1
    conn.getRenderingSettingsService().resetDefaultsInSet("Image", [oid])
    assert conn.getObject("Image", oid).getChannels()[1].getWindowStart() == 8 * 16 * 10
    assert len(conn.getObject("Image", oid).getAllRenderingDefs()) == 1
    conn.deleteObjects("Image", [oid], wait=True)
    assert conn.getObject("Image", oid) is None


def test_other_users_keep_their_own_settings_where_they_may(make_user):
    owner = make_user("rwra--")
    oid = make_image(owner, ramp(2))
    assert owner.getObject("Image", oid).saveDefaults()
    member = make_user(group=owner.getGroupFromContext().getId())
    seen = member.getObject("Image", oid)
    seen.setActiveChannels([1], [[1, 2]])
    assert seen.saveDefaults()
    assert {one["owner"]["id"] for one in seen.getAllRenderingDefs()} == {owner.getUserId(), member.getUserId()}
    assert owner.getObject("Image", oid).getChannels()[0].getWindowEnd() != 2
    assert member.getObject("Image", oid).getChannels()[0].getWindowEnd() == 2


def test_readers_keep_their_own_settings(make_user):
    """In a read-only group too; those of the image's owner stay as they are."""
    owner = make_user("rwr---")
    oid = make_image(owner, ramp(2))
    reader = make_user(group=owner.getGroupFromContext().getId())
    pixels = reader.getObject("Image", oid).getPixelsId()
    engines = []
    for conn, end in ((owner, 100.0), (reader, 200.0)):
        engine = conn.createRenderingEngine()
        engine.lookupPixels(pixels)
        engine.resetDefaultSettings(True)
        assert engine.lookupRenderingDef(pixels)
        engine.load()
        engine.setChannelWindow(0, 0.0, end)
        engine.saveCurrentSettings()
        engines.append(engine)
    for engine, end in zip(engines, (100.0, 200.0)):
        assert engine.lookupRenderingDef(pixels)
        assert engine.getChannelWindowEnd(0) == end
        engine.close()


def test_strangers_see_no_picture(make_user):
    oid = make_image(owner := make_user(), ramp())
    pixels = owner.getObject("Image", oid).getPixelsId()
    stranger = make_user()
    store, engine = stranger.createThumbnailStore(), stranger.createRenderingEngine()
    with pytest.raises(omero.ResourceError):
        store.setPixelsId(pixels)
    with pytest.raises(omero.ServerError):
        engine.lookupPixels(pixels)
    assert not any(store.getThumbnailByLongestSideSet(rint(32), [pixels]).values())


def test_calls_in_the_wrong_order_are_refused(conn):
    engine, thumbnails = conn.createRenderingEngine(), conn.createThumbnailStore()
    for call in (engine.load, engine.getDefaultZ, lambda: thumbnails.getThumbnail(None, None)):
        with pytest.raises(omero.ApiUsageException):
            call()
    pixels = conn.getObject("Image", make_image(conn, ramp())).getPixelsId()
    engine.lookupPixels(pixels)
    assert engine.lookupRenderingDef(pixels) is False
    with pytest.raises(omero.ApiUsageException):
        engine.getRenderingDefId()
    engine.resetDefaultSettings(True)
    with pytest.raises(omero.ApiUsageException):
        engine.setActive(7, True)
    with pytest.raises(omero.ValidationException):
        engine.loadRenderingDef(987654321)


def test_thumbnails_of_many(conn):
    ids = [conn.getObject("Image", make_image(conn, ramp(c))).getPixelsId() for c in (1, 2)]
    found = conn.createThumbnailStore().getThumbnailByLongestSideSet(rint(32), [*ids, 987654321])
    assert 987654321 not in found
    assert {Image.open(io.BytesIO(data)).size for data in found.values()} == {(32, 16)} and set(found) == set(ids)


def test_settings_are_copied_to_what_they_fit(conn):
    source, same, other = (make_image(conn, ramp(c)) for c in (2, 2, 1))
    image = conn.getObject("Image", source)
    image.setActiveChannels([1], [[7, 70]])
    image.saveDefaults()
    done = conn.getRenderingSettingsService().applySettingsToSet(image.getPixelsId(), "Image", [same, other])
    assert done == {True: [same], False: [other]}
    assert conn.getObject("Image", same).getChannels()[0].getWindowEnd() == 70


def test_histogram_of_a_plane(conn):
    image = conn.getObject("Image", make_image(conn, ramp(2)))
    histogram = image.getHistogram([0, 1], 16, globalRange=False)
    assert set(histogram) == {0, 1} and all(sum(counts) == 128 and len(counts) == 16 for counts in histogram.values())
    assert max(histogram[0]) - min(histogram[0]) <= 1  # a ramp


def test_regions_of_an_image_and_of_a_plane(conn):
    image = make_image(conn, ramp(1, 2))
    roi = omero.model.RoiI()
    roi.setImage(omero.model.ImageI(image, False))
    point = omero.model.PointI()
    point.x, point.y, point.theZ = omero.rtypes.rdouble(1), omero.rtypes.rdouble(2), rint(1)
    roi.addShape(point)
    conn.getUpdateService().saveObject(roi)
    service = conn.getRoiService()
    (found,) = service.findByImage(image, None).rois
    assert found.copyShapes()[0].getX().val == 1
    assert len(service.findByPlane(image, 1, 0, None).rois) == 1 and not service.findByPlane(image, 0, 0, None).rois


def test_what_changed_when(conn):
    first, second = make_image(conn, ramp(), "first"), make_image(conn, ramp(), "second")
    timeline, mine = conn.getTimelineService(), omero.sys.ParametersI().exp(rlong(conn.getUserId()))
    assert timeline.countByPeriod(["Image"], rtime(0), rtime(1 << 45), mine) == {"Image": 0}
    dated = conn.getQueryService().get("Image", first)
    dated.acquisitionDate = rtime(1500)
    conn.getUpdateService().saveObject(dated)
    assert timeline.countByPeriod(["Image"], rtime(1000), rtime(2000), mine) == {"Image": 1}
    assert timeline.countByPeriod(["Image"], rtime(0), rtime(1000), mine) == {"Image": 0}
    newest = timeline.getMostRecentObjects(["Image"], omero.sys.ParametersI().page(0, 1), False)["Image"]
    assert [image.id.val for image in newest] == [first] and first != second
