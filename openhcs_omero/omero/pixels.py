"""Read the pixels of sites and planes, and what OMERO knows about them.

On the wire and in the server's files, pixels are big-endian in OMERO's order XYZCT. The arrays here are
(T, C, Z, Y, X) in the machine's byte order.
"""

import contextlib
import math
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from omero.gateway import BlitzGateway
from omero.model import LengthI, TimeI
from omero.model.enums import UnitsLength, UnitsTime

from openhcs_omero.errors import PlateError
from openhcs_omero.omero import queries
from openhcs_omero.omero.near import open_near
from openhcs_omero.plates.image import Acquired, AcquiredPlane, ImageMetadata, Quantity
from openhcs_omero.plates.pixeltypes import READABLE
from openhcs_omero.plates.structure import ImageStructure, is_pyramid

READ_CALL = 4 * 2**20  # bytes per call, unless a plane is larger: this much stays in the processor's cache
TILE = 256  # pixels; the width and height of a tile of a pyramid
AHEAD = 1000  # planes whose metadata are read before they are asked for
READERS = 3  # sites read at once, each through its own store: with two, the line is idle when calls take long


# ---- reading


class _OpenStore(threading.local):
    """A thread's open raw pixels store: reading an image plane by plane opens it once."""

    client: Any = None
    pixels_id: int | None = None
    store: Any = None
    process: int | None = None
    planes_of: tuple[Any, int] | None = None  # client and pixels id of the plane read last
    near: np.ndarray | None = None  # these pixels, copied from the server's data folder into memory
    asked_near: bool = False


_open = _OpenStore()


def read_site(conn: BlitzGateway, image: ImageStructure) -> np.ndarray:
    """Read all pixels of a site.

    Each call reads a whole timepoint if it is small, otherwise a stack, otherwise a plane; planes that OMERO stores as
    pyramids are read in stripes of tiles. If this machine sees the server's data folder and the pixels in it have the
    server's SHA-1, they are read from there.

    Returns
    -------
    numpy.ndarray
        Array (T, C, Z, Y, X) of the image's pixel type; of uint8, 0 or 1, if that is bool.

    Raises
    ------
    PlateError
        If the image's type can't be read.
    """
    stored = _stored_type(image)
    near = open_near(conn, image)
    if near is not None:
        return _as_read(near.astype(stored.newbyteorder("="), copy=not near.flags.writeable), image)
    block = np.empty(image.shape, stored.newbyteorder("="))
    if is_pyramid(image):
        for place in np.ndindex(image.shape[:3]):
            _read_tiles(conn, image, place, block[place], stored)
        return _as_read(block, image)
    store, options = _store_of(conn, image), queries.context(conn, queries.ALL_GROUPS)
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
    return _as_read(block, image)


def read_sites(conn: BlitzGateway, images: Sequence[ImageStructure]) -> Iterator[tuple[ImageStructure, np.ndarray]]:
    """Iterate over images and their pixels, as `read_site` returns them.

    The next three images are read while the caller works on the current one.
    """
    if len(images) == 1:  # starting a thread takes longer than many a read
        try:
            yield images[0], read_site(conn, images[0])
        finally:
            close_store()
        return
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(ThreadPoolExecutor(1)) for _ in range(min(READERS, len(images)))]
        for reader in readers:
            stack.callback(reader.submit, close_store)
        waiting = deque(reader.submit(read_site, conn, image) for reader, image in zip(readers, images))
        for number, image in enumerate(images):
            pixels = waiting.popleft().result()
            if number + READERS < len(images):
                waiting.append(readers[number % READERS].submit(read_site, conn, images[number + READERS]))
            yield image, pixels


def read_plane(conn: BlitzGateway, image: ImageStructure, z: int, c: int, t: int) -> np.ndarray:
    """Read one plane of a site.

    Parameters
    ----------
    image
        The site's image.
    z, c, t
        The plane, counted from 0.

    Returns
    -------
    numpy.ndarray
        Array (Y, X) of the image's pixel type; of uint8, 0 or 1, if that is bool.

    Raises
    ------
    PlateError
        If the image has no such plane, or its type can't be read.
    """
    if not (0 <= z < image.size_z and 0 <= c < image.size_c and 0 <= t < image.size_t):
        raise PlateError(
            f"image {image.image_id} has no plane z {z}, channel {c}, t {t}: it has {image.size_z} z, "
            f"{image.size_c} channels, {image.size_t} timepoints, all counted from 0"
        )
    stored = _stored_type(image)
    near = _near(conn, image)
    if near is not None:
        return _as_read(np.array(near[t, c, z], stored.newbyteorder("=")), image)
    plane = np.empty(image.shape[3:], stored.newbyteorder("="))
    if is_pyramid(image):
        _read_tiles(conn, image, (t, c, z), plane, stored)
    else:
        options = queries.context(conn, queries.ALL_GROUPS)
        _put(plane, _store_of(conn, image).getPlane(z, c, t, options), stored)
    return _as_read(plane, image)


def _near(conn: BlitzGateway, image: ImageStructure) -> np.ndarray | None:
    """The image's pixels from the data folder, from the second plane read on.

    Checking the SHA-1 takes reading all pixels, so a single plane is cheaper over the network. The pixels are copied
    into memory, since the file may change before the next plane is read.
    """
    planes_of = (conn.c, image.pixels_id)
    if _open.planes_of != planes_of:
        _open.planes_of, _open.near, _open.asked_near = planes_of, None, False
        if image.shape[:3] != (1, 1, 1):
            return None
    if not _open.asked_near:
        _open.near, _open.asked_near = open_near(conn, image, keep=True), True
    return _open.near


def _read_tiles(
    conn: BlitzGateway, image: ImageStructure, place: tuple[int, int, int], plane: np.ndarray, stored: np.dtype
) -> None:
    """Read a plane (t, c, z) of a pyramid into an array (Y, X), in stripes of whole tiles."""
    (t, c, z), store = place, _store_of(conn, image)
    options = queries.context(conn, queries.ALL_GROUPS)
    height = max(TILE, READ_CALL // (image.size_x * stored.itemsize) // TILE * TILE)
    for y in range(0, image.size_y, height):
        stripe = plane[y : y + height]
        _put(stripe, store.getTile(z, c, t, 0, y, image.size_x, len(stripe), options), stored)


def _as_read(pixels: np.ndarray, image: ImageStructure) -> np.ndarray:
    return (pixels != 0).view(np.uint8) if image.pixel_type == "bool" else pixels


def _put(block: np.ndarray, data: bytes, stored: np.dtype) -> None:
    block[...] = np.frombuffer(data, stored).reshape(block.shape)


def _stored_type(image: ImageStructure) -> np.dtype:
    """The big-endian dtype of the image's bytes."""
    if image.pixel_type not in READABLE:
        raise PlateError(
            f"image {image.image_id} has pixels of type {image.pixel_type!r}, which can't be processed; "
            f"known are {', '.join(READABLE)}"
        )
    return np.dtype("uint8" if image.pixel_type == "bool" else image.pixel_type).newbyteorder(">")


def _store_of(conn: BlitzGateway, image: ImageStructure) -> Any:
    """This thread's raw pixels store, set to the image."""
    if _open.client is not conn.c:
        store = conn.c.sf.createRawPixelsStore()
        _open.client, _open.store, _open.pixels_id, _open.process = conn.c, store, None, os.getpid()
    if _open.pixels_id != image.pixels_id:
        try:
            _open.store.setPixelsId(image.pixels_id, False, queries.context(conn, queries.ALL_GROUPS))
        except BaseException:
            close_store()
            raise
        _open.pixels_id = image.pixels_id
    return _open.store


def close_store() -> None:
    """Close this thread's raw pixels store, which the server would otherwise keep until the session ends."""
    store, mine = _open.store, _open.process == os.getpid()
    _open.client = _open.pixels_id = _open.store = _open.planes_of = _open.near = None
    if store is not None and mine:  # a forked process can't use its parent's connection
        with contextlib.suppress(Exception):  # the connection may be closed already
            store.close()


# ---- metadata

_kept: WeakKeyDictionary[Any, dict[int, ImageMetadata]] = WeakKeyDictionary()  # what was read ahead, by client


def read_metadata(
    conn: BlitzGateway, images: Sequence[ImageStructure], all_planes: bool = False
) -> dict[int, ImageMetadata]:
    """Read what OMERO knows about images besides their pixels, in two or three calls per 10,000 images.

    Positions in the well are not included; `read_positions` reads them.

    Parameters
    ----------
    images
        The images.
    all_planes
        Whether to read when and where every plane was taken; by default, only the times of several timepoints.

    Returns
    -------
    dict
        The metadata by image id.
    """
    found: dict[int, ImageMetadata] = {}
    series = {image.pixels_id for image in images if image.size_t > 1}
    for ids in queries.pages([image.pixels_id for image in images]):
        sizes = queries.rows(
            conn,
            """
            select px.id, px.physicalSizeZ.value, px.physicalSizeZ.unit, px.physicalSizeY.value, px.physicalSizeY.unit,
                   px.physicalSizeX.value, px.physicalSizeX.unit, px.timeIncrement.value, px.timeIncrement.unit,
                   i.acquisitionDate
            from Pixels px join px.image i where px.id in (:ids)""",
            ids=ids,
        )
        channels: dict[int, list[list[Any]]] = {}
        for pixels_id, *channel in queries.rows(
            conn,
            """
                select px.id, lc.name, c.red, c.green, c.blue
                from Pixels px join px.channels c left outer join c.logicalChannel lc
                where px.id in (:ids) order by px.id, index(c)""",
            ids=ids,
        ):
            channels.setdefault(pixels_id, []).append(channel)
        taken = _read_planes(conn, ids if all_planes else [number for number in ids if number in series], all_planes)
        for pixels_id, *size, value, unit, date in sizes:
            recorded = Acquired(date, _quantity(value, unit), planes=tuple(taken.get(pixels_id, ())))
            found[pixels_id] = replace(
                _metadata(size, channels.get(pixels_id, [])),
                recorded=recorded,
            )
    return {
        image.image_id: replace(found[image.pixels_id], times=_times(found[image.pixels_id].recorded, image.size_t))
        for image in images
        if image.pixels_id in found
    }


def read_dates(conn: BlitzGateway, images: Sequence[int]) -> dict[int, float]:
    """Read when images with these ids were acquired, in seconds since 1970, by image id where it is known."""
    return {
        image: date / 1000
        for ids in queries.pages(images)
        for image, date in queries.rows(
            conn,
            "select i.id, i.acquisitionDate from Image i where i.id in (:ids) and i.acquisitionDate is not null",
            ids=ids,
        )
    }


def read_recorded(
    conn: BlitzGateway, images: Sequence[ImageStructure], following: Iterable[ImageStructure] = ()
) -> dict[int, ImageMetadata]:
    """Read all that OMERO knows about images and their fields, in three or four calls for many wells.

    Parameters
    ----------
    images
        The images of a well.
    following
        Images that may be asked for next. What OMERO knows about the first ones, of up to 1000 planes, is read in the
        same calls, and is kept until it is asked for.

    Returns
    -------
    dict
        The metadata by the id of the well sample.
    """
    kept = _kept.setdefault(conn.c, {})
    found = {image.well_sample_id: kept.pop(image.well_sample_id, None) for image in images}
    if None in found.values():
        wanted, planes = list(images), 0
        for image in following:
            planes += math.prod(image.shape[:3])
            if planes > AHEAD:
                break
            wanted.append(image)
        described, positions = read_metadata(conn, wanted, all_planes=True), read_positions(conn, wanted)
        kept.clear()
        for image in wanted:
            about = described.get(image.image_id, ImageMetadata())
            position = positions.get(image.well_sample_id, (None, None))
            of = found if image.well_sample_id in found else kept
            of[image.well_sample_id] = replace(about, recorded=replace(about.recorded, position=position))
    return {sample: about for sample, about in found.items() if about is not None}


def read_positions(
    conn: BlitzGateway, images: Sequence[ImageStructure]
) -> dict[int, tuple[Quantity | None, Quantity | None]]:
    """Read the positions of fields in their wells, (x, y), by the ids of well samples, in a call per 10,000 images."""
    return {
        sample: (_quantity(x, x_unit), _quantity(y, y_unit))
        for ids in queries.pages([image.well_sample_id for image in images])
        for sample, x, x_unit, y, y_unit in queries.rows(
            conn,
            "select ws.id, ws.posX.value, ws.posX.unit, ws.posY.value, ws.posY.unit from WellSample ws "
            "where ws.id in (:ids)",
            ids=ids,
        )
    }


def _read_planes(conn: BlitzGateway, pixels_ids: list[int], all_planes: bool) -> dict[int, list[AcquiredPlane]]:
    """When and where planes were taken, by pixels id: all planes, or the first one of each timepoint."""
    planes: dict[int, list[AcquiredPlane]] = {}
    if not pixels_ids:
        return planes
    which = "" if all_planes else "and p.theC = 0 and p.theZ = 0"
    for pixels_id, t, c, z, *values in queries.rows(
        conn,
        f"""
            select p.pixels.id, p.theT, p.theC, p.theZ, p.deltaT.value, p.deltaT.unit, p.exposureTime.value,
                   p.exposureTime.unit, p.positionZ.value, p.positionZ.unit, p.positionY.value, p.positionY.unit,
                   p.positionX.value, p.positionX.unit
            from PlaneInfo p where p.pixels.id in (:ids) {which} order by p.pixels.id, p.theT, p.theC, p.theZ""",
        ids=pixels_ids,
    ):
        delta_t, exposure, *place = map(_quantity, values[::2], values[1::2])
        position = (place[0], place[1], place[2])
        planes.setdefault(pixels_id, []).append(AcquiredPlane(t, c, z, delta_t, exposure, position))
    return planes


def _quantity(value: float | None, unit: str | None) -> Quantity | None:
    return None if value is None or unit is None else (value, unit)


def _times(acquired: Acquired, timepoints: int) -> tuple[float | None, ...]:
    """Seconds of each timepoint's first plane; empty for a single timepoint, or if no time is known."""
    times: list[float | None] = [None] * timepoints
    for plane in acquired.planes:
        if plane.c == plane.z == 0 and plane.t < timepoints and plane.delta_t:
            times[plane.t] = _converted(TimeI, UnitsTime, *plane.delta_t, "SECOND")
    return tuple(times) if timepoints > 1 and set(times) != {None} else ()


def _metadata(size: list[Any], channels: list[list[Any]]) -> ImageMetadata:
    lengths = [_converted(LengthI, UnitsLength, *length, "MICROMETER") for length in zip(size[::2], size[1::2])]
    return ImageMetadata(
        channel_names=tuple(name for name, *_ in channels),
        colors=tuple(None if None in color else (color[0], color[1], color[2]) for _, *color in channels),
        pixel_size=(lengths[0], lengths[1], lengths[2]),
    )


def _converted(kind: Any, units: Any, value: float | None, unit: str | None, wanted: str) -> float | None:
    if value is None or unit is None:
        return None
    try:
        return kind(kind(value, getattr(units, unit)), wanted).getValue()
    except Exception:  # units like pixel or reference frame are not lengths; omero-py raises a bare Exception
        return None
