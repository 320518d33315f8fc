"""Pixels with large planes, which OMERO stores as pyramids: written by tiles, read at several resolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import omero

from omero_embedded.errors import refuse

if TYPE_CHECKING:
    import numpy as np

MAX_PLANE = 3192  # pixels are a pyramid if a plane has more pixels than the square of this
TILE = 256  # the width and height of the tiles that clients write
LEVELS = 6


def is_pyramid(width: int, height: int) -> bool:
    """Whether planes of this size are stored as pyramids."""
    return width * height > MAX_PLANE * MAX_PLANE


def level_sizes(width: int, height: int) -> list[tuple[int, int]]:
    """The (width, height) of a pyramid's levels, the whole plane first; each is half of the previous one, rounded."""
    return [
        ((width + half) >> level, (height + half) >> level) for level in range(LEVELS) for half in [(1 << level) >> 1]
    ]


def choose_level(number: int, levels: int) -> int:
    """The level of a client's number. The last one has the whole planes; numbers beyond it count back from there."""
    if levels == 1:
        raise refuse(omero.InternalException, "These pixels have one resolution only.")
    level = abs(number - (levels - 1))
    if level >= levels:
        raise refuse(omero.ApiUsageException, f"There is no level {number} of {levels}.")
    return level


def level_part(plane: np.ndarray, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
    """A part of a level of a plane (Y, X); one pixel stands for each square of the plane."""
    import numpy as np  # which a server without pixels does not need

    step = 1 << level
    rows, columns = (
        np.minimum(np.arange(start, start + length) * step + step // 2, whole - 1)
        for start, length, whole in ((y, height, plane.shape[0]), (x, width, plane.shape[1]))
    )
    return plane[rows][:, columns]
