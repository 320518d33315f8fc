"""What Snakemake's log records say about the jobs of a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

STATES: Mapping[str, Literal["running", "done", "failed"]] = {
    "job_info": "running",
    "job_finished": "done",
    "job_error": "failed",
}


@dataclass(frozen=True)
class Job:
    """A job whose state has changed.

    Parameters
    ----------
    state
        "failed" means that the job ended with an error. The job of a well whose step failed ends normally.
    plate, well
        Label of the plate and name of the well; None for jobs of all plates, and of all wells.
    """

    state: Literal["running", "done", "failed"]
    rule: str
    plate: str | None
    well: str | None
    log: Sequence[str]
    output: Sequence[str]

    def __str__(self) -> str:
        return f"{self.well or self.rule}: {self.reason}"

    @property
    def reason(self) -> str:
        """The last line of the job's log, which holds its error."""
        for path in map(Path, self.log):
            if path.exists() and (text := path.read_text(errors="replace").strip()):
                return text.splitlines()[-1].strip().removeprefix("openhcs_omero.errors.")
        return "it left no log: it was killed, or never started"


class Jobs:
    """Turns log records into jobs: later records name only the number of a job."""

    def __init__(self) -> None:
        self._begun: dict[Any, dict[str, Any]] = {}

    def changed(self, record: logging.LogRecord) -> Job | None:
        """The job that a record is about; None for other records."""
        about = vars(record)
        state = STATES.get(str(about.get("event") or ""))
        if state is None:
            return None
        number = about.get("jobid", about.get("job_id"))
        if state == "running":
            self._begun[number] = self._described(about)
        begun = self._begun.get(number)
        return Job(state, **begun) if begun else None

    @staticmethod
    def _described(about: Mapping[str, Any]) -> dict[str, Any]:
        places = about.get("wildcards") or {}
        return {
            "rule": about["rule_name"],
            "plate": str(places["plate"]) if "plate" in places else None,
            "well": str(places["well"]) if "well" in places else None,
            "log": [str(path) for path in about.get("log") or []],
            "output": [str(path) for path in about.get("output") or []],
        }
