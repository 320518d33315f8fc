"""The session store of the OMERO command line: files that only their owner can read."""
from __future__ import annotations

import os

from omero.util.sessions import SessionsStore

from openhcs_omero.omero.server import (
    DEFAULT_PORT,
    Server,
)


def _store() -> SessionsStore:
    folder = os.environ.get("OMERO_SESSIONDIR")
    try:
        return SessionsStore(folder)
    except FileExistsError:  # another process made it between its look and its making
        return SessionsStore(folder)


def _save_session(server: Server, user: str, session: str) -> None:
    """Store a session where `omero sessions list` and the jobs find it, in a file that is its owner's alone."""
    store = _store()
    folder = store.user_file(server.host).dirname() / user
    folder.makedirs_p(0o700)
    os.close(os.open(folder / session, os.O_CREAT | os.O_WRONLY, 0o600))
    store.add(server.host, user, session, {"omero.port": str(server.port)})


def _stored_sessions(server: Server) -> list[tuple[str, str]]:
    """(user, session) pairs that are stored for the server, the newest first."""
    store = _store()
    user_file = store.user_file(server.host)
    user = server.user or (user_file.text().strip() if user_file.exists() else "")
    users = [user] if user else sorted(str(d.basename()) for d in user_file.dirname().dirs())
    found = []
    for name in users:
        for session in store.available(server.host, name) if (user_file.dirname() / name).exists() else []:
            port = store.get(server.host, name, session).get("omero.port") or str(DEFAULT_PORT)
            if port == str(server.port):
                found.append((-(user_file.dirname() / name / session).mtime, name, str(session)))
    return [(name, session) for _, name, session in sorted(found)]
