"""Files that appear whole or not at all, records in JSON, and a job's log."""
from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
import uuid
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any, cast


def write(path: Path, text: str) -> None:
    """Write a file; it appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
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
