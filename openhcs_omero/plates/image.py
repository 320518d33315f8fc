"""Images to be written, what belongs to their pixels, and the pixel types that OMERO keeps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from openhcs_omero.errors import PlateError
from openhcs_omero.plates.pixeltypes import OMERO_NAMES
from openhcs_omero.plates.structure import PYRAMID_PLANE


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
        (z, y, x) in micrometers; None where it is not known or has another kind of unit.
    times
        Seconds since the first timepoint, one per timepoint, None where it is not known; empty if none is known.
    filled
        The planes (t, c, z) that were not acquired: black ones, and those that repeat another plane of the stack.
    """

    channel_names: tuple[str | None, ...] = ()
    colors: tuple[tuple[int, int, int] | None, ...] = ()
    pixel_size: tuple[float | None, float | None, float | None] = (None, None, None)
    times: tuple[float | None, ...] = ()
    filled: tuple[tuple[int, int, int], ...] = ()


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
        (z, y, x) in micrometers, None where unknown.
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
class WellFile:
    """A file that belongs to a well.

    Parameters
    ----------
    site
        The site whose image it belongs to; None if it belongs to the well itself.
    name
        The file's name.
    data
        Its content.
    """

    site: int | None
    name: str
    data: bytes


def storable(pixels: np.ndarray, name: str, largest: int | None = PYRAMID_PLANE) -> np.ndarray:
    """The same values in a type that OMERO keeps, in this machine's byte order; not a copy where they are that already.

    Parameters
    ----------
    largest
        Pixels that a plane may have; None where planes of any size can be written.

    Raises
    ------
    PlateError
        If `pixels` is not (T, C, Z, Y, X), is empty, too large, or has values that no such type holds.
    """
    pixels = np.asarray(pixels)
    if pixels.ndim != 5 or 0 in pixels.shape:
        raise PlateError(
            f"image {name!r} must have five axes (T, C, Z, Y, X), none of them empty; its shape is {pixels.shape}"
        )
    if largest is not None and pixels.shape[3] * pixels.shape[4] > largest:
        raise PlateError(
            f"image {name!r} has planes of {pixels.shape[4]} x {pixels.shape[3]} pixels; "
            "more than 3192 x 3192 can't be written"
        )
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
