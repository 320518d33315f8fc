"""Ice servants made of service classes.

A service class implements one Slice interface; its methods have the operations' names and take the call's Context
before the operation's arguments. What it lacks is answered with "unsupported".
"""
from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

import Ice
import omero

from omero_embedded.errors import refuse
from omero_embedded.model import slice_tables

if TYPE_CHECKING:
    from omero_embedded.ice.server import Server
    from omero_embedded.model.access import Context
    from omero_embedded.people.sessions import Session

log = logging.getLogger(__name__)

# Module of embedded/services by interface; an interface without one has a servant that supports nothing.
MODULES = {
    "IAdmin": "admin", "IConfig": "config", "IContainer": "containers", "IMetadata": "metadata", "IPixels": "pixels",
    "IQuery": "query", "IRenderingSettings": "rendersettings", "IRepositoryInfo": "repository", "IRoi": "rois",
    "IScript": "scripts", "ISession": "sessions", "IShare": "shares", "ITimeline": "timeline", "ITypes": "types",
    "IUpdate": "update", "Exporter": "exporter", "RawFileStore": "rawfiles", "RawPixelsStore": "rawpixels",
    "RenderingEngine": "rendering", "Search": "search", "SharedResources": "resources", "Table": "tables",
    "ThumbnailStore": "thumbnails",
}


class StatefulService:
    """What RawPixelsStore, RawFileStore and their like share. `release` is called once: at close or at the end."""

    interface: str

    def __init__(self, server: Server, session: Session):
        self.server, self.session = server, session
        self.turn = threading.RLock()  # one call at a time, and none while it is released
        self.failed = False  # a call has ended with an error: what it left undone must not be saved
        self.forget: Callable[[], None] = lambda: None  # set by the session factory: takes the servant away

    def release(self, ctx: Context | None) -> None:
        """Finish what is open; ctx is None when the client went away without a close."""

    def close(self, ctx: Context) -> None:
        try:
            self.release(ctx)
        finally:
            self.forget()

    def abandon(self) -> None:
        """The client is gone: let go of what is open, once the call that is running is through."""
        with self.turn:
            self.release(None)

    def activate(self, ctx: Context) -> None:
        """Part of the interface, for the server's own use in OMERO."""

    def passivate(self, ctx: Context) -> None:
        """Part of the interface, for the server's own use in OMERO."""

    def getCurrentEventContext(self, ctx: Context):
        from omero_embedded.services.admin import event_context
        return event_context(self.server, self.session, ctx)


@cache
def service_class(interface: str) -> type | None:
    """The class that implements `::omero::api::IQuery`, found in its module; None where there is none."""
    module = MODULES.get(interface.rpartition("::")[2])
    if module is None:
        return None
    found = importlib.import_module(f"omero_embedded.services.{module}")
    return next(one for one in vars(found).values()
                if isinstance(one, type) and vars(one).get("interface") == interface)


@cache
def operations(interface: str) -> dict[str, tuple[bool, bool]]:
    """All operations, own and inherited, as (is "amd", returns nothing)."""
    described = slice_tables.tables().classes[interface]
    found = {name: (amd, name in described.void) for name, amd in described.operations.items()}
    for parent in described.interfaces:
        if parent in slice_tables.tables().classes:
            found = {**operations(parent), **found}
    return found


@cache
def _servant_class(interface: str) -> type:
    members: dict[str, Callable] = {}
    for name, (amd, void) in operations(interface).items():
        members[f"{name}_async" if amd else name] = _amd(name, void) if amd else _plain(name)
    base: Any = omero
    for part in interface.split("::")[2:]:
        base = getattr(base, part)
    return type(interface.rpartition("::")[2] + "Servant", (base,), members)


def _amd(name: str, void: bool) -> Callable:
    def method(self, cb, *args):
        try:
            value = self.answer(name, args[:-1], args[-1])
            if void:
                cb.ice_response()
            else:
                cb.ice_response(value)
        except (omero.ServerError, Ice.Exception) as refused:
            cb.ice_exception(refused)
        except Exception as broken:  # an answer that can't be sent
            cb.ice_exception(internal(broken, f"The answer of {name} can't be sent"))
    return method


def _plain(name: str) -> Callable:
    def method(self, *args):
        return self.answer(name, args[:-1], args[-1])
    return method


def internal(broken: Exception, what: str) -> omero.ServerError:
    """The error for something that should not have happened; the traceback goes to the log."""
    log.error(what, exc_info=broken)
    return refuse(omero.InternalException, f"{what}: {type(broken).__name__}: {broken}")


def make_servant(server: Server, session: Session, interface: str) -> tuple[Ice.Object, object]:
    """A servant for a session, and the service that it stands for (None where the interface is not supported)."""
    implementation = service_class(interface)
    service = implementation(server, session) if implementation else None
    servant = _servant_class(interface)()

    def answer(name: str, args: tuple, current: Ice.Current):
        session.touch()
        method = getattr(service, name, None)
        if method is None:
            raise refuse(omero.ApiUsageException, f"{interface[2:].replace('::', '.')}.{name} is unsupported here.")
        turn = service.turn if isinstance(service, StatefulService) else nullcontext()
        try:
            with turn:
                return method(server.sessions.context(session, current.ctx), *args)
        except Exception as refused:
            if isinstance(service, StatefulService):
                service.failed = True
            if isinstance(refused, omero.ServerError | Ice.Exception):
                raise
            raise internal(refused, f"{name} failed") from refused

    servant.answer = answer
    return servant, service


def over_connection(proxy: Ice.ObjectPrx, current: Ice.Current) -> Ice.ObjectPrx:
    """A client's callback as it can be reached: through the connection that the client made."""
    return current.con.createProxy(proxy.ice_getIdentity())
