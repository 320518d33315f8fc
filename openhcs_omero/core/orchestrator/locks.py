"""The lock of a run in a working directory, which is looked at before the run prepares its plates."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from openhcs_omero.errors import ConfigError

LOCKS = Path(".snakemake", "locks")


def check_lock(folders: Iterable[Path]) -> None:
    """Refuse to run if another run makes files in these folders.

    Snakemake checks its lock only after the plates were prepared, which removes what it takes for leftovers.

    Raises
    ------
    ConfigError
        If the files of another run are locked.
    """
    starts = tuple(f"{folder}/" for folder in folders)
    for lock in LOCKS.glob("*"):
        if any(line.startswith(starts) for line in lock.read_text(errors="replace").splitlines()):
            raise ConfigError(another_run())


def another_run() -> str:
    """The message about a locked folder."""
    return (
        f"another run is active in {Path.cwd()}, or was killed there: wait for it, or, if it was killed, remove its "
        "lock with `snakemake --unlock`, in Python with PipelineOrchestrator.unlock()"
    )
