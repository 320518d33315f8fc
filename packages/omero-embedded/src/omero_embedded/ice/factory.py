"""A client's session: hands out the services, keeps what is open for that client, and lets go of it at the end."""
from __future__ import annotations

import logging
import threading
import uuid as uuids
from typing import TYPE_CHECKING

import Ice
import omero
import omero.cmd

from omero_embedded.errors import refuse
from omero_embedded.ice.commands import submit
from omero_embedded.ice.dispatch import StatefulService, internal, make_servant
from omero_embedded.model.loading import Loader
from omero_embedded.people.passwords import is_password
from omero_embedded.people.sessions import Session

if TYPE_CHECKING:
    from omero_embedded.ice.server import Server

log = logging.getLogger(__name__)
STATELESS = ("IAdmin", "IConfig", "IContainer", "ILdap", "IMetadata", "IPixels", "IProjection", "IQuery",
             "IRenderingSettings", "IRepositoryInfo", "IRoi", "IScript", "ISession", "IShare", "ITimeline", "ITypes",
             "IUpdate")
STATEFUL = ("Exporter", "JobHandle", "RawFileStore", "RawPixelsStore", "RenderingEngine", "Search", "ThumbnailStore")
MOST_SERVICES = 10_000  # of a client: omero.throttling.servants_per_session
INTERFACES = {f"omero.api.{name}": f"::omero::api::{name}" for name in STATELESS + STATEFUL}
INTERFACES["omero.grid.SharedResources"] = "::omero::grid::SharedResources"


class Client:
    """One client of a session: its servants, and what its leaving means for the session."""

    def __init__(self, server: Server, session: Session, uuid: str):
        self.server, self.session, self.uuid = server, session, uuid
        self.closes_session = True
        self.services: dict[str, object] = {}  # by the name in the servant's identity
        self._left = False
        self._lock = threading.RLock()
        self.identity = Ice.Identity(session.uuid, f"session-{uuid}")

    def open(self) -> Ice.ObjectPrx:
        """The proxy of the service factory."""
        return omero.api.ServiceFactoryPrx.uncheckedCast(self.server.adapter.add(ServiceFactory(self), self.identity))

    def service(self, interface: str, stateful: bool) -> Ice.ObjectPrx:
        """A stateless service's one proxy, or a stateful service's new one."""
        short = interface[2:].replace("::", ".")
        name = (str(uuids.uuid4()) if stateful else self.uuid) + short
        with self._lock:
            if name not in self.services:
                servant, service = make_servant(self.server, self.session, interface)
                if hasattr(service, "client"):  # one that serves more to this client
                    service.client = self
                if isinstance(service, StatefulService):
                    service.forget = lambda: self.forget(name)
                self.add(servant, name, service)
            return self.proxy(name)

    def add(self, servant: Ice.Object, name: str, service: object = None) -> None:
        """Serve something for as long as this client is there, or until `forget`.

        name : a uuid and the Slice class, as in "<uuid>omero.api.IQuery".
        """
        with self._lock:
            if self._left:
                raise Ice.ObjectNotExistException()
            if len(self.services) >= MOST_SERVICES:
                log.warning("refused a service to user %s, whose client has %d already", self.session.user_name,
                            MOST_SERVICES)
                raise refuse(omero.OverUsageException, f"A client has {MOST_SERVICES} services at most: close some.")
            self.services[name] = service
            self.server.adapter.add(servant, self._identity(name))

    def forget(self, name: str) -> None:
        with self._lock:
            if self.services.pop(name, self) is not self:
                self.server.withdraw(self._identity(name))

    def proxy(self, name: str) -> Ice.ObjectPrx:
        """A service's proxy, of the type that its interface has."""
        module, kind = name[36:].split(".")[1:]
        made = self.server.adapter.createProxy(self._identity(name))
        return getattr(getattr(omero, module), kind + "Prx").uncheckedCast(made)

    def leave(self) -> None:
        """Take away everything that was served for this client."""
        with self._lock:
            self._left = True
            services = list(self.services.items())
        for name, service in services:  # without the lock: a call that is running may want it to end
            if isinstance(service, StatefulService):
                try:
                    service.abandon()
                except Exception:
                    log.exception("Could not release %s", name[36:])
            self.forget(name)
        self.server.withdraw(self.identity)

    def _identity(self, name: str) -> Ice.Identity:
        return Ice.Identity(name, self.session.uuid)


class ServiceFactory(omero.api.ServiceFactory):
    """What `client.getSession()` talks to."""

    def __init__(self, client: Client):
        self.client, self.server, self.session = client, client.server, client.session

    def getByName(self, name, current=None):
        self.session.touch()
        if name in INTERFACES and name.rpartition(".")[2] not in STATEFUL:
            return self.client.service(INTERFACES[name], stateful=False)
        for client in self.server.clients(self.session):
            if name in client.services:
                return client.proxy(name)
        raise refuse(omero.ApiUsageException, f"There is no service named {name}.")

    def createByName(self, name, current=None):
        self.session.touch()
        if name not in INTERFACES:
            raise refuse(omero.ApiUsageException, f"There is no service named {name}.")
        made = self.client.service(INTERFACES[name], stateful=name.rpartition(".")[2] in STATEFUL)
        return omero.api.StatefulServiceInterfacePrx.uncheckedCast(made)  # as declared, stateless ones too

    def sharedResources(self, current=None):
        return self.getByName("omero.grid.SharedResources", current)

    def submit_async(self, cb, request, current=None):
        try:
            self.session.touch()
            ctx = self.server.sessions.context(self.session, current.ctx)
            servant = submit(self.server, self.session, ctx, request)
            name = f"{uuids.uuid4()}omero.cmd.Handle"
            servant.forget = lambda: self.client.forget(name)
            self.client.add(servant, name)
            cb.ice_response(self.client.proxy(name))
        except omero.ServerError as refused:
            cb.ice_exception(refused)
        except Exception as broken:
            cb.ice_exception(internal(broken, "The request could not be started"))

    def activeServices(self, current=None):
        return [name for client in self.server.clients(self.session) for name in client.services]

    def keepAlive(self, proxy, current=None):
        self.session.touch()
        return proxy is None or proxy.ice_getIdentity().name in self.activeServices()

    def keepAllAlive(self, proxies, current=None):
        """Bit i is set where proxy i is not alive."""
        self.session.touch()
        return sum(1 << i for i, proxy in enumerate(proxies) if not self.keepAlive(proxy, current))

    def getSecurityContexts(self, current=None):
        ctx = self.server.sessions.context(self.session, current.ctx)
        account = self.server.accounts.get(self.session.user)
        with self.server.store.read() as connection:
            loaded = Loader(connection, ctx).get(self.server.schema["ExperimenterGroup"], account.groups)
        return [loaded[group] for group in account.groups if group in loaded]

    def setSecurityContext(self, context, current=None):
        self.session.touch()
        if not isinstance(context, omero.model.ExperimenterGroup) or context.id is None:
            raise refuse(omero.ApiUsageException, "A session's context can be set to a group only.")
        group = context.id.val
        if any(isinstance(service, StatefulService) for client in self.server.clients(self.session)
               for service in client.services.values()):
            raise refuse(omero.SecurityViolation, "Close all stateful services before changing the group.")
        self.server.sessions.context(self.session, {"omero.group": str(group)})
        old, self.session.group = self.session.group, group
        return omero.model.ExperimenterGroupI(old, False)

    def setSecurityPassword(self, password, current=None):
        with self.server.store.read() as connection:
            if not is_password(connection, self.session.user, password):
                raise refuse(omero.SecurityViolation, "Wrong password.")
        self.session.by_password = True

    def setCallback(self, callback, current=None):
        """Clients offer to be told of the session's end; the next call tells them."""

    def subscribe(self, topic, proxy, current=None):
        """There are no topics."""

    def closeOnDestroy(self, current=None):
        self.client.closes_session = True

    def detachOnDestroy(self, current=None):
        self.client.closes_session = False

    def destroy(self, current=None):
        self.server.leave(self.client)


def _accessor(interface: str, stateful: bool):
    def method(self, current=None):
        self.session.touch()
        return self.client.service(interface, stateful)
    return method


for _name in STATELESS:
    setattr(ServiceFactory, f"get{_name.removeprefix('I')}Service", _accessor(f"::omero::api::{_name}", False))
for _name in STATEFUL:
    _method = "createSearchService" if _name == "Search" else f"create{_name}"
    setattr(ServiceFactory, _method, _accessor(f"::omero::api::{_name}", True))
