"""Profiles: wells x features for comparing treatments, in pycytominer's conventions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from openhcs_omero.errors import OpenHCSError
from openhcs_omero.io.atomic import replacing

METADATA = "Metadata_"


def make_profiles(
    table: pd.DataFrame, columns: Sequence[str], features: Sequence[str], metadata: Sequence[str]
) -> pd.DataFrame:
    """The wells' normalized features that are worth comparing.

    Parameters
    ----------
    table
        One row per well: `plate`, `well`, normalized features, the plate map's columns, and `excluded` if wells are.
    columns, features
        The normalized features, and what profiles call them.
    metadata
        The plate map's columns.

    Returns
    -------
    DataFrame
        `Metadata_Plate`, `Metadata_Well`, `Metadata_` and a column of the plate map or `excluded`, and the features
        that pycytominer selects over the wells that are not excluded: without those that hardly vary, that miss values
        in more than 5 % of the wells, or that correlate with another one above 0.9.

    Raises
    ------
    OpenHCSError
        If pycytominer is not installed.

    References
    ----------
    Serrano et al., Reproducible image-based profiling with Pycytominer, Nature Methods 22, 677 (2025).
    """
    values = table[list(columns)].set_axis(list(features), axis=1)
    kept = [name for name in ("excluded",) if name in table.columns]
    about = table[["plate", "well", *metadata, *kept]].set_axis(
        [f"{METADATA}Plate", f"{METADATA}Well", *(f"{METADATA}{name}" for name in [*metadata, *kept])], axis=1
    )
    used = values[table["excluded"].isna()] if kept else values
    return pd.concat([about, values[_selected(used)]], axis=1)


def _selected(values: pd.DataFrame) -> list[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it sets an option of pandas that is outdated
            from pycytominer import feature_select
    except ImportError as error:
        raise OpenHCSError(f"profiles need the package {error.name}: install the extra `profiles`") from None
    features = list(values.columns)
    # what misses values goes first, since correlations are computed over complete wells
    for operation in ("drop_na_columns", "variance_threshold", "correlation_threshold"):
        if len(features) > 1:
            features = list(feature_select(values[features], features=features, operation=operation).columns)
    return features


def write_profiles(profiles: pd.DataFrame, path: Path) -> None:
    """Write profiles as Parquet. The file appears complete or not at all."""
    with replacing(path) as draft:
        profiles.to_parquet(draft, index=False)
