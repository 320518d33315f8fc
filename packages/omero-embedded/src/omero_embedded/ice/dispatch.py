"""Ice servants made of services."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from typing import Any

import Ice
import omero

from omero_embedded import limits
from omero_embedded.errors import refuse, unsupported
from omero_embedded.ice.calls import internal
from omero_embedded.kernel import Kernel
from omero_embedded.model import slice_tables
from omero_embedded.people.sessions import Session
from omero_embedded.services.registry import StatefulService

log = logging.getLogger(__name__)
API = "::omero::api::"


@cache
def operations(interface: str) -> dict[str, tuple[bool, bool]]:
    """All operations, own and inherited, as (is "amd", returns nothing)."""
    described = slice_tables.tables().classes[interface]
    found = {name: (amd, name in described.void) for name, amd in described.operations.items()}
    for parent in described.interfaces:
        if parent in slice_tables.tables().classes:
            found = {**operations(parent), **found}
    return found


def is_stateful(interface: str) -> bool:
    """Whether every client that asks for the service gets a new one."""
    parents = slice_tables.tables().classes[interface].interfaces
    return f"{API}StatefulServiceInterface" in parents or any(
        is_stateful(parent) for parent in parents if parent in slice_tables.tables().classes
    )


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


def make_servant(
    kernel: Kernel, session: Session, interface: str, service: object, has_left: Callable[[], bool]
) -> Ice.Object:
    """Make the servant that passes a session's calls to a service.

    Parameters
    ----------
    service
        None is a service without any operation.
    has_left
        Whether the client is gone; then its queries end.
    """
    servant = _servant_class(interface)()

    def answer(name: str, args: tuple, current: Ice.Current):
        session.touch()
        method = getattr(service, name, None)
        if method is None:
            raise unsupported(f"{interface[2:].replace('::', '.')}.{name}")
        turn = service.turn if isinstance(service, StatefulService) else nullcontext()
        call = limits.LimitedCall(kernel.query_seconds, has_left)
        try:
            with turn, limits.running(call):
                return method(kernel.sessions.context(session, current.ctx), *args)
        except Exception as refused:
            if isinstance(service, StatefulService):
                service.failed = True
            if call.stopped:
                log.warning("%s of user %s: %s", name, session.user_name, call.stopped)
                raise refuse(omero.OverUsageException, call.stopped) from None
            if isinstance(refused, omero.ServerError | Ice.Exception):
                raise
            raise internal(refused, f"{name} failed") from refused

    servant.answer = answer
    return servant
