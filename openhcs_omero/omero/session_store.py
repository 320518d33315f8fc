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

from openhcs_omero.errors import ConnectError, brief
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
    for name in (user, key):
        if "/" in name or name.startswith("."):
            raise ConnectError(f"no session can be stored with the name {brief(name)}, as {server.address} answers")
    store = _store()
    folder = folder_of(server) / user
    try:
        _make_private(folder)
        _make_private_file(folder / key)
        properties = {"omero.port": str(server.port)}
        store.add(server.host, user, key, properties)
        if current:
            user_file, session_file = store.user_file(server.host), store.sess_file(server.host, user)
            for file in (store.host_file(), store.port_file(), user_file, session_file):
                _make_private_file(file)
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
    store, folder = _store(), folder_of(server)
    if not folder.is_dir():
        return
    user_file = store.user_file(server.host)
    user = server.user or (user_file.text().strip() if user_file.exists() else "")
    users = [user] if user else sorted(found.name for found in folder.iterdir() if found.is_dir())
    for name in users:
        for key in store.available(server.host, name) if (folder / name).exists() else []:
            with contextlib.suppress(FileNotFoundError):  # another process has just removed it
                port = store.get(server.host, name, key).get("omero.port") or str(DEFAULT_PORT)
                if port == str(server.port):
                    yield (folder / name / key).stat().st_mtime, StoredSession(server.host, name, str(key))


def folder_of(server: Server) -> Path:
    """The store's folder for the server's host, which may not exist."""
    return Path(_folder(), quote(server.host, safe=""))  # the name that omero-py uses


def write_secret(file: Path, text: str) -> None:
    """Write a file in the store that only its owner can read."""
    try:
        _make_private(file.parent)
        _make_private_file(file)
        file.write_text(text)
    except OSError as error:
        raise _unwritable(str(file.parent), error) from None


def _make_private(folder: Path) -> None:
    """Create a folder and its parents where they are missing. Only the user can enter them, whatever the umask."""
    for part in [*reversed(folder.parents), folder]:
        if not part.exists():  # a parent's parent may be unreadable
            part.mkdir(0o700, exist_ok=True)


def _make_private_file(file: str | Path) -> None:
    """Make a file private, before there is anything in it."""
    descriptor = os.open(file, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _store() -> SessionsStore:
    folder = _folder()
    try:
        _make_private(Path(folder))
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
