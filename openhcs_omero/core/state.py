"""What the head process learns about a plate, in a file that jobs read: they don't look at the plate again."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openhcs_omero.core.records import read_record
from openhcs_omero.core.tables import write_rows
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
        Its place, from 0.
    sites
        Number of its sites.
    """

    digest: str
    row: int
    column: int
    sites: int


@dataclass(frozen=True)
class PlateState:
    """What the rules have to know about a plate.

    Parameters
    ----------
    path
        The plate's path.
    name
        What people call it.
    channels
        Number of channels.
    memory
        MB that a job may need for one well.
    wells
        The chosen wells, in the plate's order.
    repairs
        How often the derived plate was found damaged; a new number has it brought up to date.
    """

    path: str
    name: str
    channels: int
    memory: int
    wells: dict[str, WellState]
    repairs: int

    @property
    def fingerprint(self) -> str:
        """Changes when one of the chosen wells does, or the choice of wells."""
        return digest_of([[name, well.digest] for name, well in self.wells.items()])


def read_state(folder: Path) -> PlateState | None:
    """The state that the last run wrote into a plate's folder; None if there is none or it is damaged."""
    return read_record(folder / NAME, PlateState)


def recorded_state(folder: Path) -> PlateState:
    """The state that the last run wrote into a plate's folder.

    Raises
    ------
    ConfigError
        If there is none.
    """
    state = read_state(folder)
    if state is None:
        raise ConfigError(
            f"{folder} has no usable {NAME}, which a run of the workflow writes: run it first; jobs must "
            "see the folder `results` of the process that starts them"
        )
    return state


def list_wells(table: Path) -> None:
    """Write the table of the chosen wells, and remove the results of wells that are no longer chosen."""
    state = recorded_state(table.parent)
    for path in (table.parent / "processed").glob("*.*"):
        if path.name.partition(".")[0] not in state.wells:
            path.unlink()
    rows = [
        {"well": name, "row": well.row, "column": well.column, "sites": well.sites}
        for name, well in state.wells.items()
    ]
    write_rows(table, rows, delimiter="\t")


def digest_of(content: Any) -> str:
    """SHA-256 of anything that can be JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def memory_of(plate: PlateStructure) -> int:
    """MB for the libraries, for the images of the largest well as read and as written, and for a step at work on one.

    A step is reckoned with three copies of its image in double precision.
    """
    largest = max(math.prod(image.shape) for _, image in plate.images())
    most = max(
        sum(2 * np.dtype(image.pixel_type).itemsize * math.prod(image.shape) for image in well.images.values())
        for well in plate.wells.values()
    )
    return LIBRARIES_MB + (most + 3 * 8 * largest) // 10**6
