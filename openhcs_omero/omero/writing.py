"""Write the images of a well: all database rows in one save, then the pixels of each image."""

from __future__ import annotations

import contextlib
import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import Ice
import numpy as np
import omero
import omero.clients
from omero.gateway import BlitzGateway
from omero.model import (
    ChannelI,
    DimensionOrderI,
    ImageI,
    LengthI,
    LogicalChannelI,
    MapAnnotationI,
    NamedValue,
    PixelsI,
    PixelsTypeI,
    PlaneInfoI,
    StatsInfoI,
    TimeI,
)
from omero.model.enums import UnitsLength, UnitsTime
from omero.rtypes import rdouble, rint, rstring, rtime

from openhcs_omero.errors import OpenHCSError, PlateError
from openhcs_omero.omero import queries
from openhcs_omero.plates.image import AcquiredPlane, NewImage, Quantity, planes_of
from openhcs_omero.plates.pixeltypes import OMERO_NAMES
from openhcs_omero.plates.structure import PYRAMID_PLANE

WRITE_CALL = 2**20  # bytes per call; what is smaller is sent together. Calls of 9 MB take a fifth longer
MAX_CALL = 64 * 2**20  # upper limit, well below the 250 MB that client and server accept
WRITERS = 3  # images written at once, each through its own store: while one is confirmed, others are sent


@dataclass(frozen=True)
class WrittenImage:
    """An image in OMERO, and the SHA-1 of its bytes there."""

    image_id: int
    sha1: str


def write_well_images(
    conn: BlitzGateway, images: Sequence[NewImage], namespace: str, group_id: int
) -> list[WrittenImage]:
    """Write images that are in no well yet: all rows and annotations in one save, then the pixels of each image.

    Parameters
    ----------
    images
        The images.
    namespace
        Namespace of their map annotations.
    group_id
        Id of the group that they are written to.

    Returns
    -------
    list of WrittenImage
        In the order of `images`. The server has confirmed each SHA-1.

    Raises
    ------
    PlateError
        If OMERO can't store such pixels. Nothing is written then.
    OpenHCSError
        If the server stored other bytes than were sent, or if another process deleted the images in the meantime. After
        this or any other error, the images are deleted.
    """
    blocks = [planes_of(image) for image in images]
    graphs = [_graph(image, planes, namespace) for image, planes in zip(images, blocks)]
    with queries.writing("images"):
        ids = list(queries.update(conn).saveAndReturnIds(graphs, queries.context(conn, group_id)))
    try:
        pixels = dict(queries.rows(conn, "select p.image.id, p.id from Pixels p where p.image.id in (:ids)", ids=ids))
        digests = _write_blocks(conn, group_id, [pixels[image] for image in ids], blocks)
        return [WrittenImage(image, sha1) for image, sha1 in zip(ids, digests)]
    except BaseException as error:
        swept = isinstance(error, Exception) and missing(conn, ids)
        discard(conn, ids, group_id)
        if swept:
            raise PlateError(
                "the images were deleted by another process while they were written: let only one run "
                "work on a plate and output at a time, then start it again"
            ) from None
        raise


def missing(conn: BlitzGateway, image_ids: list[int]) -> bool:
    """Whether at least one of the images is known to be gone."""
    try:
        there = queries.rows(conn, "select i.id from Image i where i.id in (:ids)", ids=image_ids)
    except (Ice.Exception, omero.ClientError):
        return False
    return len(there) < len(image_ids)


def discard(conn: BlitzGateway, image_ids: list[int], group_id: int) -> None:
    """Try to delete images that are in no well. Later runs find any that remain by their mark."""
    with contextlib.suppress(Exception):
        queries.delete(conn, group_id, Image=image_ids)


def map_annotation(namespace: str, pairs: Sequence[tuple[str, str]]) -> MapAnnotationI:
    """Create an unsaved map annotation."""
    annotation = MapAnnotationI()
    annotation.ns = rstring(namespace)
    annotation.mapValue = [NamedValue(key, value) for key, value in pairs]
    return annotation


def _graph(image: NewImage, planes: np.ndarray, namespace: str) -> ImageI:
    """The unsaved image with its pixels, channels and annotation; `planes` are as `planes_of` returns them."""
    (t, c, z), (y, x) = planes.shape, planes.flat[0].shape
    pixels = PixelsI()
    pixels.sizeX, pixels.sizeY, pixels.sizeZ, pixels.sizeC, pixels.sizeT = map(rint, (x, y, z, c, t))
    pixels.sha1 = rstring("Pending...")
    pixels.pixelsType = PixelsTypeI()
    pixels.pixelsType.value = rstring(OMERO_NAMES[planes.flat[0].dtype.name])
    pixels.dimensionOrder = DimensionOrderI()
    pixels.dimensionOrder.value = rstring("XYZCT")
    for axis, size in zip("ZYX", image.pixel_size):
        if size is not None:
            setattr(pixels, f"physicalSize{axis}", LengthI(float(size), UnitsLength.MICROMETER))
    for channel in _channels(image, planes):
        pixels.addChannel(channel)
    pixels.timeIncrement = _time(image.acquired.interval)
    for plane in image.acquired.planes:
        pixels.addPlaneInfo(_plane_info(plane))
    made = ImageI()
    if image.acquired.date is not None:
        made.acquisitionDate = rtime(image.acquired.date)
    made.name, made.series = rstring(image.name), rint(0)
    made.addPixels(pixels)
    made.linkAnnotation(map_annotation(namespace, image.annotations))
    return made


def _plane_info(plane: AcquiredPlane) -> PlaneInfoI:
    info = PlaneInfoI()
    info.theT, info.theC, info.theZ = map(rint, (plane.t, plane.c, plane.z))
    info.deltaT, info.exposureTime = _time(plane.delta_t), _time(plane.exposure)
    info.positionZ, info.positionY, info.positionX = map(length, plane.position)
    return info


def _time(quantity: Quantity | None) -> TimeI | None:
    return None if quantity is None else TimeI(quantity[0], getattr(UnitsTime, quantity[1]))


def length(quantity: Quantity | None) -> LengthI | None:
    """An unsaved length in OMERO; None stays None."""
    return None if quantity is None else LengthI(quantity[0], getattr(UnitsLength, quantity[1]))


def _channels(image: NewImage, planes: np.ndarray) -> Iterator[ChannelI]:
    count = planes.shape[1]
    for what, given in (("channel names", image.channel_names), ("colors", image.colors)):
        if len(given) not in (0, count):
            raise PlateError(f"image {image.name!r} has {count} channels and {len(given)} {what}")
    for c in range(count):
        channel = ChannelI()
        channel.logicalChannel = LogicalChannelI()
        name = image.channel_names[c] if image.channel_names else None
        channel.logicalChannel.name = None if name is None else rstring(name)
        color = image.colors[c] if image.colors else None
        if color is not None:
            channel.red, channel.green, channel.blue, channel.alpha = (rint(int(v)) for v in (*color, 255))
        low, high = (
            float(np.min([plane.min() for plane in planes[:, c].flat])),
            float(np.max([plane.max() for plane in planes[:, c].flat])),
        )
        if np.isfinite([low, high]).all():
            channel.statsInfo = StatsInfoI()
            channel.statsInfo.globalMin, channel.statsInfo.globalMax = rdouble(low), rdouble(high)
        yield channel


def _write_blocks(conn: BlitzGateway, group_id: int, pixels_ids: list[int], blocks: list[np.ndarray]) -> list[str]:
    """Write the planes of several images; returns their SHA-1s. While the server checks one image, others are sent."""
    options = queries.context(conn, group_id)
    digests, numbers = [""] * len(blocks), iter(range(len(blocks)))

    def write() -> None:
        store = conn.c.sf.createRawPixelsStore()
        try:
            for number in numbers:  # whichever thread is free takes the next one
                digests[number] = _write_pixels(store, options, pixels_ids[number], blocks[number])
        finally:
            deque(numbers, 0)  # after an error, no thread starts another
            with contextlib.suppress(Exception):
                store.close(options)

    if len(blocks) == 1:
        write()
        return digests
    with ThreadPoolExecutor(WRITERS) as pool:
        try:
            for writing in [pool.submit(write) for _ in range(min(WRITERS, len(blocks)))]:
                writing.result()
        finally:
            deque(numbers, 0)  # nor after an interrupt
    return digests


def _write_pixels(store: Any, options: dict[str, str], pixels_id: int, planes: np.ndarray) -> str:
    """Write (T, C, Z) planes in calls of about `WRITE_CALL` bytes, or by tiles; returns the confirmed SHA-1."""
    digest, size = hashlib.sha1(), planes.flat[0].nbytes

    def sent(part: np.ndarray) -> np.ndarray:
        data = np.stack(list(part.flat), dtype=planes.flat[0].dtype.newbyteorder(">"))
        digest.update(data.data)
        return data

    store.setPixelsId(pixels_id, False, options)
    if planes.flat[0].size > PYRAMID_PLANE:
        for t, c, z in np.ndindex(planes.shape):
            _write_tiles(store, options, sent(planes[t, c, z : z + 1])[0], (z, c, t))
        return _confirmed(store, options, pixels_id, digest.hexdigest())
    for t, timepoint in enumerate(planes):
        if timepoint[0].size * size < WRITE_CALL and timepoint.size * size <= MAX_CALL:
            store.setTimepoint(sent(timepoint), t, options)
            continue
        for c, stack in enumerate(timepoint):
            if size < WRITE_CALL and stack.size * size <= MAX_CALL:
                store.setStack(sent(stack), 0, c, t, options)
                continue
            for z in range(stack.size):
                store.setPlane(sent(stack[z : z + 1]), z, c, t, options)
    return _confirmed(store, options, pixels_id, digest.hexdigest())


def _write_tiles(store: Any, options: dict[str, str], plane: np.ndarray, place: tuple[int, int, int]) -> None:
    """Write a plane (Y, X) of a pyramid; `place` is its (z, c, t). The server takes tiles in their order only."""
    width, height = store.getTileSize(options)
    for y in range(0, plane.shape[0], height):
        for x in range(0, plane.shape[1], width):
            tile = np.ascontiguousarray(plane[y : y + height, x : x + width])
            store.setTile(tile, *place, x, y, tile.shape[1], tile.shape[0], options)


def _confirmed(store: Any, options: dict[str, str], pixels_id: int, digest: str) -> str:
    """Save the pixels; returns their SHA-1, after a check that the server computed the same."""
    stored = store.save(options)
    if stored is None or stored.sha1.val != digest:
        raise OpenHCSError(
            f"the server did not store the pixels {pixels_id} as they were sent: try again, and "
            "check the server's log if it happens again"
        )
    return digest
