"""Open sessions: how clients open, share and end them, and how they time out."""

from __future__ import annotations

import math
import threading
import time
import uuid as uuids
from collections.abc import Callable
from dataclasses import dataclass, field

import omero

from omero_embedded.errors import refuse
from omero_embedded.files.store import Store
from omero_embedded.model.access import Context
from omero_embedded.people.accounts import Accounts
from omero_embedded.people.guesses import Guesses
from omero_embedded.people.passwords import is_password

TIME_TO_IDLE, TIME_TO_LIVE = 600_000, 0  # milliseconds; 0 means forever
NODE = 0


class LoginRefused(Exception):
    """The name and password, or the uuid of a session, are wrong."""


@dataclass(eq=False)
class Session:
    """An open session. Its row in the database has the same id and uuid."""

    uuid: str
    user: int
    user_name: str
    group: int  # the current group
    first_group: int  # the one that it was opened in
    event_type: str
    id: int = 0
    sudoer: int | None = None
    sudoer_name: str | None = None
    by_password: bool = False
    time_to_idle: int = TIME_TO_IDLE
    time_to_live: int = TIME_TO_LIVE
    started: float = field(default_factory=time.time)
    last_used: float = field(default_factory=time.time)
    references: int = 0
    hits: int = 0  # the number of calls
    inputs: dict[str, object] = field(default_factory=dict)
    outputs: dict[str, object] = field(default_factory=dict)

    @property
    def as_guesser(self) -> str:
        """How this session is called where wrong passwords are counted."""
        return f"a session of {self.user_name}"

    @property
    def real_owner(self) -> tuple[int, str]:
        """The id and name of whoever acts in this session: its user, or the one who opened it for the user."""
        if self.sudoer is None:
            return self.user, self.user_name
        return self.sudoer, self.sudoer_name or ""

    def touch(self) -> None:
        """Note a call, which restarts the idle time."""
        self.last_used = time.time()
        self.hits += 1

    def is_over(self, now: float) -> bool:
        return bool(
            (self.time_to_idle and (now - self.last_used) * 1000 > self.time_to_idle)
            or (self.time_to_live and (now - self.started) * 1000 > self.time_to_live)
        )


class Sessions:
    """All open sessions by uuid.

    Attributes
    ----------
    on_end
        Called once with every session that ends.
    """

    def __init__(self, store: Store, accounts: Accounts):
        self._store, self.accounts = store, accounts
        self.on_end: Callable[[Session], None] = lambda session: None
        self._table = store.schema["Session"].table
        self._open: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._guesses = Guesses()
        self._close_rows(self._table.c.closed.is_(None))  # sessions that an earlier run of the server left open

    def login(self, name: str, password: str, address: str, **how) -> Session:
        """Open a session, or join the one whose uuid is both name and password.

        Parameters
        ----------
        address
            Where the client is.
        **how
            Further arguments of `open`.

        Raises
        ------
        LoginRefused
            If the password is wrong, or too many wrong ones came before it.
        """
        found = self.find(name)
        if found is not None and name == password:
            return found
        return self.open(self.verify(name, password, address), by_password=True, **how)

    def verify(self, name: str, password: str, guesser: str) -> int:
        """Return the id of the user with a name and password.

        Parameters
        ----------
        guesser
            Who tries the password: an address, or the session that asks.

        Raises
        ------
        LoginRefused
            If the password is wrong, or too many wrong ones came before it.
        """
        wait = self._guesses.wait(name, guesser)
        if wait:
            raise LoginRefused(f"Too many wrong passwords for '{name}': wait {math.ceil(wait)} seconds.")
        user = self.accounts.find(name)
        with self._store.read() as connection:
            right = is_password(connection, user, password)
        if not right or user is None:
            self._guesses.wrong(name, guesser)
            raise LoginRefused(f"Password check failed for '{name}'.")
        self._guesses.right(name, guesser)
        return user

    def open(
        self,
        user: int,
        group: str = "",
        event_type: str = "User",
        agent: str | None = None,
        ip: str | None = None,
        sudoer: Session | None = None,
        by_password: bool = False,
        time_to_idle: int = TIME_TO_IDLE,
        time_to_live: int = TIME_TO_LIVE,
    ) -> Session:
        """Open a session.

        Parameters
        ----------
        user
            The user's id.
        group
            A group's name or id; by default the user's default group.
        sudoer
            The session that acts for the user; its real owner becomes that of the new session. It may
            choose a group that the user is not in; then the first call of the new session is refused.
        """
        account = self.accounts.get(user)
        current = self.accounts.group_named(group) if group else account.default_group
        if current is None or (current not in account.kinds and sudoer is None):
            raise refuse(omero.SecurityViolation, f"User {account.name} is not a member of group {group or 'any'}.")
        behind, behind_name = sudoer.real_owner if sudoer else (None, None)
        session = Session(
            uuid=str(uuids.uuid4()),
            user=user,
            user_name=account.name,
            group=current,
            first_group=current,
            event_type=event_type or "User",
            sudoer=behind,
            sudoer_name=behind_name,
            by_password=by_password,
            time_to_idle=time_to_idle,
            time_to_live=time_to_live,
        )
        session.id = self._insert_row(session, agent, ip)
        with self._lock:
            self._open[session.uuid] = session
        return session

    def _insert_row(self, session: Session, agent: str | None, ip: str | None) -> int:
        """Insert the session's row into the database, and return its id."""
        values = {
            "class": "Session",
            "uuid": session.uuid,
            "node": NODE,
            "owner": session.user,
            "timeToIdle": session.time_to_idle,
            "timeToLive": session.time_to_live,
            "started": int(session.started * 1000),
            "defaultEventType": session.event_type,
            "userAgent": agent,
            "userIP": ip,
            "sudoer": session.sudoer,
        }
        with self._store.write() as connection:
            (oid,) = connection.execute(self._table.insert().values(**values)).inserted_primary_key or (0,)
        return oid

    def find(self, uuid: str) -> Session | None:
        return self._open.get(uuid)

    def all(self) -> list[Session]:
        with self._lock:
            return list(self._open.values())

    def of_user(self, user: int) -> list[Session]:
        with self._lock:
            return [session for session in self._open.values() if session.user == user]

    def context(self, session: Session, asked) -> Context:
        """Return what a call with an Ice context runs as."""
        return self.accounts.context(session.user, session.group, session.uuid, asked or {}, session.sudoer)

    def attach(self, session: Session) -> None:
        """Count one more client of a session."""
        with self._lock:
            if session.uuid not in self._open:
                raise LoginRefused("The session is over.")
            session.references += 1

    def release(self, session: Session, close: bool) -> int:
        """Count one client less, and return how many remain. If `close`, the last one ends the session."""
        with self._lock:
            session.references = max(0, session.references - 1)
            left = session.references
        if close and left == 0:
            self.end(session)
        return left

    def end(self, session: Session) -> None:
        """End a session, even if clients use it. Ending it again does nothing."""
        with self._lock:
            if self._open.pop(session.uuid, None) is None:
                return
        self._close_rows(self._table.c.id == session.id)
        self.on_end(session)

    def expire(self) -> None:
        """End all sessions that were idle or open for too long."""
        now = time.time()
        with self._lock:
            over = [session for session in self._open.values() if session.is_over(now)]
        for session in over:
            self.end(session)

    def end_all(self) -> None:
        for session in list(self._open.values()):
            self.end(session)

    def _close_rows(self, which) -> None:
        with self._store.write() as connection:
            connection.execute(self._table.update().where(which).values(closed=int(time.time() * 1000)))
