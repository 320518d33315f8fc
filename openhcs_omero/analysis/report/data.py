"""The data of the report, small enough for a file of 30 MB: columns of numbers in base64, names once."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from openhcs_omero.analysis.hits import treatment_columns
from openhcs_omero.analysis.plate_maps import find_column
from openhcs_omero.analysis.polish import plate_format
from openhcs_omero.analysis.screen import Answers
from openhcs_omero.analysis.settings import RAW, AnalysisSettings, normalized_name
from openhcs_omero.analysis.well_tables import round_digits
from openhcs_omero.plates.paths import parse_well

COLUMN_BYTES = 16_000_000
"""Space for the columns of values, in characters of the file."""
HITS = 5_000
"""The report lists at most this many hits; hits.csv has all of them."""
PAIRS = 500
"""The report offers at most this many pairs of plates."""


@dataclass(frozen=True)
class Links:
    """Where the images are.

    Attributes
    ----------
    web
        The address of OMERO.web.
    images
        (plate, well) -> the id of an image in OMERO.
    """

    web: str
    images: Mapping[tuple[str, str], int] = field(default_factory=dict)


def report_data(
    answers: Answers,
    settings: AnalysisSettings,
    links: Links | None,
    thumbnails: Mapping[tuple[str, str], bytes],
    outlines: Mapping[str, bytes],
) -> dict[str, Any]:
    """All that the page shows, as JSON: numbers are finite or None, columns of wells are base64 of float32."""
    table = answers.normalized
    plate, plates = pd.factorize(table["plate"])
    places = {well: parse_well(well) for well in table["well"].unique()}
    row, column = np.array([places[well] for well in table["well"]]).T
    features, notes = _features(answers, settings, len(table))
    treatment, labels, compound, compounds, dose = _treatments(table, settings)
    none = pd.Series([None] * len(table), dtype=object)
    (batch, batches), (line, lines) = (pd.factorize(table.get(name, none)) for name in ("batch", "cell_line"))
    return {
        "plates": [str(name) for name in plates],
        "shapes": [
            plate_format(int(row[plate == n].max()) + 1, int(column[plate == n].max()) + 1) for n in range(len(plates))
        ],
        "notes": [*answers.notes, *notes],
        "features": features,
        "kinds": [RAW, *settings.normalizations],
        "wells": {
            "plate": _numbers(plate),
            "row": _numbers(row),
            "column": _numbers(column),
            "role": _numbers(_roles(table)),
            "hit": _numbers(_hit_wells(answers, table)),
            "treatment": _numbers(treatment),
            "compound": _numbers(compound),
            "dose": _numbers(dose),
            "batch": _numbers(batch),
            "line": _numbers(line),
            "image": None
            if links is None
            else _numbers([links.images.get(key, -1) for key in zip(table["plate"], table["well"])]),
        },
        "roles": ROLES,
        "treatments": labels,
        "compounds": compounds,
        "batches": [str(name) for name in batches],
        "lines": [str(name) for name in lines],
        "values": {
            name: _numbers(table[name])
            for feature in features
            for name in [feature, *(normalized_name(feature, kind) for kind in settings.normalizations)]
        },
        "thumbnails": {"\t".join(key): _picture("png", png) for key, png in thumbnails.items()},
        "outlines": {name: _picture("jpeg", jpeg) for name, jpeg in outlines.items()},
        "web": (links.web if links else settings.web or "").rstrip("/"),
        **_results(answers, settings, features),
    }


def _picture(kind: str, content: bytes) -> str:
    """The address of a picture that stands in the page itself."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _results(answers: Answers, settings: AnalysisSettings, features: Sequence[str]) -> dict[str, Any]:
    """The tables of the page: quality, hits, dose responses and pairs of plates."""
    return {
        "quality": _records(answers.quality[answers.quality["feature"].isin(features)]),
        "metrics": [name for name in answers.quality.columns if name not in ("plate", "feature", "reason", "gate")],
        "stop_below": settings.stop_below,
        "hits": None if answers.hits is None else _table(answers.hits.head(HITS)),
        "n_hits": None if answers.hits is None else len(answers.hits),
        "dose_response": None if answers.dose_response is None else _records(_curves(answers.dose_response)),
        "dose_rest": [] if answers.dose_response is None else _without_curve(answers.dose_response),
        "stopped": list(answers.stopped),
        "dose_column": settings.dose_response.column if settings.dose_response else None,
        "dose_name": find_column(answers.normalized.columns, settings.dose) or settings.dose,
        "pairs": [] if answers.agreement is None else _records(_pairs(answers.agreement)),
    }


ROLES = ["sample", "negative", "positive", "empty", "excluded"]


def _roles(table: pd.DataFrame) -> np.ndarray:
    role = np.zeros(len(table), dtype=int)
    if "control" in table.columns:
        role = np.array([ROLES.index(kind) if kind in ROLES else 0 for kind in table["control"]])
    if "excluded" in table.columns:
        role[table["excluded"].notna()] = ROLES.index("excluded")
    return role


def _features(answers: Answers, settings: AnalysisSettings, wells: int) -> tuple[list[str], list[str]]:
    """The features that the report has room for: first those that hits and dose responses go by."""
    first = [response.feature for response in settings.responses]
    features = list(dict.fromkeys([*first, *answers.features]))
    each = wells * 4 * 4 / 3 * (1 + len(settings.normalizations))
    room = max(int(COLUMN_BYTES / each), len(set(first)), 1)
    if room >= len(features):
        return features, []
    return features[:room], [
        f"this report shows {room} of {len(features)} features to stay small; the tables have all of them"
    ]


def _treatments(
    table: pd.DataFrame, settings: AnalysisSettings
) -> tuple[np.ndarray, list[str], np.ndarray, list[str], np.ndarray]:
    """Of each well the number of its treatment and of its compound, -1 for none, with their names; and its dose."""
    none = np.full(len(table), -1)
    doses = find_column(table.columns, settings.dose)
    dose = (
        table[doses].to_numpy(dtype=float)
        if doses and pd.api.types.is_numeric_dtype(table[doses])
        else np.full(len(table), np.nan)
    )
    keys = treatment_columns(table)
    if not keys:
        return none, [], none, [], dose
    compound, compounds = pd.factorize(table["compound"])
    known = table[table["compound"].notna()]
    groups = known.groupby(keys, dropna=False, sort=False)
    treatment = none.copy()
    treatment[table["compound"].notna()] = groups.ngroup()
    first = known[~groups.ngroup().duplicated()]
    labels = [
        " ".join(_label(value) for value in values if pd.notna(value)) for values in first[keys].itertuples(index=False)
    ]
    return treatment, labels, compound, [str(name) for name in compounds], dose


def _label(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _hit_wells(answers: Answers, table: pd.DataFrame) -> np.ndarray:
    if answers.hits is None:
        return np.zeros(len(table), dtype=int)
    hits = set(zip(answers.hits["plate"], answers.hits["well"]))
    return np.array([key in hits for key in zip(table["plate"], table["well"])], dtype=int)


def _curves(table: pd.DataFrame) -> pd.DataFrame:
    """Compounds with enough doses, those with a fit first."""
    return table[_has_doses(table)].sort_values("ec50", kind="stable", na_position="last")


def _without_curve(table: pd.DataFrame) -> list[tuple[str, int]]:
    """Why the page shows no curve of other compounds, and of how many."""
    counts = table.loc[~_has_doses(table), "reason"].value_counts()
    return [(str(reason), int(count)) for reason, count in counts.items()]


def _has_doses(table: pd.DataFrame) -> pd.Series:
    return (table["n_doses"] >= 4) | table["ec50"].notna()


def _pairs(table: pd.DataFrame) -> pd.DataFrame:
    """The first pairs of plates, those with a correlation before others."""
    return table.sort_values("spearman", key=lambda column: column.isna(), kind="stable").head(PAIRS)


def _numbers(values: Sequence[float] | np.ndarray | pd.Series) -> str:
    """Base64 of little-endian float32, which holds whole numbers to 16 million; 64-bit for larger ones."""
    array = np.asarray(values, dtype="float64")
    size = np.abs(array[np.isfinite(array)]).max(initial=0)
    wide = size > np.finfo("float32").max or (size > 2**24 and bool(np.all(array == np.floor(array))))
    return ("d" if wide else "f") + base64.b64encode(array.astype("<f8" if wide else "<f4").tobytes()).decode("ascii")


def _table(table: pd.DataFrame) -> dict[str, Any]:
    return {"columns": list(table.columns), "rows": [list(record.values()) for record in _records(table)]}


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    columns = {name: _plain(table[name]) for name in table.columns}
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


def _plain(column: pd.Series) -> list[Any]:
    if pd.api.types.is_float_dtype(column):
        values = round_digits(column.to_numpy(dtype="float64", na_value=np.nan), 6)
        return [float(value) if np.isfinite(value) else None for value in values]
    return [None if pd.isna(value) else value.item() if isinstance(value, np.generic) else value for value in column]
