"""The analysis of a screen, from a table of wells to quality, normalized values, hits and dose responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from openhcs_omero.analysis.dose_response import fit_dose_responses
from openhcs_omero.analysis.exclusion import excluded_rows
from openhcs_omero.analysis.hits import find_hits, hit_columns
from openhcs_omero.analysis.normalization import Problems, normalize
from openhcs_omero.analysis.parquet import About
from openhcs_omero.analysis.plate_maps import CONTROLS, PLACE, PlateMap, join_plate_map
from openhcs_omero.analysis.quality import compute_quality
from openhcs_omero.analysis.replicates import compare_plates, summarize_replicates
from openhcs_omero.analysis.settings import AnalysisSettings, normalized_name
from openhcs_omero.analysis.sheets import split_unit
from openhcs_omero.analysis.wells import Wells, mixed_columns, numeric_features, read_wells
from openhcs_omero.errors import ConfigError, OpenHCSError, brief

SITES_EXCLUDED = "sites_excluded"
"""Column of the tables of wells: how many of a well's sites no statistic uses."""
KNOWN_COLUMNS = ("compound", "concentration", "control", "replicate", "cell_line", "batch")


@dataclass(frozen=True)
class Answers:
    """What the analysis found.

    Attributes
    ----------
    normalized
        The table of wells with the plate map's columns, `excluded` (the condition, where it is fulfilled, else missing)
        if wells may be excluded, and the normalized features.
    quality
        One row per plate and feature, see `compute_quality`, and `gate` if plates may be stopped: `passed`, or why the
        plate has no hits.
    hits, dose_response, replicates, agreement
        See `find_hits`, `fit_dose_responses`, `summarize_replicates` and `compare_plates`; None if the settings
        don't ask for them.
    features, map_columns
        The features that were analyzed, and the columns that the plate map gave.
    stopped
        The plates that have no hits, and why.
    notes
        What was left out, one sentence each.
    """

    normalized: pd.DataFrame
    quality: pd.DataFrame
    hits: pd.DataFrame | None
    dose_response: pd.DataFrame | None
    replicates: pd.DataFrame | None
    agreement: pd.DataFrame | None
    features: list[str]
    map_columns: list[str]
    stopped: Mapping[str, str]
    notes: list[str] = field(default_factory=list)

    def tables(self) -> Mapping[str, pd.DataFrame]:
        """The tables that there are, by the names of their files."""
        made = {
            "quality.csv": self.quality,
            "normalised.csv": self.normalized,
            "hits.csv": self.hits,
            "dose_response.csv": self.dose_response,
            "replicates.csv": self.replicates,
            "plate_agreement.csv": self.agreement,
        }
        return {name: table for name, table in made.items() if table is not None}


def analyze(table: pd.DataFrame, settings: AnalysisSettings, plate_map: PlateMap | None = None) -> Answers:
    """Analyze a screen.

    Parameters
    ----------
    table
        One row per well: `plate`, `well`, measurements, and what a plate map would say if there is none.
    """
    features = settings.features or [name for name in numeric_features(table) if not _says_treatment(name)]
    notes = [] if settings.features else mixed_columns(table)
    notes += plate_map.notes if plate_map else []
    if not features:
        raise OpenHCSError("the tables have no column of numbers to analyze")
    measured = table
    if plate_map is not None:
        table = join_plate_map(table, plate_map)
    table = _with_controls(table, settings)
    features = list(dict.fromkeys([*features, *_asked_for(table, settings)]))
    table, infinite = _finite(table, features)
    notes += infinite
    map_columns = [
        name
        for name in table.columns
        if name not in PLACE and name not in features and (name not in measured.columns or _says_treatment(name))
    ]
    why, excluding = _excluded(table, settings)
    notes += excluding
    wells = read_wells(table, features, why.notna().to_numpy(), settings.together)
    if excluding:
        if "excluded" in table.columns:
            raise ConfigError("the tables have a column excluded already: rename it, or analyze the tables before it")
        table = table.assign(excluded=why)
    table, problems = _normalized(table, wells, settings)
    unmapped = _unmapped(wells, plate_map)
    quality = compute_quality(wells, problems, unmapped)
    stopped, quality = _gate(quality, settings, features)
    notes += _few([f"plate {plate} has no hits: {why}" for plate, why in stopped.items()])
    if unmapped is not None:
        notes += _few([f"plate {plate} has no plate map" for plate in np.array(wells.plates)[unmapped]])
    usable = wells.has_role("sample")
    passed = usable & ~table["plate"].isin(stopped).to_numpy()
    columns = [response.column for response in settings.responses]
    return Answers(
        normalized=table,
        quality=quality,
        features=features,
        map_columns=map_columns,
        notes=notes,
        stopped=stopped,
        hits=_hits(table, passed, settings, map_columns),
        dose_response=None
        if settings.dose_response is None
        else fit_dose_responses(table, passed, settings.dose_response.column, settings.dose),
        replicates=summarize_replicates(table, usable, columns) if columns else None,
        agreement=pd.concat([compare_plates(table, usable, name) for name in columns], ignore_index=True)
        if columns
        else None,
    )


def _asked_for(table: pd.DataFrame, settings: AnalysisSettings) -> list[str]:
    """The columns that hits and dose responses go by, which may be no features that are analyzed by default."""
    return [response.feature for response in settings.responses if response.feature in table.columns]


def _finite(table: pd.DataFrame, features: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """The table with missing values for infinite ones, which no statistic can use, and sentences on how many."""
    infinite = {}
    for name in features:
        if name in table.columns and pd.api.types.is_float_dtype(table[name]):
            rows = np.isinf(table[name].to_numpy())
            if rows.any():
                infinite[name] = rows
    return table.assign(**{name: table[name].mask(rows) for name, rows in infinite.items()}), _few(
        [f"infinite values of {name} count as missing: {int(rows.sum())} wells" for name, rows in infinite.items()],
        "features",
    )


def _excluded(table: pd.DataFrame, settings: AnalysisSettings) -> tuple[pd.Series, list[str]]:
    """Why each well is excluded, else missing, and sentences that say how many are; no sentence if none could be."""
    why, notes = pd.Series(None, index=table.index, dtype=object), []
    for condition in settings.exclude:
        rows = excluded_rows(table, condition)
        notes.append(f"{int(rows.sum())} of {len(table)} wells are excluded: {condition}")
        why = why.mask(why.isna() & rows, condition)
    if SITES_EXCLUDED in table.columns:
        sites, without = table["sites"].sum(), table[SITES_EXCLUDED]
        whole = without >= table["sites"]
        notes.append(f"{int(without.sum())} of {int(sites)} sites are excluded, all sites of {int(whole.sum())} wells")
        why = why.mask(why.isna() & whole, "all sites are excluded")
    return why, notes


def about_columns(features: Sequence[str], settings: AnalysisSettings, known: About) -> About:
    """What is known about the columns of normalised.csv, from what is known about the features."""
    about = dict(known)
    for feature in features:
        for name, methods in settings.normalizations.items():
            about[normalized_name(feature, name)] = {
                "unit": "%" if methods[-1].startswith("percent") else "",
                "description": f"{', then '.join(methods)} of {feature}",
            }
    return about


def _says_treatment(column: str) -> bool:
    """Whether a column of the tables is what a plate map would say."""
    return split_unit(column)[0] in KNOWN_COLUMNS


def _few(notes: list[str], kind: str = "plates") -> list[str]:
    """The first notes of a kind, and how many more there are."""
    if len(notes) <= 5:
        return notes
    return [*notes[:4], f"the same holds for {len(notes) - 4} more {kind}: see quality.csv"]


def _with_controls(table: pd.DataFrame, settings: AnalysisSettings) -> pd.DataFrame:
    """Check what the tables call controls, and mark the wells whose compound the configuration calls one."""
    if "control" in table.columns:
        control = table["control"].astype(object).str.strip().str.lower()
        wrong = table[control.notna() & ~control.isin(CONTROLS)]
        if len(wrong):
            first = wrong.iloc[0]
            raise OpenHCSError(
                f"control of well {first['well']} of plate {first['plate']} is {brief(first['control'])}: "
                f"expected one of {', '.join(CONTROLS)}"
            )
        table = table.assign(control=control)
    if not settings.controls:
        return table
    if "compound" not in table.columns:
        raise ConfigError("analysis.controls names compounds, but neither the tables nor a plate map have `compound`")
    control = (
        table["control"].astype(object).copy()
        if "control" in table.columns
        else pd.Series(None, index=table.index, dtype=object)
    )
    for kind, names in settings.controls.items():
        for name in names:
            mine = table["compound"] == name
            if not mine.any():
                raise ConfigError(f"analysis.controls names {name} as {kind} control, but no well has that compound")
            control[mine] = kind
    return table.assign(control=control)


def _normalized(
    table: pd.DataFrame, wells: Wells, settings: AnalysisSettings
) -> tuple[pd.DataFrame, dict[str, Problems]]:
    made = {name: normalize(wells, methods, settings.reference) for name, methods in settings.normalizations.items()}
    columns = {
        normalized_name(feature, name): normalized.values[:, number]
        for number, feature in enumerate(wells.features)
        for name, normalized in made.items()
    }
    for name in columns:
        if name in table.columns:
            raise ConfigError(f"the tables have a column {name} already: rename it, or analyze the tables before it")
    new = pd.DataFrame(columns, index=table.index)
    return pd.concat([table, new], axis=1), {name: normalized.problems for name, normalized in made.items()}


def _unmapped(wells: Wells, plate_map: PlateMap | None) -> np.ndarray | None:
    if plate_map is None:
        return None
    mapped = set(plate_map.table["plate"])
    return np.array([plate not in mapped for plate in wells.plates])


def _gate(
    quality: pd.DataFrame, settings: AnalysisSettings, features: list[str]
) -> tuple[dict[str, str], pd.DataFrame]:
    """The plates that are stopped and why, and the table with the column `gate`.

    The features that hits and dose responses go by are held to it; all features if there are none.
    """
    if not settings.stop_below:
        return {}, quality
    held = quality["feature"].isin([response.feature for response in settings.responses] or features)
    gate = pd.Series("", index=quality.index).mask(held, "passed")
    for name, least in settings.stop_below.items():
        missing = held & quality[name].isna()
        low = held & (quality[name] < least)
        gate = gate.mask(missing, f"stopped: {name} was not computed")
        gate = gate.mask(low, f"stopped: {name} is below {least:g}")
    stopped = quality.assign(gate=gate)[gate.str.startswith("stopped")]
    first = stopped.drop_duplicates("plate")
    whys = first["gate"].str.removeprefix("stopped: ") + " (" + first["feature"] + ")"
    return dict(zip(first["plate"], whys)), quality.assign(gate=gate)


def _hits(
    table: pd.DataFrame, usable: np.ndarray, settings: AnalysisSettings, map_columns: list[str]
) -> pd.DataFrame | None:
    if not settings.hits:
        return None
    criteria = [criterion for _, criterion in settings.hits]
    for criterion in criteria:
        if criterion.column not in table.columns:
            raise ConfigError(f"hits are chosen by {criterion.column}, but the tables have no such column")
    columns = hit_columns(table, map_columns, criteria, [response.feature for response, _ in settings.hits])
    return find_hits(table[columns], usable, criteria, settings.fdr)
