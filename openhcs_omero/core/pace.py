"""How many wells share a job of a cluster: from the time that the first wells took.

The first wells of a run are processed in a job of their own, the checkpoint `pace` measures them, and the jobs of all
others follow. The result is kept in the folder of the results, for the next runs with the same steps.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openhcs_omero.core.config import Settings
from openhcs_omero.core.records import read_record
from openhcs_omero.io.atomic import write

FIRST = 4  # wells that are measured
MOST = 80  # jobs for the wells of a plate: with those of other rules, a plate of 1536 wells is at most 100 jobs
UNKNOWN = 8  # wells per job where nothing was measured
_TOOK = re.compile(r"processed in ([\d.]+) s")


@dataclass(frozen=True)
class Pace:
    """The time that a job needs for each of its wells, in seconds; None if the first wells could not be processed."""

    seconds: float | None


def took(seconds: float) -> str:
    """The last line of a well's log."""
    return f"processed in {seconds:.1f} s"


def measure(logs: Sequence[Path], at_once: int) -> Pace:
    """Measure the pace.

    Parameters
    ----------
    logs
        The logs of the first wells.
    at_once
        The number of wells that a job processes at the same time.
    """
    lines = [path.read_text(errors="replace").rstrip().rpartition("\n")[2] for path in logs if path.exists()]
    times = [float(found[1]) for line in lines if (found := _TOOK.fullmatch(line))]
    return Pace(statistics.median(times) / at_once if times else None)


def read_pace(settings: Settings) -> Pace | None:
    """Read what an earlier run measured; None if there was none."""
    return read_record(settings.pace_file, Pace)


def batches(settings: Settings, wells: int, pace: Pace | None) -> list[str]:
    """Names of the batches that this number of wells is split into; each batch is one cluster job."""
    size = settings.wells_per_job or _size(wells, pace, settings.job_minutes)
    return [f"{size}_{number + 1}" for number in range(-(-wells // size))]


def _size(wells: int, pace: Pace | None, minutes: float) -> int:
    known = pace is not None and pace.seconds
    fitting = min(wells, int(60 * minutes / known)) if known else UNKNOWN
    return max(fitting, -(-wells // MOST), 1)


def mark(folder: Path, batches: Sequence[str]) -> None:
    """Mark batches as done that are not known yet, so that those whose wells are all done need no job."""
    for batch in batches:
        if not (folder / "batches" / batch).exists():
            write(folder / "batches" / batch, "")
