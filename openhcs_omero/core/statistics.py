"""Statistics over the sites and the objects of a well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from openhcs_omero.core.features import PLACE, Feature, Features
from openhcs_omero.errors import StepError

MISSING = ("", "nan", "NaN", "None")
KEYS = ("plate", "well", "row", "column", "acquisition", "t")


def summarize(sites: pd.DataFrame, declared: Features) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """Compute one row per well, or per well, acquisition and timepoint, from the table of sites.

    A feature `f` becomes several columns. Missing values are ignored in all of them.

    ========= ============================= ======================= ======================
    statistic `f`                           spread                  number
    ========= ============================= ======================= ======================
    mean      mean over sites               `f_sd`, between sites   `f_n`, sites with a value
    count     mean over sites               `f_sd`, between sites   `f_sum`, the sum over sites
    objects   mean over the well's objects  `f_sd`, between objects `f_n`, objects
    text      the value, if all sites agree
    ========= ============================= ======================= ======================

    Parameters
    ----------
    sites
        The table of sites; all columns are text.
    declared
        The declared features of all steps.

    Returns
    -------
    wells, columns
        The table of wells, with all columns as text, and one row per column of the tables of sites and wells with its
        unit, description and statistic.
    """
    if sites.empty:
        return sites, []
    groups = sites.groupby([key for key in KEYS if key in sites], sort=False)
    group = groups.ngroup()
    columns: dict[str, pd.Series] = {"sites": group.groupby(group).size().astype(str)}
    if "time_s" in sites:
        columns["time_s"] = _text(_numbers(sites["time_s"]).groupby(group).mean())
    about: list[dict[str, str]] = []
    for name in _features(sites, declared):
        feature = declared[name]
        about += _described("features.csv", feature, [(name, "")])
        new = list(_statistics(sites, name, feature, group))
        columns |= {column: values for column, _, values in new}
        about += _described("wells.csv", feature, [(column, statistic) for column, statistic, _ in new])
    wells = groups.head(1)[[key for key in KEYS if key in sites]].reset_index(drop=True)
    return pd.concat([wells, pd.DataFrame(columns)], axis=1), sorted(about, key=lambda row: row["table"])


def _features(sites: pd.DataFrame, declared: Features) -> list[str]:
    """The features of the table; standard deviations within sites are not separate features."""
    names = [str(name) for name in sites if name not in PLACE]
    within = {f"{name}_sd" for name in names if declared[name].statistic == "objects"}
    return [name for name in names if name not in within]


def _statistics(
    sites: pd.DataFrame, name: str, feature: Feature, group: pd.Series
) -> Iterator[tuple[str, str, pd.Series]]:
    """Yield (column, statistic, values by well) for one feature."""
    values = _numbers(sites[name])
    if values.notna().ne(~sites[name].isin(MISSING)).any():
        texts = sites[name].mask(sites[name].isin(MISSING)).groupby(group)
        yield name, "the value that all sites have", texts.first().where(texts.nunique() == 1, "")
        return
    if feature.statistic == "objects":
        if feature.count not in sites:
            raise StepError(f"the feature {name!r} is declared as a mean over {feature.count!r}, which no step returns")
        spread = sites.get(f"{name}_sd")
        yield from _over_objects(name, values, _numbers(sites[feature.count]), spread, group)
        return
    by_well = values.groupby(group)
    yield name, "mean over sites", _text(by_well.mean())
    if feature.statistic == "count":
        yield f"{name}_sum", "sum over sites", _text(by_well.sum(min_count=1))
        yield f"{name}_sd", "standard deviation between sites", _text(by_well.std())
    else:
        yield f"{name}_sd", "standard deviation between sites", _text(by_well.std())
        yield f"{name}_n", "number of sites with a value", by_well.count().astype(str)


def _over_objects(
    name: str, means: pd.Series, counts: pd.Series, spread: pd.Series | None, group: pd.Series
) -> Iterator[tuple[str, str, pd.Series]]:
    """Mean, standard deviation and number of a well's objects, from sums of squares within and between its sites."""
    counts = counts.where(means.notna(), 0).fillna(0)
    number = counts.groupby(group).sum()
    mean = (counts * means).groupby(group).sum() / number.where(number > 0)
    yield name, "mean over objects", _text(mean)
    if spread is not None:
        within = np.where(counts > 1, (counts - 1) * _numbers(spread) ** 2, 0)
        between = (counts * (means - group.map(mean)) ** 2).where(counts > 0, 0)
        squares = pd.Series(within + between, means.index)
        unknown = squares.isna().groupby(group).any()
        variance = squares.groupby(group).sum() / (number - 1).where(number > 1)
        yield f"{name}_sd", "standard deviation between objects", _text(variance.mask(unknown) ** 0.5)
    yield f"{name}_n", "number of objects", _text(number)


def _numbers(texts: pd.Series) -> pd.Series:
    return pd.to_numeric(texts.mask(texts.isin(MISSING)), errors="coerce").astype(float)


def _text(values: pd.Series) -> pd.Series:
    return values.map(lambda value: "" if pd.isna(value) else f"{value:.10g}")


def _described(table: str, feature: Feature, columns: list[tuple[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "table": table,
            "column": column,
            "unit": feature.unit,
            "statistic": statistic,
            "description": feature.description,
        }
        for column, statistic in columns
    ]
