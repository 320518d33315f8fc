"""Normalization: values that can be compared between plates.

References
----------
Malo et al., Statistical practice in high-throughput screening data analysis, Nature Biotechnology 24, 167 (2006):
percent of control, normalized percent inhibition, z score, robust z score.
Brideau et al., Improved statistical methods for hit selection in high-throughput screening, Journal of Biomolecular
Screening 8, 634 (2003): B score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from openhcs_omero.analysis.polish import nanmedian, polish_plates
from openhcs_omero.analysis.wells import (
    MAD_TO_SD,
    Wells,
    by_group,
    divide,
    mad_by_group,
    without_rounding,
)
from openhcs_omero.errors import ConfigError

Problems = dict[str, np.ndarray]
"""Why values could not be computed: the reason -> bool, shape (plates, features)."""


NO_BATCH = "some wells have no value in the column of analysis.together"


@dataclass(frozen=True)
class Normalized:
    """Normalized values.

    Attributes
    ----------
    values
        float64, shape (wells, features); NaN where they could not be computed.
    problems
        Why: the reason -> bool, shape (plates, features).
    """

    values: np.ndarray
    problems: Problems


def percent_of_control(wells: Wells, reference: str) -> tuple[np.ndarray, Problems]:
    """``100 x / mean(negative controls)``; 100 is a well like the negative controls (Malo 2006)."""
    center = _center(wells, "negative", "mean")
    problems = {"no negative controls": np.isnan(center), "the mean of the negative controls is 0": center == 0}
    return 100 * divide(wells.values, center[wells.batch]), _of_plates(wells, problems)


def percent_inhibition(wells: Wells, reference: str) -> tuple[np.ndarray, Problems]:
    """``100 (mean(negative) - x) / (mean(negative) - mean(positive))``: 0 is a negative, 100 a positive control.

    Malo 2006, normalized percent inhibition. It does not matter whether the positive controls are above or below.
    """
    negative, positive = _center(wells, "negative", "mean"), _center(wells, "positive", "mean")
    window = without_rounding(np.abs(negative - positive), negative) * np.sign(negative - positive)
    problems = {
        "no negative controls": np.isnan(negative),
        "no positive controls": np.isnan(positive),
        "the positive and negative controls have the same mean": window == 0,
    }
    return 100 * divide(negative[wells.batch] - wells.values, window[wells.batch]), _of_plates(wells, problems)


def z_score(wells: Wells, reference: str) -> tuple[np.ndarray, Problems]:
    """``(x - mean) / SD`` of the reference wells, SD with n - 1 (Malo 2006)."""
    chosen, count = _chosen(wells, _role(reference)), _count(wells)
    center = by_group(wells.values, wells.batch, chosen, count, "mean")
    spread = without_rounding(by_group(wells.values, wells.batch, chosen, count, "std"), center)
    return _scaled(wells, center, spread, reference, "SD")


def robust_z_score(wells: Wells, reference: str) -> tuple[np.ndarray, Problems]:
    """``(x - median) / (1.4826 MAD)`` of the reference wells (Malo 2006)."""
    chosen, count = _chosen(wells, _role(reference)), _count(wells)
    center = by_group(wells.values, wells.batch, chosen, count, "median")
    spread = without_rounding(mad_by_group(wells.values, wells.batch, chosen, center), center)
    return _scaled(wells, center, spread, reference, "MAD")


def _scaled(
    wells: Wells, center: np.ndarray, spread: np.ndarray, reference: str, what: str
) -> tuple[np.ndarray, Problems]:
    name = "sample wells" if reference == "samples" else "negative controls"
    problems = {
        f"no {name}": np.isnan(center),
        f"the {what} needs more than one value of the {name}": ~np.isnan(center) & np.isnan(spread),
        f"the {what} of the {name} is 0": spread == 0,
    }
    return divide(wells.values - center[wells.batch], spread[wells.batch]), _of_plates(wells, problems)


def b_score(wells: Wells, reference: str) -> tuple[np.ndarray, Problems]:
    """The residual of the median polish of the plate's sample wells, divided by 1.4826 MAD of the residuals.

    Brideau 2003, with the MAD scaled to an SD as R's `mad` does. The rows and columns are estimated from sample wells
    alone, whatever the reference and the batch are: a control in a row or column without samples has no B score.
    """
    values = np.full_like(wells.values, np.nan)
    shape = (len(wells.plates), len(wells.features))
    problems = {
        name: np.zeros(shape, dtype=bool)
        for name in (
            "no sample wells",
            "the MAD of the residuals is 0",
            "some controls are in rows or columns without samples",
        )
    }
    for mine, polish in polish_plates(wells):
        row, column = wells.row[mine], wells.column[mine]
        fit = (polish.overall[:, None] + polish.rows[:, row] + polish.columns[:, column]).T
        flat = polish.residuals.reshape(len(wells.features), -1)
        middle = nanmedian(flat)
        spread = MAD_TO_SD * nanmedian(np.abs(flat - middle[:, None]))
        spread = without_rounding(spread, np.nanmax(np.abs(fit), axis=0, initial=0.0))
        values[mine] = divide(wells.values[mine] - fit, spread)
        plate = wells.plate[mine[0]]
        problems["no sample wells"][plate] = np.isnan(spread)
        problems["the MAD of the residuals is 0"][plate] = spread == 0
        lost = np.isnan(fit) & np.isin(wells.role[mine], ["positive", "negative"])[:, None]
        problems["some controls are in rows or columns without samples"][plate] = lost.any(axis=0) & ~np.isnan(spread)
    return values, problems


def _center(wells: Wells, role: str, statistic: str) -> np.ndarray:
    return by_group(wells.values, wells.batch, _chosen(wells, role), _count(wells), statistic)


def _chosen(wells: Wells, role: str) -> np.ndarray:
    return wells.has_role(role) & (wells.batch >= 0)


def _count(wells: Wells) -> int:
    """The number of batches, and one more without any well: wells of no batch (-1) get its missing values."""
    return int(wells.batch.max(initial=-1)) + 2


def _of_plates(wells: Wells, problems: Problems) -> Problems:
    """From problems of batches, shape (batches, features), to those of the plates that have wells of them in use."""
    used = np.isin(wells.role, ["sample", "positive", "negative"])
    used |= ~np.isin(wells.plate, wells.plate[used])  # where a plate has none, its batches say so
    pairs = np.unique(np.stack([wells.plate[used], wells.batch[used]]), axis=1)
    found = {reason: np.zeros((len(wells.plates), len(wells.features)), dtype=bool) for reason in [*problems, NO_BATCH]}
    for plate, batch in pairs.T:
        if batch < 0:
            found[NO_BATCH][plate] = True
            continue
        for reason, where in problems.items():
            found[reason][plate] |= where[batch]
    return found


def _role(reference: str) -> str:
    return {"samples": "sample", "negative": "negative"}[reference]


METHODS: Mapping[str, Callable[[Wells, str], tuple[np.ndarray, Problems]]] = {
    "percent_of_control": percent_of_control,
    "percent_inhibition": percent_inhibition,
    "z_score": z_score,
    "robust_z_score": robust_z_score,
    "b_score": b_score,
}


def normalize(wells: Wells, methods: Sequence[str], reference: str = "samples") -> Normalized:
    """Normalize by one method, or by several, each on the values of the one before.

    Parameters
    ----------
    methods
        Names in `METHODS`.
    reference
        `samples` or `negative`: the wells that z scores and robust z scores refer to.

    Raises
    ------
    ConfigError
        If there is no such method.
    """
    problems: Problems = {}
    for name in methods:
        if name not in METHODS:
            raise ConfigError(f"there is no normalization {name}: expected one of {', '.join(METHODS)}")
        values, found = METHODS[name](wells, reference)
        wells = wells.with_values(values)
        for reason, where in found.items():
            if not problems or reason not in problems:
                problems[reason] = where
            else:
                problems[reason] = problems[reason] | where
    return Normalized(wells.values, problems)
