"""Files and folders that appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path, draft_in: Path | None = None) -> Iterator[Path]:
    """Give a path to write a file or a folder to, and move what was written there to `path` at the end.

    An error in between leaves `path` as it was.

    Parameters
    ----------
    draft_in
        The folder to write in, on the same file system; by default that of `path`, which is made where it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = (draft_in or path.parent) / f".{path.name}.{uuid.uuid4().hex}.part"
    try:
        yield draft
        if draft.is_dir():
            _swap(draft, path)
        else:
            draft.replace(path)
    finally:
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def write(path: Path, content: str | bytes) -> None:
    """Write a file; it appears whole or not at all."""
    with replacing(path) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)


def write_if_changed(path: Path, text: str) -> None:
    """Write a file unless it has this content already: Snakemake goes by the time of its last change."""
    if not path.exists() or path.read_bytes() != text.encode():
        write(path, text)


def delete_folder(folder: Path) -> None:
    """Delete a folder; it disappears at once, however much is in it."""
    aside = _put_aside(folder)
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


def _swap(draft: Path, path: Path) -> None:
    """Put a folder in the place of another; there is no rename that replaces a folder with content."""
    aside = _put_aside(path)
    try:
        draft.rename(path)
    except OSError:
        if aside is not None:
            aside.rename(path)
        raise
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


def _put_aside(folder: Path) -> Path | None:
    if not folder.exists():
        return None
    return folder.rename(folder.with_name(f".{uuid.uuid4().hex}.old"))
