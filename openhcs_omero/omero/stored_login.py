"""Logins that outlive this process: `openhcs-omero login` and `logout`, with omero-py's session store."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import Ice
import omero

from openhcs_omero import password
from openhcs_omero.errors import ConfigError, ConnectError
from openhcs_omero.omero import session_store
from openhcs_omero.omero.connection import ask_password
from openhcs_omero.omero.login import SessionEnded, join_session, leave, open_session
from openhcs_omero.omero.probe import probe
from openhcs_omero.omero.server import Server


def server_from(text: str | None, server: Server) -> Server:
    """Parse ``[user@]host[:port]``, where the host may be a URL; missing parts are taken from `server`.

    Raises
    ------
    ConfigError
        If the host is empty or the port is not a number.
    """
    if text is None:
        return server
    user, _, host = text.rpartition("@")
    name, colon, port = host.rpartition(":")
    if "://" in host or not colon:
        name, port = host, str(server.port)
    if not port.isdecimal():
        raise ConfigError(f"{text!r} names no server: write user@host or user@host:port")
    return replace(server, host=name, port=int(port), user=user or server.user)


def log_in(server: Server) -> tuple[Server, float]:
    """Open a session with OMERO_PASSWORD or a prompt, and store it as the session of the user who logged in last.

    Returns
    -------
    server : Server
        The server, with the user's name.
    minutes : float
        Minutes without use after which the session ends, as set on the server.
    """
    probe(server)
    user, secret = server.user, password.read()
    if not user or not secret:
        user, secret = ask_password(server)
    conn = open_session(server, user, secret)
    key = conn.c.getSessionId()
    server = replace(server, user=user)
    try:
        session_store.save(server, user, key, current=True)
        conn.c.getSession().detachOnDestroy()
        idle = conn.c.getSession().getSessionService().getSession(key).timeToIdle.val
    finally:
        leave(conn.c)
    return server, idle / 60_000


def log_out(server: Server) -> list[str]:
    """End the stored sessions at the server and remove them from the store.

    Returns
    -------
    list of str
        The users whose sessions they were.

    Raises
    ------
    ConnectError
        If there is no stored session, or if the server does not answer.
    """
    sessions = session_store.sessions(server)
    if not sessions:
        raise ConnectError(f"there is no stored session of {server.who}")
    probe(server)
    for session in sessions:
        with contextlib.suppress(SessionEnded):
            conn = join_session(server, session.key)
            with contextlib.suppress(Ice.Exception, omero.ClientError):
                conn.c.killSession()
            leave(conn.c)
        session_store.remove(session)
    return sorted({session.user for session in sessions})
