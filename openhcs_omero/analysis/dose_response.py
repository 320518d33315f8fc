"""Dose response: the four-parameter Hill curve of each compound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from openhcs_omero.analysis.hits import treated_wells
from openhcs_omero.analysis.plate_maps import find_column, split_unit
from openhcs_omero.errors import OpenHCSError

COLUMNS = ("ec50", "ec50_low", "ec50_high", "slope", "top", "bottom", "r2")
STEEPEST = 10.0
SHALLOWEST = 0.2
CONFIDENCE = 0.95
SIGNIFICANT = 0.05
UNDETERMINED = "no confidence interval: the data don't determine the curve"
NO_WELLS = "no fit: all wells are excluded, or on plates that were stopped"


@dataclass(frozen=True)
class Fit:
    """A fitted curve, or why there is none.

    Attributes
    ----------
    ec50, ec50_low, ec50_high
        The dose halfway between bottom and top, and its 95 % confidence interval, in the unit of the doses.
    slope
        The Hill slope; negative where the response falls with the dose.
    top, bottom
        The upper and lower plateau.
    r2
        Coefficient of determination.
    reason
        Why there is no fit or no confidence interval, and what a limit of the fit held back; else empty. Without a fit
        all numbers are NaN.
    """

    ec50: float = np.nan
    ec50_low: float = np.nan
    ec50_high: float = np.nan
    slope: float = np.nan
    top: float = np.nan
    bottom: float = np.nan
    r2: float = np.nan
    reason: str = ""

    def response(self, dose: np.ndarray) -> np.ndarray:
        """The curve at these doses."""
        start, end = (self.bottom, self.top) if self.slope > 0 else (self.top, self.bottom)
        return hill(np.log(dose), start, end, np.log(self.ec50), abs(self.slope))


def hill(log_dose: np.ndarray, start: float, end: float, log_ec50: float, slope: float) -> np.ndarray:
    """``start + (end - start) / (1 + (EC50 / dose)^slope)``, with natural logarithms of dose and EC50.

    Hill, The possible effects of the aggregation of the molecules of haemoglobin on its dissociation curves, Journal of
    Physiology 40, iv (1910).
    """
    from scipy.special import expit

    return start + (end - start) * expit(slope * (log_dose - log_ec50))


def fit_curve(dose: np.ndarray, response: np.ndarray) -> Fit:
    """Fit the Hill curve by least squares; bounds and starting values come from the data.

    Parameters
    ----------
    dose, response
        float64, of the same length; doses from 0 up, no missing values. Dose 0 tells where the curve starts.

    Notes
    -----
    The start is the best of a grid of EC50s and slopes, for each of which the plateaus follow by linear least squares.
    There is no fit where a flat line explains the data as well (F test of the three more parameters, p > 0.05) or where
    the EC50 lies beyond the lowest or highest dose. The confidence interval is that of log EC50 from the covariance at
    the optimum and Student's t with n - 4 degrees of freedom, and so not symmetric about the EC50.
    """
    from scipy.optimize import least_squares
    from scipy.stats import f as f_distribution

    reason = _why_not(dose, response)
    if reason:
        return Fit(reason=reason)
    x = _log(dose)
    low, high = np.log(dose[dose > 0].min()), np.log(dose.max())
    offset, scale = response.min(), np.ptp(response)
    y = (response - offset) / scale
    bounds = ([-1.0, -1.0, low - 3, SHALLOWEST], [2.0, 2.0, high + 3, STEEPEST])
    found = least_squares(
        lambda p: hill(x, *p) - y,
        _start(x, y, low, high, bounds),
        lambda p: _jacobian(x, *p),
        bounds=bounds,
        xtol=1e-10,
        ftol=1e-10,
    )
    start, end, log_ec50, slope = found.x
    residual, flat, free = 2 * found.cost, float(((y - y.mean()) ** 2).sum()), len(y) - 4
    if residual > 1e-20 and f_distribution.sf(max(flat - residual, 0) / 3 / (residual / free), 3, free) > SIGNIFICANT:
        return Fit(reason="no fit: the curve is no better than a flat line")
    if not low <= log_ec50 <= high:
        side = "below the lowest" if log_ec50 < low else "above the highest"
        return Fit(reason=f"no fit: the EC50 lies {side} dose")
    half = _half_width(found.jac, residual, free)
    interval = np.exp([log_ec50 - half, log_ec50 + half])
    return Fit(
        ec50=float(np.exp(log_ec50)),
        ec50_low=float(interval[0]),
        ec50_high=float(interval[1]),
        slope=float(slope if end > start else -slope),
        top=float(max(start, end) * scale + offset),
        bottom=float(min(start, end) * scale + offset),
        r2=float(1 - residual / flat),
        reason="; ".join([*_at_limit(found.x, bounds), *([] if np.isfinite(half) else [UNDETERMINED])]),
    )


def _at_limit(found: np.ndarray, bounds: tuple[list[float], list[float]]) -> list[str]:
    """Say which numbers the data would drive farther than the fit lets them."""
    held = np.any([np.isclose(found, limit, rtol=0, atol=1e-4) for limit in bounds], axis=0)
    said = [f"the slope is at its limit, {SHALLOWEST:g} or {STEEPEST:g}"] if held[3] else []
    return [*said, "a plateau lies far beyond the data"] if held[:2].any() else said


def _why_not(dose: np.ndarray, response: np.ndarray) -> str:
    doses = np.unique(dose[dose > 0])
    if len(doses) < 4:
        return f"no fit: {len(doses)} {'dose' if len(doses) == 1 else 'doses'}, 4 are needed"
    if len(dose) < 5:
        return f"no fit: {len(dose)} wells, 5 are needed"
    if np.ptp(response) <= 1e-12 * np.abs(response).max():
        return "no fit: all responses are equal"
    return ""


def _log(dose: np.ndarray) -> np.ndarray:
    """Natural logarithm; 0 becomes so low that it is on the plateau."""
    floor = np.log(dose[dose > 0].min()) - 200
    return np.log(dose, out=np.full(dose.shape, floor), where=dose > 0)


def _start(
    x: np.ndarray, y: np.ndarray, low: float, high: float, bounds: tuple[list[float], list[float]]
) -> np.ndarray:
    """The best of a grid of EC50s and slopes, with the plateaus that fit them, within the bounds."""
    from scipy.special import expit

    middles, slopes = (grid.ravel() for grid in np.meshgrid(np.linspace(low, high, 15), [0.5, 1.0, 2.0, 4.0]))
    share = expit(slopes[:, None] * (x - middles[:, None]))
    centered = share - share.mean(axis=1, keepdims=True)
    variance = (centered**2).sum(axis=1)
    height = np.divide(centered @ (y - y.mean()), variance, out=np.zeros_like(variance), where=variance > 1e-12)
    base = y.mean() - height * share.mean(axis=1)
    cost = ((base[:, None] + height[:, None] * share - y) ** 2).sum(axis=1)
    best = int(cost.argmin())
    guess = np.array([base[best], base[best] + height[best], middles[best], slopes[best]])
    inside = 1e-3 * (np.array(bounds[1]) - np.array(bounds[0]))
    return np.clip(guess, bounds[0] + inside, bounds[1] - inside)


def _jacobian(x: np.ndarray, start: float, end: float, log_ec50: float, slope: float) -> np.ndarray:
    from scipy.special import expit

    share = expit(slope * (x - log_ec50))
    change = (end - start) * share * (1 - share)
    return np.stack([1 - share, share, -slope * change, (x - log_ec50) * change], axis=1)


def _half_width(jacobian: np.ndarray, residual: float, free: int) -> float:
    """Half the confidence interval of log EC50; NaN where the data don't determine it (a factor of a million)."""
    from scipy.stats import t as student

    _, singular, rows = np.linalg.svd(jacobian, full_matrices=False)
    if singular[-1] <= 1e-8 * singular[0]:
        return np.nan
    variance = ((rows[:, 2] / singular) ** 2).sum() * residual / free
    half = float(student.ppf((1 + CONFIDENCE) / 2, free) * np.sqrt(variance))
    return half if half < np.log(1e6) else np.nan


def fit_dose_responses(
    table: pd.DataFrame, usable: np.ndarray, column: str, dose: str = "concentration"
) -> pd.DataFrame:
    """Fit a curve to each compound, over all of its wells on all plates.

    Parameters
    ----------
    table
        One row per well: `compound`, the doses, `column` and, where the screen has several, `cell_line`.
    usable
        bool, shape (wells,): the wells that count.
    column
        The response: a feature, or a normalized one.
    dose
        The column of the doses, with or without its unit.

    Returns
    -------
    DataFrame
        `compound`, `cell_line` if the table has it, `feature`, the numbers of `Fit` but for the reason, `unit` of the
        EC50, `n` (wells that were fitted), `n_doses`, `n_missing` (wells without a dose or a response), `n_excluded`
        (wells that don't count) and `reason`. One row per compound that has a well which is no control, in the order of
        the table; without a fit, the row has the reason alone.

    Raises
    ------
    OpenHCSError
        If a column is not there or the doses are not numbers.
    """
    doses = find_column(table.columns, dose) or dose
    for needed in ("compound", doses, column):
        if needed not in table.columns:
            raise OpenHCSError(f"dose response needs the column {needed}, which neither the tables nor plate maps have")
    if not pd.api.types.is_numeric_dtype(table[doses]):
        raise OpenHCSError(f"dose response needs numbers as doses: the column {doses} has text")
    keys = ["compound", *(["cell_line"] if "cell_line" in table.columns else [])]
    treated = treated_wells(table)
    used = usable[treated]
    chosen = table.loc[treated, [*keys, doses, column]]
    groups = chosen.groupby(keys, dropna=False, sort=False).ngroup().to_numpy()
    order = np.argsort(groups, kind="stable")
    x, y = (chosen[values].to_numpy(dtype=float)[order] for values in (doses, column))
    used = used[order]
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    names = chosen[keys].iloc[order[starts]].itertuples(index=False)
    rows = []
    for name, start, end in zip(names, starts, [*starts[1:], len(order)]):
        mine, response = x[start:end][used[start:end]], y[start:end][used[start:end]]
        known = np.isfinite(mine) & np.isfinite(response) & (mine >= 0)
        fit = fit_curve(mine[known], response[known]) if len(mine) else Fit(reason=NO_WELLS)
        rows.append(
            (
                *name,
                column,
                *(getattr(fit, number) for number in COLUMNS),
                split_unit(doses)[1],
                int(known.sum()),
                len(np.unique(mine[known])),
                int((~known).sum()),
                int(end - start - len(mine)),
                fit.reason,
            )
        )
    return pd.DataFrame(
        rows, columns=[*keys, "feature", *COLUMNS, "unit", "n", "n_doses", "n_missing", "n_excluded", "reason"]
    )
