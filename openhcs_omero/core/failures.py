"""Wells that failed: noted in their records, listed in failed.csv, and told at the end of a run."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from openhcs_omero.core.records import read_record

TOLD = 5  # wells in a message


@dataclass(frozen=True)
class Failure:
    """Why a well has no results.

    Parameters
    ----------
    plate, well
        The plate's label and the well's name.
    site
        The site at which it happened; None if it was none in particular.
    step
        "step 2 (module:function)", or what else was being done.
    reason
        One sentence.
    log
        The log with the traceback.
    """

    plate: str
    well: str
    site: int | None
    step: str
    reason: str
    log: str

    def __str__(self) -> str:
        where = f", site {self.site}" if self.site else ""
        return f"{self.well} of plate {self.plate}{where}: {self.step}: {self.reason} ({self.log})"


@dataclass(frozen=True)
class FailedWell:
    """The record of a well that failed."""

    failed: Failure


def read_failures(folder: Path) -> list[Failure]:
    """The wells of a plate that failed in the last run, by the records in the plate's folder."""
    found = (read_record(path, FailedWell) for path in sorted((folder / "processed").glob("*.json")))
    return [record.failed for record in found if record is not None]


def has_results(folder: Path, well: str) -> bool:
    """Whether a well of a plate has been processed, and did not fail."""
    path = folder / "processed" / f"{well}.json"
    return path.exists() and read_record(path, FailedWell) is None


def lost_server(error: BaseException) -> str:
    """The sentence for an OMERO server that went away; "" for other errors, and in runs over folders, without Ice."""
    if "Ice" not in sys.modules:
        return ""
    from openhcs_omero.omero.lost import went_away

    return went_away(error)


def told(failures: Iterable[Failure]) -> str:
    """What to tell at the end of a run: how many wells failed, and the first of them, one per line; "" for none."""
    failures = list(failures)
    if not failures:
        return ""
    count = f"{len(failures)} well{'s' if len(failures) > 1 else ''} failed; the next run processes them again."
    more = [f"... and {len(failures) - TOLD} more, listed in failed.csv"] if len(failures) > TOLD else []
    return "\n".join([count, *map(str, failures[:TOLD]), *more])
