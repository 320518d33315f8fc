"""The server's process: the data folder, the endpoints, starting and stopping."""
from __future__ import annotations

import logging
import os
import re
import resource
import secrets
import signal
import subprocess
import sys
import threading
from pathlib import Path

import Ice
import omero
import omero.constants

from omero_embedded.files.recovery import settle_all
from omero_embedded.files.store import Store
from omero_embedded.ice.factory import Client
from omero_embedded.ice.router import CONNECTION_TIMEOUT, IDENTITY, Router
from omero_embedded.model.access import ROOT
from omero_embedded.people.accounts import Accounts
from omero_embedded.people.bootstrap import bootstrap
from omero_embedded.people.passwords import has_password, set_password
from omero_embedded.people.sessions import Session, Sessions

log = logging.getLogger(__name__)
STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
STOP_TIMEOUT = 3  # seconds for the calls that are running


class CannotStart(Exception):
    """One sentence that says why the server can't start, and what to do."""


class Server:
    """Everything that the services share.

    Attributes
    ----------
    store, schema : the data folder, and the model that it holds.
    accounts, sessions : who there is, and who is logged in.
    adapter : where servants are added.
    """

    def __init__(self, data: Path):
        try:
            self.store = Store(data)
        except FileExistsError:
            raise CannotStart(f"The folder {data} is in use by another server: stop that one, or choose another folder "
                              "with --data.") from None
        except OSError as broken:
            raise CannotStart(f"The folder {data} can't be used: {broken.strerror}.") from None
        self.schema = self.store.schema
        bootstrap(self.store)
        settle_all(self.store)
        self.accounts = Accounts(self.store)
        self.sessions = Sessions(self.store, self.accounts, self._ended)
        self._clients: dict[str, list[Client]] = {}  # by the session's uuid
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.adapter: Ice.ObjectAdapter = None

    # -- clients -------------------------------------------------------------------------------------------------

    def enter(self, client: Client) -> Ice.ObjectPrx:
        """Serve a client; the proxy of its session."""
        with self._lock:
            self._clients.setdefault(client.session.uuid, []).append(client)
        return client.open()

    def leave(self, client: Client) -> None:
        """A client is gone, by its own will or not."""
        with self._lock:
            of_session = self._clients.get(client.session.uuid, [])
            if client not in of_session:
                return
            of_session.remove(client)
        client.leave()
        self.sessions.release(client.session, client.closes_session)

    def clients(self, session: Session) -> list[Client]:
        with self._lock:
            return list(self._clients.get(session.uuid, []))

    def withdraw(self, identity: Ice.Identity) -> None:
        """Take a servant away; none is there any more once the server stops."""
        try:
            self.adapter.remove(identity)
        except (Ice.NotRegisteredException, Ice.ObjectAdapterDeactivatedException):
            pass

    def _ended(self, session: Session) -> None:
        with self._lock:
            clients = self._clients.pop(session.uuid, [])
        for client in clients:
            client.leave()

    # -- starting and stopping -----------------------------------------------------------------------------------

    def start(self, host: str, port: int) -> int:
        """Open the endpoints: TLS on `port` (0 for any that is free), TCP on any. Returns the TLS port."""
        self.communicator = _communicator(_certificate(self.store.folder))
        endpoints = f"ssl -h {host} -p {port}:tcp -h {host} -p 0"
        try:
            self.adapter = self.communicator.createObjectAdapterWithEndpoints("omero", endpoints)
        except Ice.SocketException as broken:
            self.communicator.destroy()
            reason = os.strerror(broken.error).lower()
            raise CannotStart(f"Can't listen on {host} port {port} ({reason}): choose another port with --port."
                              ) from None
        except Ice.Exception as broken:
            self.communicator.destroy()
            raise CannotStart(f"Can't listen on {host} port {port}: {type(broken).__name__}.") from None
        self.adapter.add(Router(self), IDENTITY)
        self.adapter.activate()
        ports = {endpoint.getInfo().type(): endpoint.getInfo().port for endpoint in self.adapter.getEndpoints()}
        self.insecure_port = ports[Ice.TCPEndpointType]
        threading.Thread(target=self._expire, name="expire sessions", daemon=True).start()
        return next(number for kind, number in ports.items() if kind != Ice.TCPEndpointType)

    def _expire(self) -> None:
        while not self._stopped.wait(1):
            try:
                self.sessions.expire()
            except Exception:
                log.exception("Expiring sessions failed")

    def stop(self) -> None:
        """Let running calls end, end all sessions, and let go of the folder."""
        self._stopped.set()
        if self.adapter is not None:
            self.adapter.deactivate()
            self.sessions.end_all()
            self.communicator.destroy()
        self.store.close()


def serve(data: Path, host: str, port: int, password_file: Path | None) -> int:
    """Run a server until SIGTERM or Ctrl-C.

    Parameters
    ----------
    data : the folder of the database, `Pixels/` and `Files/`; made if it is missing.
    host, port : where to listen with TLS; port 0 takes any that is free.
    password_file : its first line is root's password from now on. Without it, and when the folder is new, a password is
        made and written to `<data>/root-password`.

    Returns
    -------
    int
        The exit status: 0 after a stop, 1 if it could not start (a sentence on stderr says why).
    """
    # Blocked in all threads and waited for by this one: a handler's flag may be set just before a wait, and be missed.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection or an open store is a file each
    server = None
    try:
        server = Server(data)
        logging.basicConfig(filename=data / "server.log", level=logging.INFO,
                            format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        where = _root_password(server.store, password_file)
        port = server.start(host, port)
    except CannotStart as reason:
        print(f"Error: {reason}", file=sys.stderr)
        if server is not None:
            server.stop()
        return 1
    print(f"OMERO server ready on {host} port {port}: log in as root with the password {where}", flush=True)
    signal.sigwait(STOP_SIGNALS)
    # What was acknowledged is in the files already, so calls that go on for longer need not be waited for.
    last = threading.Timer(STOP_TIMEOUT, os._exit, [0])
    last.daemon = True
    last.start()
    server.stop()
    return 0


def _root_password(store: Store, password_file: Path | None) -> str:
    """Set root's password where a file gives one, or where there is none yet; says where it can be found."""
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


def _certificate(folder: Path) -> Path:
    """A self-signed certificate with its key, made at the first start. OMERO's clients encrypt but don't verify."""
    path = folder / "server.pem"
    if not path.exists():
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "-", "-out", "-",
                   "-days", "3650", "-subj", "/CN=omero"]
        try:
            made = subprocess.run(command, capture_output=True, check=True).stdout
        except (FileNotFoundError, subprocess.CalledProcessError):
            raise CannotStart("The server's certificate is made by the openssl command: install openssl.") from None
        partial = folder / "server.pem.new"
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(made)
        partial.rename(path)
    return path


REMOTE, REASON = r"remote address = (\S+)", r": Ice(?:SSL)?::(\w+Exception):(.*)"
# How connections end in good order, or because the other end is gone.
EXPECTED = {"CloseConnectionException", "ConnectionLostException", "ConnectionTimeoutException",
            "ForcedCloseConnectionException", "ObjectAdapterDeactivatedException", "CommunicatorDestroyedException"}


class _Log(Ice.Logger):
    """Ice's own messages go where the server's go."""

    def print(self, message):
        log.info(message)

    def trace(self, category, message):
        """Of what goes on in the network, what was refused: a connection that ended because of what came over it."""
        remote, reason = (re.search(pattern, message, re.S) for pattern in (REMOTE, REASON))
        if reason and reason[1] not in EXPECTED:
            log.warning("refused a connection from %s: %s: %s", remote[1] if remote else "?", reason[1],
                        " ".join(reason[2].split()))

    def warning(self, message):
        log.warning(message)

    def error(self, message):
        log.error(message)

    def getPrefix(self):
        return ""

    def cloneWithPrefix(self, prefix):
        return self


def _communicator(certificate: Path) -> Ice.Communicator:
    properties = Ice.createProperties()
    for key, value in {
            "Ice.Plugin.IceSSL": "IceSSL:createIceSSL", "IceSSL.CertFile": str(certificate), "IceSSL.VerifyPeer": "0",
            "Ice.MessageSizeMax": str(omero.constants.MESSAGESIZEMAX),  # KB, as the clients
            "Ice.ThreadPool.Server.Size": "8", "Ice.ThreadPool.Server.SizeMax": "128",
            "Ice.ThreadPool.Server.SizeWarn": "0", "Ice.ACM.Server.Timeout": str(CONNECTION_TIMEOUT),
            "Ice.ACM.Server.Close": "4",  # close what shows no sign of life, whatever it was doing
            "Ice.CacheMessageBuffers": "0", "Ice.Warn.Connections": "0", "Ice.Warn.Dispatch": "1",
            "Ice.Trace.Network": "2"}.items():  # see _Log.trace
        properties.setProperty(key, value)
    data = Ice.InitializationData()
    data.properties, data.logger = properties, _Log()
    communicator = Ice.initialize(data)
    for factory in omero.rtypes.ObjectFactories.values():
        factory.register(communicator)
    omero.ObjectFactoryRegistrar.registerObjectFactory(communicator, None)
    return communicator
