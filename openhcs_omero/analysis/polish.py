"""The median polish: what the rows and columns of a plate add to its wells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from openhcs_omero.analysis.wells import Wells

FORMATS = ((2, 3), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48))
"""Rows and columns of the plates that are made: 6 to 1536 wells."""


def plate_format(rows: int, columns: int) -> tuple[int, int]:
    """The smallest plate with as many rows and columns; the same numbers where none is large enough."""
    return next((form for form in FORMATS if form[0] >= rows and form[1] >= columns), (rows, columns))


@dataclass(frozen=True)
class Polish:
    """A plate as overall + row + column + residual, for each of its features.

    Attributes
    ----------
    overall
        Shape (features,).
    rows, columns
        The effects, shape (features, rows) and (features, columns); NaN where no well tells it.
    residuals
        Shape (features, rows, columns); NaN where there is no value.
    """

    overall: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    residuals: np.ndarray


def nanmedian(values: np.ndarray) -> np.ndarray:
    """The median over the last axis, missing values left out; NaN where all are missing. No warning is given."""
    ordered = np.sort(values, axis=-1)  # NaN comes last
    count = np.count_nonzero(~np.isnan(values), axis=-1)[..., None]
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=-1)
    high = np.take_along_axis(ordered, np.minimum(count // 2, values.shape[-1] - 1), axis=-1)
    return (0.5 * low + 0.5 * high)[..., 0]


def median_polish(values: np.ndarray, iterations: int = 10, tolerance: float = 0.01) -> Polish:
    """Tukey's median polish of many tables at once, missing values left out.

    Parameters
    ----------
    values
        Shape (features, rows, columns).
    iterations, tolerance
        It ends when the sum of the absolute residuals changes by less than this fraction, as R's `medpolish`, which
        starts with the rows too, so the results are the same.

    References
    ----------
    Tukey, Exploratory Data Analysis, 1977, chapter 11.
    """
    residuals = values.astype("float64")
    features, rows, columns = residuals.shape
    overall, row, column = np.zeros(features), np.zeros((features, rows)), np.zeros((features, columns))
    before = np.zeros(features)
    going = np.arange(features)
    for _ in range(iterations):
        z, r, c, t = residuals[going], row[going], column[going], overall[going]
        step = nanmedian(z)
        z, r, shift = z - step[:, :, None], r + step, nanmedian(c)
        c, t = c - shift[:, None], t + shift
        step = nanmedian(np.ascontiguousarray(z.transpose(0, 2, 1)))
        z, c, shift = z - step[:, None, :], c + step, nanmedian(r)
        r, t = r - shift[:, None], t + shift
        residuals[going], row[going], column[going], overall[going] = z, r, c, t
        left = np.nansum(np.abs(z), axis=(1, 2))
        open_ = (left > 0) & (np.abs(left - before[going]) >= tolerance * left)
        before[going] = left
        going = going[open_]
        if not len(going):
            break
    return Polish(overall, row, column, residuals)


def polish_plates(wells: Wells) -> Iterator[tuple[np.ndarray, Polish]]:
    """The median polish of each plate's sample wells: the indexes of the plate's wells, and its polish."""
    order = np.argsort(wells.plate, kind="stable")
    ends = np.searchsorted(wells.plate[order], np.arange(len(wells.plates) + 1))
    samples = wells.has_role("sample")
    for start, end in pairwise(ends):
        mine = order[start:end]
        rows, columns = plate_format(wells.row[mine].max() + 1, wells.column[mine].max() + 1)
        grid = np.full((len(wells.features), rows, columns), np.nan)
        used = mine[samples[mine]]
        grid[:, wells.row[used], wells.column[used]] = wells.values[used].T
        yield mine, median_polish(grid)
