"""What the workflow is to do: the checked configuration, its steps, and what OMERO says about its plates.

Only Snakemake's head process asks OMERO; what it learns it writes beside the results, where the jobs (for which
Snakemake reads the same Snakefile again) find it.
"""
from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs_omero.core.config import Settings, Step, check_config, read_config
from openhcs_omero.core.files import read_record, write, write_if_changed
from openhcs_omero.core.records import forget_stale
from openhcs_omero.core.steps import load_step, source_hash
from openhcs_omero.errors import ConfigError, PlateError

if TYPE_CHECKING:
    from openhcs_omero.omero.plate import PlateStructure

RUN_VARIABLE = "OPENHCS_OMERO_RUN"
LIBRARIES_MB = 500


@dataclass(frozen=True)
class PlateState:
    """What the rules must know of a plate.

    Parameters
    ----------
    fingerprint
        Changes when one of the chosen wells does, or their choice.
    channels
        Number of channels.
    memory
        What a job that works on a well may need, in MB.
    """

    fingerprint: str
    channels: int
    memory: int


@dataclass(frozen=True)
class Plan:
    """The configuration, its steps with their functions, and the plates' states by id."""

    settings: Settings
    steps: tuple[tuple[Step, Callable[..., Any]], ...]
    states: Mapping[int, PlateState]

    def steps_record(self) -> str:
        """What a well depends on besides its images; it changes when a step, its params or its source does."""
        return json.dumps([_record(step, function) for step, function in self.steps], sort_keys=True)

    def estimates(self, plate_id: int) -> list[str]:
        """Names of the plate's estimates, one per step that has them and channel."""
        return [
            f"{step.position}_{step.function_name}_c{channel}"
            for step, function in self.steps if hasattr(function, "plate_estimate")
            for channel in (step.channels or range(self.states[plate_id].channels))
        ]

    def memory(self, plate_id: int) -> int:
        """What a job that works on a well of the plate may need, in MB."""
        return self.states[plate_id].memory

    def estimate_record(self, position: int) -> str:
        """What the estimates of a step depend on besides the plate."""
        step, function = self.steps[position - 1]
        estimate = function.plate_estimate  # type: ignore[attr-defined]
        return json.dumps({"params": step.params, "source": source_hash(estimate)}, sort_keys=True)


def _record(step: Step, function: Callable[..., Any]) -> dict[str, Any]:
    return {"call": step.call, "name": step.name, "channels": step.channels, "params": step.params,
            "source": source_hash(function)}


def make_plan(config: Mapping[str, Any], schema: Path, ask: bool) -> Plan:
    """The plan of a configuration.

    Parameters
    ----------
    ask
        True in the head process: everything is checked, OMERO is asked, and records of what is no longer in OMERO are
        removed. False in jobs: what the head process wrote down is read.

    Raises
    ------
    OpenHCSError
        One sentence about the first thing that is wrong; nothing has been changed then.
    """
    if ask:
        check_config(config, schema)
    settings = read_config(config)
    steps = tuple((step, load_step(step)) for step in settings.steps)
    if not ask:
        return Plan(settings, steps, {plate: _recorded(settings, plate) for plate in settings.plates})
    os.environ.setdefault(RUN_VARIABLE, uuid.uuid4().hex)  # the jobs mark with it what they write
    return Plan(settings, steps, _ask(settings))


def _ask(settings: Settings) -> dict[int, PlateState]:
    from openhcs_omero.omero.connection import connect, look_after
    from openhcs_omero.omero.plate import load_plate

    logging.getLogger().addHandler(logging.NullHandler())  # else omero-py's client gives Snakemake's log a second voice
    conn = connect(settings.server())
    look_after(settings.server())
    plates = {plate_id: choose_wells(load_plate(conn, plate_id), settings) for plate_id in settings.plates}
    states = {plate_id: PlateState(plate.fingerprint(), plate.max_c, _memory(plate))
              for plate_id, plate in plates.items()}
    for plate_id, state in states.items():
        _check_channels(settings, plate_id, state.channels)
    for plate_id, state in states.items():
        folder = settings.folder(plate_id)
        forget_stale(conn, folder, plate_id, settings.output)
        write_if_changed(folder / "state.json", json.dumps(asdict(state)))
        if not (folder / "derive.token").exists():
            write(folder / "derive.token", "new\n")
        for batch in settings.batches(len(plates[plate_id].wells)):
            if not (folder / "batches" / batch).exists():  # wells that are done are in no need of one
                write(folder / "batches" / batch, "")
    return states


def _recorded(settings: Settings, plate_id: int) -> PlateState:
    record = read_record(settings.folder(plate_id) / "state.json")
    if record is None or set(record) != {field.name for field in fields(PlateState)}:
        raise ConfigError(f"{settings.folder(plate_id)} has no usable state.json, which a run of the workflow writes: "
                          "run it first; jobs must see the folder `results` of the process that starts them")
    return PlateState(**record)


def choose_wells(plate: PlateStructure, settings: Settings) -> PlateStructure:
    """The plate with the wells that the configuration asks for and no others.

    Raises
    ------
    PlateError
        Where a well is not in the plate, or has no images, or they differ in size or type.
    """
    from openhcs_omero.omero.paths import expand_wells

    try:
        chosen = plate.only(expand_wells(settings.wells, plate.wells))
    except PlateError as error:
        raise PlateError(f"plate {plate.plate_id}: {error}") from None
    if empty := [name for name, well in chosen.wells.items() if not well.images]:
        raise PlateError(f"plate {plate.plate_id} has wells without images ({_some(empty)}): name those with images in "
                         f"`wells`, which begin [{', '.join(plate.wells_with_images()[:3])}]")
    chosen.check_uniform()
    return chosen


def _memory(plate: PlateStructure) -> int:
    """MB for the libraries, for the largest well's images as read and as written, and for a step at work on one.

    A step is reckoned with three copies of its image in double precision.
    """
    largest = max(plate.wells.values(), key=lambda well: len(well.images))
    image = next(iter(largest.images.values()))
    pixels = image.size_x * image.size_y * image.size_z * image.size_c * image.size_t
    per_site = 2 * np.dtype(image.pixel_type).itemsize
    return LIBRARIES_MB + (len(largest.images) * per_site + 3 * 8) * pixels // 10**6


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _check_channels(settings: Settings, plate_id: int, channels: int) -> None:
    for step in settings.steps:
        if step.channels and max(step.channels) >= channels:
            raise ConfigError(f"{step} asks for channel {max(step.channels)}, but plate {plate_id} has {channels}, "
                              "counted from 0")
