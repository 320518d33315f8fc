"""Estimates that a step needs of a whole plate, such as the illumination: one per channel and group of like images.

Images are alike if their planes have the same size and pixel type and they are of the same acquisition. An estimate
file, `<position>_<function>_c<channel>.npz`, has one array per group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openhcs_omero.core.config import Settings
from openhcs_omero.core.plates import Plate, choose_wells
from openhcs_omero.core.steps.loading import load_step
from openhcs_omero.plates.arrangement import Place
from openhcs_omero.plates.structure import ImageStructure, PlateStructure

PLANES = 100  # per estimate, at most

Estimates = Mapping[int, Mapping[int, Mapping[str, np.ndarray]]]
"""By position of the step, channel and group."""


def group_of(image: ImageStructure) -> str:
    """The group of like images that an image belongs to, such as "512x512 uint16"."""
    acquisition = "" if image.acquisition is None else f" acquisition {image.acquisition[0]}"
    return f"{image.size_x}x{image.size_y} {image.pixel_type}{acquisition}"


def groups_of(plate: PlateStructure) -> list[str]:
    """The groups of like images of a plate, sorted."""
    return sorted({group_of(image) for _, image in plate.images()})


def estimate(settings: Settings, plate: Plate, position: int, channel: int, output: Path) -> None:
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
    output
        The .npz file to write.
    """
    step = settings.steps[position - 1]
    function = load_step(step).plate_estimate  # type: ignore[attr-defined]
    made = {}
    for group in groups_of(choose_wells(plate, settings)):
        chosen = _planes_of(plate, group, channel)
        if chosen:
            made[group] = function((plate.plane(*place, plane) for place, plane in chosen), **step.params)
    with output.open("wb") as file:
        np.savez(file, **made)
    plate.handler.close()


def _planes_of(plate: Plate, group: str, channel: int) -> list[tuple[Place, tuple[int, int, int]]]:
    """The planes to estimate from: the middle of the stack at sites of the group, those that were acquired if any."""
    listing = plate.listing
    places = {
        (well, image.site): (0, channel, image.size_z // 2)
        for well, image in listing.structure.images()
        if group_of(image) == group and channel < image.size_c and well not in listing.missing
    }
    acquired = [site for site, plane in places.items() if plane not in listing.filled.get(site, ())]
    sites = acquired or list(places)
    picked = np.linspace(0, len(sites) - 1, min(PLANES, len(sites))).astype(int)
    return [(sites[number], places[sites[number]]) for number in picked]


def load_estimates(paths: Sequence[Path]) -> Estimates:
    """Read estimate files."""
    loaded: dict[int, dict[int, dict[str, np.ndarray]]] = {}
    for path in paths:
        position, channel = path.stem.partition("_")[0], path.stem.rpartition("_c")[2]
        with np.load(path) as file:
            loaded.setdefault(int(position), {})[int(channel)] = dict(file)
    return loaded


def estimates_for(image: ImageStructure, estimates: Estimates) -> dict[int, dict[int, Any]]:
    """The estimates that apply to an image, by position of the step and channel."""
    group = group_of(image)
    return {
        position: {channel: groups[group] for channel, groups in channels.items() if group in groups}
        for position, channels in estimates.items()
    }
