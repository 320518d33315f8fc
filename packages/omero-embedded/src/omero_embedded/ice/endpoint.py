"""Where the server listens: its certificate, its log, and its ports."""

from __future__ import annotations

import logging
import os
import re
import socket
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import Ice
import omero
import omero.constants
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from omero_embedded.errors import CannotStart
from omero_embedded.model.schema import schema

log = logging.getLogger(__name__)
# Seconds without a sign of life. A session may be idle for as long, and omero-py sends one every 30000 seconds only.
CONNECTION_TIMEOUT = 600
TLS = 2  # the type of an endpoint; Ice for Python has no name for it
WEBSOCKET_PATH = "/omero-ws"  # where OMERO's sites have it as a rule


class Endpoint:
    """The open ports of a server: TLS and, if asked for, TCP and secure websockets.

    Attributes
    ----------
    adapter
        Where servants are added.
    port, insecure_port, websocket_port
        The ports of TLS, of TCP and of websockets; the latter two are 0 if they are not asked for.

    Raises
    ------
    CannotStart
        If the address can't be listened on.
    """

    def __init__(
        self, folder: Path, host: str, port: int, insecure_port: int | None = None, websocket_port: int | None = None
    ):
        self._communicator = _communicator(_certificate(folder))
        endpoints = f"ssl -h {host} -p {port}"
        if insecure_port is not None:
            endpoints += f":tcp -h {host} -p {insecure_port}"
        if websocket_port is not None:
            endpoints += f":wss -h {host} -p {websocket_port} -r {WEBSOCKET_PATH}"
        asked = " or ".join(str(number) for number in (port, insecure_port, websocket_port) if number is not None)
        try:
            self.adapter = self._communicator.createObjectAdapterWithEndpoints("omero", endpoints)
        except Ice.SocketException as broken:
            self._communicator.destroy()
            reason = os.strerror(broken.error).lower()
            raise CannotStart(
                f"Can't listen on {host} port {asked} ({reason}): choose another port with --port."
            ) from None
        except Ice.Exception as broken:
            self._communicator.destroy()
            raise CannotStart(f"Can't listen on {host} port {asked}: {type(broken).__name__}.") from None
        ports = {endpoint.getInfo().type(): endpoint.getInfo().port for endpoint in self.adapter.getEndpoints()}
        self.insecure_port = ports.get(Ice.TCPEndpointType, 0)
        self.websocket_port = ports.get(Ice.WSSEndpointType, 0)
        self.port = ports[TLS]

    def close(self) -> None:
        """Close the connections; running calls may end."""
        self._communicator.destroy()


def _certificate(folder: Path) -> Path:
    """Return the file of a self-signed certificate with its key. It is made at the first start, for this machine."""
    path = folder / "server.pem"
    if not path.exists():
        partial = folder / "server.pem.new"
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(_self_signed())
        partial.rename(path)
    return path


def _self_signed() -> bytes:
    """A new key and its certificate, valid for ten years, in PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "omero")])
    names = [
        x509.DNSName("localhost"),
        x509.DNSName(socket.gethostname()),
        x509.IPAddress(ip_address("127.0.0.1")),
        x509.IPAddress(ip_address("::1")),
    ]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


REMOTE, REASON = r"remote address = (\S+)", r": Ice(?:SSL)?::(\w+Exception):(.*)"
# How connections end in good order, or because the other end is gone.
EXPECTED = {
    "CloseConnectionException",
    "ConnectionLostException",
    "ConnectionTimeoutException",
    "ForcedCloseConnectionException",
    "ObjectAdapterDeactivatedException",
    "CommunicatorDestroyedException",
}


class _Log(Ice.Logger):
    """Sends Ice's messages to the log of the server."""

    def print(self, message):
        log.info(message)

    def trace(self, category, message):
        """Log connections that ended because of bad data; Ice reports them among all events of the network."""
        remote, reason = (re.search(pattern, message, re.S) for pattern in (REMOTE, REASON))
        if reason and reason[1] not in EXPECTED:
            log.warning(
                "refused a connection from %s: %s: %s",
                remote[1] if remote else "?",
                reason[1],
                " ".join(reason[2].split()),
            )

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
        "Ice.Plugin.IceSSL": "IceSSL:createIceSSL",
        "IceSSL.CertFile": str(certificate),
        "IceSSL.VerifyPeer": "0",
        "Ice.MessageSizeMax": str(omero.constants.MESSAGESIZEMAX),  # KB, the same as for clients
        "Ice.ThreadPool.Server.Size": "8",
        "Ice.ThreadPool.Server.SizeMax": "128",
        "Ice.ThreadPool.Server.SizeWarn": "0",
        "Ice.ACM.Server.Timeout": str(CONNECTION_TIMEOUT),
        "Ice.ACM.Server.Close": "4",  # close connections without a sign of life, even during a call
        "Ice.CacheMessageBuffers": "0",
        "Ice.Warn.Connections": "0",
        "Ice.Warn.Dispatch": "1",
        "Ice.Trace.Network": "2",
    }.items():  # see _Log.trace
        properties.setProperty(key, value)
    data = Ice.InitializationData()
    data.properties, data.logger = properties, _Log()
    communicator = Ice.initialize(data)
    for made in omero.rtypes.ObjectFactories:
        communicator.addObjectFactory(_Receiver(made), made.ice_staticId())
    for name in schema().entities:
        if made := getattr(omero.model, f"{name}I", None):  # abstract classes have none
            communicator.addObjectFactory(_Receiver(made), made.ice_staticId())
    omero.ObjectFactoryRegistrar.registerObjectFactory(communicator, None)  # all others
    return communicator


class _Receiver(Ice.ObjectFactory):
    """Makes objects without their constructor, which takes longer than all else: Ice sets every member anyway.

    Until they are complete, the objects are of a class without omero-py's `__setattr__`, which is slow.
    """

    def __init__(self, made: type):
        def complete(obj):
            obj.__class__ = made

        self._class = type(made.__name__, (made,), {"__setattr__": object.__setattr__, "ice_postUnmarshal": complete})

    def create(self, type_id):
        return object.__new__(self._class)

    def destroy(self):
        pass
