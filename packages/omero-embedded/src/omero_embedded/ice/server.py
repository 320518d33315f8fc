"""The server's process: starting and stopping it, and root's password."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import resource
import secrets
import signal
import sys
import threading
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from omero_embedded.errors import CannotStart
from omero_embedded.files.recovery import settle_all
from omero_embedded.files.store import Store
from omero_embedded.ice.clients import Clients
from omero_embedded.ice.endpoint import WEBSOCKET_PATH, Endpoint
from omero_embedded.ice.router import IDENTITY, Router
from omero_embedded.kernel import Kernel
from omero_embedded.limits import QUERY_SECONDS
from omero_embedded.model.access import ROOT
from omero_embedded.people.accounts import Accounts
from omero_embedded.people.bootstrap import GUEST, bootstrap
from omero_embedded.people.passwords import has_password, remove_password, set_password
from omero_embedded.people.sessions import Sessions

log = logging.getLogger(__name__)
GUEST_PASSWORD = "guest"  # OMERO's default
STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
STOP_TIMEOUT = 3  # seconds for the calls that are running


class DataServer:
    """A server on a data folder.

    Raises
    ------
    CannotStart
        If the folder can't be used.
    """

    def __init__(self, data: Path):
        try:
            self.store = Store(data)
        except BlockingIOError:
            raise CannotStart(
                f"The folder {data} is in use by another server: stop that one, or choose another folder with --data."
            ) from None
        except FileExistsError:
            raise CannotStart(f"{data} is a file: name a folder with --data.") from None
        except OSError as broken:
            raise CannotStart(f"The folder {data} can't be used: {broken.strerror}.") from None
        bootstrap(self.store)
        settle_all(self.store)
        accounts = Accounts(self.store)
        self.kernel = Kernel(self.store, accounts, Sessions(self.store, accounts))
        self._endpoint: Endpoint | None = None
        self._stopped = threading.Event()

    def start(
        self, host: str, port: int, insecure_port: int | None = None, websocket_port: int | None = None
    ) -> tuple[int, int]:
        """Listen with TLS on a port, 0 for any free one, and on those of `Allowed`.

        Returns
        -------
        port, websocket_port
            The ports of TLS and of websockets; 0 if there are none.

        Raises
        ------
        CannotStart
            If the address can't be listened on.
        """
        self._endpoint = Endpoint(self.store.folder, host, port, insecure_port, websocket_port)
        self.kernel.insecure_port = self._endpoint.insecure_port
        self._endpoint.adapter.add(Router(Clients(self.kernel, self._endpoint.adapter)), IDENTITY)
        self._endpoint.adapter.activate()
        threading.Thread(target=self._expire, name="expire sessions", daemon=True).start()
        return self._endpoint.port, self._endpoint.websocket_port

    def _expire(self) -> None:
        while not self._stopped.wait(1):
            try:
                self.kernel.sessions.expire()
            except Exception:
                log.exception("Expiring sessions failed")

    def stop(self) -> None:
        """Let running calls finish, end all sessions, and release the folder."""
        self._stopped.set()
        if self._endpoint is not None:
            self._endpoint.adapter.deactivate()
            self.kernel.sessions.end_all()
            self._endpoint.close()
        self.store.close()


@dataclass(frozen=True)
class Allowed:
    """What a server allows only if it is asked to.

    Attributes
    ----------
    insecure_port
        A port without TLS for clients that switch to it after the login, 0 for any free one; None for none.
    websocket_port
        A port for clients that connect to `wss://HOST:PORT/omero-ws`, likewise.
    guest
        Whether "guest" logs in with the password "guest". The guest sees what is in the group "user".
    query_seconds
        How long the queries of one call may take.
    """

    insecure_port: int | None = None
    websocket_port: int | None = None
    guest: bool = False
    query_seconds: float = QUERY_SECONDS


DEFAULTS = Allowed()
# glibc's M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_ARENA_MAX, and their values. By default each thread gets a heap of
# its own, and what a large block took is kept for the next one: 50 MB more after a few logins, each of which takes 16.
MALLOC_OPTIONS = {-1: 16 << 20, -3: 8 << 20, -8: 2}


def serve(data: Path, host: str, port: int, password_file: Path | None, allowed: Allowed = DEFAULTS) -> int:
    """Run a server until SIGTERM or Ctrl-C.

    Parameters
    ----------
    data
        The data folder. It is created if it does not exist.
    host, port
        Where to listen with TLS; port 0 takes any free one.
    password_file
        A file whose first line becomes root's password. Without it, a new folder gets a generated password, which is
        written to `<data>/root-password`.
    allowed
        What the server allows beyond the safe defaults.

    Returns
    -------
    int
        The exit status: 0 after a stop; 1 if the server can't start, and then a sentence on stderr says why.
    """
    _return_memory()
    # The signals are blocked in all threads, and this one waits for them. A handler could run just before the wait.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # every connection and every open store is a file
    server = None
    try:
        server = DataServer(data)
        logging.basicConfig(
            filename=data / "server.log", level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        where = _root_password(server.store, password_file)
        server.kernel.query_seconds = allowed.query_seconds
        with server.store.write() as connection:
            set_password(connection, GUEST, GUEST_PASSWORD) if allowed.guest else remove_password(connection, GUEST)
        port, websocket = server.start(host, port, allowed.insecure_port, allowed.websocket_port)
    except CannotStart as reason:
        print(f"Error: {reason}", file=sys.stderr)
        if server is not None:
            server.stop()
        return 1
    if not _is_loopback(host):
        print(
            f"Note: on {host}, everybody whose machine reaches port {port} can try passwords, and nobody has audited "
            "this server; without --host only this machine can reach it",
            file=sys.stderr,
        )
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # an answer or a saved graph has thousands of objects that all live
    gc.enable()
    also = f" and wss://{host}:{websocket}{WEBSOCKET_PATH}" if websocket else ""
    print(f"OMERO server ready on {host} port {port}{also}: log in as root with the password {where}", flush=True)
    signal.sigwait(STOP_SIGNALS)
    # Acknowledged writes are in the files already, so there is no need to wait for calls that take longer.
    last = threading.Timer(STOP_TIMEOUT, os._exit, [0])
    last.daemon = True
    last.start()
    server.stop()
    return 0


def _return_memory() -> None:
    """Let the C library give large blocks back to the system; only glibc has these options."""
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        for option, value in MALLOC_OPTIONS.items():
            libc.mallopt(option, value)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _root_password(store: Store, password_file: Path | None) -> str:
    """Set root's password from a file, or make one if there is none; return where it can be found, in words."""
    own = store.folder / "root-password"
    with store.read() as connection:
        is_set = has_password(connection, ROOT)
    if password_file is not None:
        try:
            password = password_file.read_text().split("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as broken:
            raise CannotStart(f"Root's password can't be read from {password_file}: {broken}.") from None
        if not password:
            raise CannotStart(f"The first line of {password_file} is empty: it should be root's password.")
        own.unlink(missing_ok=True)
    elif is_set:
        return f"in {own}" if own.exists() else "that was set before"
    else:
        password = secrets.token_urlsafe(18)
        with os.fdopen(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.write(password + "\n")
    with store.write() as connection:
        set_password(connection, ROOT, password)
    return f"in {password_file or own}"
