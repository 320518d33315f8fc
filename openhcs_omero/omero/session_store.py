"""The session store of the OMERO command line: files that only their owner can read.

The store is the folder named by OMERO_SESSIONDIR, or else ``~/omero/sessions``. Each session is a file
``<host>/<user>/<session key>`` in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from omero.util import get_omero_userdir
from omero.util.sessions import SessionsStore

from openhcs_omero.errors import ConnectError
from openhcs_omero.omero.server import DEFAULT_PORT, Server


@dataclass(frozen=True)
class StoredSession:
    """A session in the store. Anyone who has its `key` can join it."""

    host: str
    user: str
    key: str

    @property
    def tag(self) -> str:
        return tag_of(self.key)


def tag_of(key: str) -> str:
    """The SHA-256 of a session's key: names the session without giving access to it, so it can be pickled."""
    return hashlib.sha256(key.encode()).hexdigest()


def save(server: Server, user: str, key: str, current: bool = False) -> StoredSession:
    """Store a session where `omero sessions list` and the jobs find it, in a file that only its owner can read.

    Parameters
    ----------
    server, user, key
        The session's server, user and key.
    current
        Make this the session that omero-py and this package use when no user is named.
    """
    store = _store()
    folder = store.user_file(server.host).dirname() / user
    try:
        folder.makedirs_p(0o700)
        os.close(os.open(folder / key, os.O_CREAT | os.O_WRONLY, 0o600))
        properties = {"omero.port": str(server.port)}
        store.add(server.host, user, key, properties)
        if current:
            store.set_current(server.host, user, key, properties)
    except OSError as error:
        with contextlib.suppress(OSError):
            (folder / key).unlink()
        raise _unwritable(store.dir, error) from None
    return StoredSession(server.host, user, key)


def remove(session: StoredSession) -> None:
    """Remove a session from the store if it is still there."""
    with contextlib.suppress(OSError, ConnectError):
        _store().remove(session.host, session.user, session.key)


def has(session: StoredSession) -> bool:
    return bool(_store().exists(session.host, session.user, session.key))


def sessions(server: Server) -> list[StoredSession]:
    """List the stored sessions of the server and its user, newest first.

    If `server` names no user, these are the sessions of the user who logged in last or, if unknown, of all users.
    """
    return [session for _, session in sorted(_sessions(server), key=lambda found: -found[0])]


def _sessions(server: Server) -> Iterator[tuple[float, StoredSession]]:
    store = _store()
    user_file = store.user_file(server.host)
    folder = user_file.dirname()
    user = server.user or (user_file.text().strip() if user_file.exists() else "")
    users = [user] if user else sorted(str(found.basename()) for found in folder.dirs())
    for name in users:
        for key in store.available(server.host, name) if (folder / name).exists() else []:
            with contextlib.suppress(FileNotFoundError):  # another process has just removed it
                port = store.get(server.host, name, key).get("omero.port") or str(DEFAULT_PORT)
                if port == str(server.port):
                    yield (folder / name / key).mtime, StoredSession(server.host, name, str(key))


def folder_of(server: Server) -> Path:
    """The store's folder for the server's host, which may not exist."""
    return Path(_folder(), quote(server.host, safe=""))  # the name that omero-py uses


def write_secret(file: Path, text: str) -> None:
    """Write a file in the store that only its owner can read."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as out:
            out.write(text)
    except OSError as error:
        raise _unwritable(str(file.parent), error) from None


def _store() -> SessionsStore:
    folder = _folder()
    try:
        return SessionsStore(folder)
    except FileExistsError:  # another process created it between the check and the creation
        return SessionsStore(folder)
    except OSError as error:
        raise _unwritable(folder, error) from None


def _folder() -> str:
    return os.environ.get("OMERO_SESSIONDIR") or str(get_omero_userdir() / "sessions")


def _unwritable(folder: str, error: OSError) -> ConnectError:
    return ConnectError(
        f"no session can be stored in {folder} ({error.strerror}): name a folder that you can write to "
        "in OMERO_SESSIONDIR"
    )
