"""The calls that all modules here share: queries, saves and deletions, each in the group of the objects concerned.

The services are used directly from the session. `BlitzGateway`'s wrappers ask the server before every call whether it
is alive, and print a traceback for every error that the server returns.
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
ATTEMPTS = 3
IDS = 10_000  # per call
DELETION_TIMEOUT = 600  # seconds

_known: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()


class DeletionRefused(OpenHCSError):
    """OMERO refused a deletion, and nothing was deleted."""


def service(conn: BlitzGateway, accessor: str) -> Any:
    """A stateless service of the session, requested once.

    Parameters
    ----------
    accessor
        The session's method that returns the service, such as "getQueryService".
    """
    services = _known.setdefault(conn.c, {})
    if accessor not in services:
        services[accessor] = getattr(conn.c.sf, accessor)()
    return services[accessor]


def context(conn: BlitzGateway, group_id: int) -> dict[str, str]:
    """The call context that makes a call run in a group; -1 reads from all groups."""
    options = conn.SERVICE_OPTS.copy()
    options.setOmeroGroup(str(group_id))
    return options


def current_group(conn: BlitzGateway) -> int:
    """Id of the group that new objects go to: that of the connection's options, else the session's group."""
    chosen = conn.SERVICE_OPTS.getOmeroGroup()
    return int(chosen) if chosen and int(chosen) >= 0 else conn.getEventContext().groupId


def query(conn: BlitzGateway) -> Any:
    return service(conn, "getQueryService")


def update(conn: BlitzGateway) -> Any:
    return service(conn, "getUpdateService")


def parameters(**values: Any) -> ParametersI:
    """Query parameters: an int becomes a long, a str a string and a list a list of ids; other values are unchanged."""
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
    """Run a projection query in one call; returns its rows as plain values, with None for null."""
    return unwrap(query(conn).projection(hql, parameters(**values), context(conn, group_id)))


def pages(ids: Sequence[int]) -> Iterator[list[int]]:
    """Split ids into lists that one query can take: PostgreSQL accepts at most 32,767 parameters."""
    for start in range(0, len(ids), IDS):
        yield list(ids[start : start + IDS])


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn OMERO's permission errors into one sentence that says that the user may not write `what`."""
    try:
        yield
    except omero.SecurityViolation as error:
        reason = (error.message or "").strip().splitlines()
        raise RightsError(f"this user may not write {what}: {reason[0] if reason else 'OMERO refuses it'}") from None


def delete(conn: BlitzGateway, group_id: int, **targets: list[int]) -> None:
    """Delete objects and everything that depends on them, and wait until that is done.

    Tags stay unless they are named here, and so do the plates of a screen.

    Parameters
    ----------
    group_id
        Group of the objects.
    **targets
        Ids by class, such as ``Image=[1, 2]``; either all are deleted or none.

    Raises
    ------
    DeletionRefused
        If an object does not exist, is still in use or may not be deleted, or if it takes longer than ten minutes.
    """
    wanted = {kind: ids for kind, ids in targets.items() if ids}
    if not wanted:
        return
    keep = [] if "TagAnnotation" in wanted else ["TagAnnotation", "TermAnnotation"]
    keep += ["Plate"] if "Screen" in wanted else []
    options = [ChildOption(excludeType=keep)] if keep else []
    handle = conn.c.sf.submit(Delete2(targetObjects=wanted, childOptions=options), context(conn, group_id))
    callback = omero.callbacks.CmdCallbackI(conn.c, handle)
    try:
        pause, end = 10, time.monotonic() + DELETION_TIMEOUT
        while not callback.block(pause):
            if time.monotonic() > end:
                raise DeletionRefused(f"OMERO did not finish deleting {_named(wanted)} in {DELETION_TIMEOUT} seconds")
            callback.poll()  # the server's callback may get lost
            pause = min(2 * pause, 500)
        answer = callback.getResponse()
    finally:
        callback.close(True)
    if isinstance(answer, omero.cmd.ERR):
        message = (answer.parameters or {}).get("message") or answer.name
        raise DeletionRefused(f"OMERO refuses to delete {_named(wanted)}: {message.strip().splitlines()[0]}")


def delete_existing(conn: BlitzGateway, group_id: int, kind: str, ids: Sequence[int]) -> None:
    """Delete those of the objects that exist. Another process, or a killed one, may be deleting the same objects."""
    for attempt in range(ATTEMPTS):
        found = [rows(conn, f"select o.id from {kind} o where o.id in (:ids)", ids=page) for page in pages(ids)]
        try:
            return delete(conn, group_id, **{kind: [row[0] for page in found for row in page]})
        except DeletionRefused:
            if attempt == ATTEMPTS - 1:
                raise


def _named(targets: dict[str, list[int]]) -> str:
    return ", ".join(
        f"{kind} {', '.join(map(str, ids[:5]))}{' ...' if len(ids) > 5 else ''}" for kind, ids in targets.items()
    )
