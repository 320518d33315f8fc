"""The size of a job's log: of a log that grows too large, the beginning and the end are kept.

A program that prints without end would otherwise fill the disk. What is printed goes straight to the file and not
through a pipe of this process: code that holds Python's lock while it prints would wait for itself there.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

LARGEST = 2**22  # bytes, of a log that is complete
LARGEST_YET = 2**25  # bytes, of one that is still written; it may be larger until the next look
KEPT = 2**20  # bytes at the beginning and at the end
LOOK = 0.1  # seconds


@contextlib.contextmanager
def bounded(log: int) -> Iterator[None]:
    """Shorten a log that grows too large, as often as it does.

    Parameters
    ----------
    log
        The file, open for reading and for appending. All that print to it must append, too.
    """
    size, ended = _Size(log), threading.Event()

    def look() -> None:
        while not ended.wait(LOOK):
            size.limit(LARGEST_YET)

    thread = threading.Thread(target=look, name="log size", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        size.limit(LARGEST)


class _Size:
    """Shortens a log, and knows where it did."""

    def __init__(self, log: int) -> None:
        self._log = log
        self._cut = 0  # where the note about what is left out begins
        self._note = b""
        self._left_out = 0

    def limit(self, largest: int) -> None:
        """Replace the middle of a log that is larger by a note."""
        with contextlib.suppress(OSError):  # the disk is full, so it does not grow either
            size = os.fstat(self._log).st_size
            if size > largest:
                self._shorten(size)

    def _shorten(self, size: int) -> None:
        if not self._note:
            self._cut = os.pread(self._log, KEPT, 0).rfind(b"\n") + 1 or KEPT
        end = os.pread(self._log, KEPT, size - KEPT)
        end = end[end.find(b"\n") + 1 :]
        # more may have been printed in the meantime, which is left out too
        self._left_out += os.fstat(self._log).st_size - self._cut - len(self._note) - len(end)
        os.ftruncate(self._log, self._cut)
        self._note = f"\n[{self._left_out} bytes of output are left out here]\n\n".encode()
        os.write(self._log, self._note + end)
