"""What one call may take: bytes, cells, pixels and seconds. A client can ask for no more than that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import omero
import omero.constants

from omero_embedded.errors import refuse

MOST_BYTES = omero.constants.MESSAGESIZEMAX * 1024  # of an answer: what clients take in one message
MOST_CELLS = 4_000_000  # of a query's answer: rows times columns
MOST_QUERY, KEPT_QUERY = 200_000, 10_000  # characters of HQL: at most, and of queries whose syntax is kept in memory
MOST_VALUES = 100_000  # in the lists that are given to a query
MOST_PIXELS = 1 << 26  # of the planes that a picture or a histogram is computed from
MOST_THUMBNAIL = 1 << 24  # pixels of one thumbnail
MOST_CHANNELS = 10_000  # of an image that a call creates; others can't log in meanwhile
MOST_BINS = 1 << 20  # of a histogram
QUERY_SECONDS = 60  # by default
STEPS = 100_000  # of SQLite's virtual machine between two looks at the clock: a few milliseconds


def check(asked: int, most: int, what: str) -> None:
    """Refuse a call that asks for too much, before any memory is taken.

    Raises
    ------
    omero.OverUsageException
        If `asked` is more than `most`.
    """
    if asked > most:
        raise refuse(
            omero.OverUsageException, f"{asked} {what} are asked for, and {most} are the most: ask for less at once."
        )


def check_bytes(asked: int) -> None:
    """Refuse to make an answer that does not fit into one message."""
    check(asked, MOST_BYTES, "bytes")


@dataclass
class LimitedCall:
    """A running call: when its queries have to end, and whether its client is still there."""

    seconds: float
    has_left: Callable[[], bool]
    stopped: str = ""  # why a query was ended

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.seconds

    def must_stop(self) -> bool:
        if time.monotonic() > self._end:
            self.stopped = f"The query was ended after {self.seconds:g} seconds."
        elif self.has_left():
            self.stopped = "The query was ended because its client has gone."
        return bool(self.stopped)


_running = threading.local()


@contextmanager
def running(call: LimitedCall) -> Iterator[None]:
    """Apply the limits of a call to the queries that this thread makes meanwhile."""
    before = getattr(_running, "call", None)
    _running.call = call
    try:
        yield
    finally:
        _running.call = before


@contextmanager
def unlimited() -> Iterator[None]:
    """Let a write come to its end."""
    before = getattr(_running, "call", None)
    _running.call = None
    try:
        yield
    finally:
        _running.call = before


def must_stop() -> bool:
    """Whether SQLite has to end the statement that it is working on. SQLite asks this in the statement's thread."""
    call = getattr(_running, "call", None)
    return call is not None and call.must_stop()
