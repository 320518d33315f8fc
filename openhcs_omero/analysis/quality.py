"""The quality of plates: can the numbers of a plate be believed?

References
----------
Zhang, Chung and Oldenburg, A simple statistical parameter for use in evaluation and validation of high throughput
screening assays, Journal of Biomolecular Screening 4, 67 (1999): Z', signal to background.
Zhang, A pair of new statistical parameters for quality control in RNA interference high-throughput screening assays,
Genomics 89, 552 (2007): SSMD.
Malo et al., Statistical practice in high-throughput screening data analysis, Nature Biotechnology 24, 167 (2006): CV.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from openhcs_omero.analysis.polish import nanmedian, polish_plates
from openhcs_omero.analysis.wells import MAD_TO_SD, Wells, by_group, divide, mad_by_group, without_rounding

Arrays = dict[str, np.ndarray]


def z_prime(mean: np.ndarray, sd: np.ndarray, mean_other: np.ndarray, sd_other: np.ndarray) -> np.ndarray:
    """``1 - 3 (SD1 + SD2) / |mean1 - mean2|`` of two kinds of controls (Zhang 1999).

    With medians and 1.4826 MAD it is the robust Z'. NaN where the means are equal, an SD is missing, or both SDs are 0:
    controls that are all alike say nothing of the spread.
    """
    spread = sd + sd_other
    spread = np.where(spread == 0, np.nan, spread)
    return 1 - 3 * divide(spread, np.abs(mean - mean_other))


def ssmd(mean: np.ndarray, sd: np.ndarray, mean_other: np.ndarray, sd_other: np.ndarray) -> np.ndarray:
    """``(mean1 - mean2) / sqrt(SD1^2 + SD2^2)``, the strictly standardized mean difference (Zhang 2007)."""
    return divide(mean - mean_other, np.sqrt(sd**2 + sd_other**2))


def compute_quality(
    wells: Wells, problems: Mapping[str, Mapping[str, np.ndarray]] | None = None, without_map: np.ndarray | None = None
) -> pd.DataFrame:
    """One row per plate and feature.

    Parameters
    ----------
    problems
        Why normalized values were not computed: normalization -> reason -> bool, shape (plates, features).
    without_map
        bool, shape (plates,): plates that no plate map names. None if there is no plate map at all.

    Returns
    -------
    DataFrame
        `plate`, `feature`, then: `z_prime`, `robust_z_prime`; `ssmd`, positive minus negative controls;
        `signal_to_background`, mean of the positive by mean of the negative controls; `cv_negative`, `cv_positive`,
        SD by absolute mean, as a fraction; `n_negative`, `n_positive`, `n_samples`, wells with a value; `n_missing`,
        wells in use without one; `n_excluded`; `edge_effect`, `row_effect`, `column_effect`, `row_trend` and
        `column_trend`, and `drift` if the wells say when they were acquired, see
        `plate_effects`; and `reason`, what was not computed and why, else empty.
    """
    groups, count = wells.plate, len(wells.plates)
    used = wells.role != "excluded"
    found: Arrays = {}
    for role in ("negative", "positive"):
        chosen = wells.has_role(role)
        center, median = (by_group(wells.values, groups, chosen, count, name) for name in ("mean", "median"))
        found[f"mean_{role}"], found[f"median_{role}"] = center, median
        found[f"sd_{role}"] = without_rounding(by_group(wells.values, groups, chosen, count, "std"), center)
        found[f"mad_{role}"] = without_rounding(mad_by_group(wells.values, groups, chosen, median), median)
        found[f"n_{role}"] = by_group(wells.values, groups, chosen, count, "count")
        found[f"mad_{role}"] = np.where(found[f"n_{role}"] < 2, np.nan, found[f"mad_{role}"])
    n_samples = by_group(wells.values, groups, wells.has_role("sample"), count, "count")
    in_use = np.bincount(groups[used], minlength=count)[:, None]
    with_value = by_group(wells.values, groups, used, count, "count")
    effects = plate_effects(wells)
    columns: Arrays = {
        "z_prime": z_prime(*(found[f"{what}_{role}"] for role in ("positive", "negative") for what in ("mean", "sd"))),
        "robust_z_prime": z_prime(
            *(found[f"{what}_{role}"] for role in ("positive", "negative") for what in ("median", "mad"))
        ),
        "ssmd": ssmd(*(found[f"{what}_{role}"] for role in ("positive", "negative") for what in ("mean", "sd"))),
        "signal_to_background": divide(found["mean_positive"], found["mean_negative"]),
        "cv_negative": divide(found["sd_negative"], np.abs(found["mean_negative"])),
        "cv_positive": divide(found["sd_positive"], np.abs(found["mean_positive"])),
        "n_negative": found["n_negative"],
        "n_positive": found["n_positive"],
        "n_samples": n_samples,
        "n_missing": in_use - with_value,
        "n_excluded": np.broadcast_to(np.bincount(groups[~used], minlength=count)[:, None], n_samples.shape),
        **effects,
    }
    reasons = _reasons(found, n_samples, effects, in_use, with_value, without_map)
    known, used = dict(reasons), in_use > 0  # a plate without wells in use needs no other reason
    for name, causes in (problems or {}).items():
        reasons += [(f"{name}: {cause}", where & used & ~known.get(cause, False)) for cause, where in causes.items()]
    table = {
        "plate": np.repeat(np.array(wells.plates, dtype=object), len(wells.features)),
        "feature": np.tile(np.array(wells.features, dtype=object), count),
    }
    for name, values in columns.items():
        table[name] = values.astype(int).ravel() if name.startswith("n_") else values.ravel()
    return pd.DataFrame(table).assign(reason=join_reasons(reasons, n_samples.shape))


def plate_effects(wells: Wells) -> Arrays:
    """What a well's place on its plate does, from the median polish of the sample wells.

    All are in units of the noise, 1.4826 MAD of the polish's residuals, so values within -1 and 1 are small.

    Returns
    -------
    dict
        Name -> float64, shape (plates, features):
        `edge_effect`, the median of the wells at the plate's edge minus that of the others; `row_effect` and
        `column_effect`, the effect that is farthest from 0; `row_trend` and `column_trend`, how much the straight line
        through the effects rises from the first row or column to the last one; and, if the wells say when they were
        acquired, `drift`, how much the line through the sample wells rises from the first one acquired to the last one.
    """
    shape = (len(wells.plates), len(wells.features))
    names = ["edge_effect", "row_effect", "column_effect", "row_trend", "column_trend"]
    names += ["drift"] if wells.acquired is not None else []
    found = {name: np.full(shape, np.nan) for name in names}
    for number, (_, polish) in enumerate(polish_plates(wells)):
        flat = polish.residuals.reshape(shape[1], -1)
        noise = MAD_TO_SD * nanmedian(np.abs(flat - nanmedian(flat)[:, None]))
        values = polish.residuals + polish.overall[:, None, None] + polish.rows[:, :, None] + polish.columns[:, None, :]
        noise = without_rounding(noise, nanmedian(np.abs(values.reshape(shape[1], -1))))
        edge = np.ones(values.shape[1:], dtype=bool)
        edge[1:-1, 1:-1] = False
        if not edge.all():
            found["edge_effect"][number] = divide(nanmedian(values[:, edge]) - nanmedian(values[:, ~edge]), noise)
        for name, effect in (("row", polish.rows), ("column", polish.columns)):
            found[f"{name}_effect"][number] = divide(_farthest(effect), noise)
            found[f"{name}_trend"][number] = divide(_rise(effect), noise)
        if wells.acquired is not None:
            found["drift"][number] = divide(_rise(_in_order(wells, number)), noise)
    return found


def _in_order(wells: Wells, plate: int) -> np.ndarray:
    """The values of a plate's sample wells, (features, wells), in the order in which the wells were acquired."""
    assert wells.acquired is not None
    mine = np.flatnonzero((wells.plate == plate) & wells.has_role("sample") & np.isfinite(wells.acquired))
    places = wells.row[mine], wells.column[mine]  # wells of the same time have a fixed order, too
    order = mine[np.lexsort((places[1], places[0], wells.acquired[mine]))]
    return wells.values[order].T


def _farthest(effects: np.ndarray) -> np.ndarray:
    """The effect farthest from 0 of each feature; NaN where all are missing."""
    size = np.where(np.isnan(effects), -1.0, np.abs(effects))
    return np.take_along_axis(effects, size.argmax(axis=1)[:, None], axis=1)[:, 0]


def _rise(effects: np.ndarray) -> np.ndarray:
    """Least squares slope of the effects over their number, times the number of steps; NaN with fewer than three."""
    known = ~np.isnan(effects)
    n = known.sum(axis=1)
    x = np.where(known, np.arange(effects.shape[1]), 0.0)
    y = np.where(known, effects, 0.0)
    covariance = (x * y).sum(axis=1) - divide(x.sum(axis=1) * y.sum(axis=1), n)
    slope = divide(covariance, (x**2).sum(axis=1) - divide(x.sum(axis=1) ** 2, n))
    return np.where(n >= 3, slope * (effects.shape[1] - 1), np.nan)


def _reasons(
    found: Arrays,
    n_samples: np.ndarray,
    effects: Arrays,
    in_use: np.ndarray,
    with_value: np.ndarray,
    without_map: np.ndarray | None,
) -> list[tuple[str, np.ndarray]]:
    """Reasons, and for which plates and features each holds."""
    shape = n_samples.shape
    unmapped = np.zeros(shape, dtype=bool) if without_map is None else np.broadcast_to(without_map[:, None], shape)
    excluded = np.broadcast_to(in_use == 0, shape)
    empty = (with_value == 0) & ~excluded
    reasons = [("no plate map", unmapped), ("all wells are excluded", excluded), ("no well has a value", empty)]
    for role in ("negative", "positive"):
        n = found[f"n_{role}"]
        reasons += [(f"no {role} controls", (n == 0) & ~excluded), (f"only one {role} control", n == 1)]
    both = (found["n_negative"] > 1) & (found["n_positive"] > 1)
    same = found["mean_negative"] == found["mean_positive"]
    sd, mad = (found[f"{what}_negative"] + found[f"{what}_positive"] for what in ("sd", "mad"))
    return [
        *reasons,
        ("positive and negative controls have the same mean", both & same),
        (
            "positive and negative controls have the same median",
            both & ~same & (found["median_negative"] == found["median_positive"]),
        ),
        ("the controls are all alike", both & (sd == 0)),
        ("the MAD of the controls is 0", both & (sd != 0) & (mad == 0)),
        ("the mean of the negative controls is 0", found["mean_negative"] == 0),
        ("the mean of the positive controls is 0", found["mean_positive"] == 0),
        ("no sample wells", (n_samples == 0) & ~excluded),
        (
            "the sample wells have too little spread for plate effects",
            (n_samples > 0) & np.isnan(effects["row_effect"]),
        ),
        (
            "no sample wells at the plate's edge, or none elsewhere",
            np.isnan(effects["edge_effect"]) & ~np.isnan(effects["row_effect"]),
        ),
        *(
            [("the order of acquisition is not known", np.isnan(effects["drift"]) & ~np.isnan(effects["row_effect"]))]
            if "drift" in effects
            else []
        ),
    ]


def join_reasons(reasons: list[tuple[str, np.ndarray]], shape: tuple[int, ...]) -> np.ndarray:
    """The reasons that hold for each plate and feature as one text, flattened; empty where none does."""
    holds = np.stack([np.broadcast_to(where, shape).ravel() for _, where in reasons], axis=1)
    codes, inverse = np.unique(np.packbits(holds, axis=1), axis=0, return_inverse=True)
    bits = np.unpackbits(codes, axis=1, count=len(reasons)).astype(bool)
    texts = ["; ".join(reason for (reason, _), one in zip(reasons, row) if one) for row in bits]
    return np.array(texts, dtype=object)[inverse.ravel()]
