"""Find out in bounded time whether an OMERO server answers at an address."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import TypeVar

import Ice
import omero
import omero.clients
from omero.clients import Glacier2  # imported this way for the reason given in login.py

from openhcs_omero.errors import ConnectError
from openhcs_omero.omero import identity
from openhcs_omero.omero.server import AGENT, DEFAULT_PORT, PROBE_TIMEOUT, Server, ServerDown

T = TypeVar("T")
GUEST = "guest"  # exists on every OMERO server; a server that refuses it has looked it up, so it is up


def within(seconds: float, ask: Callable[[], T], what: str) -> T:
    """Call `ask` in a thread and return its result, but wait no longer than `seconds`.

    A call to a server that hangs goes on in the background.

    Raises
    ------
    ServerDown
        If there is no answer in time; its message is about `what`.
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
    """Whether an OMERO router answers at the address, even if it opens no sessions yet; takes at most four seconds."""
    try:
        probe(server)
    except ConnectError:
        return False
    return True


def opens_sessions(server: Server, seconds: float) -> bool:
    """Whether the server is ready to open sessions, or at least to refuse a user."""
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


def probe(server: Server) -> None:
    """Check in bounded time that an OMERO server answers and has the expected certificate.

    If the host is a URL, only the certificate is checked; whether OMERO answers there shows when logging in.

    Raises
    ------
    ConnectError
        If the check fails. Its subclass ServerDown if the server may come up later.
    """
    properties = identity.ssl_properties(server)
    if "://" in server.host:
        if refused := identity.refusal(server, properties):
            raise refused
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
        raise ServerDown(
            f"{server.address} can't be reached ({reason}): is the host correct, and is no firewall in between?"
        ) from None
    if not identity.ping(server, properties):
        raise identity.refusal(server, properties) or ServerDown(
            f"what listens at {server.address} is not an OMERO server, or one that hangs: correct omero: host and port "
            f"(OMERO's port for clients is {DEFAULT_PORT} by default)"
        )
