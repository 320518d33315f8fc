"""The batches of wells of a run on a cluster, and the time that they may take (pace.py)."""

from __future__ import annotations

import functools
import math
from pathlib import Path

from openhcs_omero.core.config import Settings
from openhcs_omero.core.pace import FIRST, Pace, batches, mark, measure, read_pace
from openhcs_omero.core.plan import Plan
from openhcs_omero.core.records import to_json
from openhcs_omero.core.well_file import well_file
from openhcs_omero.io.atomic import write

FEW = 96  # wells for which measuring is not worth its time
STARTING = 5  # minutes that a job may take to start
SLACK = 3  # times the expected time, which a job may take


class Pacing:
    """The batches of wells of a run on a cluster, and the time that they may take."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._settings: Settings = plan.settings
        self._pace: Pace | None = None
        self.first = next((label for label in plan.settings.plates if plan.wells(label)), "")

    @functools.cached_property
    def measures(self) -> bool:
        """Whether the first wells are measured.

        They are if there are many wells, the configuration does not say `wells_per_job`, and no earlier run tried in
        vain to process the first ones.
        """
        wells = sum(len(self._plan.wells(label)) for label in self._settings.plates)
        if self._settings.wells_per_job is not None or wells <= FEW:
            return False
        folder = self._settings.folder(self.first)
        return not any(log.exists() and not well_file(folder, well).exists() for well, log in self._logs().items())

    def look(self) -> None:
        """Go by what was measured."""
        self._pace = read_pace(self._settings)

    def batches(self, label: str) -> list[str]:
        """The names of a plate's batches."""
        return batches(self._settings, len(self._plan.wells(label)), self._pace)

    def well_minutes(self) -> int:
        """The time that a well may take; 0 if its batch has the time for all of its wells."""
        return 15 + self._plan.needs.runtime if self._seconds is None else 0

    def batch_minutes(self, wells: int) -> int:
        """The time that a batch may take in addition to its wells."""
        return 1 if self._seconds is None else STARTING + math.ceil(SLACK * wells * self._seconds / 60)

    def write(self, at_once: int, log: Path) -> None:
        """Measure the first wells, and mark all batches as done; those with wells to process are made again."""
        pace = measure(list(self._logs().values()), at_once)
        write(log, "the first wells failed\n" if pace.seconds is None else f"{pace.seconds:.2f} s per well\n")
        write(self._settings.pace_file, to_json(pace))
        self.look()
        for label in self._settings.plates:
            mark(self._settings.folder(label), self.batches(label))

    def _logs(self) -> dict[str, Path]:
        """The logs of the first wells."""
        logs = self._settings.folder(self.first) / "logs"
        return {well: logs / f"process_well_{well}.log" for well in self._plan.wells(self.first)[:FIRST]}

    @property
    def _seconds(self) -> float | None:
        """What a well takes, if batches go by it: not where steps say themselves how long they take."""
        return None if self._pace is None or self._plan.needs.runtime else self._pace.seconds
