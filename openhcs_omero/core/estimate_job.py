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
from openhcs_omero.errors import StepError
from openhcs_omero.plates.arrangement import Place
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
        if group_of(image) == group and channel < image.size_c and well not in listing.missing
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

    A site on which one of these steps fails is left out.
    """
    steps = settings.steps[: position - 1]
    if not steps:
        for place, image in sites:
            yield plate.plane(*place, (0, channel, image.size_z // 2))
        return
    failed = 0
    source = DerivedPlate(plate.path, plate.path, plate.structure.plate_id)
    for (well, site), image in sites:
        pixels = np.stack([
            np.stack([plate.plane(well, site, (0, c, z)) for z in range(image.size_z)]) for c in range(image.size_c)
        ])[None]  # fmt: skip
        run = WellSteps(settings, steps, plate, source, well)
        try:
            [(_, done)] = run.on(
                [(site, SiteResult.of(pixels))], known, CommandPlace(plate.label, well, settings.scratch, 1)
            )
        except StepFailed as error:
            print(f"{well}, site {site} is left out of the estimate: {error}")
            failed += 1
            continue
        if channel < done.image.shape[1]:
            yield done.image[0, channel, done.image.shape[2] // 2]
    if failed == len(sites):
        raise StepError(f"{settings.steps[position - 1]} gets no estimate: the steps before it fail on all sites")
