"""One live connection to an OMERO server per process, by password or by a session of the omero command line's store.

A password is read from OMERO_PASSWORD or a prompt and goes nowhere but into the call that logs in. The session's key is
kept in the store of the omero command line (files that only their owner can read), from where the jobs of a workflow,
and whoever else runs as this user, join the session.
"""

import atexit
import contextlib
import getpass
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import Ice
import omero
import omero.clients
from omero.clients import Glacier2  # imported before omero, its exceptions are not those that omero-py catches
from omero.gateway import BlitzGateway

from openhcs_omero.errors import ConnectError
from openhcs_omero.omero.server import AGENT, ANSWER, DEFAULT_PORT, NoSession, Server, ServerDown, _hangs, probe
from openhcs_omero.omero.session_store import _save_session, _store, _stored_sessions

KEEP_ALIVE = 60  # seconds; a real server forgets a session after ten silent minutes
LOOK_AFTER = 10  # seconds between two looks at a connection that is looked after
RETRY = 2  # seconds between a job's attempts to connect
DOWN_PATIENCE = 300  # seconds that a job waits for a server that is not there; a restart takes a minute or two
SESSION_PATIENCE = 3 * LOOK_AFTER  # ... for the head process to open a session in the place of a lost one








@dataclass
class _Open:
    """A connection of this process, and the session file that it has to take out of the store again."""

    conn: BlitzGateway
    pid: int = field(default_factory=os.getpid)
    stored: tuple[str, str, str] | None = None  # host, user, session
    password: str = field(default="", repr=False)  # to log in again where the server lost the session


_connections: dict[Server, _Open] = {}
_servers: WeakKeyDictionary[BlitzGateway, Server] = WeakKeyDictionary()
_watches: dict[Server, threading.Event] = {}
_lock = threading.RLock()


def connect(server: Server) -> BlitzGateway:
    """The connection of this process to `server`; the same one on every call while it lives.

    OMERO_PASSWORD, where it is set, logs in and is taken out of the environment, so that no child process has it; its
    session is stored for the jobs of the workflow, and closed when this process ends. Without it a stored session
    is joined, also one of `omero login`, and left as it was. Without that, a password is asked for on a terminal.

    Raises
    ------
    ConnectError
        In one sentence: no such host, nothing listens there, what listens is not OMERO (within about two seconds),
        wrong user or password, the stored session has expired, or there is no way to log in.
    """
    return _connect(server, ask=True)


def connect_job(server: Server) -> BlitzGateway:
    """`connect` for a job, which nobody watches: it joins a session, asks nothing, and waits where waiting helps.

    A server that is down may be in the middle of a restart; a session that it lost by that is replaced by the head
    process, see `look_after`.
    """
    began, waiting_for = 0.0, None
    while True:
        try:
            return _connect(server, ask=False)
        except (ServerDown, NoSession) as error:
            patience = DOWN_PATIENCE if isinstance(error, ServerDown) else SESSION_PATIENCE
            if type(error) is not waiting_for:
                began, waiting_for = time.monotonic(), type(error)
                print(f"waiting up to {patience} seconds: {error}", flush=True)
            if time.monotonic() - began > patience:
                raise
            time.sleep(RETRY)


def look_after(server: Server, end: bool = True) -> None:
    """Keep a session at hand for the jobs until this process ends.

    Where the server has lost the session (it was restarted, or an administrator closed it), another one is opened with
    the password of the first, which no one else has, and stored for the jobs. Where the server stays away for as long
    as a job waits for it, this process gets a SIGTERM, upon which Snakemake starts no further job and ends; where `end`
    is False (this process is not Snakemake's) it does not.
    """
    with _lock:
        if server in _watches:
            return
        stop = _watches[server] = threading.Event()
    threading.Thread(target=_watch, args=(server, stop, end), name="omero-session", daemon=True).start()


def _watch(server: Server, stop: threading.Event, end: bool) -> None:
    said, down_since = "", None
    while not stop.wait(LOOK_AFTER):
        try:
            with _lock:
                if stop.is_set():
                    return
                _connect(server, ask=False)
            said, down_since = "", None
        except Exception as error:  # as of a full disk, where the session is stored: it may have room again
            sentence = str(error) if isinstance(error, ConnectError) else (
                f"the session at {server.address} can't be kept at hand: {type(error).__name__}: {error}")
            if sentence != said:
                said = sentence
                print(f"error: {said}", file=sys.stderr, flush=True)
            if end and isinstance(error, ServerDown):
                down_since = down_since or time.monotonic()
                if time.monotonic() - down_since > DOWN_PATIENCE:
                    print(f"error: {server.address} stayed away for {DOWN_PATIENCE} seconds: no further job "
                          "is started; run the same command again when the server is back", file=sys.stderr, flush=True)
                    os.kill(os.getpid(), signal.SIGTERM)
                    return


def _connect(server: Server, ask: bool) -> BlitzGateway:
    with _lock:
        known = _connections.get(server)
        if known is not None and known.pid != os.getpid():
            known = None  # that of a parent process is not this one's
        if known is not None and _alive(known.conn, server):
            return known.conn
        probe(server)
        opened = _log_in(server, ask, known)
        if known is not None:
            _close(known)
        _connections[server] = opened
        _servers[opened.conn] = server
        if multiprocessing.parent_process() is not None:  # forked workers end without what atexit knows
            multiprocessing.util.Finalize(None, close_all, exitpriority=0)
        return opened.conn


def server_of(conn: BlitzGateway) -> Server | None:
    """What `conn` was opened to, where `connect` opened it."""
    return _servers.get(conn)


def adopt(conn: BlitzGateway) -> Server:
    """Take a live connection that was opened elsewhere for this process's own.

    Its session is stored as that of `connect` is, so that worker processes can join it, and taken out of the store at
    the end of this process, which closes the connection.

    Raises
    ------
    ConnectError
        If it is not connected.
    """
    with _lock:
        if conn in _servers:
            return _servers[conn]
        try:
            client, user = conn.c, conn.getEventContext().userName
            session = client.getSessionId()
        except (Ice.Exception, omero.ClientError, AttributeError):
            raise ConnectError("the connection that was given is not connected to an OMERO server") from None
        port = client.getProperty("omero.port") or DEFAULT_PORT
        server = Server(client.getProperty("omero.host"), int(port), user, secure=client.isSecure())
        _servers[conn] = server
        known = _connections.get(server)
        if known is None or known.pid != os.getpid() or not _alive(known.conn, server):
            stored = None if _store().exists(server.host, user, session) else (server.host, user, session)
            if stored:
                _save_session(server, user, session)
            _connections[server] = _Open(conn, stored=stored)
        return server


def _alive(conn: BlitzGateway, server: Server) -> bool:
    """Whether the connection's session lives; ServerDown where the server does not answer, and nobody knows."""
    try:
        conn.c.getSession().ice_invocationTimeout(int(ANSWER * 1000)).keepAlive(None)
    except Ice.InvocationTimeoutException:
        raise _hangs(server.address) from None
    except (Ice.Exception, omero.ClientError, AttributeError):  # a closed gateway has no client
        return False
    return True


@atexit.register
def close_all() -> None:
    """Close the connections of this process, and the sessions that it made; the process's end does it by itself."""
    for watch in _watches.values():
        watch.set()
    _watches.clear()
    with _lock:
        for opened in _connections.values():
            if opened.pid == os.getpid():
                _close(opened)
        _connections.clear()


def disconnect(server: Server) -> None:
    """Close this process's connection to `server` where there is one, and the session if this process made it."""
    with _lock:
        opened = _connections.pop(server, None)
        if opened is not None and opened.pid == os.getpid():
            _close(opened)


def _close(opened: _Open) -> None:
    """Leave the session: one that this process made ends with its last user, another one stays as it is."""
    if opened.stored is not None:
        with contextlib.suppress(OSError):
            _store().remove(*opened.stored)
    if opened.conn.c is not None:
        _abandon(opened.conn.c)






def _client(server: Server) -> Any:
    client = omero.client(host=server.host, port=server.port, pmap={"Ice.Override.CloseTimeout": str(ANSWER * 1000)})
    client.setAgent(AGENT)
    _bound(client)
    return client


def _bound(client: Any) -> None:
    """Have the router give up opening and ending sessions in bounded time; a server that hangs never answers."""
    communicator = client.getCommunicator()
    router = communicator.getDefaultRouter().ice_invocationTimeout(int(ANSWER * 1000))
    communicator.setDefaultRouter(Ice.RouterPrx.uncheckedCast(router))




def _abandon(client: Any) -> None:
    with contextlib.suppress(Ice.Exception, omero.ClientError):
        _bound(client)
        client.closeSession()


def _log_in(server: Server, ask: bool, known: _Open | None) -> _Open:
    password = os.environ.pop("OMERO_PASSWORD", "")
    if password and ask:  # jobs join a session, also where their node's shell sets a password
        return _by_password(server, server.user, password)
    if known is not None and known.password and known.stored:
        return _by_password(server, known.stored[1], known.password)
    joined, expired = _by_stored_session(server)
    if joined is not None:
        return joined
    if ask and sys.stdin is not None and sys.stdin.isatty():
        try:
            user = server.user or input(f"OMERO user at {server.address}: ").strip()
            password = getpass.getpass(f"OMERO password of {user} at {server.address}: ")
        except EOFError:
            raise ConnectError(f"no password was given for {server.address}") from None
        return _by_password(server, user, password)
    who = f"{server.user or '<user>'}@{server.host}" + ("" if server.port == DEFAULT_PORT else f":{server.port}")
    what = f"the stored session of {who} has expired" if expired else f"there is no session of {who} to join"
    raise NoSession(f"{what}: run `omero login {who}`, or set OMERO_PASSWORD")


def _by_password(server: Server, user: str, password: str) -> _Open:
    if not user:
        raise ConnectError("the OMERO user is not named: set omero: user in the configuration, or OMERO_USER")
    if not password:
        raise ConnectError(f"the password of {user} is empty")
    client = _client(server)
    try:
        client.createSession(user, password)
    except Glacier2.PermissionDeniedException:
        _abandon(client)
        raise ConnectError(f"{server.address} refuses {user}: wrong user name or password") from None
    except Ice.InvocationTimeoutException:
        _abandon(client)
        raise _hangs(server.address) from None
    except (Ice.Exception, omero.ClientError) as error:
        _abandon(client)
        raise ConnectError(f"{server.address} opens no session for {user}: {_reason(error)}") from None
    session = client.getSessionId()
    try:
        _save_session(server, user, session)
        gateway = _gateway(server, client, own=True)
        opened = _Open(gateway, stored=(server.host, user, session), password=password)
    except BaseException:
        _store().remove(server.host, user, session)
        _abandon(client)
        raise
    os.environ["OMERO_USER"] = user  # whose session the jobs look for
    return opened


def _by_stored_session(server: Server) -> tuple[_Open | None, bool]:
    """The newest stored session that is alive, joined; and whether others were found that are not."""
    expired = False
    for user, session in _stored_sessions(server):
        client = _client(server)
        try:
            client.joinSession(session).detachOnDestroy()
        except (Glacier2.PermissionDeniedException, Glacier2.CannotCreateSessionException):
            _abandon(client)
            _store().remove(server.host, user, session)
            expired = True
        except Ice.InvocationTimeoutException:
            _abandon(client)
            raise _hangs(server.address) from None
        except (Ice.Exception, omero.ClientError) as error:
            _abandon(client)
            raise ServerDown(f"the stored session at {server.address} can't be joined: {_reason(error)}") from None
        else:
            return _Open(_gateway(server, client, own=False)), expired
    return None, expired


def _gateway(server: Server, client: Any, own: bool) -> BlitzGateway:
    if not server.secure:
        client = _unencrypted(server, client, own)
    client.enableKeepAlive(KEEP_ALIVE)
    return BlitzGateway(client_obj=client)


def _unencrypted(server: Server, client: Any, own: bool) -> Any:
    """Another client of the same session, on the server's unencrypted port; the first one is closed."""
    try:
        offered = client.getSession().getConfigService().getConfigValue("omero.router.insecure")
        plain = client.createClient(secure=False) if offered else None
        if plain is not None and not own:
            plain.getSession().detachOnDestroy()
    except (Ice.Exception, omero.ClientError) as error:
        _abandon(client)
        raise ConnectError(f"{server.address} gives no unencrypted connection ({_reason(error)}): "
                           "leave omero: secure at true") from None
    if plain is None:
        _abandon(client)
        raise ConnectError(f"{server.address} offers no unencrypted connection: leave omero: secure at true")
    _abandon(client)
    return plain


def _reason(error: BaseException) -> str:
    text = getattr(error, "reason", None) or getattr(error, "message", None) or ""
    return str(text).strip().splitlines()[0] if str(text).strip() else type(error).__name__


# ---- the omero command line's session store: <dir>/<host>/<user>/<session>, a file of properties





