"""The page of a campaign, from the numbers that the runs of its plates write."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path

from openhcs_omero.core import run_page, status
from openhcs_omero.core.records import read_record, to_json
from openhcs_omero.core.status import PlateStatus, RunStatus
from openhcs_omero.io.atomic import write

RESULTS = "results"  # in the folder of a run


class CampaignPage:
    """Writes the page and its numbers until the campaign ends.

    Parameters
    ----------
    runs
        The folder with a folder per plate.
    plates
        The plates.
    web
        The address of OMERO.web; None if it is not known.
    """

    def __init__(self, runs: Path, plates: Sequence[str], web: str | None) -> None:
        self._runs, self._plates, self._web = runs, plates, web
        self._begun, self._ending = time.time(), threading.Event()
        self._due: Set[str] = frozenset()
        self._thread = threading.Thread(target=self._keep_writing, name="page", daemon=True)

    def begin(self, due: Set[str]) -> None:
        """Begin to write the page; `due` are the plates that will run, so what earlier runs say does not count."""
        self._due = due
        self._thread.start()

    def end(self) -> None:
        """Write the page for the last time; raises OSError if that is not possible."""
        self._ending.set()
        self._thread.join()
        self._write()

    def _keep_writing(self) -> None:
        while True:
            try:
                self._write()
            except OSError:
                pass  # perhaps the next time
            if self._ending.wait(status.PULSE):
                return

    def _write(self) -> None:
        plates = tuple(self.plate(label) for label in self._plates)
        now = RunStatus(plates, self._begun, time.time(), self._ending.is_set())
        write(self._runs / status.NAME, to_json(now, indent=1))
        write(self._runs / run_page.NAME, run_page.page_html(now, self._web, ""))

    def plate(self, label: str) -> PlateStatus:
        """How far a plate is; what a run before this campaign says about a plate that is run again does not count."""
        run = read_record(self._runs / label / RESULTS / status.NAME, RunStatus)
        log = {"log": f"{label}/run.log"} if (self._runs / label / "run.log").exists() else {}
        if run is None:
            return PlateStatus(label, "", 0, 0, files=log)
        [plate] = run.plates
        if label in self._due and run.begun < self._begun:
            return PlateStatus(label, plate.name, plate.wells, 0, files=log)
        files = {name: f"{label}/{RESULTS}/{path}" for name, path in (plate.files or {}).items()}
        return replace(plate, running=plate.running if run.active else 0, files={**files, **log})
