"""ITimeline: objects by the time of their last change."""

from __future__ import annotations

import omero
import sqlalchemy as sa
from omero.model import IObject
from omero.rtypes import unwrap

from omero_embedded.errors import refuse
from omero_embedded.kernel import Kernel
from omero_embedded.model import rows
from omero_embedded.model.access import Context
from omero_embedded.model.loading import Loader
from omero_embedded.model.schema import Entity
from omero_embedded.people.sessions import Session
from omero_embedded.services.registry import service

KINDS = ("Project", "Dataset", "Image", "Annotation", "RenderingDef", "Screen", "Plate", "PlateAcquisition")


@service("::omero::api::ITimeline")
class TimelineService:
    """Only the last change of an object is known. Single changes are not logged, so there are no event logs."""

    def __init__(self, kernel: Kernel, session: Session):
        self.store, self.schema = kernel.store, kernel.schema

    def getByPeriod(self, ctx: Context, kinds, start, end, parameters, merge) -> dict[str, list[IObject]]:
        """Find the newest objects, of each kind or with `merge` of all kinds together, changed from start to end."""
        return self._newest(ctx, kinds, (start.val, end.val), parameters, merge)

    def getMostRecentObjects(self, ctx: Context, kinds, parameters, merge) -> dict[str, list[IObject]]:
        return self._newest(ctx, kinds, None, parameters, merge)

    def countByPeriod(self, ctx: Context, kinds, start, end, parameters) -> dict[str, int]:
        with self.store.read() as connection:
            return {
                name: connection.execute(
                    sa.select(sa.func.count()).select_from(
                        self._changed(ctx, entity, (start.val, end.val), parameters).subquery()
                    )
                ).scalar()
                or 0
                for name, entity in self._entities(kinds).items()
            }

    def getEventLogsByPeriod(self, ctx: Context, start, end, parameters) -> list[IObject]:
        return []

    def getMostRecentAnnotationLinks(self, ctx: Context, parents, children, namespaces, parameters) -> list[IObject]:
        """Find the newest links to annotations of a class or of namespaces (`%` stands for any text)."""
        if len(children or ()) > 1:
            raise refuse(omero.ApiUsageException, "Links can be restricted to one class of annotations only.")
        kinds = [self.schema.find(name) for name in children or ()]
        if None in kinds:
            raise refuse(omero.ValidationException, f"There is no class {children[0]}.")
        asked = parameters.theFilter if parameters is not None else None
        limit, offset = (unwrap(asked.limit), unwrap(asked.offset) or 0) if asked is not None else (None, 0)
        with self.store.read() as connection:
            loader = Loader(connection, ctx)
            found: list[tuple[int, Entity, int]] = []
            for name in parents or ("Project", "Dataset", "Image"):
                link = self.schema.find(f"{name}AnnotationLink")
                if link is None:
                    raise refuse(omero.ApiUsageException, f"{name} is not a class of annotated objects.")
                statement = self._links(ctx, link, kinds, namespaces or (), asked)
                found += [(event, link, oid) for oid, event in connection.execute(statement)]
            newest = _page(sorted(found, key=lambda one: -one[0]), limit, offset)
            links = [loader.get(link, [oid])[oid] for _, link, oid in newest]
            loader.fetch_paths(links, "child")
            loader.load_events(links, "creationEvent", "updateEvent")
        return links

    def _links(self, ctx: Context, link: Entity, kinds: list, namespaces, asked) -> sa.Select:
        columns, annotations = link.table.c, self.schema["Annotation"].table
        statement = (
            sa.select(columns.id, columns._updateEvent)
            .join(annotations, annotations.c.id == columns.child)
            .where(*rows.visible(ctx, link))
        )
        if kinds:
            statement = statement.where(annotations.c["class"] == kinds[0].name)
        if namespaces:
            statement = statement.where(sa.or_(*(annotations.c.ns.like(one) for one in namespaces)))
        if asked is not None and asked.ownerId is not None and asked.ownerId.val >= 0:
            statement = statement.where(columns._owner == asked.ownerId.val)
        return statement

    def getMostRecentShareCommentLinks(self, ctx: Context, parameters) -> list[IObject]:
        return []

    def _newest(
        self, ctx: Context, kinds, period: tuple[int, int] | None, parameters, merge: bool
    ) -> dict[str, list[IObject]]:
        asked = parameters.theFilter if parameters is not None else None
        limit, offset = (unwrap(asked.limit), unwrap(asked.offset) or 0) if asked is not None else (None, 0)
        with self.store.read() as connection:
            found: list[tuple[int, str, int]] = []
            for name, entity in self._entities(kinds).items():
                of_kind = [
                    (time, name, oid)
                    for oid, time in connection.execute(self._changed(ctx, entity, period, parameters))
                ]
                found += of_kind if merge else _page(of_kind, limit, offset)
            if merge:
                found = _page(sorted(found, reverse=True), limit, offset)
            loader = Loader(connection, ctx)
            answer = {}
            for name, entity in self._entities(kinds).items():
                objects = loader.get(entity, [oid for _, kind, oid in found if kind == name])
                loader.load_stamps(objects.values())
                answer[name] = list(objects.values())
        return answer

    def _entities(self, kinds) -> dict[str, Entity]:
        found = {}
        for name in kinds or KINDS:
            entity = self.schema.find(name)
            if entity is None or entity.is_global or not entity.is_mutable:
                raise refuse(omero.ApiUsageException, f"{name} has no history: use one of {', '.join(KINDS)}.")
            found[name] = entity
        return found

    def _changed(self, ctx: Context, entity: Entity, period: tuple[int, int] | None, parameters) -> sa.Select:
        """Find ids and times of the last change, newest first; in a period images go by their acquisition date."""
        columns, events = entity.table.c, self.schema["Event"].table
        by_date = entity.name == "Image" and period is not None
        time = columns.acquisitionDate if by_date else events.c.time
        statement = (
            sa.select(columns.id, time)
            .join(events, columns._updateEvent == events.c.id)
            .where(*rows.visible(ctx, entity))
            .order_by(time.desc(), columns.id.desc())
        )
        if "class" in columns:
            statement = statement.where(columns["class"].in_([one.name for one in (entity, *entity.family())]))
        if period is not None:
            statement = statement.where(time.between(*period))
        asked = parameters.theFilter if parameters is not None else None
        if asked is not None:
            for column, value in ((columns._owner, asked.ownerId), (columns._group, asked.groupId)):
                if value is not None and value.val >= 0:
                    statement = statement.where(column == value.val)
        return statement


def _page(found: list, limit: int | None, offset: int) -> list:
    return found[offset:] if limit is None else found[offset : offset + limit]
