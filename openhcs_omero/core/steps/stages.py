"""The steps on all sites of a well: a site goes through them before the next is read, up to a step that wants all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from openhcs_omero.core.config import Step
from openhcs_omero.core.steps.checks import Steps
from openhcs_omero.core.steps.command_step import CommandStep, Place
from openhcs_omero.core.steps.running import SiteResult, run_step
from openhcs_omero.plates.image import ImageMetadata

Sites = Iterable[tuple[int, SiteResult]]
"""The number of each site, and what the steps so far made of it."""


@dataclass(frozen=True)
class Told:
    """What the steps on a site get besides its image.

    Parameters
    ----------
    metadata
        What functions get as metadata.
    about
        The metadata of the source image.
    estimates
        Position of the step -> channel -> (Y, X), for steps that have a plate estimate.
    """

    metadata: Mapping[str, Any]
    about: ImageMetadata
    estimates: Mapping[int, Mapping[int, np.ndarray]]


def run_on_well(
    steps: Steps,
    sites: Sites,
    told: Mapping[int, Told],
    filemanager: Any,
    backend: str,
    place: Place,
    after: Callable[[Step, Sites], Sites] | None = None,
) -> Iterator[tuple[int, SiteResult]]:
    """Run steps on the sites of a well; yields each site with the results of all of them.

    Parameters
    ----------
    steps
        The steps with their functions, in order.
    sites
        The sites.
    told
        What the steps get, by site.
    filemanager, backend
        Passed to functions, which save files.
    place
        Where commands run.
    after
        Called after each step; returns the sites for the next one.

    Raises
    ------
    StepFailed
        If a step fails, or returns something invalid.
    """
    for step, function in steps:
        if isinstance(function, CommandStep):
            sites = function.run(_described(sites, told), place)
        else:
            sites = _one_by_one(step, function, sites, told, filemanager, backend)
        if after is not None:
            sites = after(step, sites)
    yield from sites


def _one_by_one(
    step: Step, function: Callable[..., Any], sites: Sites, told: Mapping[int, Told], filemanager: Any, backend: str
) -> Iterator[tuple[int, SiteResult]]:
    for site, done in sites:
        about = told[site]
        yield site, run_step(step, function, done, filemanager, about.metadata, about.estimates, backend)


def _described(sites: Sites, told: Mapping[int, Told]) -> Iterator[tuple[int, SiteResult, ImageMetadata]]:
    for site, done in sites:
        yield site, done, told[site].about
