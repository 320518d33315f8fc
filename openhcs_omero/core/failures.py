"""Failed wells: stored in their records, listed in failed.csv, and reported at the end of a run."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from openhcs_omero.core.well_file import read_well_record, well_file, well_files

TOLD = 5  # wells in a message


@dataclass(frozen=True)
class Failure:
    """Why a well has no results.

    Parameters
    ----------
    plate, well
        The plate's label and the well's name.
    site
        The site that failed; None if the failure belongs to no particular site.
    step
        "step 2 (module:function)", or the operation that failed.
    reason
        One sentence.
    log
        Path of the log with the traceback.
    earlier_images
        What became of the images that an earlier run wrote for the well: "removed", "kept" because no well has results,
        or "" if there were none.
    """

    plate: str
    well: str
    site: int | None
    step: str
    reason: str
    log: str
    earlier_images: str = ""

    def __str__(self) -> str:
        where = f", site {self.site}" if self.site else ""
        return f"{self.well} of plate {self.plate}{where}: {self.step}: {self.reason} ({self.log})"


@dataclass(frozen=True)
class FailedWell:
    """The record of a well that failed."""

    failed: Failure


def read_failures(folder: Path) -> list[Failure]:
    """Read the failed wells of the last run from the records in the plate's folder."""
    found = (read_well_record(path, FailedWell) for path in well_files(folder).values())
    return [record.failed for record in found if record is not None]


def without_results(failures: Iterable[Failure]) -> list[Failure]:
    """The failures of a plate none of whose wells has results: the images of earlier runs stay."""
    return [replace(failure, earlier_images=failure.earlier_images and "kept") for failure in failures]


def has_results(folder: Path, well: str) -> bool:
    """Whether a well of a plate was processed without failing."""
    path = well_file(folder, well)
    return path.exists() and read_well_record(path, FailedWell) is None


def lost_server(error: BaseException) -> str:
    """The message for a lost OMERO server; "" for other errors and for runs over folders, which do not load Ice."""
    if "Ice" not in sys.modules:
        return ""
    from openhcs_omero.omero.lost import went_away

    return went_away(error)


def told(failures: Iterable[Failure]) -> str:
    """The report at the end of a run: the number of failed wells and the first few, one per line; "" if none failed."""
    failures = list(failures)
    if not failures:
        return ""
    count = f"{len(failures)} well{'s' if len(failures) > 1 else ''} failed; the next run processes them again."
    more = [f"... and {len(failures) - TOLD} more, listed in failed.csv"] if len(failures) > TOLD else []
    return "\n".join([count, *map(str, failures[:TOLD]), *more])
