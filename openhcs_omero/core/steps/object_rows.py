"""Rows of objects that several steps measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


def one_row_per_object(rows: Iterable[dict[str, Any]], labels: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Combine the rows that several steps returned for the same object.

    Parameters
    ----------
    rows
        Each has the name of its step as `step`. Rows with `labels` and `label` are about the object of that number, at
        timepoint `t`, by default 0, and if its labels differ between channels, in `channel`.
    labels
        (T, C or 1, Z or 1, Y, X), by name.

    Returns
    -------
    list of dict
        In the order of the first row of each object. If a later step returned another value in a column, that column
        starts with the name of the step.
    """
    found: dict[Any, dict[str, Any]] = {}
    seen = set()
    for number, row in enumerate(rows):
        name = str(row.get("labels"))
        key: Any = number
        if name in labels and row.get("label") is not None:
            by_channel = labels[name].shape[1] > 1
            key = name, row["label"], row.get("t", 0), row.get("channel") if by_channel else None
        if (key, row["step"]) in seen:  # a step that returns several rows about an object means them to be several
            key = number
        seen.add((key, row["step"]))
        known = found.setdefault(key, {})
        for column, value in row.items():
            if column not in known or column == "step":
                known.setdefault(column, value)
            elif not _same(known[column], value):
                known[f"{row['step']}_{column}"] = value
    return list(found.values())


def _same(a: Any, b: Any) -> bool:
    """Whether two values are equal, or both are missing."""
    return bool(a == b) or (a != a and b != b)
