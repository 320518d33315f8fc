"""The wells of a screen as arrays, and statistics of groups of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from openhcs_omero.analysis.plate_maps import PLACE
from openhcs_omero.analysis.sheets import KNOWN
from openhcs_omero.errors import OpenHCSError, brief
from openhcs_omero.plates.paths import parse_well

ACQUIRED = "acquired_s"
"""Column of the tables of wells: when a well was acquired, in seconds."""
MAD_TO_SD = 1.4826
"""Times the median absolute deviation, this is the SD of a normal distribution (R's `mad` has the same constant)."""


@dataclass(frozen=True)
class Wells:
    """Measurements of all wells of all plates.

    Attributes
    ----------
    values
        float64, shape (wells, features). Missing and infinite measurements are NaN.
    features
        Their names.
    plate
        int, shape (wells,): index into `plates`.
    plates
        The plates, in the order of the table.
    row, column
        int, shape (wells,), from 0.
    role
        str, shape (wells,): `sample`, `positive`, `negative`, `empty`, or `excluded`, which no statistic uses.
    batch
        int, shape (wells,): which wells are normalized together; the plate, if nothing else is asked for. -1 where the
        table doesn't say.
    acquired
        float64, shape (wells,): when each well was acquired, in seconds, NaN where unknown; None if the table
        doesn't say.
    """

    values: np.ndarray
    features: list[str]
    plate: np.ndarray
    plates: list[str]
    row: np.ndarray
    column: np.ndarray
    role: np.ndarray
    batch: np.ndarray
    acquired: np.ndarray | None = None

    def with_values(self, values: np.ndarray) -> Wells:
        """The same wells with other values."""
        return replace(self, values=values)

    def has_role(self, role: str) -> np.ndarray:
        """Which wells have the role, bool, shape (wells,)."""
        return self.role == role


def read_wells(
    table: pd.DataFrame, features: Sequence[str], excluded: np.ndarray | None = None, batch: str | None = None
) -> Wells:
    """The wells of a table with `plate`, `well`, the features and, where there are controls, `control`.

    Parameters
    ----------
    excluded
        bool, shape (wells,): wells that no statistic uses.
    batch
        The column that says which wells are normalized together, instead of `plate`.

    Raises
    ------
    OpenHCSError
        If a feature or `batch` is no column of the table or a feature is not numeric.
    """
    for name in features:
        if name not in table.columns:
            raise OpenHCSError(f"the tables have no column {name}: they have {', '.join(numeric_features(table))}")
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise OpenHCSError(f"the column {name} can't be analyzed: {_no_number(table, name)}")
    values = table[list(features)].to_numpy(dtype="float64", na_value=np.nan, copy=True)
    values[~np.isfinite(values)] = np.nan
    plate, plates = pd.factorize(table["plate"])
    well, names = pd.factorize(table["well"])
    places = np.array([parse_well(name) for name in names], dtype=int).reshape(-1, 2)[well]
    role = np.full(len(table), "sample", dtype=object)
    if "control" in table.columns:
        control = table["control"]
        stated = is_control(control).to_numpy()
        role[stated] = control.to_numpy()[stated]
    if excluded is not None:
        role[excluded] = "excluded"
    return Wells(
        values,
        list(features),
        plate,
        list(plates),
        places[:, 0],
        places[:, 1],
        role,
        plate if batch is None else _batches(table, batch),
        pd.to_numeric(table[ACQUIRED], errors="coerce").to_numpy(dtype=float) if ACQUIRED in table.columns else None,
    )


def _batches(table: pd.DataFrame, column: str) -> np.ndarray:
    if column not in table.columns:
        raise OpenHCSError(f"the tables have no column {column}, which says which wells are normalized together")
    return pd.factorize(table[column])[0]


def _no_number(table: pd.DataFrame, name: str) -> str:
    """Where a column has something that is not a number, as a clause."""
    wrong = table[pd.to_numeric(table[name], errors="coerce").isna() & table[name].notna()].iloc[0]
    return f"{brief(wrong[name])} of well {wrong['well']} of plate {wrong['plate']} is not a number"


def mixed_columns(table: pd.DataFrame) -> list[str]:
    """Sentences on the columns that have numbers and, in less than half of the wells, other texts."""
    notes = []
    for name in table.columns.difference([*PLACE, *KNOWN]):
        if not pd.api.types.is_numeric_dtype(table[name]):
            numbers = pd.to_numeric(table[name], errors="coerce").notna().sum()
            if numbers > table[name].notna().sum() / 2:
                notes.append(f"the column {name} is not analyzed: {_no_number(table, name)}")
    return notes


def numeric_features(table: pd.DataFrame, other: Sequence[str] = ()) -> list[str]:
    """The numeric columns that measure something: not those that say where a row is, nor the `other` ones."""
    return [
        name for name in table.columns if name not in (*PLACE, *other) and pd.api.types.is_numeric_dtype(table[name])
    ]


def is_control(control: pd.Series) -> pd.Series:
    """Which wells are no samples, by their `control`; bool."""
    return control.notna() & (control != "none")


def by_group(values: np.ndarray, groups: np.ndarray, chosen: np.ndarray, count: int, statistic: str) -> np.ndarray:
    """A statistic of the chosen wells of each group, missing values left out.

    Parameters
    ----------
    values
        Shape (wells, features).
    groups
        int, shape (wells,), from 0 to `count` - 1.
    statistic
        `mean`, `std` (n - 1), `median` or `count`.

    Returns
    -------
    ndarray
        float64, shape (count, features); NaN where a group has too few values (0 for `count`).
    """
    if not chosen.any():
        return np.full((count, values.shape[1]), 0.0 if statistic == "count" else np.nan)
    grouped = pd.DataFrame(values[chosen]).groupby(groups[chosen], sort=True)
    found = getattr(grouped, statistic)().reindex(range(count))
    return (found.fillna(0) if statistic == "count" else found).to_numpy(dtype="float64")


def mad_by_group(values: np.ndarray, groups: np.ndarray, chosen: np.ndarray, center: np.ndarray) -> np.ndarray:
    """The median absolute deviation from `center`, scaled to the SD of a normal distribution, like `by_group`."""
    distance = np.abs(values - center[groups])
    return MAD_TO_SD * by_group(distance, groups, chosen, len(center), "median")


def without_rounding(spread: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Spreads that are nothing but rounding, as of equal values that no binary number hits, become 0."""
    return np.where(spread <= 1e-12 * np.abs(center), 0.0, spread)


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient, NaN where the denominator is 0 or either is missing."""
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator != 0)
