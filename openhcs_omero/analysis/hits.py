"""Hits: the sample wells that stand out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from openhcs_omero.analysis.plate_maps import KEYS, find_column
from openhcs_omero.analysis.wells import is_control
from openhcs_omero.errors import ConfigError

Z_LIKE = ("z_score", "robust_z_score", "b_score")
"""Normalizations that give inactive wells a standard normal distribution, so that p-values can be computed."""


@dataclass(frozen=True)
class Criterion:
    """What a hit must fulfill.

    Attributes
    ----------
    column
        The column of the table, such as ``spots_c0_robust_z_score``.
    above, below
        A hit is above the one or below the other; None is no threshold. Both at once ask for either direction.
    is_z
        Whether the column is a z score, a robust z score or a B score.
    """

    column: str
    above: float | None = None
    below: float | None = None
    is_z: bool = False

    def __post_init__(self) -> None:
        if self.above is None and self.below is None:
            raise ConfigError(f"hits by {self.column} need a threshold: give `above`, `below` or both")
        if self.above is not None and self.below is not None and self.above < self.below:
            raise ConfigError(
                f"hits by {self.column} would be all wells: every value is above {self.above:g} or below {self.below:g}"
            )


def find_hits(
    table: pd.DataFrame, usable: np.ndarray, criteria: Sequence[Criterion], fdr: float | None = None
) -> pd.DataFrame:
    """Rank the wells that fulfill all criteria.

    Parameters
    ----------
    table
        One row per well: `plate`, `well`, the columns of the criteria and of the plate map.
    usable
        bool, shape (wells,): the sample wells that may be hits.
    criteria
        A hit fulfills all of them. The hit that is farthest beyond a threshold of the first one gets rank 1.
    fdr
        If given, only wells with a `q_value` of at most this are hits: this fraction of them is expected to be false.

    Returns
    -------
    DataFrame
        `rank`, the columns of `table`, and `direction`, above or below by the first criterion; `p_value`, under a
        normal distribution, of the least significant criterion, one-sided if it has one threshold; `q_value`,
        adjusted over all usable wells with a p-value; `n_replicates`, usable wells with the same compound and
        concentration, this one too, and `n_replicate_hits`, how many of them are hits. What can't be computed is NaN.

    References
    ----------
    Benjamini and Hochberg, Controlling the false discovery rate, Journal of the Royal Statistical Society B 57, 289
    (1995). The largest of several p-values is the intersection-union test of Berger, Technometrics 24, 295 (1982).
    """
    if fdr is not None and not all(criterion.is_z for criterion in criteria):
        bad = next(criterion.column for criterion in criteria if not criterion.is_z)
        raise ConfigError(f"hits by {bad} have no false discovery rate: normalize by one of {', '.join(Z_LIKE)}")
    passed = usable.copy()
    for criterion in criteria:
        passed &= _passes(table[criterion.column].to_numpy(), criterion)
    p_value = _p_values(table, usable, criteria)
    q_value = adjust_p_values(p_value)
    if fdr is not None:
        passed &= np.less_equal(q_value, fdr, where=~np.isnan(q_value), out=np.zeros(len(table), dtype=bool))
    first = criteria[0]
    score = table[first.column].to_numpy(dtype=float)
    over, under = (
        -np.inf if limit is None else sign * (score - limit) for limit, sign in ((first.above, 1), (first.below, -1))
    )
    up = np.broadcast_to(np.greater(over, 0), score.shape)
    total, hits = _replicates(table, usable, passed)
    marked = table.assign(
        direction=np.where(up, "above", "below"),
        p_value=p_value,
        q_value=q_value,
        n_replicates=total,
        n_replicate_hits=hits,
    )[passed]
    order = np.argsort(-np.maximum(over, under)[passed], kind="stable")
    ranked = marked.iloc[order].reset_index(drop=True)
    ranked.insert(0, "rank", np.arange(1, len(ranked) + 1))
    return ranked


def _passes(values: np.ndarray, criterion: Criterion) -> np.ndarray:
    """A missing value passes no threshold."""
    above = np.zeros(len(values), bool) if criterion.above is None else values > criterion.above
    below = np.zeros(len(values), bool) if criterion.below is None else values < criterion.below
    return above | below


def _p_values(table: pd.DataFrame, usable: np.ndarray, criteria: Sequence[Criterion]) -> np.ndarray:
    from scipy.stats import norm

    largest = np.zeros(len(table))
    for criterion in criteria:
        z = table[criterion.column].to_numpy(dtype=float)
        if not criterion.is_z:
            p = np.full(len(table), np.nan)
        elif criterion.above is not None and criterion.below is not None:
            p = 2 * norm.sf(np.abs(z))
        else:
            p = norm.sf(z if criterion.above is not None else -z)
        largest = np.maximum(largest, p)
    return np.where(usable, largest, np.nan)


def adjust_p_values(p_values: np.ndarray) -> np.ndarray:
    """Benjamini-Hochberg q-values; a missing p-value is not counted and stays missing."""
    from statsmodels.stats.multitest import fdrcorrection

    known = ~np.isnan(p_values)
    adjusted = np.full(p_values.shape, np.nan)
    if known.any():
        adjusted[known] = fdrcorrection(p_values[known])[1]
    return adjusted


def treatment_columns(table: pd.DataFrame) -> list[str]:
    """The columns that make two wells replicates of each other; empty if the table has no `compound`."""
    if "compound" not in table.columns:
        return []
    others = (find_column(table.columns, "concentration"), "cell_line")
    return ["compound", *(name for name in others if name is not None and name in table.columns)]


def treated_wells(table: pd.DataFrame) -> np.ndarray:
    """The wells with a compound that are no controls, whether they are excluded or not; bool, shape (wells,)."""
    treated = table["compound"].notna()
    if "control" in table.columns:
        treated &= ~is_control(table["control"])
    return treated.to_numpy()


def _replicates(table: pd.DataFrame, usable: np.ndarray, passed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each well: how many usable wells have its treatment, and how many of them are hits; NaN without compound."""
    keys = treatment_columns(table)
    total = np.full(len(table), np.nan)
    hits = total.copy()
    if keys:
        known = usable & table["compound"].notna().to_numpy()
        groups = pd.Series(passed[known]).groupby([table.loc[known, key].to_numpy() for key in keys], dropna=False)
        total[known], hits[known] = groups.transform("size"), groups.transform("sum")
    return total, hits


def hit_columns(
    table: pd.DataFrame, map_columns: Sequence[str], criteria: Sequence[Criterion], features: Sequence[str]
) -> list[str]:
    """The columns that the list of hits takes from the table: place, plate map, the features and their scores."""
    taken = ["rank", "direction", "p_value", "q_value", "n_replicates", "n_replicate_hits"]
    for name in [*map_columns, *(criterion.column for criterion in criteria), *features]:
        if name in taken:
            raise ConfigError(f"hits.csv has a column {name} of its own: rename that of the tables or the plate map")
    first = [name for name in (find_column(map_columns, "compound"), find_column(map_columns, "concentration")) if name]
    others = [name for name in map_columns if name != "control"]
    return list(dict.fromkeys([*KEYS, *first, *others, *(criterion.column for criterion in criteria), *features]))
