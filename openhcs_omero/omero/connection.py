"""This process's connections to OMERO servers, one per server and session, opened by password or by stored session.

A password comes from OMERO_PASSWORD or a prompt and is passed only to the call that logs in. The session key is kept
in the session store of the omero command line (see session_store.py). The jobs of a workflow and the worker processes
of a pool join the session from there.
"""

from __future__ import annotations

import atexit
import getpass
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import Ice
import omero
from omero.gateway import BlitzGateway

from openhcs_omero import password
from openhcs_omero.errors import ConnectError
from openhcs_omero.omero import session_store
from openhcs_omero.omero.login import SessionEnded, is_alive, join_session, leave, open_session
from openhcs_omero.omero.probe import probe
from openhcs_omero.omero.server import DEFAULT_PORT, NoSession, Server, ServerDown
from openhcs_omero.omero.session_store import StoredSession, tag_of

LOOK_AFTER = 10  # seconds between two checks of a connection, see `look_after`
RETRY = 2  # seconds between a job's attempts to connect
DOWN_PATIENCE = 300  # seconds that a job waits for a server that is down; a restart takes a minute or two
SESSION_PATIENCE = 3 * LOOK_AFTER  # seconds that a job waits for the head process to replace a lost session


@dataclass
class _Open:
    """A connection of this process."""

    conn: BlitzGateway
    tag: str  # the tag of its session
    stored: StoredSession | None = None  # the session that this process stored and will remove again
    password: str = field(default="", repr=False)  # to log in again if the server loses the session


class SessionPool:
    """The connections of a process. A forked child starts without connections and without the password."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._open: dict[tuple[Server, str], _Open] = {}  # by server and requested tag; "" for any
        self._servers: WeakKeyDictionary[BlitzGateway, Server] = WeakKeyDictionary()
        self._watches: dict[Server, threading.Event] = {}
        self._inherited: list[_Open] = []  # the parent's; kept, since closing them would end the parent's sessions
        self._parents_tags: dict[Server, str] = {}
        self.last: Server | None = None  # the last one that a connection was requested to
        os.register_at_fork(after_in_child=self._forked)

    def connect(self, server: Server, session: str = "", given: str = "") -> BlitzGateway:
        """Connect this process to `server`; every call returns the same connection while it is alive.

        With a password (`given`, or else OMERO_PASSWORD), a new session is opened. It is stored for the jobs of the
        workflow and closed when this process ends. Without a password, a stored session is joined, for example one
        from `openhcs-omero login`, and stays open afterwards. If there is none, the user is prompted on a terminal.

        Parameters
        ----------
        server
            The server and the user to log in as.
        session
            The tag of a stored session. Only that session is joined, and no password is used.
        given
            A password.

        Raises
        ------
        ConnectError
            With one sentence: the host does not exist, nothing listens there, what listens is not OMERO (all within
            about two seconds), wrong user or password, the stored session has expired, or there is no way to log in.
        """
        return self._connect(server, session, given, ask=True)

    def connect_job(self, server: Server) -> BlitzGateway:
        """Connect from an unattended job: join a session, never prompt, and wait if waiting can help.

        A server that is down may be restarting, and the head process replaces a lost session (see `look_after`).

        Raises
        ------
        ConnectError
            As `connect`, but only after waiting 300 seconds for the server or 30 seconds for a session.
        """
        began, waiting_for = 0.0, None
        while True:
            try:
                return self._connect(server, ask=False)
            except (ServerDown, NoSession) as error:
                patience = DOWN_PATIENCE if isinstance(error, ServerDown) else SESSION_PATIENCE
                if type(error) is not waiting_for:
                    began, waiting_for = time.monotonic(), type(error)
                    print(f"waiting up to {patience} seconds: {error}", flush=True)
                if time.monotonic() - began > patience:
                    raise
                time.sleep(RETRY)

    def look_after(self, server: Server, end: bool = True) -> None:
        """Keep a session open for the jobs until this process ends.

        If the server loses the session (it was restarted, or an administrator closed the session), the password of the
        first session opens another one, which is stored for the jobs. If the server stays down for as long as a job
        would wait for it (300 seconds), this process gets a SIGTERM, which makes Snakemake start no further jobs and
        exit.

        Parameters
        ----------
        server
            The server.
        end
            Send that SIGTERM. Set it to False in a process that is not Snakemake's.
        """
        with self._lock:
            if server in self._watches:
                return
            stop = self._watches[server] = threading.Event()
        threading.Thread(target=self._watch, args=(server, stop, end), name="omero-session", daemon=True).start()

    def adopt(self, conn: BlitzGateway) -> Server:
        """Take over a live connection that was opened elsewhere.

        Its session is stored, as in `connect`, so that worker processes can join it. When this process ends, the
        session is removed from the store and the connection is closed.

        Raises
        ------
        ConnectError
            If `conn` is not connected.
        """
        with self._lock:
            if conn in self._servers:
                return self._servers[conn]
            try:
                client, user = conn.c, conn.getEventContext().userName
                session = StoredSession(client.getProperty("omero.host"), user, client.getSessionId())
            except (Ice.Exception, omero.ClientError, AttributeError):
                raise ConnectError("the connection that was given is not connected to an OMERO server") from None
            port = client.getProperty("omero.port") or DEFAULT_PORT
            server = Server(session.host, int(port), user, secure=client.isSecure())
            stored = None if session_store.has(session) else session_store.save(server, user, session.key)
            known = self._open.get((server, ""))
            default = known is None or not is_alive(known.conn, server)
            self._keep(server, "" if default else session.tag, _Open(conn, session.tag, stored))
            return server

    def server_of(self, conn: BlitzGateway) -> Server | None:
        """The server that `conn` is connected to; None if this pool neither opened nor adopted it."""
        return self._servers.get(conn)

    def tag(self, server: Server) -> str:
        """The tag of this process's session at `server`, or "" if there is none. A tag gives no access to a session."""
        with self._lock:
            known = self._open.get((server, ""))
            return known.tag if known is not None else self._parents_tags.get(server, "")

    def disconnect(self, server: Server) -> None:
        """Close this process's connection to `server`, and the session if this process opened it."""
        with self._lock:
            known = self._open.pop((server, ""), None)
            if known is not None:
                _close(known)

    def close_all(self) -> None:
        """Close all connections and the sessions that this process opened. This also runs when the process ends."""
        for watch in self._watches.values():
            watch.set()
        self._watches.clear()
        with self._lock:
            while self._open:
                _close(self._open.popitem()[1])
        password.forget()

    def _forked(self) -> None:
        self._lock = threading.RLock()  # another thread of the parent may have held it
        self._parents_tags |= {server: known.tag for (server, asked), known in self._open.items() if not asked}
        self._inherited += self._open.values()
        self._open, self._watches, self._servers = {}, {}, WeakKeyDictionary()
        password.forget()

    def _connect(self, server: Server, session: str = "", given: str = "", ask: bool = True) -> BlitzGateway:
        with self._lock:
            self.last = server
            if not session and server in self._parents_tags:
                try:
                    return self._connect(server, self._parents_tags[server])
                except NoSession:
                    del self._parents_tags[server]
            for (where, asked), known in list(self._open.items()):
                wanted = known.tag == session if session else not asked
                if where == server and wanted and is_alive(known.conn, server):
                    return known.conn
            probe(server)
            lost = self._open.get((server, session))
            opened = _join(server, session) if session else _log_in(server, given, ask, lost)
            if lost is not None:
                _close(lost)
            self._keep(server, session, opened)
            return opened.conn

    def _keep(self, server: Server, asked: str, opened: _Open) -> None:
        self._open[server, asked] = opened
        self._servers[opened.conn] = server
        if multiprocessing.parent_process() is not None:  # forked workers exit without running atexit handlers
            multiprocessing.util.Finalize(None, self.close_all, exitpriority=0)

    def _watch(self, server: Server, stop: threading.Event, end: bool) -> None:
        said, down_since = "", None
        while not stop.wait(LOOK_AFTER):
            try:
                with self._lock:
                    if stop.is_set():
                        return
                    self._connect(server, ask=False)
                said, down_since = "", None
            except Exception as error:  # e.g. the session store's disk is full; there may be room again later
                sentence = (
                    str(error)
                    if isinstance(error, ConnectError)
                    else (f"the session at {server.address} can't be stored: {type(error).__name__}: {error}")
                )
                if sentence != said:
                    said = sentence
                    print(f"error: {said}", file=sys.stderr, flush=True)
                if end and isinstance(error, ServerDown):
                    down_since = down_since or time.monotonic()
                    if time.monotonic() - down_since > DOWN_PATIENCE:
                        print(
                            f"error: {server.address} did not answer for {DOWN_PATIENCE} seconds: no further job is "
                            "started; run the same command again when the server is back",
                            file=sys.stderr,
                            flush=True,
                        )
                        os.kill(os.getpid(), signal.SIGTERM)
                        return


def _close(opened: _Open) -> None:
    """Leave the session. It ends with its last user if this process opened it, and stays open otherwise."""
    if opened.stored is not None:
        session_store.remove(opened.stored)
    if opened.conn.c is not None:
        leave(opened.conn.c)


def _log_in(server: Server, given: str, ask: bool, known: _Open | None) -> _Open:
    from_environment = password.read()
    secret = given or from_environment
    if secret and ask:  # jobs join a session even if the shell on their node sets a password
        return _by_password(server, server.user, secret)
    if known is not None and known.password and known.stored:
        return _by_password(server, known.stored.user, known.password)
    joined, expired = _by_stored_session(server)
    if joined is not None:
        return joined
    if ask and sys.stdin is not None and sys.stdin.isatty():
        user, secret = ask_password(server)
        return _by_password(server, user, secret)
    what = "the stored session of {} has expired" if expired else "there is no session of {} to join"
    raise NoSession(f"{what.format(server.who)}: run `openhcs-omero login {server.who}`, or set OMERO_PASSWORD")


def ask_password(server: Server) -> tuple[str, str]:
    """Prompt on the terminal for the password, and for the user if `server` names none.

    Returns
    -------
    user, password : str

    Raises
    ------
    ConnectError
        If there is no terminal or nothing was entered.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConnectError(f"the password of {server.who} can't be asked for without a terminal: set OMERO_PASSWORD")
    try:
        user = server.user or input(f"OMERO user at {server.address}: ").strip()
        return user, getpass.getpass(f"OMERO password of {user} at {server.address}: ")
    except EOFError:
        raise ConnectError(f"no password was given for {server.address}") from None


def _by_password(server: Server, user: str, secret: str) -> _Open:
    conn = open_session(server, user, secret)
    key = conn.c.getSessionId()
    try:
        stored = session_store.save(server, user, key)
    except BaseException:
        leave(conn.c)
        raise
    if not server.user:
        os.environ["OMERO_USER"] = user  # the user typed a name: jobs look for that user's session
    return _Open(conn, tag_of(key), stored, secret)


def _by_stored_session(server: Server) -> tuple[_Open | None, bool]:
    """Join the newest live stored session; also says whether expired ones were found before it."""
    expired = False
    for session in session_store.sessions(server):
        try:
            return _Open(join_session(server, session.key), session.tag), expired
        except SessionEnded:
            session_store.remove(session)
            expired = True
    return None, expired


def _join(server: Server, tag: str) -> _Open:
    """Join the stored session with that tag."""
    for session in session_store.sessions(server):
        if session.tag == tag:
            try:
                return _Open(join_session(server, session.key), tag)
            except SessionEnded:
                session_store.remove(session)
    raise NoSession(f"the session of {server.who} that this process was to join has ended: run the program again")


POOL = SessionPool()
connect, connect_job, look_after, adopt = POOL.connect, POOL.connect_job, POOL.look_after, POOL.adopt
server_of, tag, disconnect, close_all = POOL.server_of, POOL.tag, POOL.disconnect, POOL.close_all
atexit.register(close_all)
