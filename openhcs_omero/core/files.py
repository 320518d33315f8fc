"""Files that appear whole or not at all, records in JSON, and a job's log."""
from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write(path: Path, text: str) -> None:
    """Write a file; it appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def write_if_changed(path: Path, text: str) -> None:
    """Write a file, but leave it (and its time, by which Snakemake goes) alone where it says the same already."""
    if not path.exists() or path.read_text() != text:
        write(path, text)


def read_record(path: Path) -> dict[str, Any] | None:
    """A JSON record; None where there is none or it is damaged."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


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
