"""What the columns of the tables mean: the unit, description and statistic that a step declares for each feature.

A step declares the features that it returns in an attribute of its function:

    count_spots.features = {
        "spots_c{channel}": {"statistic": "count", "description": "number of bright spots"},
        "spot_height_c{channel}": {"statistic": "objects", "count": "spots_c{channel}", "unit": "counts"},
    }

`{channel}` stands for any number. If the features depend on the params of the step, the attribute is a function of the
params that returns such a dict. A feature that is not declared is averaged over sites.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from openhcs_omero.core.config import Step
from openhcs_omero.errors import OpenHCSError, StepError

PLACE = ("plate", "well", "row", "column", "acquisition", "site", "t", "time_s")
"""Columns of the tables that are not features."""
SKIPPED, SKIPPED_PLANES = "skipped_sites", "skipped_planes"
"""The columns of wells.csv with the sites, and the channels, timepoints and z planes, that were left out."""
ABOUT_SITES = ("sites", "sites_excluded", SKIPPED, SKIPPED_PLANES, "acquired_s")
"""More columns of the table of wells that are no features."""
RESERVED = (*PLACE, *ABOUT_SITES, "excluded")
"""Columns that no step may return."""

STATISTICS = ("mean", "count", "objects")


@dataclass(frozen=True)
class Feature:
    """One of the values that a step returns for a site.

    Parameters
    ----------
    statistic
        How the table of wells summarizes it. "mean": the mean over sites. "count": the mean over sites, and the sum.
        "objects": the mean over all objects of the well, where the value of a site is the mean over its objects.
    unit, description
        Text shown to people.
    count
        For "objects": the feature that holds the number of objects of a site.
    """

    statistic: str = "mean"
    unit: str = ""
    description: str = ""
    count: str | None = None


class Features:
    """The declared features of all steps."""

    def __init__(self, declared: Mapping[str, Feature] | None = None) -> None:
        self._patterns = {
            re.compile(re.escape(name).replace(r"\{channel\}", r"(?P<channel>\d+)")): feature
            for name, feature in (declared or {}).items()
        }

    @classmethod
    def of(cls, steps: Iterable[tuple[Step, Callable[..., Any]]]) -> Features:
        """Collect the declarations of the steps, under the names that their results have in the tables.

        Raises
        ------
        StepError
            If a declaration is not valid.
        """
        declared = {}
        for step, function in steps:
            prefix = f"{step.name}_" if step.name else ""
            for name, about in (declared_features(step, function) or {}).items():
                feature = _feature(step, name, about)
                declared[prefix + name] = replace(feature, count=feature.count and prefix + feature.count)
        return cls(declared)

    def __getitem__(self, column: str) -> Feature:
        """The feature of a column; if it is not declared, a mean over sites."""
        for pattern, feature in self._patterns.items():
            if match := pattern.fullmatch(column):
                return replace(feature, count=feature.count and feature.count.format(**match.groupdict()))
        return Feature()


def declared_features(step: Step, function: Callable[..., Any]) -> Mapping[str, Any] | None:
    """The features that a step declares, with its params; None if it declares none.

    Raises
    ------
    StepError
        If the declaration is a function that fails.
    """
    declared = getattr(function, "features", None)
    if not callable(declared):
        return declared
    try:
        return declared(**step.params)
    except Exception as error:
        reason = str(error) if isinstance(error, OpenHCSError) else f"{type(error).__name__}: {error}"
        raise StepError(f"{step} can't say which features it returns: {reason}") from error


def _feature(step: Step, name: Any, about: Any) -> Feature:
    known = [field.name for field in fields(Feature)]
    if not (
        isinstance(name, str)
        and isinstance(about, Mapping)
        and set(about) <= set(known)
        and all(isinstance(value, str) for value in about.values())
    ):
        raise StepError(
            f"{step} declares the feature {name!r} as {about!r}: expected a dict of text with any of the "
            f"keys {', '.join(known)}"
        )
    feature = Feature(**about)
    if feature.statistic not in STATISTICS:
        raise StepError(
            f"{step} declares the statistic {feature.statistic!r} of {name!r}: it must be one of "
            f"{', '.join(STATISTICS)}"
        )
    if (feature.statistic == "objects") != (feature.count is not None):
        raise StepError(
            f"{step} declares the feature {name!r}: a mean over objects, and no other, needs `count`, the "
            "feature with their number"
        )
    return feature
