"""The job that estimates something about a whole plate for a step: from planes as the earlier steps return them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from openhcs_omero.core.config import Settings
from openhcs_omero.core.estimates import Estimates, group_of, groups_of, load_estimates
from openhcs_omero.core.plates import Plate, choose_wells
from openhcs_omero.core.records import DerivedPlate
from openhcs_omero.core.steps.command_step import Place as CommandPlace
from openhcs_omero.core.steps.loading import load_step
from openhcs_omero.core.steps.running import SiteResult, StepFailed
from openhcs_omero.core.well import WellSteps
from openhcs_omero.errors import PlateError, StepError
from openhcs_omero.plates.arrangement import Place
from openhcs_omero.plates.pixeltypes import READABLE
from openhcs_omero.plates.structure import ImageStructure

PLANES = 100  # per estimate, at most


def estimate(
    settings: Settings, plate: Plate, position: int, channel: int, earlier: Sequence[Path], output: Path
) -> None:
    """Compute a step's estimates for one channel, each from sites spread evenly over the whole plate.

    Parameters
    ----------
    settings
        The configuration.
    plate
        The plate.
    position
        Position of the step, from 1.
    channel
        Channel number, from 0.
    earlier
        The estimates of the steps before.
    output
        The .npz file to write.
    """
    step = settings.steps[position - 1]
    function = load_step(step).plate_estimate  # type: ignore[attr-defined]
    known, made = load_estimates(earlier), {}
    for group in groups_of(choose_wells(plate, settings)):
        chosen = _sites_of(plate, group, channel)
        if chosen:
            planes = _planes(settings, plate, position, channel, chosen, known)
            made[group] = function(planes, **step.params)
    with output.open("wb") as file:
        np.savez(file, **made)
    plate.handler.close()


def _sites_of(plate: Plate, group: str, channel: int) -> list[tuple[Place, ImageStructure]]:
    """The sites to estimate from: of the group, those whose middle plane was acquired if any."""
    listing = plate.listing
    images = {
        (well, image.site): image
        for well, image in listing.structure.images()
        if group_of(image) == group
        and channel < image.size_c
        and well not in listing.missing
        and image.pixel_type in READABLE
    }
    acquired = [
        site for site, image in images.items() if (0, channel, image.size_z // 2) not in listing.filled.get(site, ())
    ]
    sites = acquired or list(images)
    picked = np.linspace(0, len(sites) - 1, min(PLANES, len(sites))).astype(int)
    return [(sites[number], images[sites[number]]) for number in picked]


def _planes(
    settings: Settings,
    plate: Plate,
    position: int,
    channel: int,
    sites: Sequence[tuple[Place, ImageStructure]],
    known: Estimates,
) -> Iterator[np.ndarray]:
    """Yield the middle plane of each site at the first timepoint, after the steps before `position`.

    A site that can't be read, or on which one of these steps fails, is left out. If most can't be read, the reason is
    hardly in them, and there is no estimate.
    """
    steps = settings.steps[: position - 1]
    source = DerivedPlate(plate.path, plate.path, plate.structure.plate_id)
    failed: list[Exception] = []
    for (well, site), image in sites:
        try:
            if not steps:
                yield plate.plane(well, site, (0, channel, image.size_z // 2))
                continue
            pixels = _first_timepoint(plate, (well, site), image)
            run = WellSteps(settings, steps, plate, source, well)
            [(_, done)] = run.on(
                [(site, SiteResult.of(pixels))], known, CommandPlace(plate.label, well, settings.scratch, 1)
            )
        except (PlateError, StepFailed) as error:
            print(f"{well}, site {site} is left out of the estimate: {error}")
            failed.append(error)
            continue
        if channel < done.image.shape[1]:
            yield done.image[0, channel, done.image.shape[2] // 2]
    step = settings.steps[position - 1]
    unread = [error for error in failed if isinstance(error, PlateError)]
    if 2 * len(unread) > len(sites):
        raise StepError(f"{step} gets no estimate: {len(unread)} of {len(sites)} sites can't be read: {unread[0]}")
    if len(failed) == len(sites):
        raise StepError(f"{step} gets no estimate: the steps before it fail on all sites")


def _first_timepoint(plate: Plate, place: Place, image: ImageStructure) -> np.ndarray:
    """The first timepoint of a site, (1, C, Z, Y, X)."""
    planes = [[plate.plane(*place, (0, c, z)) for z in range(image.size_z)] for c in range(image.size_c)]
    return np.stack([np.stack(stack) for stack in planes])[None]
