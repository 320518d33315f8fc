"""Histograms and ranges of the values in planes."""

from __future__ import annotations

import numpy as np

from omero_embedded.limits import MOST_BINS, check
from omero_embedded.rendering.settings import PixelsSource

BINS = 256  # of a histogram, where no number is asked for


def histogram(source: PixelsSource, c: int, bins: int, global_range: bool, plane) -> list[int]:
    """How often values occur in a plane, or in the region of it that a PlaneDef names.

    The bins go from the plane's smallest to its largest value, with `global_range` over the channel's range where that
    is known; values outside of it are not counted.
    """
    bins = bins if bins > 0 else BINS
    check(bins, MOST_BINS, "bins of a histogram")
    z, t = (max(0, plane.z), max(0, plane.t)) if plane is not None else (0, 0)
    values = source.plane(z, c, t).astype(np.float64)
    low, high = (global_range and _known_range(source.statistics[c])) or (values.min(), values.max())
    values = _region(values, plane)
    values = values[(values >= low) & (values <= high)]
    place = (values - low) / ((high - low) / bins if high > low else 1.0)
    return np.bincount(np.minimum(place.astype(np.int64), bins - 1), minlength=bins).tolist()


def middle_range(source: PixelsSource, c: int) -> list[float]:
    """The smallest and the largest value of a channel in its middle plane."""
    plane = source.plane((source.shape[2] - 1) // 2, c, (source.shape[0] - 1) // 2)
    return [float(plane.min()), float(plane.max())]


def _known_range(range_of_channel: tuple[float, float] | None) -> tuple[float, float] | None:
    """A channel's smallest and largest value; a largest of 1 says that nobody has looked."""
    return None if range_of_channel is None or range_of_channel[1] == 1.0 else range_of_channel


def _region(values: np.ndarray, plane) -> np.ndarray:
    """The part of a plane (Y, X) that the region of a PlaneDef has."""
    region = getattr(plane, "region", None)
    if region is None:
        return values
    x, y = max(0, region.x), max(0, region.y)
    width = region.width if region.width > 0 else values.shape[1]
    height = region.height if region.height > 0 else values.shape[0]
    return values[y : y + height, x : x + width]
