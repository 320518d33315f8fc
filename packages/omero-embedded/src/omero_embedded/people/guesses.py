"""Wrong passwords: after a few of them, the next attempts have to wait."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)
FREE = 10  # wrong passwords in a row that cost nothing: people mistype, and BlitzGateway sends each twice
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds; each further wrong password doubles the wait
FORGOTTEN = 900.0  # seconds after the last attempt
MOST_KNOWN = 10_000  # names and addresses, so that guesses take no memory


@dataclass
class _Attempts:
    wrong: int
    last: float

    @property
    def until(self) -> float:
        """When the next attempt is allowed."""
        if self.wrong < FREE:
            return self.last
        return self.last + min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self.wrong - FREE, 10))


class Guesses:
    """Counts wrong passwords per user name and address, and says how long the next attempt has to wait.

    An attempt before that is refused without a look at the password, so that guesses in parallel gain nothing.

    Parameters
    ----------
    now
        A clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic):
        self._now = now
        self._attempts: dict[tuple[str, str], _Attempts] = {}
        self._lock = threading.Lock()

    def wait(self, name: str, address: str) -> float:
        """Return for how many seconds an attempt is refused; 0 if it is allowed."""
        with self._lock:
            found = self._attempts.get((name, address))
            return max(0.0, found.until - self._now()) if found else 0.0

    def wrong(self, name: str, address: str) -> None:
        """Count and log a wrong password."""
        now = self._now()
        with self._lock:
            found = self._attempts.pop((name, address), None)
            count = 1 + (found.wrong if found and now - found.last < FORGOTTEN else 0)
            self._attempts[name, address] = _Attempts(count, now)  # the latest come last
            while len(self._attempts) > MOST_KNOWN:
                del self._attempts[next(iter(self._attempts))]
        log.warning("wrong password for %r from %s, %d in a row", name[:100], address, count)

    def right(self, name: str, address: str) -> None:
        """Forget the wrong passwords before a right one."""
        with self._lock:
            self._attempts.pop((name, address), None)
