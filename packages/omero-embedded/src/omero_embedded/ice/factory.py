"""A client's session: the servant that hands out the services, and starts requests."""

from __future__ import annotations

import re
import uuid as uuids
from collections.abc import Callable
from functools import cache

import omero
import omero.cmd

from omero_embedded.errors import refuse
from omero_embedded.ice.calls import internal
from omero_embedded.ice.clients import Client
from omero_embedded.ice.dispatch import API, is_stateful, operations
from omero_embedded.ice.handle import Handle
from omero_embedded.model import slice_tables
from omero_embedded.model.loading import Loader
from omero_embedded.people.sessions import LoginRefused
from omero_embedded.requests.work import answer
from omero_embedded.services.registry import StatefulService


class ServiceFactory(omero.api.ServiceFactory):
    """What `client.getSession()` talks to."""

    def __init__(self, client: Client):
        self.client, self.clients, self.session = client, client.clients, client.session
        self.kernel = client.clients.kernel

    def getByName(self, name, current=None):
        self.session.touch()
        if name in offered() and not is_stateful(offered()[name]):
            return self.client.service(offered()[name], stateful=False)
        for client in self.clients.of(self.session):
            if name in client.services:
                return client.proxy(name)
        raise refuse(omero.ApiUsageException, f"There is no service named {name}.")

    def createByName(self, name, current=None):
        self.session.touch()
        if name not in offered():
            raise refuse(omero.ApiUsageException, f"There is no service named {name}.")
        made = self.client.service(offered()[name], is_stateful(offered()[name]))
        return omero.api.StatefulServiceInterfacePrx.uncheckedCast(made)  # as the interface declares

    def sharedResources(self, current=None):
        return self.getByName("omero.grid.SharedResources", current)

    def submit_async(self, cb, request, current=None):
        try:
            self.session.touch()
            ctx = self.kernel.sessions.context(self.session, current.ctx)
            handle = Handle(request)
            handle.start(lambda: answer(self.kernel, self.session, ctx, request))
            name = f"{uuids.uuid4()}omero.cmd.Handle"
            handle.forget = lambda: self.client.forget(name)
            self.client.add(handle, name)
            cb.ice_response(self.client.proxy(name))
        except omero.ServerError as refused:
            cb.ice_exception(refused)
        except Exception as broken:
            cb.ice_exception(internal(broken, "The request could not be started"))

    def activeServices(self, current=None):
        return [name for client in self.clients.of(self.session) for name in client.services]

    def keepAlive(self, proxy, current=None):
        self.session.touch()
        return proxy is None or proxy.ice_getIdentity().name in self.activeServices()

    def keepAllAlive(self, proxies, current=None):
        """Return a number whose bit i is set if proxy i is not alive."""
        self.session.touch()
        return sum(1 << i for i, proxy in enumerate(proxies) if not self.keepAlive(proxy, current))

    def getSecurityContexts(self, current=None):
        ctx = self.kernel.sessions.context(self.session, current.ctx)
        account = self.kernel.accounts.get(self.session.user)
        with self.kernel.store.read() as connection:
            loaded = Loader(connection, ctx).get(self.kernel.schema["ExperimenterGroup"], account.groups)
        return [loaded[group] for group in account.groups if group in loaded]

    def setSecurityContext(self, context, current=None):
        self.session.touch()
        if not isinstance(context, omero.model.ExperimenterGroup) or context.id is None:
            raise refuse(omero.ApiUsageException, "A session's context can be set to a group only.")
        group = context.id.val
        if any(
            isinstance(service, StatefulService)
            for client in self.clients.of(self.session)
            for service in client.services.values()
        ):
            raise refuse(omero.SecurityViolation, "Close all stateful services before changing the group.")
        try:
            self.kernel.sessions.context(self.session, {"omero.group": str(group)})
        except omero.ValidationException as missing:  # what isn't there is refused as what is another's
            raise refuse(omero.SecurityViolation, missing.message) from None
        old, self.session.group = self.session.group, group
        return omero.model.ExperimenterGroupI(old, False)

    def setSecurityPassword(self, password, current=None):
        try:
            name = self.kernel.accounts.get(self.session.user).name  # it may have changed
            self.kernel.sessions.verify(name, password, self.session.as_guesser)
        except LoginRefused as reason:
            raise refuse(omero.SecurityViolation, str(reason)) from None
        self.session.by_password = True

    def setCallback(self, callback, current=None):
        """Do nothing: clients learn from their next call that the session has ended."""

    def subscribe(self, topic, proxy, current=None):
        """Do nothing: there are no topics."""

    def closeOnDestroy(self, current=None):
        self.client.closes_session = True

    def detachOnDestroy(self, current=None):
        self.client.closes_session = False

    def destroy(self, current=None):
        self.clients.leave(self.client)


def make_factory(client: Client) -> ServiceFactory:
    """Make the servant of a client's session."""
    return _factory_class()(client)


@cache
def _factory_class() -> type[ServiceFactory]:
    """ServiceFactory with an accessor for every service, such as `getQueryService` and `createRawPixelsStore`."""
    return type(
        "ServiceFactoryServant",
        (ServiceFactory,),
        {name: _accessor(interface) for name, interface in _accessors().items()},
    )


def _accessor(interface: str) -> Callable:
    def method(self, current=None):
        self.session.touch()
        return self.client.service(interface, is_stateful(interface))

    return method


@cache
def _accessors() -> dict[str, str]:
    """The interface that each accessor of OMERO's ServiceFactory gives, by the accessor's name."""
    found = {}
    for name in operations(f"{API}ServiceFactory"):
        named = re.fullmatch(r"(get|create)(\w+?)(?:Service)?", name)
        interface = named and f"{API}{'I' if named[1] == 'get' else ''}{named[2]}"
        if interface in slice_tables.tables().classes:
            found[name] = interface
    return found


@cache
def offered() -> dict[str, str]:
    """The interfaces that `getByName` and `createByName` know, by names such as `omero.api.IQuery`."""
    interfaces = [*_accessors().values(), "::omero::grid::SharedResources"]
    return {interface[2:].replace("::", "."): interface for interface in interfaces}
