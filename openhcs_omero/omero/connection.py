"""The connections of this process to OMERO servers: one per server and session, by a password or a stored session.

A password comes from OMERO_PASSWORD or a prompt and goes only into the call that logs in. The session's key is kept in
the store of the omero command line (see session_store.py), from where the jobs of a workflow and the worker processes
of a pool join the session.
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

LOOK_AFTER = 10  # seconds between two looks at a connection that is looked after
RETRY = 2  # seconds between a job's attempts to connect
DOWN_PATIENCE = 300  # seconds that a job waits for a server that is not there; a restart takes a minute or two
SESSION_PATIENCE = 3 * LOOK_AFTER  # ... for the head process to open a session in the place of a lost one


@dataclass
class _Open:
    """A connection of this process."""

    conn: BlitzGateway
    tag: str  # of its session
    stored: StoredSession | None = None  # what this process put into the store, and takes out again
    password: str = field(default="", repr=False)  # to log in again where the server lost the session


class SessionPool:
    """The connections of a process. A forked child begins with none of them, and without the password."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._open: dict[tuple[Server, str], _Open] = {}  # by server and the tag that was asked for; "" for any
        self._servers: WeakKeyDictionary[BlitzGateway, Server] = WeakKeyDictionary()
        self._watches: dict[Server, threading.Event] = {}
        self._inherited: list[_Open] = []  # a parent's; kept, for their end would end the parent's sessions
        self._parents_tags: dict[Server, str] = {}
        self.last: Server | None = None  # that somebody wanted to connect to
        os.register_at_fork(after_in_child=self._forked)

    def connect(self, server: Server, session: str = "", given: str = "") -> BlitzGateway:
        """The connection of this process to `server`; the same one on every call while it lives.

        The password that is given, else that of OMERO_PASSWORD, opens a session, which is stored for the jobs of the
        workflow and closed when this process ends. Without a password a stored session is joined, also one of
        `openhcs-omero login`, and left as it was. Without one, a password is asked for on a terminal.

        Parameters
        ----------
        session
            The tag of a stored session. That session is joined, and no other; no password is used.
        given
            A password.

        Raises
        ------
        ConnectError
            In one sentence: no such host, nothing listens there, what listens is not OMERO (within about two seconds),
            wrong user or password, the stored session has expired, or there is no way to log in.
        """
        return self._connect(server, session, given, ask=True)

    def connect_job(self, server: Server) -> BlitzGateway:
        """`connect` for a job, which nobody watches: it joins a session, asks nothing, and waits where waiting helps.

        A server that is down may be restarting. The head process replaces a session that is lost, see `look_after`.
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
        """Keep a session at hand for the jobs until this process ends.

        Where the server has lost the session (it was restarted, or an administrator closed it), the password of the
        first one opens another, which is stored for the jobs. Where the server stays away for as long as a job waits
        for it, this process gets a SIGTERM, upon which Snakemake starts no further job and ends. Set `end` to False in
        a process that is not Snakemake's.
        """
        with self._lock:
            if server in self._watches:
                return
            stop = self._watches[server] = threading.Event()
        threading.Thread(target=self._watch, args=(server, stop, end), name="omero-session", daemon=True).start()

    def adopt(self, conn: BlitzGateway) -> Server:
        """Take over a live connection that was opened elsewhere.

        Its session is stored as that of `connect` is, so that worker processes can join it. The end of this process
        takes it out of the store and closes the connection.

        Raises
        ------
        ConnectError
            If it is not connected.
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
        """What `conn` is connected to, where this pool opened or adopted it."""
        return self._servers.get(conn)

    def tag(self, server: Server) -> str:
        """The tag of this process's session at `server`; "" where there is none. It gives nobody access to it."""
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
        """Close all connections, and the sessions that this process opened; the end of the process does it too."""
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
        if multiprocessing.parent_process() is not None:  # forked workers end without what atexit knows
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
            except Exception as error:  # a full disk, for one, where the session is stored: it may have room again
                sentence = (
                    str(error)
                    if isinstance(error, ConnectError)
                    else (f"the session at {server.address} can't be kept at hand: {type(error).__name__}: {error}")
                )
                if sentence != said:
                    said = sentence
                    print(f"error: {said}", file=sys.stderr, flush=True)
                if end and isinstance(error, ServerDown):
                    down_since = down_since or time.monotonic()
                    if time.monotonic() - down_since > DOWN_PATIENCE:
                        print(
                            f"error: {server.address} stayed away for {DOWN_PATIENCE} seconds: no further job is "
                            "started; run the same command again when the server is back",
                            file=sys.stderr,
                            flush=True,
                        )
                        os.kill(os.getpid(), signal.SIGTERM)
                        return


def _close(opened: _Open) -> None:
    """Leave the session: one that this process opened ends with its last user, another one stays as it is."""
    if opened.stored is not None:
        session_store.remove(opened.stored)
    if opened.conn.c is not None:
        leave(opened.conn.c)


def _log_in(server: Server, given: str, ask: bool, known: _Open | None) -> _Open:
    from_environment = password.read()
    secret = given or from_environment
    if secret and ask:  # jobs join a session, also where their node's shell sets a password
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
    """The user, where `server` names none, and the password, asked for on the terminal; ConnectError without one."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConnectError(f"there is no terminal to ask for the password of {server.who}: set OMERO_PASSWORD")
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
        os.environ["OMERO_USER"] = user  # who typed a name: the jobs look for this user's session
    return _Open(conn, tag_of(key), stored, secret)


def _by_stored_session(server: Server) -> tuple[_Open | None, bool]:
    """The newest stored session that is alive, joined; and whether others were found that are not."""
    expired = False
    for session in session_store.sessions(server):
        try:
            return _Open(join_session(server, session.key), session.tag), expired
        except SessionEnded:
            session_store.remove(session)
            expired = True
    return None, expired


def _join(server: Server, tag: str) -> _Open:
    """The stored session of that tag, joined."""
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
