"""How a class becomes a service.

A service class implements one Slice interface. Its methods have the names of the interface's operations, and take the
Context of the call before the arguments of the operation. A call to an operation without a method is refused as
unsupported.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import import_module
from typing import Protocol, TypeVar

import Ice
import omero.sys

from omero_embedded.kernel import Kernel
from omero_embedded.model.access import Context
from omero_embedded.people.event_context import event_context
from omero_embedded.people.sessions import Session

# The modules of the services by interface. Each is imported when a client first asks for its service, because some need
# large libraries.
MODULES = {
    "::omero::api::IAdmin": "admin",
    "::omero::api::IConfig": "config",
    "::omero::api::IContainer": "containers",
    "::omero::api::Exporter": "exporter",
    "::omero::api::ILdap": "ldap",
    "::omero::api::IMetadata": "metadata",
    "::omero::api::JobHandle": "jobs",
    "::omero::api::IPixels": "pixels",
    "::omero::api::IProjection": "projection",
    "::omero::api::IQuery": "query",
    "::omero::api::RawFileStore": "rawfiles",
    "::omero::api::RawPixelsStore": "rawpixels",
    "::omero::api::RenderingEngine": "rendering",
    "::omero::api::IRenderingSettings": "rendersettings",
    "::omero::api::IRepositoryInfo": "repository",
    "::omero::grid::SharedResources": "resources",
    "::omero::api::IRoi": "rois",
    "::omero::api::IScript": "scripts",
    "::omero::api::Search": "search",
    "::omero::api::ISession": "sessions",
    "::omero::api::IShare": "shares",
    "::omero::grid::Table": "tables",
    "::omero::api::ThumbnailStore": "thumbnails",
    "::omero::api::ITimeline": "timeline",
    "::omero::api::ITypes": "types",
    "::omero::api::IUpdate": "update",
}
_SERVICES: dict[str, type] = {}
Class = TypeVar("Class", bound=type)


def service(interface: str) -> Callable[[Class], Class]:
    """Register the decorated class as the service of an interface."""

    def register(cls: Class) -> Class:
        _SERVICES[interface] = cls
        cls.interface = interface  # type: ignore[attr-defined]
        return cls

    return register


def service_class(interface: str) -> type | None:
    """Return the service of an interface, or None if there is none."""
    if interface not in MODULES:
        return None
    import_module(f"omero_embedded.services.{MODULES[interface]}")
    return _SERVICES[interface]


class Host(Protocol):
    """The client that a service works for, as far as the service knows it."""

    def serve(self, service: StatefulService) -> Ice.ObjectPrx:
        """Serve one more service to the client, until it is closed or the client is gone."""


class StatefulService:
    """Base of the services that keep something open for one client, such as RawPixelsStore."""

    interface: str

    def __init__(self, kernel: Kernel, session: Session):
        self.kernel, self.session = kernel, session
        self.turn = threading.RLock()  # one call at a time, and none during a release
        self.failed = False  # a call ended with an error, so what it left undone must not be saved
        self.forget: Callable[[], None] = lambda: None  # set by the client: takes the servant away

    def release(self, ctx: Context | None) -> None:
        """Finish and close what is open. It is called once; ctx is None if the client left without a close."""

    def close(self, ctx: Context) -> None:
        try:
            self.release(ctx)
        finally:
            self.forget()

    def abandon(self) -> None:
        """Release everything after the running call, because the client is gone."""
        with self.turn:
            self.release(None)

    def activate(self, ctx: Context) -> None:
        """Do nothing: this is for the server's own use in OMERO."""

    def passivate(self, ctx: Context) -> None:
        """Do nothing: this is for the server's own use in OMERO."""

    def getCurrentEventContext(self, ctx: Context) -> omero.sys.EventContext:
        return event_context(self.kernel.store, self.kernel.accounts, self.session, ctx)
