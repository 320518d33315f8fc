"""Open a session on an OMERO server with a password, or join one by its key, in bounded time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import Ice
import omero
import omero.clients
from omero.clients import Glacier2  # importing it before omero yields exception classes that omero-py does not catch
from omero.gateway import BlitzGateway

from openhcs_omero.errors import ConnectError
from openhcs_omero.omero.identity import WrongIdentity, ssl_properties, warn_unchecked
from openhcs_omero.omero.server import AGENT, ANSWER, Server, ServerDown, hangs

KEEP_ALIVE = 60  # seconds; a real server forgets a session after ten silent minutes


class SessionEnded(ConnectError):
    """The server has no session with that key, or it has ended."""


_ANY = (Ice.Exception, omero.ClientError)
# what a call may raise, and the error that it is reported as; the first row that fits counts
_Reports = Sequence[tuple[tuple[type[Exception], ...], type[ConnectError], str]]
_REFUSED = ((Ice.SecurityException,), WrongIdentity, "the certificate of {server} is not accepted: {reason}")
_OPENING: _Reports = (
    _REFUSED,
    ((Glacier2.PermissionDeniedException,), ConnectError, "{server} refuses {user}: wrong user name or password"),
    (_ANY, ConnectError, "{server} opened no session for {user}: {reason}"),
)
_JOINING: _Reports = (
    _REFUSED,
    (
        (Glacier2.PermissionDeniedException, Glacier2.CannotCreateSessionException),
        SessionEnded,
        "the session at {server} has ended",
    ),
    (_ANY, ServerDown, "the stored session at {server} can't be joined: {reason}"),
)
_UNENCRYPTED: _Reports = (
    (_ANY, ConnectError, "{server} gives no unencrypted connection ({reason}): leave omero: secure at true"),
)


def open_session(server: Server, user: str, password: str) -> BlitzGateway:
    """Log in with a password; the new session ends with the last connection to it.

    Raises
    ------
    ConnectError
        If the server refuses the user. Its subclass ServerDown if the server does not answer.
    """
    if not user:
        raise ConnectError("the OMERO user is not named: set omero: user in the configuration, or OMERO_USER")
    if not password:
        raise ConnectError(f"the password of {user} is empty")
    client = _client(server)
    with _reporting(_OPENING, client, server, user):
        client.createSession(user, password)
    return _gateway(server, client, own=True)


def join_session(server: Server, key: str) -> BlitzGateway:
    """Join a session by its key; it outlives this connection.

    Raises
    ------
    SessionEnded
        If there is no such session.
    ServerDown
        If the server does not answer.
    """
    client = _client(server)
    with _reporting(_JOINING, client, server):
        client.joinSession(key).detachOnDestroy()
    return _gateway(server, client, own=False)


def is_alive(conn: BlitzGateway, server: Server) -> bool:
    """Whether the connection's session is alive.

    Raises
    ------
    ServerDown
        If the server does not answer, so that this is unknown.
    """
    try:
        conn.c.getSession().ice_invocationTimeout(int(ANSWER * 1000)).keepAlive(None)
    except Ice.InvocationTimeoutException:
        raise hangs(server.address) from None
    except (Ice.Exception, omero.ClientError, AttributeError):  # a closed gateway has no client
        return False
    return True


def leave(client: Any) -> None:
    """Close a connection. A session that it opened ends; a session that it joined stays open."""
    with contextlib.suppress(Ice.Exception, omero.ClientError):
        _bound(client)
        client.closeSession()


@contextlib.contextmanager
def _reporting(reports: _Reports, client: Any, server: Server, user: str = "") -> Iterator[None]:
    """If a call fails, close the client and raise a ConnectError that says why."""
    try:
        yield
    except Ice.InvocationTimeoutException:
        leave(client)
        raise hangs(server.address) from None
    except _ANY as error:
        leave(client)
        report, sentence = next((report, text) for known, report, text in reports if isinstance(error, known))
        raise report(sentence.format(server=server.address, user=user, reason=_reason(error))) from None


def _client(server: Server) -> Any:
    properties = ssl_properties(server)
    warn_unchecked(server, properties)
    client = omero.client(
        host=server.host, port=server.port, pmap={"Ice.Override.CloseTimeout": str(ANSWER * 1000), **properties}
    )
    client.setAgent(AGENT)
    _bound(client)
    return client


def _bound(client: Any) -> None:
    """Set a timeout for opening and ending sessions, since a server that hangs never answers."""
    communicator = client.getCommunicator()
    router = communicator.getDefaultRouter().ice_invocationTimeout(int(ANSWER * 1000))
    communicator.setDefaultRouter(Ice.RouterPrx.uncheckedCast(router))


def _gateway(server: Server, client: Any, own: bool) -> BlitzGateway:
    if not server.secure:
        client = _unencrypted(server, client, own)
    client.enableKeepAlive(KEEP_ALIVE)
    return BlitzGateway(client_obj=client)


def _unencrypted(server: Server, client: Any, own: bool) -> Any:
    """A client for the same session on the server's unencrypted port; the first client is closed."""
    with _reporting(_UNENCRYPTED, client, server):
        offered = client.getSession().getConfigService().getConfigValue("omero.router.insecure")
        plain = client.createClient(secure=False) if offered else None
        if plain is not None and not own:
            plain.getSession().detachOnDestroy()
    if plain is None:
        leave(client)
        raise ConnectError(f"{server.address} offers no unencrypted connection: leave omero: secure at true")
    leave(client)
    return plain


def _reason(error: BaseException) -> str:
    text = " ".join((getattr(error, "reason", None) or getattr(error, "message", None) or "").split())
    return f"{type(error).__name__}{f': {text}' if text else ''}"
