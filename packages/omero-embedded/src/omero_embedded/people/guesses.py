"""Wrong passwords: after a few of them, the next attempts have to wait."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

log = logging.getLogger(__name__)
FREE = 10  # wrong passwords in a row that cost nothing: people mistype, and BlitzGateway sends each twice
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds; each further wrong password doubles the wait
FREE_OF_NAME, FREE_OF_ADDRESS = 100, 500  # of one name from all addresses, and from one address for all names
LONGEST_OF_ALL = 5.0  # seconds, since others share the name or the address
FORGOTTEN = 900.0  # seconds after the last attempt
MOST_KNOWN = 10_000  # names and addresses, so that guesses take no memory


@dataclass
class _Attempts:
    wrong: int
    last: float


@dataclass
class _Counter:
    """Wrong passwords by whatever they are counted for, and the waits that follow."""

    free: int
    longest: float
    found: dict[Hashable, _Attempts] = field(default_factory=dict)

    def wait(self, key: Hashable, now: float) -> float:
        attempts = self.found.get(key)
        if attempts is None or attempts.wrong < self.free:
            return 0.0
        wait = min(self.longest, FIRST_WAIT * 2.0 ** min(attempts.wrong - self.free, 10))
        return max(0.0, attempts.last + wait - now)

    def add(self, key: Hashable, now: float) -> int:
        attempts = self.found.pop(key, None)
        count = 1 + (attempts.wrong if attempts and now - attempts.last < FORGOTTEN else 0)
        self.found[key] = _Attempts(count, now)  # the latest come last
        _limit(self.found)
        return count


class Guesses:
    """Counts wrong passwords, and says how long the next attempt has to wait.

    They are counted for a name from one address, for a name from all addresses, and for an address with all names. Who
    logged in to an account from an address before waits only for wrong passwords of that account from that address, so
    that nobody can lock others out.

    An attempt before that is refused without a look at the password, so that guesses in parallel gain nothing.

    Parameters
    ----------
    now
        A clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic):
        self._now = now
        self._pairs = _Counter(FREE, LONGEST_WAIT)
        self._names = _Counter(FREE_OF_NAME, LONGEST_OF_ALL)
        self._addresses = _Counter(FREE_OF_ADDRESS, LONGEST_OF_ALL)
        self._welcome: dict[Hashable, None] = {}
        self._lock = threading.Lock()

    def wait(self, name: str, address: str) -> float:
        """Return for how many seconds an attempt is refused; 0 if it is allowed."""
        now = self._now()
        with self._lock:
            wait = self._pairs.wait((name, address), now)
            if (name, address) in self._welcome:
                return wait
            return max(wait, self._names.wait(name, now), self._addresses.wait(address, now))

    def wrong(self, name: str, address: str) -> None:
        """Count and log a wrong password."""
        now = self._now()
        with self._lock:
            count = self._pairs.add((name, address), now)
            self._names.add(name, now)
            self._addresses.add(address, now)
        log.warning("wrong password for %r from %s, %d in a row", name[:100], address, count)

    def right(self, name: str, address: str) -> None:
        """Forget the wrong passwords for a name from an address before a right one."""
        with self._lock:
            self._pairs.found.pop((name, address), None)
            self._welcome.pop((name, address), None)
            self._welcome[name, address] = None
            _limit(self._welcome)


def _limit(found: dict) -> None:
    while len(found) > MOST_KNOWN:
        del found[next(iter(found))]
