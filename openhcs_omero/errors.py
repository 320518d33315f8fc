"""Errors shown to people: each is one sentence that says what was wrong, where, and what to do."""

import errno
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of a full disk, an exhausted quota, and a limit on the size of files."""
_CLOSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})


class OpenHCSError(Exception):
    """An error that can be fixed by the user, in the configuration or on the server; shown without a traceback."""


class ConfigError(OpenHCSError):
    """The configuration is not valid or can't be carried out."""


class ConnectError(OpenHCSError):
    """No session on an OMERO server could be opened."""


class PlateError(OpenHCSError):
    """A plate, a well or an image does not exist or can't be processed."""


class PlateMapError(OpenHCSError):
    """A plate map can't be read, or contradicts itself or its plates."""


class RightsError(PlateError):
    """The user may read but not write."""


class StepError(OpenHCSError):
    """A processing step can't be imported, has the wrong signature, or returned something invalid."""


def is_lost(error: BaseException | None) -> bool:
    """Whether an error means that an OMERO server or session was lost, or was raised while such an error was handled.

    Ice's own errors are recognized by name, because Ice may not be installed where no server is used.
    """
    while error is not None:
        names = {f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__}
        if isinstance(error, ConnectError) or names & {"Ice.LocalException", "omero.SessionException"}:
            return True
        error = error.__cause__ or error.__context__
    return False


def not_written(error: BaseException | None) -> str:
    """One sentence about a file or folder that can't be written, for the error or its cause; "" for other errors."""
    while error is not None:
        if isinstance(error, OSError) and (error.errno in FULL | _CLOSED or _creates_folder(error)):
            what = str(error.filename or "a file")
            advice = "make room" if error.errno in FULL else "name a folder that you can write to"
            return f"{what} can't be written ({error.strerror}): {advice}, then start again"
        error = error.__cause__
    return ""


def is_full(folder: Path) -> bool:
    """Whether nothing more can be written to a folder, because its disk or quota is full."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**16))
            file.flush()
    except OSError as error:
        return error.errno in FULL
    return False


def _creates_folder(error: OSError) -> bool:
    """Whether a folder could not be created below one such as /proc, in which nobody can create any."""
    frames = traceback.extract_tb(error.__traceback__)
    return error.errno == errno.ENOENT and bool(frames) and frames[-1].name in ("mkdir", "makedirs")


def brief(value: Any, length: int = 200) -> str:
    """The `repr` of a value, shortened to `length` characters for use in a sentence."""
    text = repr(value)
    return text if len(text) <= length else f"{text[:length]}..."


def first_of(names: Sequence[str], shown: int = 3) -> str:
    """The first names, and how many more there are, for use in a sentence."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
