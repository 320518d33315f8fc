"""A job's log."""
from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def logged(path: str) -> Iterator[None]:
    """Keep what a job prints in its log, and of an error the traceback; stderr and Snakemake get one sentence."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as log:
        try:
            with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                yield
        except Exception as error:
            traceback.print_exc(file=log)
            log.flush()
            sys.exit(f"error: {type(error).__name__}: {error} (traceback in {path})")
