"""Outlines of objects: the polygons around the parts of labels.

The polygons of all objects of a plane are made together. A call per object of a library that finds contours takes ten
times as long.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

TOLERANCE = 0.5  # px; a polygon is at most this far from the outline of its object


def outlines_of(plane: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the outer outline of each part of each object; pixels that only touch at a corner are two parts.

    Parameters
    ----------
    plane
        (Y, X) labels; 0 is the background.

    Yields
    ------
    label : int
        The number of the object.
    points : ndarray
        (n, 2) of y and x in px, where (0, 0) is the corner of the first pixel; simplified to `TOLERANCE`.
    """
    import shapely

    labels = np.pad(plane, 1)
    sides, lengths = _walk(labels)
    if not len(lengths):
        return
    first = np.cumsum(lengths) - lengths
    corners, forward = _geometry(sides, labels.shape)
    # twice the area: positive where the walk goes clockwise, which is around an object and not around a hole
    area = np.add.reduceat(corners[:, 1] * forward[:, 0] - corners[:, 0] * forward[:, 1], first)
    # two points on each side of a pixel, so that the outline cuts corners by a quarter of a pixel
    points = np.stack([corners + forward / 4, corners + forward * 3 / 4], axis=1).reshape(-1, 2)
    closing = points[2 * first]
    points = np.insert(points, 2 * (first + lengths), closing, axis=0)
    rings = np.repeat(np.arange(len(lengths)), 2 * lengths + 1)
    lines = shapely.linestrings(points, indices=rings)[area > 0]
    simple, index = shapely.get_coordinates(
        shapely.simplify(lines, TOLERANCE - 0.25, preserve_topology=False), return_index=True
    )
    numbers = labels.ravel()[sides[first][area > 0] % labels.size]
    for number, ring in zip(numbers, np.split(simple, np.flatnonzero(np.diff(index)) + 1)):
        yield int(number), ring[:-1] - 1


def _walk(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Walk clockwise around all objects, along the sides of their pixels.

    Returns
    -------
    sides, lengths : ndarray
        The sides in the order of the walks, as the index of the pixel plus `labels.size` for each of top, right, bottom
        and left, and the number of sides of each walk.
    """
    flat, size, width = labels.ravel(), labels.size, labels.shape[1]
    ahead, outward = (1, width, -1, -width), (-width, 1, width, -1)  # from a pixel along its side, and across it
    body = flat[width:-width]  # all but the first and the last row, which are background
    known, following = [], []
    for side in range(4):
        across = flat[width + outward[side] : size - width + outward[side]]
        edge = width + np.flatnonzero((body != across) & (body != 0))
        beside = edge + ahead[side]
        beyond = beside + outward[side]
        turned, straight, back = ((side + step) % 4 * size for step in (1, 0, -1))
        known.append(straight + edge)
        following.append(
            np.where(
                flat[beside] != flat[edge],
                turned + edge,
                np.where(flat[beyond] != flat[edge], straight + beside, back + beyond),
            )
        )
    sides = np.concatenate(known)
    places = np.empty(4 * size, dtype=int)  # of the sides in `sides`; only those are set, and read
    places[sides] = np.arange(len(sides))
    order, lengths = _cycles(places[np.concatenate(following)])
    return sides[order], lengths


def _cycles(successors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The elements of a permutation, cycle after cycle, and the lengths of the cycles."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components, depth_first_order

    count = len(successors)
    if not count:
        return successors, successors
    ones, starts = np.ones(count, np.int8), np.arange(count + 1)
    _, cycles = connected_components(csr_array((ones, successors, starts), shape=(count, count)), directed=False)
    _, first, lengths = np.unique(cycles, return_index=True, return_counts=True)
    last = np.empty(count, int)
    last[successors] = np.arange(count)
    chain = successors.copy()
    chain[last[first]] = np.roll(first, -1)  # the end of each cycle leads to the next one
    one_cycle = csr_array((ones, chain, starts), shape=(count, count))
    return depth_first_order(one_cycle, first[0], return_predecessors=False), lengths


def _geometry(sides: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Where each side begins, and where it goes, both (n, 2) of y and x."""
    side, pixel = np.divmod(sides, shape[0] * shape[1])
    corners = np.stack(np.divmod(pixel, shape[1]), axis=1) + np.array([(0, 0), (0, 1), (1, 1), (1, 0)])[side]
    return corners, np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])[side]
