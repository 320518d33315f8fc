"""Reading the pixels of sites and planes, and writing new images.

On the wire and in the server's files pixels are big-endian and lie in the order XYZCT; here arrays are (T, C, Z, Y, X)
in the machine's own byte order.
"""

import contextlib
import hashlib
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
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
    StatsInfoI,
)
from omero.model.enums import UnitsLength
from omero.rtypes import rdouble, rint, rstring

from openhcs_omero.errors import OpenHCSError, PlateError
from openhcs_omero.omero import services
from openhcs_omero.omero.near import open_near
from openhcs_omero.omero.pixeltypes import OMERO_NAMES
from openhcs_omero.omero.plate import PYRAMID_PLANE, ImageStructure

READ_CALL = 4 * 2**20  # bytes read in one call, where a plane has no more: what stays in the processor's cache
READERS = 3  # sites that are read at once, each by a store of its own: with two the line is idle where calls take long
WRITE_CALL = 2**20  # bytes written in one call; what has fewer goes with others: calls of 9 MB take a fifth longer
MAX_CALL = 64 * 2**20  # but no more than these, well below the 250 MB that client and server take
WRITERS = 3  # images that are written at once, each by a store of its own: while one is confirmed, others are sent


# ---- reading

class _OpenStore(threading.local):
    """A thread's open raw pixels store: reading an image plane by plane opens it once."""

    client: Any = None
    pixels_id: int | None = None
    store: Any = None
    process: int | None = None
    planes_of: tuple[Any, int] | None = None  # client and pixels that the last plane was of
    near: np.ndarray | None = None  # these pixels from the server's data folder, in memory
    asked_near: bool = False


_open = _OpenStore()


def read_site(conn: BlitzGateway, image: ImageStructure) -> np.ndarray:
    """All pixels of a site, (T, C, Z, Y, X) of the image's type.

    Whole timepoints come in one call where they are small, else stacks, else planes. Where the server's data
    folder is at hand and pixels in it have the server's SHA-1, they come from there.

    Raises
    ------
    PlateError
        If the image's type or size can't be read.
    """
    stored = _stored_type(image)
    near = open_near(conn, image)
    if near is not None:
        return near.astype(stored.newbyteorder("="), copy=not near.flags.writeable)
    block = np.empty(image.shape, stored.newbyteorder("="))
    store, options = _store_of(conn, image), services.context(conn, services.ALL_GROUPS)
    plane = image.size_y * image.size_x * stored.itemsize
    for t in range(image.size_t):
        if plane * image.size_z * image.size_c <= READ_CALL:
            _put(block[t], store.getTimepoint(t, options), stored)
            continue
        for c in range(image.size_c):
            if plane * image.size_z <= READ_CALL:
                _put(block[t, c], store.getStack(c, t, options), stored)
            else:
                for z in range(image.size_z):
                    _put(block[t, c, z], store.getPlane(z, c, t, options), stored)
    return block


def read_sites(
    conn: BlitzGateway, images: Sequence[ImageStructure]
) -> Iterator[tuple[ImageStructure, np.ndarray]]:
    """Each image with all of its pixels, as `read_site`; the next three are read while the caller works on these."""
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(ThreadPoolExecutor(1)) for _ in range(READERS)]
        for reader in readers:
            stack.callback(reader.submit, close_store)
        waiting = deque(reader.submit(read_site, conn, image) for reader, image in zip(readers, images))
        for number, image in enumerate(images):
            pixels = waiting.popleft().result()
            if number + READERS < len(images):
                waiting.append(readers[number % READERS].submit(read_site, conn, images[number + READERS]))
            yield image, pixels


def read_plane(conn: BlitzGateway, image: ImageStructure, z: int, c: int, t: int) -> np.ndarray:
    """One plane of a site, (Y, X) of the image's type.

    Raises
    ------
    PlateError
        If the image has no such plane, or its type or size can't be read.
    """
    if not (0 <= z < image.size_z and 0 <= c < image.size_c and 0 <= t < image.size_t):
        raise PlateError(f"image {image.image_id} has no plane z {z}, channel {c}, t {t}: it has {image.size_z} z, "
                         f"{image.size_c} channels, {image.size_t} timepoints, all counted from 0")
    stored = _stored_type(image)
    near = _near(conn, image)
    if near is not None:
        return np.array(near[t, c, z], stored.newbyteorder("="))
    plane = np.empty(image.shape[3:], stored.newbyteorder("="))
    options = services.context(conn, services.ALL_GROUPS)
    _put(plane, _store_of(conn, image).getPlane(z, c, t, options), stored)
    return plane


def _near(conn: BlitzGateway, image: ImageStructure) -> np.ndarray | None:
    """The image's pixels in the data folder, from its second plane on.

    All of them are read to check them, and so one plane alone costs less over the network. They are kept in memory, not
    as the file, which may change before the next plane is asked for.
    """
    planes_of = (conn.c, image.pixels_id)
    if _open.planes_of != planes_of:
        _open.planes_of, _open.near, _open.asked_near = planes_of, None, False
        if image.shape[:3] != (1, 1, 1):
            return None
    if not _open.asked_near:
        _open.near, _open.asked_near = open_near(conn, image, keep=True), True
    return _open.near


def _put(block: np.ndarray, data: bytes, stored: np.dtype) -> None:
    block[...] = np.frombuffer(data, stored).reshape(block.shape)


def _stored_type(image: ImageStructure) -> np.dtype:
    """The big-endian dtype of the image's bytes."""
    if image.pixel_type not in OMERO_NAMES:
        raise PlateError(f"image {image.image_id} has pixels of type {image.pixel_type!r}, which can't be processed; "
                         f"known are {', '.join(OMERO_NAMES)}")
    if image.size_x * image.size_y > PYRAMID_PLANE:
        raise PlateError(f"image {image.image_id} has planes of {image.size_x} x {image.size_y} pixels; over "
                         "3192 x 3192 OMERO keeps pyramids, which can't be processed")
    return np.dtype(image.pixel_type).newbyteorder(">")


def _store_of(conn: BlitzGateway, image: ImageStructure) -> Any:
    """This thread's raw pixels store, on the image."""
    if _open.client is not conn.c:
        store = conn.c.sf.createRawPixelsStore()
        _open.client, _open.store, _open.pixels_id, _open.process = conn.c, store, None, os.getpid()
    if _open.pixels_id != image.pixels_id:
        try:
            _open.store.setPixelsId(image.pixels_id, False, services.context(conn, services.ALL_GROUPS))
        except BaseException:
            close_store()
            raise
        _open.pixels_id = image.pixels_id
    return _open.store


def close_store() -> None:
    """Close the store that this thread reads by, which the server else keeps until the session ends."""
    store, mine = _open.store, _open.process == os.getpid()
    _open.client = _open.pixels_id = _open.store = _open.planes_of = _open.near = None
    if store is not None and mine:  # a forked process can't speak over its parent's connection
        with contextlib.suppress(Exception):  # its connection may be closed
            store.close()


# ---- what belongs to the pixels

@dataclass(frozen=True)
class ImageMetadata:
    """What a site's image says of its pixels.

    Parameters
    ----------
    channel_names
        One per channel; None where a channel has no name.
    colors
        (red, green, blue), 0 to 255, one per channel; None where it has none.
    pixel_size
        (z, y, x) in micrometres; None where it is not known or has another kind of unit.
    """

    channel_names: tuple[str | None, ...] = ()
    colors: tuple[tuple[int, int, int] | None, ...] = ()
    pixel_size: tuple[float | None, float | None, float | None] = (None, None, None)


def read_metadata(conn: BlitzGateway, images: Sequence[ImageStructure]) -> dict[int, ImageMetadata]:
    """Channel names, colours and pixel sizes of images, by image id; two calls per 10,000 images."""
    found: dict[int, ImageMetadata] = {}
    for ids in services.pages([image.pixels_id for image in images]):
        sizes = services.rows(conn, """
            select px.id, px.physicalSizeZ.value, px.physicalSizeZ.unit, px.physicalSizeY.value, px.physicalSizeY.unit,
                   px.physicalSizeX.value, px.physicalSizeX.unit
            from Pixels px where px.id in (:ids)""", ids=ids)
        channels: dict[int, list[list[Any]]] = {}
        for pixels_id, *channel in services.rows(conn, """
                select px.id, lc.name, c.red, c.green, c.blue
                from Pixels px join px.channels c left outer join c.logicalChannel lc
                where px.id in (:ids) order by px.id, index(c)""", ids=ids):
            channels.setdefault(pixels_id, []).append(channel)
        found.update((pixels_id, _metadata(size, channels.get(pixels_id, []))) for pixels_id, *size in sizes)
    return {image.image_id: found[image.pixels_id] for image in images if image.pixels_id in found}


def _metadata(size: list[Any], channels: list[list[Any]]) -> ImageMetadata:
    return ImageMetadata(
        channel_names=tuple(name for name, *_ in channels),
        colors=tuple(None if None in color else (color[0], color[1], color[2]) for _, *color in channels),
        pixel_size=(_micrometres(*size[:2]), _micrometres(*size[2:4]), _micrometres(*size[4:])),
    )


def _micrometres(value: float | None, unit: str | None) -> float | None:
    if value is None or unit is None:
        return None
    try:
        return LengthI(LengthI(value, getattr(UnitsLength, unit)), "MICROMETER").getValue()
    except Exception:  # a pixel or a reference frame is no length; omero-py raises a bare Exception
        return None


# ---- writing

@dataclass(frozen=True)
class NewImage:
    """An image to be written.

    Parameters
    ----------
    name
        The image's name.
    pixels
        (T, C, Z, Y, X), integers of up to 32 bits, floats or bool; larger integers where their values fit 32 bits.
        Or (T, C, Z) objects, each a plane (Y, X) of one size and type: planes from many places need no copy then.
    channel_names, colors
        One per channel, as in `ImageMetadata`; all or none.
    pixel_size
        (z, y, x) in micrometres, None where unknown.
    annotations
        Pairs of its map annotation, which is saved with it.
    """

    name: str
    pixels: np.ndarray
    channel_names: Sequence[str | None] = ()
    colors: Sequence[tuple[int, int, int] | None] = ()
    pixel_size: tuple[float | None, float | None, float | None] = (None, None, None)
    annotations: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class WrittenImage:
    """An image in OMERO and the SHA-1 of its bytes there."""

    image_id: int
    sha1: str


def write_well_images(
    conn: BlitzGateway, images: Sequence[NewImage], namespace: str, group_id: int
) -> list[WrittenImage]:
    """Write images that no well shows yet: their rows and annotations in one save, then the pixels of each.

    Parameters
    ----------
    namespace
        Of their map annotations.
    group_id
        The group that they belong to.

    Returns
    -------
    list of WrittenImage
        In the order of `images`; the server confirmed each SHA-1.

    Raises
    ------
    PlateError
        If pixels are not such that OMERO keeps them; nothing is written then.
    OpenHCSError
        If the server stored something else than it was sent, or another process deleted the images meanwhile. On
        these and any other error the images are deleted.
    """
    blocks = [_planes(image) for image in images]
    graphs = [_graph(image, planes, namespace) for image, planes in zip(images, blocks)]
    with services.writing("images"):
        ids = list(services.update(conn).saveAndReturnIds(graphs, services.context(conn, group_id)))
    try:
        pixels = dict(services.rows(conn, "select p.image.id, p.id from Pixels p where p.image.id in (:ids)", ids=ids))
        digests = _write_blocks(conn, group_id, [pixels[image] for image in ids], blocks)
        return [WrittenImage(image, sha1) for image, sha1 in zip(ids, digests)]
    except BaseException as error:
        swept = isinstance(error, Exception) and missing(conn, ids)
        discard(conn, ids, group_id)
        if swept:
            raise PlateError("the images were deleted by another process while they were written: let only one run "
                             "work on a plate and output at a time, then start it again") from None
        raise


def missing(conn: BlitzGateway, image_ids: list[int]) -> bool:
    """Whether one of the images is known to be no longer there."""
    try:
        there = services.rows(conn, "select i.id from Image i where i.id in (:ids)", ids=image_ids)
    except (Ice.Exception, omero.ClientError):
        return False
    return len(there) < len(image_ids)


def discard(conn: BlitzGateway, image_ids: list[int], group_id: int) -> None:
    """Delete images that no well shows, as well as it goes; their mark has later runs find those that stay."""
    with contextlib.suppress(Exception):
        services.delete(conn, group_id, Image=image_ids)


def storable(pixels: np.ndarray, name: str) -> np.ndarray:
    """The same values in a type that OMERO keeps, in this machine's byte order; not a copy where they are that already.

    Raises
    ------
    PlateError
        If `pixels` is not (T, C, Z, Y, X), is empty, too large, or has values that no such type holds.
    """
    pixels = np.asarray(pixels)
    if pixels.ndim != 5 or 0 in pixels.shape:
        raise PlateError(f"image {name!r} must have five axes (T, C, Z, Y, X), none of them empty; "
                         f"its shape is {pixels.shape}")
    if pixels.shape[3] * pixels.shape[4] > PYRAMID_PLANE:
        raise PlateError(f"image {name!r} has planes of {pixels.shape[4]} x {pixels.shape[3]} pixels; "
                         "more than 3192 x 3192 can't be written")
    dtype = pixels.dtype
    if dtype.kind == "b":
        dtype = np.dtype("uint8")
    elif dtype == np.float16:
        dtype = np.dtype("float32")
    elif dtype.kind in "iu" and dtype.itemsize == 8:
        low, high = int(pixels.min()), int(pixels.max())
        dtype = np.dtype("uint32" if low >= 0 else "int32")
        if low < np.iinfo(dtype).min or high > np.iinfo(dtype).max:
            raise PlateError(f"image {name!r} has values from {low} to {high}; OMERO keeps integers of up to 32 bits")
    if dtype.name not in OMERO_NAMES:
        raise PlateError(f"image {name!r} has pixels of type {dtype.name}; OMERO keeps {', '.join(OMERO_NAMES)}")
    return pixels.astype(dtype.newbyteorder("="), copy=False)


def objects(planes: Iterable[np.ndarray], sizes: tuple[int, ...]) -> np.ndarray:
    """The planes, in this order, as (T, C, Z) objects."""
    made = np.empty(sizes, object)
    for index, plane in zip(np.ndindex(sizes), planes):
        made[index] = plane
    return made


def _planes(image: NewImage) -> np.ndarray:
    """The image's planes as (T, C, Z) objects, each of a type that OMERO keeps; else `storable`'s errors."""
    pixels = image.pixels
    if pixels.dtype == object and pixels.size:
        first = pixels.flat[0]
        if first.dtype.name in OMERO_NAMES:
            storable(np.broadcast_to(first, pixels.shape + first.shape), image.name)
            return pixels
        pixels = np.stack(list(pixels.flat)).reshape(pixels.shape + first.shape)
    block = storable(pixels, image.name)
    return objects((block[index] for index in np.ndindex(block.shape[:3])), block.shape[:3])


def map_annotation(namespace: str, pairs: Sequence[tuple[str, str]]) -> MapAnnotationI:
    """A map annotation, not saved."""
    annotation = MapAnnotationI()
    annotation.ns = rstring(namespace)
    annotation.mapValue = [NamedValue(key, value) for key, value in pairs]
    return annotation


def _graph(image: NewImage, planes: np.ndarray, namespace: str) -> ImageI:
    """The image with its pixels, channels and annotation, not saved; `planes` as `_planes` gives them."""
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
    made = ImageI()
    made.name, made.series = rstring(image.name), rint(0)
    made.addPixels(pixels)
    made.linkAnnotation(map_annotation(namespace, image.annotations))
    return made


def _channels(image: NewImage, planes: np.ndarray) -> Iterator[ChannelI]:
    count = planes.shape[1]
    for what, given in (("channel names", image.channel_names), ("colours", image.colors)):
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
        low, high = (float(np.min([plane.min() for plane in planes[:, c].flat])),
                     float(np.max([plane.max() for plane in planes[:, c].flat])))
        if np.isfinite([low, high]).all():
            channel.statsInfo = StatsInfoI()
            channel.statsInfo.globalMin, channel.statsInfo.globalMax = rdouble(low), rdouble(high)
        yield channel


def _write_blocks(conn: BlitzGateway, group_id: int, pixels_ids: list[int], blocks: list[np.ndarray]) -> list[str]:
    """Write the planes of several images; their SHA-1s. While the server checks one image, another is on its way."""
    options = services.context(conn, group_id)
    digests, numbers = [""] * len(blocks), iter(range(len(blocks)))

    def write() -> None:
        store = conn.c.sf.createRawPixelsStore()
        try:
            for number in numbers:  # the next one goes to whoever is free
                digests[number] = _write_pixels(store, options, pixels_ids[number], blocks[number])
        finally:
            deque(numbers, 0)  # after an error nobody begins another
            with contextlib.suppress(Exception):
                store.close(options)

    with ThreadPoolExecutor(WRITERS) as pool:
        try:
            for writing in [pool.submit(write) for _ in range(min(WRITERS, len(blocks)))]:
                writing.result()
        finally:
            deque(numbers, 0)  # nor after an interrupt
    return digests


def _write_pixels(store: Any, options: dict[str, str], pixels_id: int, planes: np.ndarray) -> str:
    """Write (T, C, Z) planes, in calls of about `WRITE_CALL`; the SHA-1 that the server confirmed."""
    digest, size = hashlib.sha1(), planes.flat[0].nbytes

    def sent(part: np.ndarray) -> np.ndarray:
        data = np.stack(list(part.flat), dtype=planes.flat[0].dtype.newbyteorder(">"))
        digest.update(data.data)
        return data

    store.setPixelsId(pixels_id, False, options)
    for t, timepoint in enumerate(planes):
        if timepoint[0].size * size < WRITE_CALL and timepoint.size * size <= MAX_CALL:
            store.setTimepoint(sent(timepoint), t, options)
            continue
        for c, stack in enumerate(timepoint):
            if size < WRITE_CALL and stack.size * size <= MAX_CALL:
                store.setStack(sent(stack), 0, c, t, options)
                continue
            for z in range(stack.size):
                store.setPlane(sent(stack[z:z + 1]), z, c, t, options)
    stored = store.save(options)
    if stored is None or stored.sha1.val != digest.hexdigest():
        raise OpenHCSError(f"the server did not store the pixels {pixels_id} as they were sent: try again, and "
                           "look into the server's log if it happens again")
    return digest.hexdigest()
