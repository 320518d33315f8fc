"""How far a run is: the numbers that its page, `openhcs-omero status` and the message at its end show.

A run writes them to `status.json` in the folder of the results (orchestrator/live.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from openhcs_omero.core.plan import LAST_RUN
from openhcs_omero.core.records import read_record
from openhcs_omero.errors import ConfigError

NAME = "status.json"
PULSE = 30
"""A run writes its status at least this often, in seconds."""
SILENCE = 4 * PULSE  # after which a run counts as killed


@dataclass(frozen=True)
class PlateStatus:
    """How far a plate is.

    Parameters
    ----------
    label, name
        What the plate is called in the tables, and in OMERO or the microscope's metadata.
    wells, done, running, failed
        Numbers of wells. A well of a job that waits in the queue of a cluster counts as running.
    seconds
        The time until the wells of this plate are finished; None if it is not known, 0 if they are.
    published
        When the tables were published, in seconds since 1970; None if they are not, or are out of date.
    problem
        Why the plate, or a part of it, could not be processed; "" if there is no reason.
    source, derived
        OMERO ids of the plate and its derived plate; None for folders, and where they are not known.
    z_prime
        Z' of the analyzed features, such as "0.62 cells_c1".
    files
        Files to look at, by what they are called; paths are relative to the folder of the results.
    """

    label: str
    name: str
    wells: int
    done: int
    running: int = 0
    failed: int = 0
    seconds: float | None = None
    published: float | None = None
    problem: str = ""
    source: int | None = None
    derived: int | None = None
    z_prime: tuple[str, ...] = ()
    files: dict[str, str] | None = None

    @property
    def waiting(self) -> int:
        """The number of wells that are not done, not running, and have not failed."""
        return self.wells - self.done - self.running - self.failed

    @property
    def state(self) -> str:
        """The state in a word or two."""
        if self.running:
            return "running"
        if self.waiting or not self.wells:
            begun = self.waiting < self.wells
            return "error" if self.problem else "partly done" if begun else "waiting"
        if self.published is None:
            return "error" if self.problem else "tables"
        return "done, with failed wells" if self.failed else "done"


@dataclass(frozen=True)
class RunStatus:
    """How far a run is. Times are in seconds since 1970.

    Parameters
    ----------
    begun, updated
        When the run was started, and when these numbers were true.
    ended
        Whether the run has ended, as far as it could say so: a run that was killed could not.
    pace
        Seconds per well, over the last wells of this run; None until two wells are finished.
    report
        The report of the screen, relative to the folder of the results; "" if there is none.
    """

    plates: tuple[PlateStatus, ...]
    begun: float
    updated: float
    ended: bool
    pace: float | None = None
    report: str = ""

    def total(self, what: str) -> int:
        """The sum of a number over all plates."""
        return sum(getattr(plate, what) for plate in self.plates)

    @property
    def headline(self) -> str:
        """How many wells are processed, and the time left."""
        plates = f"{len(self.plates)} plate{'' if len(self.plates) == 1 else 's'}"
        said = [f"{plates}: {self.total('done')} of {self.total('wells')} wells are processed"]
        said += [f"{number} {what}" for what in ("running", "failed") if (number := self.total(what))]
        left = max((plate.seconds for plate in self.plates if plate.seconds), default=0)
        if left and not self.ended:
            said.append(f"{duration(left)} left")
        return ", ".join(said)

    @property
    def active(self) -> bool:
        """Whether the run is active: it has not ended, and was not killed."""
        return not self.ended and time.time() - self.updated <= SILENCE

    @property
    def state(self) -> str:
        """Whether the run is active, has ended, or was killed, with the time."""
        if self.ended:
            return f"The run ended at {at(self.updated)}."
        if not self.active:
            return f"The run was killed, or its machine is gone: these numbers are from {at(self.updated)}."
        return f"The run is active since {at(self.begun)}; these numbers are from {at(self.updated)}."


def at(seconds: float) -> str:
    """A time for people."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def duration(seconds: float | None) -> str:
    """A duration for people, such as "3 h 20 min"; "" if it is not known, or over."""
    if not seconds:
        return ""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def show_status(directory: Path) -> None:
    """Print a table of the plates of the last run that was started in a folder.

    Raises
    ------
    ConfigError
        If no run was started there.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Column, Table

    status = read_status(directory)
    numbers = ("Wells", "Done", "Running", "Failed", "Waiting", "Time left")
    columns = [Column(name, justify="right", no_wrap=True) for name in numbers]
    table = Table("Plate", "Name", Column("State", no_wrap=True), *columns, "Z'", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for plate in status.plates:
        counts = (plate.wells, plate.done, plate.running, plate.failed, plate.waiting)
        left = "" if status.ended else duration(plate.seconds)
        table.add_row(*_plain(plate.label, plate.name, plate.state), *map(str, counts), left, *_plain(_first(plate)))
    console = Console()
    console.print(table)
    for plate in status.plates:
        if plate.problem:
            console.print(f"Plate {plate.label}: {plate.problem}", highlight=False, markup=False)
    console.print(f"{status.headline}.\n{status.state}", highlight=False, markup=False)


def read_status(directory: Path) -> RunStatus:
    """Read the status of the last run that was started in a folder; raises ConfigError if there was none."""
    config = read_record(directory / LAST_RUN, dict[str, Any])
    if config is None:
        raise ConfigError(f"no run was started in {directory.resolve()}: go to the folder where you start snakemake")
    path = directory / config.get("results", "results") / NAME
    status = read_record(path, RunStatus)
    if status is None:
        raise ConfigError(f"{path} is missing or damaged: a run writes it as soon as it starts its first job")
    return status


def _first(plate: PlateStatus) -> str:
    return plate.z_prime[0] if plate.z_prime else ""


def _plain(*texts: str) -> Sequence[Any]:
    from rich.text import Text

    return [Text(text) for text in texts]  # names may look like rich's markup
