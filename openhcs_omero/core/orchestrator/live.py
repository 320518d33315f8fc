"""A Snakemake logger plugin that writes the page of a run and its numbers while the workflow runs.

The Snakefile turns it on, so that every run has the page, whatever its profile and other loggers are. `--logger
openhcs-omero` does the same. An event costs a constant time: it is noted, and a thread writes the files at most every
`PAUSE` seconds, however many events there are.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from snakemake.logging import logger
from snakemake_interface_logger_plugins.base import LogHandlerBase

from openhcs_omero.core import run_page, status
from openhcs_omero.core.config import Settings
from openhcs_omero.core.orchestrator.jobs import Job, Jobs
from openhcs_omero.core.plan import Plan
from openhcs_omero.core.progress import PlateProgress, RunProgress
from openhcs_omero.core.records import to_json
from openhcs_omero.core.status import RunStatus
from openhcs_omero.io.atomic import write

PAUSE = 2.0  # seconds between two pages
SHARE = 10  # writing takes at most this part of the time, however slow the disk is
NOTHING = "Nothing to be done"


class LogHandler(LogHandlerBase):
    """Passes on the jobs of a run to its page; does nothing for other workflows."""

    writes_to_stream = False
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self._jobs = Jobs()
        self._page: LivePage | None = None

    def show(self, page: LivePage) -> None:
        self._page = page

    def emit(self, record: logging.LogRecord) -> None:
        if self._page is None:
            return
        job = self._jobs.changed(record)
        if job is not None:
            self._page.note(job)
        elif str(record.msg).startswith(NOTHING):  # no hook is called then
            self._page.begin([])

    def close(self) -> None:
        if self._page is not None:
            self._page.end()
        super().close()


def live_page(workflow: Any, plan: Plan) -> LivePage:
    """The page of a run, to which Snakemake's events go from now on."""
    handlers = workflow.logger_manager.get_log_handlers()
    handler = next((one for one in handlers if isinstance(one, LogHandler)), None)
    if handler is None:
        handler = LogHandler(workflow.output_settings, None)
        logger.addHandler(handler)
    page = LivePage(plan)
    handler.show(page)
    return page


class LivePage:
    """The page of a run and its numbers. Nothing is written before `begin`, nor after `end`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._web = web_of(plan.settings)
        self._noted: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._news, self._ending = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._ended = False

    def begin(self, outdated: Iterable[tuple[str, str]]) -> None:
        """Begin to write the page; call this when the run has locked its folder.

        Parameters
        ----------
        outdated
            (plate, well) of the wells that the run will process.
        """
        self._run = RunProgress(self._plan, trusting=True)
        for plate, well in outdated:
            self._run.plates[plate].begin(well)
        self._about = run_page.about_html(self._plan)
        self._thread = threading.Thread(target=self._keep_writing, name="page", daemon=True)
        self._thread.start()

    def note(self, job: Job) -> None:
        """Note that the state of a job has changed."""
        if job.plate is None or job.plate in self._plan.settings.plates:  # not of other rules in the same project
            self._noted.put(job)
            self._news.set()

    @property
    def path(self) -> Path:
        """Where the page is, in full."""
        return (self._plan.settings.results / run_page.NAME).resolve()

    def end(self) -> RunStatus | None:
        """Write the page for the last time and return its numbers; None if it was not begun, or has ended before."""
        if self._thread is None or self._ended:
            return None
        self._ended = True
        self._ending.set()
        self._news.set()
        self._thread.join()
        self._active()
        for plate in self._run.plates.values():
            plate.end()
        self._run.count(self._run.plates)
        self._about = run_page.about_html(self._plan)
        now = self._run.status(ended=True)
        try:
            self._write(now)
        except OSError as error:  # a full disk, for instance, must not hide what the run did
            logger.warning(f"The page of the run could not be written: {error}")
        return now

    def _keep_writing(self) -> None:
        while True:
            self._news.clear()
            began = time.monotonic()
            try:
                self._run.count(self._active())
                self._write(self._run.status(ended=False))
            except OSError:
                pass  # perhaps the next time; the end says so
            if self._ending.wait(max(PAUSE, SHARE * (time.monotonic() - began))):
                return
            self._news.wait(status.PULSE)

    def _active(self) -> set[str]:
        """Apply what was noted; returns the plates whose wells are to be counted."""
        active = {label for label, plate in self._run.plates.items() if plate.running}
        while not self._noted.empty():
            job = self._noted.get()
            if job.plate is None:
                for plate in self._run.plates.values() if job.state == "done" else ():
                    plate.look()
            else:
                _apply(job, self._run.plates[job.plate])
                active.add(job.plate)
        return active

    def _write(self, now: RunStatus) -> None:
        results = self._plan.settings.results
        write(results / status.NAME, to_json(now, indent=1))
        write(results / run_page.NAME, run_page.page_html(now, self._web, self._about))


def _apply(job: Job, plate: PlateProgress) -> None:
    """Change the numbers of a plate as a job says."""
    name = job.well or job.rule
    if job.state == "failed":
        if job.log:  # other jobs say why
            plate.problems[name] = str(job)
    else:
        plate.problems.pop(name, None)
    if job.well is None:
        if job.state == "done":
            plate.look()
    elif job.state == "running":
        plate.begin(job.well)
        plate.running.add(job.well)
    else:
        plate.running.discard(job.well)


def web_of(settings: Settings) -> str | None:
    """The address of OMERO.web, if the configuration says it."""
    web: str | None = ((settings.analysis or {}).get("analysis") or {}).get("web")
    return web
