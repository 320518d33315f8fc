"""The plates that the results of the screen are made without: those that can't be read, and those whose jobs failed.

The head process writes the latter to a file in the folder of the screen, from which jobs on other machines know them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from openhcs_omero.core.plan import Plan
from openhcs_omero.core.plate_tables import TEXTS, write_rows
from openhcs_omero.core.records import read_record, to_json
from openhcs_omero.io.atomic import write

NAME = "left_out.json"


class LeftOut:
    """The plates that the results of the screen are made without.

    Parameters
    ----------
    plan
        The plan of the run.
    head
        Whether this is the head process, in which jobs fail. Jobs know what it has written.
    """

    def __init__(self, plan: Plan, head: bool) -> None:
        self._plan, self._path = plan, plan.settings.screen_folder / NAME
        self.failed: dict[str, str] = {} if head else read_record(self._path, dict[str, str]) or {}
        """Why jobs failed, by plate."""

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why plates are left out."""
        return {**self._plan.problems, **self.failed}

    @property
    def plates(self) -> list[str]:
        """The plates that the results of the screen are made of."""
        return [label for label in self._plan.settings.plates if label not in self.reasons]

    def add(self, plates: Collection[str], reason: str) -> bool:
        """Leave out plates; returns whether any are left, and nothing is changed if none are, or the disk is full."""
        failed = {**self.failed, **dict.fromkeys(sorted(plates), reason)}
        if not set(self.plates) - failed.keys():
            return False
        try:
            write(self._path, to_json(failed))
        except OSError:
            return False  # the results of the screen are not made then, and the end of the run says so
        self.failed = failed
        return True

    def forget(self) -> None:
        """Forget what failed in an earlier run."""
        self._path.unlink(missing_ok=True)


def list_left_out(reasons: Mapping[str, str], path: Path) -> None:
    """Write the plates that are left out and why as a table, CSV and Parquet; an empty file if there are none."""
    from openhcs_omero.analysis.parquet import write_parquet

    write_rows(path, [{"plate": plate, "reason": reason} for plate, reason in reasons.items()])
    write_parquet(path, TEXTS)
