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
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from snakemake_interface_logger_plugins.base import LogHandlerBase

from openhcs_omero.core.failures import FailedWell, Failure
from openhcs_omero.core.tables import parse_rows
from openhcs_omero.core.well_file import open_part, read_well_record

NAME = "openhcs-omero"


class LogHandler(LogHandlerBase):
    """Turns Snakemake's log records into events. `stream` is set before Snakemake makes the handler."""

    stream: TextIO
    writes_to_stream = False
    writes_to_file = False
    has_filter = True
    has_formatter = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self._jobs: dict[int, Mapping[str, Any]] = {}
        self._wells: dict[tuple[str, str], str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        told = vars(record)
        kind = str(told.get("event") or "")
        if kind == "job_info":
            self._jobs[told["jobid"]] = {key: told.get(key) for key in ("rule_name", "wildcards", "log", "output")}
        line = self.format(record) if kind != "shellcmd" else None
        if line and line != "None" and record.levelno >= logging.INFO:
            self._say(event="log", line=line.strip("\n"))
        if kind == "progress":
            self._say(event="jobs", done=told["done"], total=told["total"])
        elif kind == "error":
            self._say(event="error", message=_sentence(str(record.msg)))
        elif kind in ("job_info", "job_finished", "job_error"):
            state = {"job_info": "running", "job_finished": "done", "job_error": "failed"}[kind]
            self._job(told.get("jobid", told.get("job_id")), state)

    def _job(self, number: Any, state: str) -> None:
        job = self._jobs.get(number)
        if job is None:
            return
        places = job["wildcards"] or {}
        about: dict[str, Any] = {"state": state}
        if "plate" in places:
            about["plate"] = int(places["plate"]) if str(places["plate"]).isdecimal() else str(places["plate"])
        if state == "failed":
            about["reason"] = _reason(job["log"])
        elif state == "done" and (failure := _failure(job["output"])):
            about["state"] = state = "failed"
            about["reason"] = failure.reason
        if job["rule_name"] == "process_well":
            self._wells[str(places["plate"]), str(places["well"])] = state
            if state == "done":
                about["results"] = _results(job["output"])
            self._say(event="well", well=str(places["well"]), counts=dict(Counter(self._wells.values())), **about)
        elif state == "failed":
            self._say(event="job", rule=job["rule_name"], **about)

    def _say(self, **event: Any) -> None:
        try:
            self.stream.write(json.dumps(event, default=str) + "\n")
            self.stream.flush()
        except OSError:
            pass  # nobody is listening any more; the run goes on


def _reason(logs: Any) -> str:
    """The last line of a failed job's log, which holds its error."""
    for log in logs or []:
        path = Path(str(log))
        if path.exists() and (text := path.read_text(errors="replace").strip()):
            return text.splitlines()[-1].strip().removeprefix("openhcs_omero.errors.")
    return "it left no log: it was killed, or never started"


def _sentence(message: str) -> str:
    """The message of a Snakemake exception, without "WorkflowError in file ..., line 3:" and the Snakefile location."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith("File ") and not re.match(r"\w+( in file .*)?:$", line)]
    if said and "cannot be locked" in said[0]:
        return (
            f"another run is active in {Path.cwd()}, or was killed there: wait for it, or, if it was killed, remove "
            "its lock with PipelineOrchestrator.unlock() or `snakemake --unlock`"
        )
    return (said or lines or [""])[0]


def _failure(outputs: Any) -> Failure | None:
    """The failure in a well's record; a job whose step failed still ends normally."""
    records = (read_well_record(Path(str(output)), FailedWell) for output in outputs or [])
    return next((record.failed for record in records if record), None)


def _results(outputs: Any) -> list[dict[str, str]]:
    """The measurements of a well, one row per site."""
    for output in outputs or []:
        path = Path(str(output))
        if path.exists():
            with open_part(path, "features.csv") as part:
                return parse_rows(io.TextIOWrapper(part, newline=""))
    return []
