"""Which pixels a shape covers, and what is known of their values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import omero
from omero.rtypes import unwrap

from omero_embedded.errors import refuse

Box = tuple[float, float, float, float]  # left, top, right, bottom
Covers = Callable[[np.ndarray, np.ndarray], np.ndarray]
MOST_PIXELS = 1 << 25  # of the box around a shape


def covered(shape) -> np.ndarray:
    """Find the pixels of a shape.

    Returns
    -------
    numpy.ndarray
        (N, 2), int: x and y of each pixel, row by row.
    """
    box, covers = _outline(shape)
    matrix = _matrix(shape)
    corners = np.array([(box[i], box[j], 1.0) for i in (0, 2) for j in (1, 3)]) @ matrix.T
    (left, top), (right, bottom) = np.floor(corners[:, :2].min(0)), np.ceil(corners[:, :2].max(0))
    _check_size(right - left + 1, bottom - top + 1)
    y, x = np.mgrid[int(top) : int(bottom) + 1, int(left) : int(right) + 1]
    back = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(matrix).T
    inside = covers(back[..., 0], back[..., 1])
    return np.stack([x[inside], y[inside]], axis=-1)


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


def _outline(shape) -> tuple[Box, Covers]:
    """The box around a shape, without its transformation, and whether points are in the shape."""

    def number(name: str) -> float:
        return float(unwrap(getattr(shape, name)) or 0.0)

    if isinstance(shape, omero.model.Rectangle | omero.model.Mask):
        x, y, width, height = map(number, ("x", "y", "width", "height"))
        if isinstance(shape, omero.model.Mask):
            _check_size(width, height)
            return (x, y, x + width, y + height), _bits(shape.bytes or b"", x, y, int(width), int(height))
        return (x, y, x + width, y + height), lambda a, b: (a >= x) & (a < x + width) & (b >= y) & (b < y + height)
    if isinstance(shape, omero.model.Ellipse):
        x, y, radius_x, radius_y = map(number, ("x", "y", "radiusX", "radiusY"))
        return (
            (x - radius_x, y - radius_y, x + radius_x, y + radius_y),
            lambda a, b: ((a - x) / (radius_x or 1)) ** 2 + ((b - y) / (radius_y or 1)) ** 2 < 1,
        )
    if isinstance(shape, omero.model.Point | omero.model.Label):
        x, y = np.floor(number("x")), np.floor(number("y"))
        return (x, y, x, y), lambda a, b: (np.floor(a) == x) & (np.floor(b) == y)
    if isinstance(shape, omero.model.Line):
        return _polygon(np.array([(number("x1"), number("y1")), (number("x2"), number("y2"))]))
    if isinstance(shape, omero.model.Polygon | omero.model.Polyline):
        return _polygon(_points(unwrap(shape.points) or ""))
    raise refuse(omero.ApiUsageException, f"A {type(shape).__name__[:-1]} has no pixels.")


def _points(text: str) -> np.ndarray:
    """(N, 2) of `x,y x,y ...`."""
    try:
        return np.array(
            [[float(part) for part in pair.split(",")] for pair in text.replace(", ", ",").split()]
        ).reshape(-1, 2)
    except ValueError:
        raise refuse(omero.ApiUsageException, f"The points {text[:40]!r} are not understood.") from None


def _polygon(points: np.ndarray) -> tuple[Box, Covers]:
    """A polygon, by the even-odd rule."""
    if not len(points):
        return (0, 0, 0, 0), lambda a, b: np.zeros(a.shape, bool)

    def covers(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        inside = np.zeros(a.shape, bool)
        for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0)):
            crosses = (y1 > b) != (y2 > b)
            if y1 != y2:
                inside ^= crosses & (a < (x2 - x1) * (b - y1) / (y2 - y1) + x1)
        return inside

    return (*points.min(0), *points.max(0)), covers


def _bits(data: bytes, x: float, y: float, width: int, height: int) -> Covers:
    """A mask: a bit a pixel, row after row, the highest bit of a byte first."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8))[: width * height]
    flat = np.zeros(width * height, bool)
    flat[: len(bits)] = bits
    mask = flat.reshape(height, width)

    def covers(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        column, row = np.floor(a - x).astype(int), np.floor(b - y).astype(int)
        there = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        found = np.zeros(a.shape, bool)
        found[there] = mask[row[there], column[there]]
        return found

    return covers


def statistics(shape_id: int, channels: list[int], values: list[np.ndarray]) -> omero.api.ShapeStats:
    """Describe the values (N,) under a shape, of each channel; the deviation is that of a sample."""
    some = [one.astype(np.float64) for one in values]
    return omero.api.ShapeStats(
        shapeId=shape_id,
        channelIds=channels,
        pointsCount=[len(one) for one in some],
        min=[float(one.min()) if len(one) else float(np.finfo(np.float64).max) for one in some],
        max=[float(one.max()) if len(one) else 0.0 for one in some],
        sum=[float(one.sum()) for one in some],
        mean=[float(one.mean()) if len(one) else 0.0 for one in some],
        stdDev=[float(one.std(ddof=1)) if len(one) > 1 else 0.0 for one in some],
    )
