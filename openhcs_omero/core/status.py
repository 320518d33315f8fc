"""How far a run is, from the files that it writes: it may be running, finished or killed, and no server is asked."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from openhcs_omero.core.plan import LAST_RUN, plan_of_runs
from openhcs_omero.core.records import read_record
from openhcs_omero.core.state import recorded_state
from openhcs_omero.core.summary import Outcome, outcomes
from openhcs_omero.core.well_file import well_files
from openhcs_omero.errors import ConfigError

RECENT = 50  # wells; the time left goes by those that were finished last


@dataclass(frozen=True)
class PlateStatus:
    """How far a plate is."""

    outcome: Outcome
    name: str
    published: bool

    @property
    def state(self) -> str:
        if self.outcome.missing:
            return "not begun" if len(self.outcome.missing) == self.outcome.wells else "wells"
        if not self.published:
            return "tables"
        return "done, with failed wells" if self.outcome.failures else "done"


def show_status(directory: Path) -> None:
    """Print a table of the plates of the last run in a folder, and the time left.

    Raises
    ------
    ConfigError
        If no run was started there.
    """
    from rich.console import Console
    from rich.table import Table

    plates, finished = _read(directory)
    table = Table("Plate", "Name", "State", *(_number(name) for name in ("Wells", "Done", "Failed", "To do")))
    for plate in plates:
        one = plate.outcome
        counts = (one.wells, one.done, len(one.failures), len(one.missing))
        table.add_row(one.label, plate.name, plate.state, *map(str, counts))
    console = Console()
    console.print(table)
    console.print(_headline(plates, finished), highlight=False)


def _read(directory: Path) -> tuple[list[PlateStatus], list[float]]:
    """The plates of the last run, and when its wells were finished, in seconds since 1970."""
    config = read_record(directory / LAST_RUN, dict[str, Any])
    if config is None:
        raise ConfigError(f"no run was started in {directory.resolve()}: go to the folder where you start snakemake")
    with contextlib.chdir(directory):  # paths of a run are relative to the folder where it was started
        plan = plan_of_runs(config)
        plates = [
            PlateStatus(one, recorded_state(one.folder).name, (one.folder / "annotations.json").exists())
            for one in outcomes(plan)
        ]
        finished = [path.stat().st_mtime for one in plates for path in well_files(one.outcome.folder).values()]
    return plates, sorted(finished)


def _headline(plates: Sequence[PlateStatus], finished: Sequence[float]) -> str:
    wells, left = sum(one.outcome.wells for one in plates), sum(len(one.outcome.missing) for one in plates)
    text = f"{wells - left} of {wells} wells of {len(plates)} plates are finished."
    recent = finished[-RECENT:]
    if left and len(recent) > 1:
        rest = timedelta(seconds=round((recent[-1] - recent[0]) / (len(recent) - 1) * left))
        text += f" At the pace of the last {len(recent)} wells, the others take {rest}."
    return text


def _number(name: str) -> Any:
    from rich.table import Column

    return Column(name, justify="right")
