"""The calls that all modules here make: queries, saves and deletions, each in the group of what it works on.

The services are used as the session hands them out. `BlitzGateway`'s own wrappers ask the server before every call
whether it is alive, and print a traceback for every error that the server answers with.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import omero
import omero.callbacks
import omero.clients
from omero.cmd import Delete2
from omero.cmd.graphs import ChildOption
from omero.gateway import BlitzGateway
from omero.rtypes import rlist, rlong, rstring, unwrap
from omero.sys import ParametersI

from openhcs_omero.errors import OpenHCSError, RightsError

ALL_GROUPS = -1
IDS = 10_000  # in one call
DELETION_TIMEOUT = 600  # seconds

_known: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()


class DeletionRefused(OpenHCSError):
    """OMERO did not delete, and nothing was deleted."""


def service(conn: BlitzGateway, accessor: str) -> Any:
    """A stateless service of the session, `accessor` being its method, as "getQueryService"; asked for once."""
    services = _known.setdefault(conn.c, {})
    if accessor not in services:
        services[accessor] = getattr(conn.c.sf, accessor)()
    return services[accessor]


def context(conn: BlitzGateway, group_id: int) -> dict[str, str]:
    """What a call carries to be made in a group; -1 reads from all groups."""
    options = conn.SERVICE_OPTS.copy()
    options.setOmeroGroup(str(group_id))
    return options


def current_group(conn: BlitzGateway) -> int:
    """The group that new objects go to: that of the connection's options, else the session's own."""
    chosen = conn.SERVICE_OPTS.getOmeroGroup()
    return int(chosen) if chosen and int(chosen) >= 0 else conn.getEventContext().groupId


def query(conn: BlitzGateway) -> Any:
    return service(conn, "getQueryService")


def update(conn: BlitzGateway) -> Any:
    return service(conn, "getUpdateService")


def parameters(**values: Any) -> ParametersI:
    """Query parameters: an int is an id (a long), a str a text, a list a list of ids; others as they are."""
    made = ParametersI()
    for name, value in values.items():
        if isinstance(value, omero.RType):
            made.add(name, value)
        elif isinstance(value, str):
            made.add(name, rstring(value))
        elif isinstance(value, list):
            made.add(name, rlist([rlong(item) for item in value]))
        else:
            made.add(name, rlong(value))
    return made


def rows(conn: BlitzGateway, hql: str, group_id: int = ALL_GROUPS, **values: Any) -> list[list[Any]]:
    """A projection's rows as plain values, None for null; one call."""
    return unwrap(query(conn).projection(hql, parameters(**values), context(conn, group_id)))


def pages(ids: Sequence[int]) -> Iterator[list[int]]:
    """Ids in parts that a query takes: PostgreSQL takes 32,767 parameters."""
    for start in range(0, len(ids), IDS):
        yield list(ids[start : start + IDS])


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """Say in a sentence that the user may not write `what`, where OMERO refuses it for want of rights."""
    try:
        yield
    except omero.SecurityViolation as error:
        reason = (error.message or "").strip().splitlines()
        raise RightsError(f"this user may not write {what}: {reason[0] if reason else 'OMERO refuses it'}") from None


def delete(conn: BlitzGateway, group_id: int, **targets: list[int]) -> None:
    """Delete objects with all that hangs on them, and wait for it; tags and terms stay.

    Parameters
    ----------
    group_id
        Group of the objects.
    **targets
        Ids by class, as ``Image=[1, 2]``; all go or none.

    Raises
    ------
    DeletionRefused
        If one is not there, is still in use or may not be deleted; if it takes longer than ten minutes.
    """
    wanted = {kind: ids for kind, ids in targets.items() if ids}
    if not wanted:
        return
    keep = ChildOption(excludeType=["TagAnnotation", "TermAnnotation"])
    handle = conn.c.sf.submit(Delete2(targetObjects=wanted, childOptions=[keep]), context(conn, group_id))
    callback = omero.callbacks.CmdCallbackI(conn.c, handle)
    try:
        pause, end = 10, time.monotonic() + DELETION_TIMEOUT
        while not callback.block(pause):
            if time.monotonic() > end:
                raise DeletionRefused(f"OMERO did not finish deleting {_named(wanted)} in {DELETION_TIMEOUT} seconds")
            callback.poll()  # the server's call may be lost
            pause = min(2 * pause, 500)
        answer = callback.getResponse()
    finally:
        callback.close(True)
    if isinstance(answer, omero.cmd.ERR):
        message = (answer.parameters or {}).get("message") or answer.name
        raise DeletionRefused(f"OMERO refuses to delete {_named(wanted)}: {message.strip().splitlines()[0]}")


def _named(targets: dict[str, list[int]]) -> str:
    return ", ".join(
        f"{kind} {', '.join(map(str, ids[:5]))}{' ...' if len(ids) > 5 else ''}" for kind, ids in targets.items()
    )
