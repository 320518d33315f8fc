"""A Snakemake logger plugin that reports the progress of a run as JSON, one line per event.

{"event": "log", "line": ...}                       what Snakemake prints
{"event": "jobs", "done": 3, "total": 11}           jobs of all rules; the total grows when the wells are known
{"event": "well", "plate": 7, "well": "A01", "state": "running", "done" or "failed", "counts": {state: wells},
 "results": [one dict per site], "reason": ...}     results if the well is done, the reason if it failed
{"event": "job", "rule": ..., "plate": 7, "state": "failed", "reason": ...}     a failed job of another rule
{"event": "error", "message": ...}                  the error that ended the run
"""

from __future__ import annotations

import io
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from snakemake_interface_logger_plugins.base import LogHandlerBase

from openhcs_omero.core.failures import FailedWell, Failure
from openhcs_omero.core.orchestrator.jobs import Job, Jobs
from openhcs_omero.core.orchestrator.locks import another_run
from openhcs_omero.core.plate_tables import parse_rows
from openhcs_omero.core.well_file import open_part, read_well_record

NAME = "openhcs-omero-events"


class LogHandler(LogHandlerBase):
    """Turns Snakemake's log records into events. `stream` is set before Snakemake makes the handler."""

    stream: TextIO
    writes_to_stream = False
    writes_to_file = False
    has_filter = True
    has_formatter = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self._jobs = Jobs()
        self._wells: dict[tuple[str, str], str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        told = vars(record)
        kind = str(told.get("event") or "")
        line = self.format(record) if kind != "shellcmd" else None
        if line and line != "None" and record.levelno >= logging.INFO:
            self._say(event="log", line=line.strip("\n"))
        if kind == "progress":
            self._say(event="jobs", done=told["done"], total=told["total"])
        elif kind == "error":
            self._say(event="error", message=_sentence(str(record.msg)))
        elif job := self._jobs.changed(record):
            self._job(job)

    def _job(self, job: Job) -> None:
        about: dict[str, Any] = {"state": job.state}
        if job.plate is not None:
            about["plate"] = int(job.plate) if job.plate.isdecimal() else job.plate
        if job.state == "failed":
            about["reason"] = job.reason
        elif job.state == "done" and (failure := _failure(job.output)):
            about |= {"state": "failed", "reason": failure.reason}
        if job.well is not None:
            self._wells[str(job.plate), job.well] = about["state"]
            if about["state"] == "done":
                about["results"] = _results(job.output)
            self._say(event="well", well=job.well, counts=dict(Counter(self._wells.values())), **about)
        elif about["state"] == "failed":
            self._say(event="job", rule=job.rule, **about)

    def _say(self, **event: Any) -> None:
        try:
            self.stream.write(json.dumps(event, default=str) + "\n")
            self.stream.flush()
        except OSError:
            pass  # nobody is listening any more; the run goes on


def _sentence(message: str) -> str:
    """The message of a Snakemake exception, without "WorkflowError in file ..., line 3:" and the Snakefile location."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith("File ") and not re.match(r"\w+( in file .*)?:$", line)]
    if said and "cannot be locked" in said[0]:
        return another_run()
    return (said or lines or [""])[0]


def _failure(outputs: Iterable[str]) -> Failure | None:
    """The failure in a well's record; a job whose step failed still ends normally."""
    records = (read_well_record(Path(output), FailedWell) for output in outputs)
    return next((record.failed for record in records if record), None)


def _results(outputs: Iterable[str]) -> list[dict[str, str]]:
    """The measurements of a well, one row per site."""
    for path in map(Path, outputs):
        if path.exists():
            with open_part(path, "features.csv") as part:
                return parse_rows(io.TextIOWrapper(part, newline=""))
    return []
