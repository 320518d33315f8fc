"""What the head process learns about a plate, in a file for the jobs, which need not inspect the plate again."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from openhcs_omero.core.plate_tables import write_rows
from openhcs_omero.core.records import read_record
from openhcs_omero.core.well_file import well_files
from openhcs_omero.errors import ConfigError
from openhcs_omero.plates.structure import PlateStructure

LIBRARIES_MB = 500
NAME = "state.json"


@dataclass(frozen=True)
class WellState:
    """A well in `PlateState`.

    Parameters
    ----------
    digest
        Changes when the well's images do.
    row, column
        Position of the well, from 0.
    sites
        Number of sites.
    """

    digest: str
    row: int
    column: int
    sites: int


@dataclass(frozen=True)
class PlateState:
    """What the rules need to know about a plate.

    Parameters
    ----------
    path
        The plate's path.
    name
        Name shown to people.
    channels
        Number of channels.
    memory
        Memory, in MB, that a job may need for one well.
    wells
        The chosen wells, in the plate's order.
    repairs
        How often the derived plate was found damaged; a new number triggers an update of the derived plate.
    losses
        How often results of wells were found to be lost; a new number makes Snakemake rewrite the tables.
    channel_names
        The names of the channels, by number, if the configuration names channels.
    groups
        The groups of like images, for each of which estimates are made.
    acquisitions
        The chosen acquisitions: id and name.
    notes
        Sentences about what was filled or left out.
    skipped
        The sites that were left out because planes are missing, by well.
    skipped_planes
        The timepoints, channels and z planes that were left out because no site has them.
    """

    path: str
    name: str
    channels: int
    memory: int
    wells: dict[str, WellState]
    repairs: int
    losses: int
    channel_names: tuple[str | None, ...] = ()
    groups: tuple[str, ...] = ()
    acquisitions: tuple[tuple[int, str], ...] = ()
    notes: tuple[str, ...] = ()
    skipped: dict[str, tuple[int, ...]] = field(default_factory=dict)
    skipped_planes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """A value that changes when any chosen well changes, or the choice of wells does."""
        return digest_of([[name, well.digest] for name, well in self.wells.items()])


def read_state(folder: Path) -> PlateState | None:
    """Read the state that the last run wrote to a plate's folder; None if it is missing or damaged."""
    return read_record(folder / NAME, PlateState)


def recorded_state(folder: Path) -> PlateState:
    """Read the state that the last run wrote to a plate's folder.

    Raises
    ------
    ConfigError
        If it is missing or damaged.
    """
    state = read_state(folder)
    if state is None:
        raise ConfigError(
            f"{folder} has no usable {NAME}, which a run of the workflow writes: run it first; jobs must "
            "be able to read the `results` folder of the process that starts them"
        )
    return state


def list_wells(table: Path) -> None:
    """Write the table of the chosen wells, and remove the results of wells that are no longer chosen."""
    state = recorded_state(table.parent)
    for well, path in well_files(table.parent).items():
        if well not in state.wells:
            path.unlink()
    rows = [
        {"well": name, "row": well.row, "column": well.column, "sites": well.sites}
        for name, well in state.wells.items()
    ]
    write_rows(table, rows, delimiter="\t")


def digest_of(content: Any) -> str:
    """Hexadecimal SHA-256 of any value that can be written as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def memory_of(plate: PlateStructure) -> int:
    """Estimate the memory, in MB, that a job may need for one well.

    The sum covers the libraries, the images of the largest well as read and as written, and a step that is working on
    one image. A step is assumed to need three copies of its image in double precision.
    """
    largest = max(math.prod(image.shape) for _, image in plate.images())
    most = max(
        sum(2 * np.dtype(image.pixel_type).itemsize * math.prod(image.shape) for image in well.images.values())
        for well in plate.wells.values()
    )
    return LIBRARIES_MB + (most + 3 * 8 * largest) // 10**6


def plate_title(folder: Path, label: str) -> str:
    """What figures call a plate: its name, if it has one, and its label."""
    name = recorded_state(folder).name
    return f"plate {label}" if name in ("", label) else f"{name} (plate {label})"
