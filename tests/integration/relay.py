"""A relay between a client and an OMERO server, and the certificates it presents."""

import contextlib
import datetime
import ipaddress
import select
import socket
import ssl
import threading
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = datetime.timedelta(days=1)


class Certificate:
    """A certificate and its key, self-signed or signed by an `authority`, for the names and addresses of a host.

    `signs` makes it an authority between its own authority and others, `valid` says from and to how many days from now
    it is valid.
    """

    def __init__(self, folder: Path, name: str, hosts=(), authority=None, signs=False, valid=(-1, 1)) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        issuer = authority or self
        now = datetime.datetime.now(datetime.UTC)
        begin, end = (now + days * DAY for days in valid)
        builder = x509.CertificateBuilder(
            issuer.subject, self.subject, self.key.public_key(), x509.random_serial_number(), begin, end
        )
        is_authority = authority is None or signs
        builder = builder.add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(host) for host in hosts]), False)
        self.certificate = builder.sign(issuer.key, hashes.SHA256())
        self.file, self.with_key = folder / f"{name}.pem", folder / f"{name}-with-key.pem"
        pem = self.certificate.public_bytes(serialization.Encoding.PEM)
        self.file.write_bytes(pem)
        self.chain = pem + (authority.chain if authority else b"")
        self.with_key.write_bytes(
            self.chain
            + self.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def _general(host):
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


class Relay:
    """Relays TLS traffic between clients and the server at `port`, and keeps what the clients send.

    Attributes
    ----------
    certificate
        The certificate that the relay presents; it may be replaced.
    heard
        What the clients sent.
    """

    def __init__(self, port: int, certificate: Certificate) -> None:
        self.certificate, self.heard = certificate, bytearray()
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own.load_cert_chain(self.certificate.with_key)
        anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
        with contextlib.suppress(OSError):
            inside = own.wrap_socket(client, server_side=True)
            outside = anyone.wrap_socket(socket.create_connection(("127.0.0.1", self._target)))
            self._pass_on(inside, outside)

    def _pass_on(self, inside, outside):
        """Pass on what both ends send, in one thread: OpenSSL's connections are not for two at a time."""
        with contextlib.suppress(OSError), inside, outside:
            while True:
                ends = (inside, outside)
                for source in [end for end in ends if end.pending()] or select.select(ends, (), ())[0]:
                    source.setblocking(False)  # what came may be a part of a record, or nothing that is passed on
                    try:
                        data = source.recv(65536)
                    except ssl.SSLWantReadError:
                        continue
                    finally:
                        source.setblocking(True)
                    if not data:
                        return
                    if source is inside:
                        self.heard += data
                    (outside if source is inside else inside).sendall(data)
