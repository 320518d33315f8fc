"""Verify a server's identity by its certificate before anything secret is sent.

OMERO's clients encrypt their connections but check no certificate, so a relay between client and server could read the
password. Here Ice checks the certificate in every connection if `omero: ca` or OMERO_CA names a file with the server's
certificate or that of an authority, or if `openhcs-omero trust` has stored the server's certificate.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import Ice

from openhcs_omero.errors import ConfigError, ConnectError
from openhcs_omero.omero import session_store
from openhcs_omero.omero.server import PROBE_TIMEOUT, Server

LARGEST_FILE = 10_000_000  # bytes
PATIENCE = 3 * PROBE_TIMEOUT  # for a server that has just answered, to say why its certificate is refused
NOT_CHECKED = {"IceSSL.VerifyPeer": "0"}
_OUT_OF_DATE = (9, 10)  # OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED
_warned = threading.Event()


class WrongIdentity(ConnectError):
    """The server does not have the expected certificate."""


def ssl_properties(server: Server) -> dict[str, str]:
    """Ice properties for a connection to `server` that checks its certificate if there is anything to check it against.

    Raises
    ------
    ConfigError
        If the file that `omero: ca` names can't be read, or the connection would not be encrypted.
    """
    stored = stored_certificate(server)
    if server.ca is None and not stored.exists():
        return NOT_CHECKED
    if server.host.startswith(("ws://", "tcp://")):
        raise ConfigError(f"{server.host} is not encrypted, so its certificate can't be checked: use wss://")
    if server.ca is None:
        return _checked_by(stored, name=False)
    try:
        file = Path(server.ca)
        if file.exists() and not (file.is_file() and file.stat().st_size < LARGEST_FILE):
            raise ConfigError(f"omero: ca or OMERO_CA names {file}, which is no file of certificates")
        own = ssl.PEM_cert_to_DER_cert(_only_certificate(file.read_text())) == _presented(server)
    except OSError as error:
        raise ConfigError(f"omero: ca or OMERO_CA names {server.ca}, which can't be read ({error.strerror})") from None
    except ValueError:
        own = False  # several certificates: these are authorities
    return _checked_by(Path(server.ca), name=not own)


def _checked_by(file: Path, name: bool) -> dict[str, str]:
    """Properties to check against the certificates in a file, and with `name` also against the name of the host."""
    return {
        "IceSSL.VerifyPeer": "2",
        "IceSSL.CAs": str(file.resolve()),
        "IceSSL.CheckCertName": str(int(name)),
        "IceSSL.VerifyDepthMax": "6",
    }


def refusal(server: Server, properties: dict[str, str]) -> WrongIdentity | None:
    """The error if the server that answers is the wrong one; None if it is right or nothing is checked."""
    if properties["IceSSL.VerifyPeer"] == "0" or ping(server, properties):
        return None
    der = _presented(server)
    if der is None or not ping(server, NOT_CHECKED, PATIENCE):
        return None  # it is not OMERO, or it went away
    end = "no password was sent"
    if _not_valid_now(server, properties["IceSSL.CAs"]):
        return WrongIdentity(
            f"the certificate of {server.address} has expired, or is not valid yet; {end}. Check the clock of this "
            "machine, and ask the server's administrator for a new certificate"
        )
    if server.ca is None:
        return WrongIdentity(
            f"the certificate of {server.address} is not the one that was trusted, its SHA-256 fingerprint is now "
            f"{fingerprint(der)}; {end}. Ask the server's administrator: if the change is right, delete "
            f"{stored_certificate(server)} and run `openhcs-omero trust {server.host_and_port}`"
        )
    if ping(server, {**properties, "IceSSL.CheckCertName": "0"}, PATIENCE):
        return WrongIdentity(
            f"the certificate of {server.address} is for another host name; {end}. Correct omero: host"
        )
    return WrongIdentity(
        f"the certificate of {server.address} (SHA-256 fingerprint {fingerprint(der)}) is neither in "
        f"{server.ca} nor signed by an authority there; {end}"
    )


def ping(server: Server, properties: dict[str, str], seconds: float = PROBE_TIMEOUT) -> bool:
    """Whether an OMERO router answers there in time. Uses a separate communicator with short timeouts."""
    options = Ice.InitializationData()
    options.properties = Ice.createProperties()
    timeout = int(seconds * 1000)
    for key, value in {
        "Ice.Plugin.IceSSL": "IceSSL:createIceSSL",
        "Ice.RetryIntervals": "-1",
        "Ice.Override.ConnectTimeout": str(timeout),
        **properties,
    }.items():
        options.properties.setProperty(key, value)
    try:
        communicator = Ice.initialize(options)
    except Ice.PluginInitializationException:
        raise ConfigError(f"omero: ca or OMERO_CA names {server.ca}, which has no certificate in PEM form") from None
    try:
        router = communicator.stringToProxy(f"OMERO.Glacier2/router:{server.endpoint}")
        router.ice_invocationTimeout(timeout).ice_ping()
    except Ice.Exception:
        return False
    finally:
        communicator.destroy()
    return True


def leave_warnings_to_parent() -> None:
    """Don't repeat the warning of `warn_unchecked` in a process of a pool."""
    _warned.set()


def warn_unchecked(server: Server, properties: dict[str, str]) -> None:
    """Warn, once per process, that the server's identity was not checked."""
    if properties["IceSSL.VerifyPeer"] == "0" and not _warned.is_set():
        _warned.set()
        print(
            f"warning: the identity of the OMERO server at {server.address} is not checked: run `openhcs-omero trust "
            f"{server.host_and_port}`, or name its certificate or authority in omero: ca or OMERO_CA",
            file=sys.stderr,
            flush=True,
        )


def trust(server: Server) -> tuple[str, bool]:
    """Store the certificate that a server presents; from now on it must have this certificate.

    Returns
    -------
    fingerprint : str
        SHA-256 of the certificate.
    new : bool
        False if it was stored already.

    Raises
    ------
    ConnectError
        If nothing with a certificate answers there, if another certificate is stored (WrongIdentity), or if an
        authority signed the certificate, in which case the configuration must name the authority.
    """
    server = replace(server, ca=None)
    der = _presented(server)
    if der is None:
        raise ConnectError(f"nothing with a certificate answers at {server.address}: is it an OMERO server?")
    file = stored_certificate(server)
    if file.exists():
        if ssl.PEM_cert_to_DER_cert(file.read_text()) != der:
            refused = refusal(server, _checked_by(file, name=False))
            raise refused or ConnectError(f"{server.address} does not answer")
        return fingerprint(der), False
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as candidate:
        candidate.write(ssl.DER_cert_to_PEM_cert(der))
        candidate.flush()
        properties = _checked_by(Path(candidate.name), name=False)
        if not ping(server, properties):
            if _not_valid_now(server, candidate.name):
                raise refusal(server, properties) or ConnectError(f"{server.address} does not answer")
            raise ConnectError(
                f"an authority signed the certificate of {server.address}, or what answers there is not OMERO: name "
                f"the authority's file in omero: ca or OMERO_CA; those that this machine trusts are in "
                f"{ssl.get_default_verify_paths().cafile or '/etc/ssl/certs/ca-certificates.crt'}"
            )
    session_store.write_secret(file, ssl.DER_cert_to_PEM_cert(der))
    return fingerprint(der), True


def stored_certificate(server: Server) -> Path:
    """The session store's file for the certificate of `server`; "._" hides it from the omero command line."""
    return session_store.folder_of(server) / f"._CERTIFICATE_{server.port}.pem"


def fingerprint(der: bytes) -> str:
    """The SHA-256 of a DER certificate, formatted as `openssl x509 -fingerprint -sha256` prints it."""
    return hashlib.sha256(der).digest().hex(":").upper()


def _only_certificate(pem: str) -> str:
    """The only certificate in the text of a file; ValueError if it has several or none."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    if pem.count(begin) != 1:
        raise ValueError
    return begin + pem.partition(begin)[2].partition(end)[0] + end


def _presented(server: Server) -> bytes | None:
    """The certificate presented at the address, unchecked; None if there is none in time."""
    try:
        return _shake_hands(server)
    except OSError:
        return None


def _not_valid_now(server: Server, authorities: str) -> bool:
    """Whether the certificate presented at the address, or one that signed it, has expired or is not valid yet."""
    try:
        _shake_hands(server, authorities)
    except ssl.SSLCertVerificationError as error:
        return error.verify_code in _OUT_OF_DATE
    except OSError:
        pass
    return False


def _shake_hands(server: Server, authorities: str | None = None) -> bytes | None:
    """Open and close a connection, and return the server's certificate, checked against a file if one is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_REQUIRED if authorities else ssl.CERT_NONE
    if authorities:
        context.load_verify_locations(authorities)
    context.set_ciphers("ALL:@SECLEVEL=0")  # accept old servers too: nothing is sent over this connection
    host, port = server.socket_address
    with (
        socket.create_connection((host, port), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        return secure.getpeercert(binary_form=True)
