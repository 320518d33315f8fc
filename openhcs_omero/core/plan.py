"""What the workflow is to do: the checked configuration, its steps, and what there is to know about its plates.

Only Snakemake's head process looks at the plates; what it learns it writes beside the results, where the jobs (for
which Snakemake reads the same Snakefile again) find it.
"""
from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs_omero import password
from openhcs_omero.core.config import Settings, Step, check_config, read_config
from openhcs_omero.core.plates import choose_wells, open_plates
from openhcs_omero.core.provenance import RUN_VARIABLE
from openhcs_omero.core.records import forget_stale, read_record
from openhcs_omero.core.steps.loading import load_step
from openhcs_omero.core.steps.source import source_hash
from openhcs_omero.errors import ConfigError
from openhcs_omero.io.atomic import write, write_if_changed

if TYPE_CHECKING:
    from openhcs_omero.omero.connection import BlitzGateway
    from openhcs_omero.omero.server import Server
    from openhcs_omero.plates.structure import PlateStructure

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
    path
        The plate's path.
    """

    fingerprint: str
    channels: int
    memory: int
    path: str


@dataclass(frozen=True)
class Plan:
    """The configuration, its steps with their functions, and the plates' states by label."""

    settings: Settings
    steps: tuple[tuple[Step, Callable[..., Any]], ...]
    states: Mapping[str, PlateState]

    def steps_record(self) -> str:
        """What a well depends on besides its images; it changes when a step, its params or its source does."""
        return json.dumps([_record(step, function) for step, function in self.steps], sort_keys=True)

    def estimates(self, plate: str) -> list[str]:
        """Names of the plate's estimates, one per step that has them and channel."""
        return [
            f"{step.position}_{step.function_name}_c{channel}"
            for step, function in self.steps if hasattr(function, "plate_estimate")
            for channel in (step.channels or range(self.states[plate].channels))
        ]

    def memory(self, plate: str) -> int:
        """What a job that works on a well of the plate may need, in MB."""
        return self.states[plate].memory

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
        True in the head process: everything is checked, the plates are looked at, and records of what is no longer
        there are removed. False in jobs: what the head process wrote down is read.

    Raises
    ------
    OpenHCSError
        One sentence about the first thing that is wrong; nothing has been changed then.
    """
    password.read()  # jobs are not to inherit it, also where no plate is in OMERO
    if ask:
        check_config(config, schema)
    settings = read_config(config)
    steps = tuple((step, load_step(step)) for step in settings.steps)
    if not ask:
        return Plan(settings, steps, {plate: _recorded(settings, plate) for plate in settings.plates})
    os.environ.setdefault(RUN_VARIABLE, uuid.uuid4().hex)  # the jobs mark with it what they write
    states = _ask(settings)
    return Plan(settings, steps, states)


def _ask(settings: Settings) -> dict[str, PlateState]:
    plates = open_plates(settings, settings.plates, _connect)
    structures = {plate.label: choose_wells(plate.structure, settings) for plate in plates}
    states = {plate.label: _state(settings, plate.label, structures[plate.label]) for plate in plates}
    for plate in plates:
        folder, structure = settings.folder(plate.label), structures[plate.label]
        forget_stale(plate.output, structure, folder)
        write_if_changed(folder / "state.json", json.dumps(asdict(states[plate.label])))
        if not (folder / "derive.token").exists():
            write(folder / "derive.token", "new\n")
        for batch in settings.batches(len(structure.wells)):
            if not (folder / "batches" / batch).exists():  # wells that are done are in no need of one
                write(folder / "batches" / batch, "")
    return states


def _connect(server: Server) -> BlitzGateway:
    from openhcs_omero.omero.connection import connect, look_after

    logging.getLogger().addHandler(logging.NullHandler())  # else omero-py's client gives Snakemake's log a second voice
    conn = connect(server)
    look_after(server)
    return conn


def _state(settings: Settings, label: str, plate: PlateStructure) -> PlateState:
    """What is to be known of a plate, if the steps and the folder for its results fit it."""
    for step in settings.steps:
        if step.channels and max(step.channels) >= plate.max_c:
            raise ConfigError(f"{step} asks for channel {max(step.channels)}, but plate {label} has {plate.max_c}, "
                              "counted from 0")
    folder, path = settings.folder(label), settings.plates[label]
    before = (read_record(folder / "state.json") or {}).get("path", path)
    if before != path:
        raise ConfigError(f"{folder} has the results of {before}, not of {path}: name another folder in `results`, or "
                          f"delete {folder / 'state.json'} where it is the same plate in another place")
    return PlateState(plate.fingerprint(), plate.max_c, _memory(plate), path)


def _recorded(settings: Settings, plate: str) -> PlateState:
    record = read_record(settings.folder(plate) / "state.json")
    if record is None or set(record) != {field.name for field in fields(PlateState)}:
        raise ConfigError(f"{settings.folder(plate)} has no usable state.json, which a run of the workflow writes: "
                          "run it first; jobs must see the folder `results` of the process that starts them")
    return PlateState(**record)




def _memory(plate: PlateStructure) -> int:
    """MB for the libraries, for the largest well's images as read and as written, and for a step at work on one.

    A step is reckoned with three copies of its image in double precision.
    """
    largest = max(plate.wells.values(), key=lambda well: len(well.images))
    image = next(iter(largest.images.values()))
    pixels = image.size_x * image.size_y * image.size_z * image.size_c * image.size_t
    per_site = 2 * np.dtype(image.pixel_type).itemsize
    return LIBRARIES_MB + (len(largest.images) * per_site + 3 * 8) * pixels // 10**6


