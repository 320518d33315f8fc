"""The configuration keys `plate_map`, `analysis` and `qc`: what is analyzed, and how."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from openhcs_omero.analysis.exclusion import condition_columns, excluded_rows
from openhcs_omero.analysis.hits import Z_LIKE, Criterion
from openhcs_omero.analysis.image_qc import is_image_column
from openhcs_omero.analysis.normalization import METHODS
from openhcs_omero.errors import ConfigError, brief
from openhcs_omero.schema import check_schema

RAW = "raw"
"""Instead of a normalization: the feature as it was measured."""

_NAME = {"type": "string", "minLength": 1}
_NAMES = {"expected": "text, or a list of texts", "oneOf": [_NAME, {"type": "array", "minItems": 1, "items": _NAME}]}
_METHOD = {"enum": list(METHODS)}
_CRITERION = {
    "type": "object",
    "additionalProperties": False,
    "required": ["feature"],
    "properties": {
        "feature": _NAME,
        "by": _NAME,
        "above": {"type": "number"},
        "below": {"type": "number"},
        "fdr": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    },
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "plate_map": _NAME,
        "analysis": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "features": {"type": "array", "minItems": 1, "uniqueItems": True, "items": _NAME},
                "controls": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"positive": _NAMES, "negative": _NAMES, "empty": _NAMES},
                },
                "normalise": {
                    "type": "array",
                    "items": {
                        "expected": f"{', '.join(METHODS)}, or a named chain like {{my_score: [b_score]}}",
                        "oneOf": [
                            _METHOD,
                            {
                                "type": "object",
                                "minProperties": 1,
                                "maxProperties": 1,
                                "additionalProperties": {"type": "array", "minItems": 1, "items": _METHOD},
                            },
                        ],
                    },
                },
                "reference": {"enum": ["samples", "negative"]},
                "together": _NAME,
                "hits": {
                    "expected": "a criterion like {feature: cells, above: 3}, or a list of them",
                    "oneOf": [_CRITERION, {"type": "array", "minItems": 1, "items": _CRITERION}],
                },
                "dose_response": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["feature"],
                    "properties": {"feature": _NAME, "by": _NAME, "dose": _NAME},
                },
                "profiles": _NAME,
                "mean_average_precision": {"type": "boolean"},
                "anndata": {"type": "boolean"},
                "timepoint": {"type": "integer", "minimum": 0},
                "acquisition": _NAME,
                "web": {
                    "type": "string",
                    "pattern": "^https?://.+",
                    "expected": "an address like https://omero.example.org",
                },
            },
        },
        "qc": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "exclude": _NAMES,
                "stop_below": {
                    "type": "object",
                    "additionalProperties": False,
                    "minProperties": 1,
                    "properties": {
                        name: {"type": "number"} for name in ("z_prime", "robust_z_prime", "signal_to_background")
                    },
                },
            },
        },
    },
}


@dataclass(frozen=True)
class Response:
    """A feature as it was measured, or normalized: what hits and dose responses go by."""

    feature: str
    by: str = RAW

    @property
    def column(self) -> str:
        """The column of normalised.csv."""
        return self.feature if self.by == RAW else normalized_name(self.feature, self.by)


@dataclass(frozen=True)
class AnalysisSettings:
    """What is analyzed.

    Attributes
    ----------
    features
        The columns that are analyzed; None for all numeric ones.
    controls
        Kind of control -> the compounds that are such controls, besides those that the plate map names.
    normalizations
        Name -> the methods, one after the other.
    reference
        `samples` or `negative`: what z scores refer to.
    together
        The column whose values say which wells are normalized together; None for the plate.
    criteria
        What hits fulfill; empty if hits are not asked for.
    fdr
        The false discovery rate of hits; None for no limit.
    dose_response, dose
        The response, and the column of the doses; None if no dose response is asked for.
    exclude
        Conditions on the table of wells; no statistic uses the wells that fulfill one.
    exclude_sites
        Conditions on image_qc.csv; no statistic uses the sites that fulfill one.
    stop_below
        Column of quality.csv -> the least value that a plate needs for hits.
    profiles
        The normalization whose values are the profiles; None if no profiles are asked for.
    mean_average_precision
        Whether to say how replicable the profiles of each treatment are.
    anndata
        Whether the profiles are also written as AnnData.
    timepoint
        The timepoint that is analyzed, from 0, of tables with several.
    acquisition
        The name of the acquisition that is analyzed, of plates with several.
    web
        Address of OMERO.web, for links.
    """

    features: list[str] | None = None
    controls: dict[str, list[str]] = field(default_factory=dict)
    normalizations: dict[str, list[str]] = field(default_factory=dict)
    reference: str = "samples"
    together: str | None = None
    hits: list[tuple[Response, Criterion]] = field(default_factory=list)
    fdr: float | None = None
    dose_response: Response | None = None
    dose: str = "concentration"
    exclude: list[str] = field(default_factory=list)
    exclude_sites: list[str] = field(default_factory=list)
    stop_below: dict[str, float] = field(default_factory=dict)
    profiles: str | None = None
    mean_average_precision: bool = False
    anndata: bool = False
    timepoint: int | None = None
    acquisition: str | None = None
    web: str | None = None

    @property
    def responses(self) -> list[Response]:
        """What hits and dose responses go by, each once."""
        found = [response for response, _ in self.hits]
        return list(dict.fromkeys([*found, *([self.dose_response] if self.dose_response else [])]))


def normalized_name(feature: str, normalization: str) -> str:
    """The column of a normalized feature."""
    return f"{feature}_{normalization}"


def read_settings(config: Mapping[str, Any]) -> AnalysisSettings:
    """The settings in a configuration with the keys `plate_map`, `analysis` and `qc`; other keys are refused.

    Raises
    ------
    ConfigError
        If a key or a value is wrong.
    """
    check_schema(config, SCHEMA)
    analysis, qc = config.get("analysis") or {}, config.get("qc") or {}
    normalizations = _normalizations(analysis.get("normalise", []))
    criteria = _as_list(analysis.get("hits", []))
    hits = [(_response(entry, normalizations, "analysis.hits"), entry) for entry in criteria]
    rates = [entry["fdr"] for entry in criteria if "fdr" in entry]
    dose = analysis.get("dose_response")
    exclude, exclude_sites = _conditions(_as_list(qc.get("exclude", [])))
    features = analysis.get("features")
    settings = AnalysisSettings(
        features=features,
        controls={kind: _as_list(names) for kind, names in analysis.get("controls", {}).items()},
        normalizations=normalizations,
        reference=analysis.get("reference", "samples"),
        together=analysis.get("together"),
        hits=[
            (
                response,
                Criterion(
                    response.column,
                    entry.get("above"),
                    entry.get("below"),
                    normalizations.get(response.by, [""])[-1] in Z_LIKE,
                ),
            )
            for response, entry in hits
        ],
        fdr=min(rates) if rates else None,
        dose_response=_response(dose, normalizations, "analysis.dose_response") if dose else None,
        dose=(dose or {}).get("dose", "concentration"),
        exclude=exclude,
        exclude_sites=exclude_sites,
        stop_below=qc.get("stop_below", {}),
        profiles=analysis.get("profiles"),
        mean_average_precision=analysis.get("mean_average_precision", False),
        anndata=analysis.get("anndata", False),
        timepoint=analysis.get("timepoint"),
        acquisition=analysis.get("acquisition"),
        web=analysis.get("web"),
    )
    _check_profiles(settings)
    kinds: dict[str, str] = {}
    for kind, names in settings.controls.items():
        for name in names:
            if kinds.setdefault(name, kind) != kind:
                raise ConfigError(f"analysis.controls names {name} as {kinds[name]} and as {kind} control: keep one")
    for response in settings.responses:
        if features is not None and response.feature not in features:
            raise ConfigError(f"{response.feature} is not in analysis.features: add it there")
    return settings


def _check_profiles(settings: AnalysisSettings) -> None:
    """Check what profiles need, the packages of extras too: better now than after the run."""
    needed = {"mean_average_precision": "copairs", "anndata": "anndata"}
    asked = [key for key in needed if getattr(settings, key)]
    if settings.profiles is None:
        if asked:
            raise ConfigError(f"analysis.{asked[0]} is about profiles: name a normalization in analysis.profiles")
        return
    if settings.profiles not in settings.normalizations:
        raise ConfigError(
            f"analysis.profiles uses {settings.profiles}, which is not in analysis.normalise: add it there"
        )
    for key, package, extra in (
        ("profiles", "pycytominer", "profiles"),
        *((key, needed[key], needed[key]) for key in asked),
    ):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"analysis.{key} needs the package {package}: pip install 'openhcs-omero[{extra}]', or leave it out"
            )


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _conditions(conditions: Sequence[str]) -> tuple[list[str], list[str]]:
    """Sort conditions by what they are about: wells, and the images of sites."""
    wells: list[str] = []
    sites: list[str] = []
    for condition in conditions:
        names = condition_columns(condition)
        images = [name for name in names if is_image_column(name)]
        if images and len(images) < len(names):
            other = next(name for name in names if name not in images)
            raise ConfigError(
                f"qc.exclude {brief(condition)} is not a valid condition: {images[0]} is about the image of a "
                f"site and {other} about a well: write two conditions, as a list"
            )
        if images:
            excluded_rows(pd.DataFrame({name: [0.0] for name in images}), condition)  # refuses texts
        (sites if images else wells).append(condition)
    return wells, sites


def _normalizations(entries: Sequence[Any]) -> dict[str, list[str]]:
    """A method is named for itself; a mapping names a chain of methods."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        name, methods = (entry, [entry]) if isinstance(entry, str) else next(iter(entry.items()))
        if name in found or name == RAW or (name in METHODS and list(methods) != [name]):
            raise ConfigError(f"analysis.normalise can't have the name {name}" + (" twice" if name in found else ""))
        found[name] = list(methods)
    return found


def _response(entry: Mapping[str, Any], normalizations: Mapping[str, Any], key: str) -> Response:
    by = entry.get("by", RAW)
    if by != RAW and by not in normalizations:
        raise ConfigError(f"{key} uses {by}, which is not in analysis.normalise: add it there")
    return Response(entry["feature"], by)
