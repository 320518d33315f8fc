"""A job's log: everything the job prints, unless that is too much, and why it failed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO, cast

from openhcs_omero.core.failures import lost_server
from openhcs_omero.core.log_size import bounded
from openhcs_omero.errors import not_written


class _Ended(BaseException):
    """A signal asked the process to end."""


@contextlib.contextmanager
def logged(path: str) -> Iterator[None]:
    """Write a job's output to its log, and why it ended: an error with its traceback, `sys.exit`, or a signal.

    Only one sentence about an error goes to stderr and to Snakemake, also if the log can't be written.
    """
    try:
        with _logged(path):
            yield
    except OSError as error:  # from the log itself: the disk is full, or this user may not write there
        if isinstance(error.__context__, SystemExit):  # the log could not tell why the job ended
            raise error.__context__ from None
        error.filename = error.filename or path
        sys.exit(f"error: {not_written(error) or error}")


@contextlib.contextmanager
def _logged(path: str) -> Iterator[None]:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", opener=_for_appending) as log, _ended_by(signal.SIGTERM):
        try:
            with bounded(log.fileno()), _printing_to(log.fileno()):
                yield
        except KeyboardInterrupt:
            print("interrupted", file=log)
            raise
        except _Ended as error:
            traceback.print_exc(file=log)
            sys.exit(f"ended: {error} (traceback in {path})")
        except (Exception, SystemExit) as error:
            _write_traceback(log, told := lost_server(error))
            what = f"sys.exit({error.code!r})" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
            sys.exit(f"error: {told or not_written(error) or what} (traceback in {path})")


def _for_appending(path: str, flags: int) -> int:
    """Open a new log whose end, not a position, is where everything is written: it is shortened in the meantime."""
    return os.open(path, flags & ~os.O_WRONLY | os.O_RDWR | os.O_APPEND, 0o666)


def _write_traceback(log: TextIO, last: str) -> None:
    """Write the traceback of the current error to the log as far as the disk has room, with a last line if given."""
    with contextlib.suppress(OSError):
        traceback.print_exc(file=log)
        if last:
            print(last, file=log)  # the last line is reported as the reason
        log.flush()


@contextlib.contextmanager
def _ended_by(number: signal.Signals) -> Iterator[None]:
    """Raise an error when the signal arrives, so that the log contains the reason.

    Processes that a step forks inherit the handler. They end by the signal, as they would without it.
    """
    own = os.getpid()

    def end(_number: int, _frame: object) -> None:
        if os.getpid() != own:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        raise _Ended(f"the process received {number.name}")

    before = signal.signal(number, end)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextlib.contextmanager
def _printing_to(file: int) -> Iterator[None]:
    """Redirect all output to a file.

    This includes the output of C libraries, of child processes, and of objects that hold on to `sys.stderr`, such as
    logging handlers.
    """
    own = os.dup(1), os.dup(2)
    cast(TextIOWrapper, sys.stdout).reconfigure(line_buffering=True)  # like stderr, so that lines keep their order

    def redirect(*files: int) -> None:
        for number, (stream, file) in enumerate(zip((sys.stdout, sys.stderr), files), start=1):
            with contextlib.suppress(OSError):  # the disk of the log is full
                stream.flush()
            os.dup2(file, number)

    redirect(file, file)
    try:
        yield
    finally:
        redirect(*own)
        for copy in own:
            os.close(copy)
