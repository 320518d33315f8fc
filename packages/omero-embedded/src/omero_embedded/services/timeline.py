"""ITimeline: objects by the time of their last change."""

from __future__ import annotations

from dataclasses import dataclass

import omero
import sqlalchemy as sa
from omero.model import IObject
from omero.rtypes import rlong, rstring, rtime, unwrap

from omero_embedded.errors import refuse
from omero_embedded.hql.results import Results
from omero_embedded.kernel import Kernel
from omero_embedded.model.access import Context
from omero_embedded.people.sessions import Session
from omero_embedded.services.registry import service

Period = tuple[int, int]  # in milliseconds since 1970
ALWAYS: Period = (-62_135_596_800_000, 253_402_300_799_000)  # the years 1 to 9999
MOST = 50  # objects of a kind, if the caller doesn't say how many
KINDS = ("RenderingDef", "Image", "Project", "Dataset", "Annotation")  # if none are named
LOGS = "EventLog"

_STAMPS = "join {fetch} obj.details.creationEvent join {fetch} obj.details.owner join {fetch} obj.details.group "
_CHANGED = (
    "where (obj.details.creationEvent.time >= :start or obj.details.updateEvent.time >= :start) "
    "and (obj.details.creationEvent.time <= :end or obj.details.updateEvent.time <= :end)"
)
# What is found of each kind, in which order, and whose owner and group count. As in OMERO, images go by their
# acquisition date, and those without one are never found; of other kinds, annotations too, nothing is known.
_OF_KINDS = {
    "Project": (f"from Project obj {_STAMPS}{_CHANGED}", "obj.details.updateEvent.id desc", "obj"),
    "Dataset": (f"from Dataset obj {_STAMPS}{_CHANGED}", "obj.details.updateEvent.id desc", "obj"),
    "RenderingDef": (
        f"from RenderingDef obj {_STAMPS}left outer join {{fetch}} obj.pixels p "
        f"left outer join {{fetch}} p.image i {_CHANGED}",
        "i.details.creationEvent.time desc",
        "i",
    ),
    "Image": (
        f"from Image obj {_STAMPS}where obj.acquisitionDate >= :start and obj.acquisitionDate <= :end",
        "obj.acquisitionDate desc",
        "obj",
    ),
}


@dataclass(frozen=True)
class Asked:
    """Whose objects are wanted (None for everybody's), and how many."""

    owner: int | None
    group: int | None
    offset: int
    limit: int

    def conditions(self, of: str, given: dict) -> str:
        """The conditions in HQL on what belongs to `of`; their values are added to those that are given."""
        found = ""
        for name, value in (("owner", self.owner), ("group", self.group)):
            if value is not None:
                found += f" and {of}.details.{name}.id = :{name}"
                given[name] = rlong(value)
        return found


@service("::omero::api::ITimeline")
class TimelineService:
    """Only the last change of an object is known. Single changes are not logged."""

    def __init__(self, kernel: Kernel, session: Session):
        self.store, self.schema = kernel.store, kernel.schema

    def countByPeriod(self, ctx: Context, kinds, start, end, parameters) -> dict[str, int]:
        """Count what changed; -1 for kinds that have no history."""
        asked, counts = _asked(ctx, parameters), {}
        with self.store.read() as connection:
            for kind in kinds or KINDS:
                counts[kind] = 0 if kind == LOGS else -1
                if kind in _OF_KINDS:
                    hql, given = _query(kind, _period(start, end), asked)
                    found = Results(connection, ctx, "select count(obj) " + hql.format(fetch=""), given)
                    counts[kind] = found.projected()[0][0].val  # type: ignore[union-attr]
        return counts

    def getByPeriod(self, ctx: Context, kinds, start, end, parameters, merge) -> dict[str, list[IObject]]:
        """Find the newest objects of each kind that changed in a period; with `merge`, no more of all together."""
        asked = _asked(ctx, parameters)
        found = self._found(ctx, kinds or KINDS, _period(start, end), asked)
        return _merged(found, asked.limit) if merge else {kind: some or [] for kind, some in found.items()}

    def getMostRecentObjects(self, ctx: Context, kinds, parameters, merge) -> dict[str, list[IObject]]:
        return self.getByPeriod(ctx, kinds, None, None, parameters, merge)

    def _found(self, ctx: Context, kinds, period: Period, asked: Asked) -> dict[str, list[IObject] | None]:
        found: dict[str, list[IObject] | None] = {}
        with self.store.read() as connection:
            for kind in kinds:
                found[kind] = [] if kind == LOGS else None
                if kind in _OF_KINDS:
                    hql, given = _query(kind, period, asked)
                    hql = f"select obj {hql.format(fetch='fetch')} order by {_OF_KINDS[kind][1]}"
                    results = Results(connection, ctx, hql, given, (asked.offset, asked.limit))
                    found[kind] = results.objects()
                    results.loader.load_stamps(found[kind] or ())
        return found

    def getEventLogsByPeriod(self, ctx: Context, start, end, parameters) -> list[IObject]:
        """Make logs of the images that were acquired in a period, which OMERO makes up too."""
        asked, logs = _asked(ctx, parameters), []
        given = {"start": rtime(start.val), "end": rtime(end.val)}
        hql = "select i from Image i where i.acquisitionDate > :start and i.acquisitionDate < :end"
        with self.store.read() as connection:
            hql += asked.conditions("i", given)
            for image in Results(connection, ctx, hql, given, (asked.offset, asked.limit)).objects():
                log = omero.model.EventLogI()
                log.entityId, log.entityType = rlong(image.id.val), rstring(self.schema["Image"].java)
                log.action, log.event = rstring("INSERT"), omero.model.EventI()
                log.event.time = image.acquisitionDate
                logs.append(log)
        return logs

    def getMostRecentAnnotationLinks(self, ctx: Context, parents, children, namespaces, parameters) -> list[IObject]:
        """Find the newest links to annotations of a class or of namespaces (`%` stands for any text)."""
        if len(children or ()) > 1:
            raise refuse(omero.ApiUsageException, "Links can be restricted to one class of annotations only.")
        kinds = [self.schema.find(name) for name in children or ()]
        if None in kinds:
            raise refuse(omero.ValidationException, f"Error mapping: {children[0]}")
        asked = _asked(ctx, parameters)
        given = {f"ns{place}": rstring(one) for place, one in enumerate(namespaces or ())}
        where = [f"child.class = {kind.java}" for kind in kinds if kind is not None]
        where += ["(" + " or ".join(f"child.ns like :{name}" for name in given) + ")"] if given else []
        everybody = Asked(None, None, 0, asked.limit)
        owned = (asked if parameters is not None else everybody).conditions("link", given)
        found: dict[str, list[IObject] | None] = {}
        with self.store.read() as connection:
            for parent in parents or ("Project", "Dataset", "Image"):
                found[parent] = self._links(
                    connection, ctx, parent, " and ".join(["1 = 1", *where]) + owned, given, asked
                )
        return [link for links in _merged(found, asked.limit, together=True).values() for link in links]

    def _links(self, connection: sa.Connection, ctx: Context, parent: str, where: str, given: dict, asked: Asked):
        if self.schema.find(f"{parent}AnnotationLink") is None:
            raise refuse(omero.InternalException, f"{parent}AnnotationLink is not mapped")
        hql = (
            f"select link from {parent}AnnotationLink link join link.parent parent join fetch link.child child "
            "join fetch link.details.creationEvent creation join fetch link.details.updateEvent updated "
            f"where {where} order by link.details.updateEvent.id desc"
        )
        return Results(connection, ctx, hql, given, (asked.offset, asked.limit)).objects()

    def getMostRecentShareCommentLinks(self, ctx: Context, parameters) -> list[IObject]:
        return []


def _asked(ctx: Context, parameters) -> Asked:
    """Read the filter of a call. Without a group it is about the caller; the owner -1 means everybody."""
    filter = parameters.theFilter if parameters is not None else None
    owner, group, offset, limit = (
        (unwrap(one) for one in (filter.ownerId, filter.groupId, filter.offset, filter.limit))
        if filter is not None
        else (None,) * 4
    )
    if group is None:
        owner = ctx.user if owner is None else None if owner == -1 else owner
    return Asked(owner, group, offset or 0, MOST if limit is None else limit)


def _period(start, end) -> Period:
    return (ALWAYS[0] if start is None else start.val, ALWAYS[1] if end is None else end.val)


def _query(kind: str, period: Period, asked: Asked) -> tuple[str, dict]:
    """The query for objects of a kind, without its select clause, and its parameters."""
    hql, _, owned = _OF_KINDS[kind]
    given = {"start": rtime(period[0]), "end": rtime(period[1])}
    return hql + asked.conditions(owned, given), given


def _merged(found: dict, limit: int, together: bool = False) -> dict[str, list[IObject]]:
    """Keep so many objects of all kinds together. As in OMERO, those that were changed first come first.

    Parameters
    ----------
    together
        Whether to return all under one key, in the order of their changes.

    Raises
    ------
    omero.InternalException
        If nothing is known of a kind.
    """
    if None in found.values():
        unknown = next(kind for kind, some in found.items() if some is None)
        raise refuse(omero.InternalException, f"Nothing of the kind {unknown} can be merged.")
    every = [(kind, obj) for kind, some in found.items() for obj in some]
    every.sort(key=lambda one: one[1].details.updateEvent.time.val)
    kept: dict[str, list[IObject]] = {"": []} if together else {kind: [] for kind in found}
    for kind, obj in every[:limit]:
        kept["" if together else kind].append(obj)
    return kept
