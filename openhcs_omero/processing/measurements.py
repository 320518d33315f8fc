"""Helpers for the results of steps: one value per site or timepoint, and None if there is nothing to measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def mean_and_sd(name: str, values: Sequence[float] | np.ndarray) -> dict[str, float | None]:
    """Compute the mean and the sample standard deviation over the objects of a site.

    Parameters
    ----------
    name
        Name of the feature.
    values
        One value per object.

    Returns
    -------
    dict
        `<name>`, None without objects, and `<name>_sd`, None with fewer than two objects.
    """
    values = np.asarray(values, float)
    return {
        name: float(values.mean()) if len(values) else None,
        f"{name}_sd": float(values.std(ddof=1)) if len(values) > 1 else None,
    }


def by_timepoint(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Combine the results of all timepoints: plain values for a single timepoint, otherwise lists of values.

    Parameters
    ----------
    rows
        One dict per timepoint, all with the same keys.
    """
    if len(rows) == 1:
        return dict(rows[0])
    return {key: [row[key] for row in rows] for key in rows[0]}
