"""What steps return: one value per site, or one per timepoint, and nothing where there is nothing to measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def mean_and_sd(name: str, values: Sequence[float] | np.ndarray) -> dict[str, float | None]:
    """Mean and sample standard deviation of the objects of a site.

    Parameters
    ----------
    name
        Name of the feature.
    values
        One value per object.

    Returns
    -------
    dict
        `<name>`, None without objects, and `<name>_sd`, None with fewer than two.
    """
    values = np.asarray(values, float)
    return {
        name: float(values.mean()) if len(values) else None,
        f"{name}_sd": float(values.std(ddof=1)) if len(values) > 1 else None,
    }


def by_timepoint(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The results of a step from those of each timepoint: plain values if there is one, otherwise lists of values.

    Parameters
    ----------
    rows
        One dict per timepoint, all with the same keys.
    """
    if len(rows) == 1:
        return dict(rows[0])
    return {key: [row[key] for row in rows] for key in rows[0]}
