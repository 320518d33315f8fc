"""Who is connected: the clients of each session, and what is served for each of them."""

from __future__ import annotations

import logging
import threading
import uuid as uuids

import Ice
import omero

from omero_embedded.errors import refuse
from omero_embedded.ice.dispatch import make_servant
from omero_embedded.kernel import Kernel
from omero_embedded.people.sessions import Session
from omero_embedded.services.registry import StatefulService, service_class

log = logging.getLogger(__name__)
MOST_SERVICES = 10_000  # of a client: omero.throttling.servants_per_session


class Clients:
    """The clients of all sessions, and the adapter that their servants are added to."""

    def __init__(self, kernel: Kernel, adapter: Ice.ObjectAdapter):
        self.kernel, self.adapter = kernel, adapter
        self._of: dict[str, list[Client]] = {}  # by the session's uuid
        self._lock = threading.Lock()
        kernel.sessions.on_end = self._dismiss

    def enter(self, client: Client, factory: Ice.Object) -> Ice.ObjectPrx:
        """Serve a session's factory to a new client, and return the factory's proxy."""
        with self._lock:
            self._of.setdefault(client.session.uuid, []).append(client)
        return omero.api.ServiceFactoryPrx.uncheckedCast(self.adapter.add(factory, client.identity))

    def leave(self, client: Client) -> None:
        """Let go of a client that has logged out or disappeared."""
        with self._lock:
            of_session = self._of.get(client.session.uuid, [])
            if client not in of_session:
                return
            of_session.remove(client)
        client.leave()
        self.kernel.sessions.release(client.session, client.closes_session)

    def of(self, session: Session) -> list[Client]:
        """The clients of a session."""
        with self._lock:
            return list(self._of.get(session.uuid, []))

    def withdraw(self, identity: Ice.Identity) -> None:
        """Take a servant away, unless the server is stopping and has taken away all of them."""
        try:
            self.adapter.remove(identity)
        except (Ice.NotRegisteredException, Ice.ObjectAdapterDeactivatedException):
            pass

    def _dismiss(self, session: Session) -> None:
        """Let go of all clients of a session that has ended."""
        with self._lock:
            clients = self._of.pop(session.uuid, [])
        for client in clients:
            client.leave()


class Client:
    """One client of a session: its servants, and whether the session ends with it."""

    def __init__(self, clients: Clients, session: Session, uuid: str):
        self.clients, self.session, self.uuid = clients, session, uuid
        self.closes_session = True
        self.services: dict[str, object] = {}  # by the name in the servant's identity
        self._left = False
        self._lock = threading.RLock()
        self.identity = Ice.Identity(session.uuid, f"session-{uuid}")

    def service(self, interface: str, stateful: bool) -> Ice.ObjectPrx:
        """Return a stateless service's one proxy, or the proxy of a new stateful service."""
        if stateful:
            return self._serve(interface, self._make(interface), str(uuids.uuid4()))
        with self._lock:
            if self.uuid + _dotted(interface) in self.services:
                return self.proxy(self.uuid + _dotted(interface))
            return self._serve(interface, self._make(interface), self.uuid)

    def serve(self, service: StatefulService) -> Ice.ObjectPrx:
        """Serve one more service until it is closed or the client is gone."""
        return self._serve(service.interface, service, str(uuids.uuid4()))

    def _make(self, interface: str) -> object:
        cls = service_class(interface)
        service = cls(self.clients.kernel, self.session) if cls else None
        if service is not None:
            service.client = self  # for a service that serves further ones
        return service

    def _serve(self, interface: str, service: object, uuid: str) -> Ice.ObjectPrx:
        name = uuid + _dotted(interface)
        if isinstance(service, StatefulService):
            service.forget = lambda: self.forget(name)
        servant = make_servant(self.clients.kernel, self.session, interface, service, lambda: self._left)
        self.add(servant, name, service)
        return self.proxy(name)

    def add(self, servant: Ice.Object, name: str, service: object = None) -> None:
        """Serve a servant until `forget` is called or the client is gone.

        Parameters
        ----------
        servant
            What answers the calls.
        name
            A uuid and the Slice class, as in ``<uuid>omero.api.IQuery``.
        service
            The service behind the servant, if there is one.
        """
        with self._lock:
            if self._left:
                raise Ice.ObjectNotExistException()
            if len(self.services) >= MOST_SERVICES:
                log.warning(
                    "refused a service to user %s, whose client has %d already", self.session.user_name, MOST_SERVICES
                )
                raise refuse(omero.OverUsageException, f"A client can have {MOST_SERVICES} services: close some.")
            self.services[name] = service
            self.clients.adapter.add(servant, self._identity(name))

    def forget(self, name: str) -> None:
        """Take a servant away."""
        with self._lock:
            if self.services.pop(name, self) is not self:
                self.clients.withdraw(self._identity(name))

    def proxy(self, name: str) -> Ice.ObjectPrx:
        """Return the proxy of a servant, of the type that its interface has."""
        module, kind = name[36:].split(".")[1:]
        made = self.clients.adapter.createProxy(self._identity(name))
        return getattr(getattr(omero, module), kind + "Prx").uncheckedCast(made)

    def leave(self) -> None:
        """Take away everything that was served for this client."""
        with self._lock:
            self._left = True
            services = list(self.services.items())
        for name, service in services:  # without the lock, which a running call may need to finish
            if isinstance(service, StatefulService):
                try:
                    service.abandon()
                except Exception:
                    log.exception("Could not release %s", name[36:])
            self.forget(name)
        self.clients.withdraw(self.identity)

    def _identity(self, name: str) -> Ice.Identity:
        return Ice.Identity(name, self.session.uuid)


def _dotted(interface: str) -> str:
    """`omero.api.IQuery` for `::omero::api::IQuery`."""
    return interface[2:].replace("::", ".")
