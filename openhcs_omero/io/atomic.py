"""Files that appear whole or not at all."""
from __future__ import annotations

import uuid
from pathlib import Path


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
