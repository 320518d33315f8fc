"""Replicates: wells with the same treatment, within and across plates, and how well they agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from openhcs_omero.analysis.hits import treated_wells, treatment_columns


def summarize_replicates(table: pd.DataFrame, usable: np.ndarray, columns: Sequence[str]) -> pd.DataFrame:
    """One row per treatment and column.

    Parameters
    ----------
    table
        One row per well, with `compound` and, where there are, `concentration` and `cell_line`: the treatment.
    usable
        bool, shape (wells,): the wells that count. Wells without a compound don't.
    columns
        What is summarized.

    Returns
    -------
    DataFrame
        The treatment, `feature`, `n` (wells with a value), `n_plates`, `mean`, `median`, `sd` (n - 1) and `reason`,
        why a number is missing, else empty. A treatment whose wells are all excluded has a row, too. Empty if the table
        has no `compound`.
    """
    keys = treatment_columns(table)
    names = [*keys, "feature", "n", "n_plates", "mean", "median", "sd", "reason"]
    if not keys:
        return pd.DataFrame(columns=names)
    treated = treated_wells(table)
    chosen = table.loc[treated, list(dict.fromkeys([*keys, "plate", *columns]))]  # a copy: not of hundreds of columns
    used = usable[treated]
    parts = []
    for column in columns:
        values = chosen[[*keys, "plate"]].assign(**{column: chosen[column].where(used)})
        grouped = values.groupby(keys, dropna=False, sort=True)[column]
        part = grouped.agg(n="count", mean="mean", median="median", sd="std")
        plates = values["plate"].where(values[column].notna())
        by = [values[key] for key in keys]
        part["n_plates"] = plates.groupby(by, dropna=False, sort=True).nunique()
        part["used"] = pd.Series(used, index=values.index).groupby(by, dropna=False, sort=True).sum()
        parts.append(part.reset_index().assign(feature=column))
    made = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)
    if parts:
        reasons = {"all wells are excluded": made["used"] == 0, "no value": made["n"] == 0}
        reasons["one replicate has no SD"] = made["n"] == 1
        made["reason"] = np.select(list(reasons.values()), list(reasons), "")
    return made[names]


def compare_plates(table: pd.DataFrame, usable: np.ndarray, column: str, least: int = 3) -> pd.DataFrame:
    """Spearman's rank correlation of each two plates over the treatments that both have.

    Parameters
    ----------
    column
        What is compared. Where a plate has a treatment more than once, the mean of its wells.
    least
        Pairs of plates with fewer common treatments have no correlation; those without any have no row.

    Returns
    -------
    DataFrame
        `plate_1`, `plate_2`, `feature`, `n` (common treatments), `spearman` and `reason`, why it is
        missing, else empty.
    """
    from scipy.stats import rankdata

    names = ["plate_1", "plate_2", "feature", "n", "spearman", "reason"]
    keys = treatment_columns(table)
    if not keys:
        return pd.DataFrame(columns=names)
    used = usable & table["compound"].notna().to_numpy() & table[column].notna().to_numpy()
    chosen = table.loc[used, [*keys, "plate", column]]
    treatment = chosen.groupby(keys, dropna=False, sort=False).ngroup().to_numpy()
    means = chosen[column].groupby([chosen["plate"].to_numpy(), treatment], sort=False).mean()
    plates = {str(plate): part.droplevel(0).sort_index() for plate, part in means.groupby(level=0, sort=False)}
    rows = []
    for (first, second), common in _pairs(plates):
        if len(common) < least:
            rows.append((first, second, column, len(common), np.nan, f"fewer than {least} common treatments"))
            continue
        ranks = np.stack([rankdata(plates[plate].loc[common].to_numpy()) for plate in (first, second)])
        centered = ranks - ranks.mean(axis=1, keepdims=True)
        norm = np.sqrt((centered**2).sum(axis=1).prod())
        spearman = (centered[0] * centered[1]).sum() / norm if norm > 0 else np.nan
        reason = "" if norm > 0 else "one plate has equal values only"
        rows.append((first, second, column, len(common), spearman, reason))
    made = pd.DataFrame(rows, columns=names)
    return made.astype({"n": int, "spearman": float})  # of no rows, too


def _pairs(plates: dict[str, pd.Series]) -> list[tuple[tuple[str, str], np.ndarray]]:
    """Each two plates with common treatments, and these. Plates are counted as a sparse product."""
    from scipy.sparse import csr_array

    names = list(plates)
    if len(names) < 2:
        return []
    where = np.concatenate([np.full(len(plates[name]), number) for number, name in enumerate(names)])
    what = np.concatenate([plates[name].index.to_numpy() for name in names])
    has = csr_array((np.ones(len(where), dtype=int), (where, what)))
    shared = (has @ has.T).tocoo()
    pairs = [(i, j) for i, j in zip(*shared.coords) if i < j]
    return [
        ((names[i], names[j]), np.intersect1d(plates[names[i]].index, plates[names[j]].index, assume_unique=True))
        for i, j in sorted(pairs)
    ]
