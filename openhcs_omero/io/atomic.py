"""Write files and folders atomically: they are written next to their final place, then renamed."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from openhcs_omero.errors import FULL
from openhcs_omero.io.base import on_disk


@contextlib.contextmanager
def replacing(path: Path, draft_in: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path to write a file or a folder to, and move the result to `path` at the end.

    If an error occurs in between, `path` is left as it was.

    Parameters
    ----------
    path
        The file or folder to replace.
    draft_in
        The folder for the temporary path, on the same file system; by default the folder of `path`, which is created if
        it is missing.
    """
    on_disk(path).parent.mkdir(parents=True, exist_ok=True)
    draft = (draft_in or path.parent) / f".{path.name}.{uuid.uuid4().hex}.part"
    try:
        yield draft
        if draft.is_dir():
            _swap(draft, path)
        else:
            draft.replace(path)
    except OSError as error:
        if error.errno in FULL:  # the error of a full disk names no file
            error.filename = str(path)
        raise
    finally:
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def write(path: Path, content: str | bytes) -> None:
    """Write a file atomically: it appears complete or not at all."""
    with replacing(path) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)


def write_if_changed(path: Path, text: str) -> None:
    """Write a file unless it already has this content, since Snakemake compares modification times."""
    if not path.exists() or path.read_bytes() != text.encode():
        write(path, text)


def delete_folder(folder: Path) -> None:
    """Delete a folder. It disappears at once, however much it contains."""
    aside = _put_aside(folder)
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


def _swap(draft: Path, path: Path) -> None:
    """Replace a folder with another in two renames, since no rename replaces a folder that is not empty."""
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
