"""Counting what is done: from the files of the wells, which are true whatever became of the process that wrote them."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from openhcs_omero.core.failures import FailedWell
from openhcs_omero.core.plan import Plan
from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.core.records import DerivedPlate, read_record
from openhcs_omero.core.run_page import MONTAGE
from openhcs_omero.core.state import read_state
from openhcs_omero.core.status import PlateStatus, RunStatus
from openhcs_omero.core.well_file import read_well_record, well_file
from openhcs_omero.plates.paths import plate_of

RECENT = 50  # wells; the time left goes by those that were finished last
QUALITIES = 3  # Z' values of a plate on the page
FILES = {
    "wells": "wells.csv",
    "sites": "features.csv",
    "objects": "objects.csv",
    "hits": "hits.csv",
    "failed wells": "failed.csv",
    MONTAGE: "figures/montage.png",
}


class PlateProgress:
    """The wells of a plate: which are done, running and failed.

    Attributes
    ----------
    running
        The wells whose jobs have started.
    problems
        Why jobs failed, by the name of a well or a rule.
    """

    def __init__(self, plan: Plan, label: str) -> None:
        settings, place = plan.settings, plate_of(plan.settings.plates[label])
        self.label, self.folder = label, settings.folder(label)
        self.wells = frozenset(plan.wells(label))
        self.running: set[str] = set()
        self.problems = {"": plan.problems[label]} if label in plan.problems else {}
        self._source = place.plate_id if place and not place.output else None
        self._done: set[str] = set()
        self._failed: set[str] = set()
        self._published: float | None = None
        self._outdated: float | None = None  # when tables were published that are out of date
        self._earlier: dict[str, int] = {}  # when the files of earlier runs were written, in nanoseconds since 1970
        self._again: set[str] = set()  # wells that are processed again
        self.look()

    def trust(self) -> None:
        """Count all files as done, at the beginning of a run, which has just removed those of failed wells."""
        self._earlier = self._written()
        self._done = set(self.wells & self._earlier.keys())

    def begin(self, well: str) -> None:
        """Note that a well is processed, or will be: a file of an earlier run does not count any more."""
        self._done.discard(well)
        self._failed.discard(well)
        self._again.add(well)
        self._outdated, self._published = self._published or self._outdated, None

    def count(self) -> list[float]:
        """Look for files of wells; returns when those were written that are new, in seconds since 1970."""
        written = {
            well: at
            for well, at in self._written().items()
            if well in self.wells and not (well in self._again and self._earlier.get(well) == at)
        }
        new = [well for well in written if well not in self._done and well not in self._failed]
        for well in new:
            failed = read_well_record(well_file(self.folder, well), FailedWell) is not None
            (self._failed if failed else self._done).add(well)
        self._done &= written.keys()
        self._failed &= written.keys()
        return [written[well] / 1e9 for well in new]

    def look(self) -> None:
        """Look for tables and figures."""
        state, derived = read_state(self.folder), read_record(self.folder / "derived.json", DerivedPlate)
        record, quality = self.folder / "annotations.json", self.folder / "quality.csv"
        self._name = state.name if state else ""
        self._derived = derived.derived_plate if derived and isinstance(derived.derived_plate, int) else None
        published = record.stat().st_mtime if record.exists() else None
        self._published = None if published == self._outdated else published
        self._files = {
            name: f"{self.folder.name}/{path}" for name, path in FILES.items() if (self.folder / path).exists()
        }
        rows = read_rows(quality) if quality.exists() else []
        found = [f"{float(row['z_prime']):.2f} {row['feature']}" for row in rows if row.get("z_prime")]
        self._z_prime = tuple(found[:QUALITIES])

    def end(self) -> None:
        """The run has ended: no well is running any more, and what is published is not out of date."""
        self.running.clear()
        self._outdated = None
        self.look()

    def status(self, seconds: float | None) -> PlateStatus:
        """The numbers; `seconds` is the time left."""
        finished = self._done | self._failed
        problems = [why for name, why in self.problems.items() if name not in finished]
        running = len(self.running - finished)
        return PlateStatus(
            self.label,
            self._name,
            len(self.wells),
            len(self._done),
            running,
            len(self._failed),
            seconds,
            self._published,
            problems[0] if problems else "",
            self._source,
            self._derived,
            self._z_prime,
            {name: path for name, path in self._files.items() if name != "failed wells" or self._failed},
        )

    @property
    def unfinished(self) -> int:
        """The number of wells that are to be processed."""
        return len(self.wells) - len(self._done) - len(self._failed)

    def _written(self) -> dict[str, int]:
        """When the file of each well was written, in nanoseconds since 1970."""
        try:
            with os.scandir(self.folder / "processed") as entries:
                return {
                    entry.name.removesuffix(".zip"): entry.stat().st_mtime_ns
                    for entry in entries
                    if entry.name.endswith(".zip")
                }
        except FileNotFoundError:  # also a file that was deleted in between: the next look counts again
            return {}


class RunProgress:
    """All plates of a run, by label.

    Parameters
    ----------
    trusting
        Whether all files of wells are of good wells, as at the beginning of a run.
    """

    def __init__(self, plan: Plan, trusting: bool) -> None:
        self.plates = {label: PlateProgress(plan, label) for label in plan.settings.plates}
        self.begun = time.time()
        self._results = plan.settings.results
        self._report = Path(f"screen_{plan.settings.output}", "report.html")
        self._recent: deque[float] = deque(maxlen=RECENT)
        for plate in self.plates.values():
            if trusting:
                plate.trust()
            else:
                plate.count()

    def count(self, plates: Iterable[str]) -> None:
        """Count the wells of some plates."""
        for label in plates:
            self._recent.extend(sorted(self.plates[label].count()))

    def status(self, ended: bool) -> RunStatus:
        """The numbers. Plates are finished one after the other, so the time left of one includes those before it."""
        times = sorted(self._recent)
        pace = sum(after - before for before, after in pairwise(times)) / (len(times) - 1) if len(times) > 1 else None
        plates, before = [], 0
        for plate in self.plates.values():
            before += plate.unfinished
            seconds = 0.0 if not plate.unfinished else None if pace is None else before * pace
            plates.append(plate.status(seconds))
        report = str(self._report) if (self._results / self._report).exists() else ""
        return RunStatus(tuple(plates), self.begun, time.time(), ended, pace, report)


def status_of_results(plan: Plan) -> RunStatus:
    """The status as the files of earlier runs show it, for a report."""
    return RunProgress(plan, trusting=False).status(ended=True)
