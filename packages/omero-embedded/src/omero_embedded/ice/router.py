"""The Glacier2 router that clients connect to: it logs them in, and notices when they disappear."""

from __future__ import annotations

import logging
import re
import threading
import uuid as uuids

import Glacier2
import Ice
import omero

from omero_embedded.ice.calls import internal
from omero_embedded.ice.clients import Client, Clients
from omero_embedded.ice.endpoint import CONNECTION_TIMEOUT
from omero_embedded.ice.factory import make_factory
from omero_embedded.people.sessions import LoginRefused

log = logging.getLogger(__name__)
IDENTITY = Ice.Identity("router", "OMERO.Glacier2")
SERVER = "OMERO.Glacier2/server:tcp -h 127.0.0.1 -p 1"


class _Watch(Ice.ConnectionCallback):
    """Tells the router that a connection was closed, or that its client was killed."""

    def __init__(self, router: Router, key: str):
        self.router, self.key = router, key

    def heartbeat(self, connection):
        pass

    def closed(self, connection):
        self.router.gone(self.key)


class Router(Glacier2.Router):
    """One client per connection."""

    def __init__(self, clients: Clients):
        self.clients, self.sessions = clients, clients.kernel.sessions
        self._clients: dict[str, Client | None] = {}  # by connection; None during the login
        self._lock = threading.Lock()

    def createSession_async(self, cb, name, password, current=None):
        key = current.con.toString()
        with self._lock:
            busy = key in self._clients
            if not busy:
                self._clients[key] = None
        if busy:
            cb.ice_exception(Glacier2.CannotCreateSessionException("This connection has a session already."))
            return
        try:
            cb.ice_response(self._login(key, name, password, current))
        except Exception as refused:
            with self._lock:
                self._clients.pop(key, None)
            cb.ice_exception(_as_login_error(refused))

    def createSessionFromSecureConnection_async(self, cb, current=None):
        cb.ice_exception(Glacier2.PermissionDeniedException("Log in with a name and a password."))

    def _login(self, key: str, name: str, password: str, current: Ice.Current) -> Ice.ObjectPrx:
        asked = current.ctx
        session = self.sessions.login(
            name,
            password,
            _address(current),
            group=asked.get("omero.group", ""),
            event_type=asked.get("omero.event", "User"),
            agent=asked.get("omero.agent"),
            ip=asked.get("omero.ip"),
        )
        self.sessions.attach(session)
        client = Client(self.clients, session, asked.get("omero.client.uuid") or str(uuids.uuid4()))
        proxy = self.clients.enter(client, make_factory(client))
        with self._lock:
            self._clients[key] = client
        current.con.setCallback(_Watch(self, key))
        return proxy

    def gone(self, key: str) -> bool:
        """Let go of the client of a connection that has ended; return whether there was one."""
        with self._lock:
            client = self._clients.pop(key, None)
        if client is not None:
            self.clients.leave(client)
        return client is not None

    def destroySession(self, current=None):
        if not self.gone(current.con.toString()):
            raise Glacier2.SessionNotExistException()

    def refreshSession_async(self, cb, current=None):
        client = self._clients.get(current.con.toString())
        if client is None:
            cb.ice_exception(Glacier2.SessionNotExistException())
            return
        client.session.touch()
        cb.ice_response()

    def getSessionTimeout(self, current=None):
        return CONNECTION_TIMEOUT

    def getACMTimeout(self, current=None):
        return CONNECTION_TIMEOUT

    def getCategoryForClient(self, current=None):
        return "client-" + str(uuids.uuid5(uuids.NAMESPACE_OID, current.con.toString()))

    def getClientProxy(self, current=None):
        return None  # clients keep using the router's own endpoints

    def getServerProxy(self, current=None):
        """Return a proxy whose endpoint clients publish for their callbacks.

        It must not be the router's public endpoint. Ice for Java takes every proxy with an endpoint of one of its own
        adapters for an object in its own process, so it would look for its session there. Callbacks come through the
        client's connection, and nothing listens on this endpoint.
        """
        return current.adapter.getCommunicator().stringToProxy(SERVER)

    def addProxies(self, proxies, current=None):
        return []


def _address(current: Ice.Current) -> str:
    """The address of a client, without its port."""
    found = re.search(r"remote address = (\S+):\d+", current.con.toString())
    return found[1] if found else "?"


def _as_login_error(refused: Exception) -> Exception:
    if isinstance(refused, LoginRefused):
        return Glacier2.PermissionDeniedException(str(refused))
    if isinstance(refused, omero.ServerError):
        kind = type(refused).__name__
        return omero.WrappedCreateSessionException(refused.message, False, f"ome.conditions.{kind}")
    return Glacier2.CannotCreateSessionException(internal(refused, "The login failed").message)
