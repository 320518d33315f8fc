"""A job's log: all that it prints, and the traceback of an error."""
from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import cast


@contextlib.contextmanager
def logged(path: str) -> Iterator[None]:
    """Keep what a job prints in its log, and of an error the traceback; stderr and Snakemake get one sentence."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as log:
        try:
            with _printing_to(log.fileno()):
                yield
        except Exception as error:
            traceback.print_exc(file=log)
            sys.exit(f"error: {type(error).__name__}: {error} (traceback in {path})")


@contextlib.contextmanager
def _printing_to(file: int) -> Iterator[None]:
    """Have all that is printed go to a file: also by libraries in C, by processes that are started here, and by whoever
    keeps `sys.stderr` for longer, as a logging handler does."""
    own = os.dup(1), os.dup(2)
    cast(TextIOWrapper, sys.stdout).reconfigure(line_buffering=True)  # as stderr: lines come in their order

    def redirect(*files: int) -> None:
        for number, (stream, file) in enumerate(zip((sys.stdout, sys.stderr), files), start=1):
            stream.flush()
            os.dup2(file, number)

    redirect(file, file)
    try:
        yield
    finally:
        redirect(*own)
        for copy in own:
            os.close(copy)
