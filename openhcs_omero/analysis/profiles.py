"""Profiles: wells x features for comparing treatments, in pycytominer's conventions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from openhcs_omero.analysis.hits import treatment_columns
from openhcs_omero.analysis.replicability import METADATA, mean_average_precision
from openhcs_omero.analysis.settings import AnalysisSettings, normalized_name
from openhcs_omero.analysis.well_tables import write_table
from openhcs_omero.io.atomic import replacing

if TYPE_CHECKING:
    from openhcs_omero.analysis.screen import Answers


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
        in more than 5 % of the wells, or that correlate with another one above 0.9. None if all wells are excluded.

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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it sets an option of pandas that is outdated
        from pycytominer import feature_select
    features = list(values.columns) if len(values) else []
    # what misses values goes first, since correlations are computed over complete wells
    for operation in ("drop_na_columns", "variance_threshold", "correlation_threshold"):
        if len(features) > 1:
            features = list(feature_select(values[features], features=features, operation=operation).columns)
    return features


def write_profiles(answers: Answers, settings: AnalysisSettings, folder: Path) -> list[str]:
    """Write the profiles that the settings ask for; each file appears complete or not at all.

    Returns
    -------
    list of str
        The names of the files: `profiles.parquet`, `profiles.h5ad` for AnnData, `mean_average_precision.csv`.
    """
    if settings.profiles is None:
        return []
    columns = [normalized_name(feature, settings.profiles) for feature in answers.features]
    profiles = make_profiles(answers.normalized, columns, answers.features, answers.map_columns)
    written = ["profiles.parquet"]
    with replacing(folder / "profiles.parquet") as draft:
        profiles.to_parquet(draft, index=False)
    if settings.anndata:
        written.append("profiles.h5ad")
        with replacing(folder / "profiles.h5ad") as draft:
            _as_anndata(profiles).write_h5ad(draft)
    if settings.mean_average_precision:
        written.append("mean_average_precision.csv")
        keys = treatment_columns(answers.normalized)
        write_table(mean_average_precision(profiles, keys), folder / "mean_average_precision.csv")
    return written


def _as_anndata(profiles: pd.DataFrame) -> Any:
    """AnnData: wells are observations, named like 7/A01, features are variables, and metadata is text or a number."""
    import anndata

    about = profiles.filter(like=METADATA).rename(columns=lambda name: name.removeprefix(METADATA))
    about.index = pd.Index(about["Plate"].astype(str) + "/" + about["Well"].astype(str))
    for name in about.columns:
        if not pd.api.types.is_numeric_dtype(about[name]):
            about[name] = about[name].astype(object).where(about[name].notna(), "").astype(str)
    values = profiles[[name for name in map(str, profiles) if not name.startswith(METADATA)]]
    return anndata.AnnData(values.to_numpy("float32"), about, pd.DataFrame(index=pd.Index(values.columns.astype(str))))
