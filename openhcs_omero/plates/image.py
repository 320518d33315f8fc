"""Images to be written, the metadata of their pixels, and the pixel types that OMERO can store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from openhcs_omero.errors import PlateError
from openhcs_omero.plates.labels import Labels
from openhcs_omero.plates.pixeltypes import OMERO_NAMES

Quantity = tuple[float, str]
"""A value and OMERO's name of its unit, such as MICROMETER or REFERENCEFRAME."""


@dataclass(frozen=True)
class AcquiredPlane:
    """When and where a plane was taken.

    Parameters
    ----------
    t, c, z
        The plane, from 0.
    delta_t, exposure
        Time since the start of the acquisition, and duration of the exposure; None if unknown.
    position
        Position of the stage, (z, y, x); None where unknown.
    """

    t: int
    c: int
    z: int
    delta_t: Quantity | None = None
    exposure: Quantity | None = None
    position: tuple[Quantity | None, Quantity | None, Quantity | None] = (None, None, None)


@dataclass(frozen=True)
class Acquired:
    """What the microscope recorded about an image besides its pixels, channels and sizes.

    Parameters
    ----------
    date
        Time of the acquisition, in milliseconds since 1970; None if unknown.
    interval
        Time between two timepoints; None if unknown.
    position
        Position of the field in its well, (x, y); None where unknown.
    planes
        When and where the planes were taken, for those planes of which that is known.
    """

    date: int | None = None
    interval: Quantity | None = None
    position: tuple[Quantity | None, Quantity | None] = (None, None)
    planes: tuple[AcquiredPlane, ...] = ()

    def processed(self, before: tuple[int, int, int], after: tuple[int, int, int]) -> Acquired:
        """What is still true of the image after a step made (T, C, Z) planes `after` of those `before`.

        If a step changed the channels or z planes, only the time of each timepoint is left; if it changed the
        timepoints, nothing is left about the planes.
        """
        if before == after:
            return self
        planes = [plane for plane in self.planes if plane.c == plane.z == 0 and plane.delta_t and before[0] == after[0]]
        times = tuple(AcquiredPlane(plane.t, 0, 0, plane.delta_t) for plane in planes)
        return replace(self, planes=times, interval=self.interval if before[0] == after[0] else None)


@dataclass(frozen=True)
class ImageMetadata:
    """The metadata of a site's pixels.

    Parameters
    ----------
    channel_names
        One per channel; None if a channel has no name.
    colors
        (red, green, blue), each from 0 to 255, one per channel; None if a channel has no color.
    pixel_size
        (z, y, x) in micrometers; None for a value that is unknown or not a length.
    times
        Seconds since the first timepoint, one per timepoint, None where unknown; empty if none is known.
    filled
        The planes (t, c, z) that were not acquired: black planes, and planes that repeat another plane of the stack.
    recorded
        What else the microscope recorded.
    """

    channel_names: tuple[str | None, ...] = ()
    colors: tuple[tuple[int, int, int] | None, ...] = ()
    pixel_size: tuple[float | None, float | None, float | None] = (None, None, None)
    times: tuple[float | None, ...] = ()
    filled: tuple[tuple[int, int, int], ...] = ()
    recorded: Acquired = Acquired()


@dataclass(frozen=True)
class NewImage:
    """An image to be written.

    Parameters
    ----------
    name
        The image's name.
    pixels
        Array (T, C, Z, Y, X) of bool, floats or integers of up to 32 bits; larger integers if their values fit 32 bits.
        Or an object array (T, C, Z) of planes (Y, X), all of one size and type, so that planes from different places
        need not be copied.
    channel_names, colors
        One per channel, as in `ImageMetadata`; all or none.
    pixel_size
        (z, y, x) in micrometers; None where unknown.
    annotations
        Pairs of the map annotation that is saved with the image.
    source_image
        OMERO id of the image that it was made from; None for a folder.
    labels
        The objects that the steps found in it.
    acquired
        What else the microscope recorded about the image.
    acquisition
        Id of the acquisition of the source plate that the image is of; None if it has none.
    """

    name: str
    pixels: np.ndarray
    channel_names: Sequence[str | None] = ()
    colors: Sequence[tuple[int, int, int] | None] = ()
    pixel_size: tuple[float | None, float | None, float | None] = (None, None, None)
    annotations: Sequence[tuple[str, str]] = ()
    source_image: int | None = None
    labels: Labels = field(default_factory=dict)
    acquired: Acquired = Acquired()
    acquisition: int | None = None


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
        The file's bytes.
    """

    site: int | None
    name: str
    data: bytes


def storable(pixels: np.ndarray, name: str) -> np.ndarray:
    """Convert pixels to a type that OMERO can store, in this machine's byte order, without changing their values.

    The array is not copied if no conversion is needed.

    Parameters
    ----------
    pixels
        Array (T, C, Z, Y, X).
    name
        The image's name, for error messages.

    Raises
    ------
    PlateError
        If `pixels` is not (T, C, Z, Y, X), is empty, or has values that no such type can hold.
    """
    pixels = np.asarray(pixels)
    if pixels.ndim != 5 or 0 in pixels.shape:
        raise PlateError(
            f"image {name!r} must have five axes (T, C, Z, Y, X), none of them empty; its shape is {pixels.shape}"
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
            raise PlateError(f"image {name!r} has values from {low} to {high}; OMERO stores integers of up to 32 bits")
    if dtype.name not in OMERO_NAMES:
        raise PlateError(f"image {name!r} has pixels of type {dtype.name}; OMERO stores {', '.join(OMERO_NAMES)}")
    return pixels.astype(dtype.newbyteorder("="), copy=False)


def objects(planes: Iterable[np.ndarray], sizes: tuple[int, ...]) -> np.ndarray:
    """Put planes, in the given order, into an object array of the shape `sizes`, (T, C, Z)."""
    made = np.empty(sizes, object)
    for index, plane in zip(np.ndindex(sizes), planes):
        made[index] = plane
    return made


def planes_of(image: NewImage) -> np.ndarray:
    """The image's planes as an object array (T, C, Z), each of a type that OMERO can store; raises as `storable`."""
    pixels = image.pixels
    if pixels.dtype == object and pixels.size:
        first = pixels.flat[0]
        if first.dtype.name in OMERO_NAMES:
            storable(np.broadcast_to(first, pixels.shape + first.shape), image.name)
            return pixels
        pixels = np.stack(list(pixels.flat)).reshape(pixels.shape + first.shape)
    block = storable(pixels, image.name)
    return objects((block[index] for index in np.ndindex(block.shape[:3])), block.shape[:3])
