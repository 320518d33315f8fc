"""Where an OMERO server is, and whether it answers, in bounded time."""
from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import Ice
import omero
import omero.clients
from omero.clients import Glacier2  # as connection.py imports it, and for its reason

from openhcs_omero.errors import ConfigError, ConnectError

T = TypeVar("T")
GUEST = "guest"  # a user of every OMERO server; a server that refuses it has looked it up, and serves too


def within(seconds: float, ask: Callable[[], T], what: str) -> T:
    """The answer of `ask`, for which no longer is waited; a call to a server that hangs goes on in a thread alone.

    Raises
    ------
    ServerDown
        If there is no answer in time.
    """
    answers: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="omero-ask", daemon=True)
    thread.start()
    thread.join(max(seconds, 0))
    if errors:
        raise errors[0]
    if not answers:
        raise ServerDown(f"{what} does not answer: it hangs, or is still starting")
    return answers[0]


def is_up(server: Server) -> bool:
    """Whether an OMERO router answers at the address; it may not open sessions yet. Takes four seconds at most."""
    try:
        probe(server)
    except ConnectError:
        return False
    return True


def opens_sessions(server: Server, seconds: float) -> bool:
    """Whether the server has come so far that it opens sessions, or says whom it opens none for."""
    try:
        return is_up(server) and within(seconds, lambda: _knows_users(server), server.address)
    except ServerDown:
        return False


def _knows_users(server: Server) -> bool:
    client = omero.client(host=server.host, port=server.port)
    client.setAgent(AGENT)
    try:
        client.createSession(GUEST, GUEST)
    except Glacier2.PermissionDeniedException:
        return True
    except (Ice.Exception, omero.ClientError):
        return False
    finally:
        with contextlib.suppress(Ice.Exception, omero.ClientError):
            client.closeSession()
    return True


DEFAULT_PORT = 4064
PROBE_TIMEOUT = 2.0  # seconds
ANSWER = 20  # seconds that a server may take to open a session, to end it, and to say that it lives
AGENT = "openhcs_omero"


class ServerDown(ConnectError):
    """The server is not there, or not yet."""


class NoSession(ConnectError):
    """There is no stored session, or none that lives."""


@dataclass(frozen=True)
class Server:
    """Where an OMERO server is and who logs in.

    Parameters
    ----------
    host
        Name or address; a URL like ``wss://omero.example.org/omero-ws`` for websockets.
    port
        Of the encrypted router, 4064 by default.
    user
        OMERO user name; "" takes that of the last `omero login` to the host.
    secure
        False: after the login, data go unencrypted, about half as fast again.
    data_dir
        The server's data folder as this machine sees it (with ``Pixels/`` in it), to read pixels from without the
        network; None where it doesn't see it.
    """

    host: str = "localhost"
    port: int = DEFAULT_PORT
    user: str = ""
    secure: bool = True
    data_dir: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.port, int) or not 0 < self.port < 65536:
            raise ConfigError(f"omero: port must be a number from 1 to 65535, not {self.port!r}")
        if not self.host:
            raise ConfigError("omero: host is empty; name the OMERO server's machine there or in OMERO_HOST")

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | None = None) -> Server:
        """From the config's `omero:` block; what it leaves open from OMERO_HOST, OMERO_PORT and OMERO_USER.

        Raises
        ------
        ConfigError
            On an unknown key or a port that is no number.
        """
        given = {key: value for key, value in (config or {}).items() if value is not None}
        known = [f.name for f in fields(cls)]
        for key in given:
            if key not in known:
                raise ConfigError(f"omero: {key!r} is not a setting of the OMERO server; known are {', '.join(known)}")
        for key in ("host", "port", "user"):
            value = os.environ.get(f"OMERO_{key.upper()}")
            if value and key not in given:
                given[key] = value
        if isinstance(given.get("port"), str):
            try:
                given["port"] = int(given["port"])
            except ValueError:
                raise ConfigError(f"omero: port must be a number, not {given['port']!r}") from None
        return cls(**given)

    @property
    def address(self) -> str:
        return self.host if "://" in self.host else f"{self.host}:{self.port}"

    @property
    def who(self) -> str:
        """User and address as `openhcs-omero login` takes them; the port only where it is not OMERO's usual one."""
        port = "" if self.port == DEFAULT_PORT else f":{self.port}"
        return f"{self.user or '<user>'}@{self.host}{port}"


def probe(server: Server) -> None:
    """Find out what is at the address, in bounded time, ConnectError if no OMERO; that of a URL shows in logging in."""
    if "://" in server.host:
        return
    try:
        socket.create_connection((server.host, server.port), timeout=PROBE_TIMEOUT).close()
    except socket.gaierror:
        raise ConnectError(f"there is no host {server.host!r}: correct omero: host or OMERO_HOST") from None
    except ConnectionRefusedError:
        raise ServerDown(
            f"nothing listens at {server.address}: start the OMERO server, or correct omero: host and port"
        ) from None
    except OSError as error:
        reason = "it does not answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise ServerDown(f"{server.address} can't be reached ({reason}): is the host right, is a firewall in "
                         "between?") from None
    if not _answers(server):
        raise ServerDown(f"what listens at {server.address} is not an OMERO server, or one that hangs: "
                         "correct omero: host and port "
                         f"(OMERO's port for clients is {DEFAULT_PORT} by default)")


def _answers(server: Server) -> bool:
    """Whether an OMERO router answers there, in a communicator of its own, which gives up early."""
    options = Ice.InitializationData()
    options.properties = Ice.createProperties()
    timeout = int(PROBE_TIMEOUT * 1000)
    for key, value in {"Ice.Plugin.IceSSL": "IceSSL:createIceSSL", "IceSSL.VerifyPeer": "0",
                       "Ice.RetryIntervals": "-1", "Ice.Override.ConnectTimeout": str(timeout)}.items():
        options.properties.setProperty(key, value)
    communicator = Ice.initialize(options)
    try:
        router = communicator.stringToProxy(f"OMERO.Glacier2/router:ssl -h {server.host} -p {server.port}")
        router.ice_invocationTimeout(timeout).ice_ping()
    except Ice.Exception:
        return False
    finally:
        communicator.destroy()
    return True


def hangs(address: str) -> ServerDown:
    return ServerDown(f"{address} does not answer: it hangs, or is still starting")
