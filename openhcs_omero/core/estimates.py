"""Estimates that a step needs of a whole plate, such as the illumination: one per channel and group of like images.

Images are alike if their planes have the same size and pixel type and they are of the same acquisition. An estimate
file, `<position>_<function>_c<channel>.npz`, has one array per group.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openhcs_omero.core.config import Step
from openhcs_omero.plates.structure import ImageStructure, PlateStructure

Estimates = Mapping[int, Mapping[int, Mapping[str, np.ndarray]]]
"""By position of the step, channel and group."""


def group_of(image: ImageStructure) -> str:
    """The group of like images that an image belongs to, such as "512x512 uint16"."""
    acquisition = "" if image.acquisition is None else f" acquisition {image.acquisition[0]}"
    return f"{image.size_x}x{image.size_y} {image.pixel_type}{acquisition}"


def groups_of(plate: PlateStructure) -> list[str]:
    """The groups of like images of a plate, sorted."""
    return sorted({group_of(image) for _, image in plate.images()})


def uses_estimate(step: Step, function: Callable[..., Any]) -> bool:
    """Whether a step needs estimates: it has `plate_estimate`, and any params in `plate_estimate_if`."""
    if not hasattr(function, "plate_estimate"):
        return False
    wanted, parameters = getattr(function, "plate_estimate_if", {}), inspect.signature(function).parameters
    return all(step.params.get(name, parameters[name].default) == value for name, value in wanted.items())


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
