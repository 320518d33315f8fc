"""Which pixels a shape covers, and what is known of their values.

OMERO walks over the box around a shape in steps of one pixel from the box's corner, and takes the pixel of each point
at which a tiny square meets the shape. So it is here. A mask covers its whole box, whatever its bits are.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable

import numpy as np
import omero
from omero.rtypes import unwrap

from omero_embedded.errors import refuse

Covers = Callable[[np.ndarray, np.ndarray], np.ndarray]
MOST_PIXELS = 1 << 25  # of the box around a shape
TINY = 0.001  # the side of the square
KAPPA = 4 * (math.sqrt(2) - 1) / 3  # of a circle's control points


def covered(shape) -> np.ndarray:
    """Find the pixels of a shape.

    Returns
    -------
    numpy.ndarray
        (N, 2), int: x and y of each pixel, row by row; those of lines follow the line.

    Raises
    ------
    omero.InternalException
        If OMERO doesn't know how: of a path, a line with a transformation, or points that are not understood.
    omero.ApiUsageException
        If the shape is too large.
    """
    match shape:
        case omero.model.Point() | omero.model.Label():
            return _at(shape)
        case omero.model.Line():
            return _line(shape)
        case omero.model.Polyline():
            corners = _moved(_points(shape), shape)
            segments = [_quantized(*pair) for pair in itertools.pairwise(corners)]
            return np.concatenate([np.zeros((0, 2), int), *segments])
        case omero.model.Polygon():
            return _polygon(_moved(_points(shape), shape))
        case omero.model.Rectangle() | omero.model.Mask():
            return _rectangle(shape)
        case omero.model.Ellipse():
            return _ellipse(shape)
    raise refuse(omero.InternalException, f"A {type(shape).__name__[:-1]} has no pixels.")


def _numbers(shape, *names: str) -> tuple[float, ...] | None:
    found = [unwrap(getattr(shape, name)) for name in names]
    return None if None in found else tuple(map(float, found))


def _at(shape) -> np.ndarray:
    place = _numbers(shape, "x", "y")
    return np.zeros((0, 2), int) if place is None else _moved(np.array([place]), shape).astype(int)


def _line(shape) -> np.ndarray:
    ends = _numbers(shape, "x1", "y1", "x2", "y2")
    if ends is None:
        return np.zeros((0, 2), int)
    if shape.transform is not None:
        raise refuse(omero.InternalException, "A line with a transformation has no pixels.")
    return _quantized(np.array(ends[:2]), np.array(ends[2:]))


def _quantized(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The pixels on a line, by steps of a tenth of a pixel, each once."""
    length = float(np.hypot(*(end - start)))
    _check_size(length, 1)
    steps = np.arange(0, length + 0.1, 0.1) if length else np.zeros(1)
    places = np.floor(start + steps[:, None] * ((end - start) / (length or 1))).astype(int)
    _, first = np.unique(places, axis=0, return_index=True)
    return places[np.sort(first)]


def _rectangle(shape) -> np.ndarray:
    numbers = _numbers(shape, "x", "y", "width", "height")
    if numbers is None:
        return np.zeros((0, 2), int)
    x, y, width, height = numbers
    if shape.transform is not None:
        corners = np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])
        return _polygon(_moved(corners, shape))
    return _walk(np.array([x, y]), np.array([x + width, y + height]), lambda a, b: np.ones(a.shape, bool))


def _ellipse(shape) -> np.ndarray:
    numbers = _numbers(shape, "x", "y", "radiusX", "radiusY")
    if numbers is None:
        return np.zeros((0, 2), int)
    x, y, *radii = numbers
    if not all(radii):
        return np.zeros((0, 2), int)
    far = [(a, b) for a in (-1, 1) for b in (-KAPPA, KAPPA)]
    control = np.array([*far, *(end[::-1] for end in far)])  # of the curves that Java draws
    outline = _moved(np.array([x, y]) + control * radii, shape)
    back = np.linalg.inv(_matrix(shape))
    tiny = TINY / np.array(radii)

    def covers(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        places = np.stack([a, b, np.ones_like(a)], axis=-1) @ back.T
        near = (places[..., :2] - (x, y)) / radii
        near = np.where(near > 0, near, np.minimum(near + tiny, 0))
        return (near**2).sum(axis=-1) < 1

    return _walk(outline.min(0), outline.max(0), covers)


def _walk(low: np.ndarray, high: np.ndarray, covers: Covers) -> np.ndarray:
    """The pixels of the points in a box that are covered; each is cut to whole numbers."""
    _check_size(*(high - low))
    x, y = (start + np.arange(max(0, math.ceil(end - start))) for start, end in zip(low, high, strict=True))
    places = np.stack(np.meshgrid(x, y), axis=-1)
    return np.trunc(places[covers(places[..., 0], places[..., 1])]).astype(int)


def _check_size(width: float, height: float) -> None:
    if not width * height <= MOST_PIXELS:
        raise refuse(omero.ApiUsageException, f"The shape is larger than {MOST_PIXELS} pixels.")


def _matrix(shape) -> np.ndarray:
    """The shape's affine transformation, (3, 3)."""
    one = shape.transform
    if one is None:
        return np.eye(3)
    return np.array(
        [[unwrap(getattr(one, f"a{row}{column}")) or 0.0 for column in range(3)] for row in range(2)]
        + [[0.0, 0.0, 1.0]]
    )


def _moved(points: np.ndarray, shape) -> np.ndarray:
    """Apply the shape's transformation to points, (N, 2)."""
    return np.column_stack([points, np.ones(len(points))]) @ _matrix(shape)[:2].T


def _points(shape) -> np.ndarray:
    """(N, 2) of `x,y x,y ...`, in single precision as OMERO reads them."""
    text = unwrap(shape.points)
    try:
        numbers = [float(part) for part in re.split(r"[\s,]+", text.strip()) if part]
        return np.array(numbers, np.float32).reshape(-1, 2).astype(float)
    except (AttributeError, ValueError):
        raise refuse(omero.InternalException, f"The points {str(text)[:40]!r} are not understood.") from None


def _polygon(points: np.ndarray) -> np.ndarray:
    """The pixels in a polygon by the even-odd rule, and those on its edges."""
    if not len(points):
        return np.zeros((0, 2), int)

    def covers(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        inside, on_edge = np.zeros(a.shape, bool), np.zeros(a.shape, bool)
        middle_x, middle_y = a + TINY / 2, b + TINY / 2
        for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if y1 != y2:
                crosses = (y1 > middle_y) != (y2 > middle_y)
                inside ^= crosses & (middle_x < (x2 - x1) * (middle_y - y1) / (y2 - y1) + x1)
            on_edge |= _meets(x1, y1, x2, y2, a, b)
        return inside | on_edge

    return _walk(points.min(0), points.max(0), covers)


def _meets(x1: float, y1: float, x2: float, y2: float, left: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Whether a line goes through the inside of tiny squares, by cutting it at their sides."""
    enter, leave = np.zeros(left.shape), np.ones(left.shape)
    apart = np.zeros(left.shape, bool)
    for start, step, low in ((x1, x2 - x1, left), (y1, y2 - y1, top)):
        if step:
            ends = np.stack([(low - start) / step, (low + TINY - start) / step])
            enter, leave = np.maximum(enter, ends.min(0)), np.minimum(leave, ends.max(0))
        else:
            apart |= (start <= low) | (start >= low + TINY)
    return ~apart & (enter < leave)


def statistics(
    shape_id: int, channels: list[int], values: list[np.ndarray], mean_of_none: float = 0.0
) -> omero.api.ShapeStats:
    """Describe the values (N,) under a shape, of each channel; the deviation is that of a sample."""
    some = [one.astype(np.float64) for one in values]
    return omero.api.ShapeStats(
        shapeId=shape_id,
        channelIds=channels,
        pointsCount=[len(one) for one in some],
        min=[float(one.min()) if len(one) else float(np.finfo(np.float64).max) for one in some],
        max=[max(0.0, float(one.max())) if len(one) else 0.0 for one in some],
        sum=[float(one.sum()) for one in some],
        mean=[float(one.mean()) if len(one) else mean_of_none for one in some],
        stdDev=[float(one.std(ddof=1)) if len(one) > 1 else 0.0 for one in some],
    )
