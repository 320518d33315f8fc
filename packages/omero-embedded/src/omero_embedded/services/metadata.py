"""IMetadata: annotations of many objects at once, and what is known of channels and instruments."""
from __future__ import annotations

from collections.abc import Iterable

import omero
import sqlalchemy as sa
from omero.model import IObject
from omero.rtypes import rlong

from omero_embedded.errors import refuse
from omero_embedded.kernel import Kernel
from omero_embedded.model import rows
from omero_embedded.model.access import Context
from omero_embedded.model.loading import Loader
from omero_embedded.model.schema import Entity, Schema
from omero_embedded.people.sessions import Session
from omero_embedded.services.registry import service


@service("::omero::api::IMetadata")
class MetadataService:
    """Each call reads one snapshot."""

    def __init__(self, kernel: Kernel, session: Session):
        self.store = kernel.store
        self.schema = kernel.schema

    # -- annotations of objects ----------------------------------------------------------------------------------

    def loadAnnotations(self, ctx: Context, rootType, rootIds, annotationTypes, annotatorIds,
                        options) -> dict[int, list[IObject]]:
        """Annotations by the id of the object that has them, [] for an object without; missing ids are left out."""
        entity = self._entity(rootType)
        kinds = [self._annotation(name) for name in annotationTypes or ["Annotation"]]
        with self.store.read() as connection:
            asked = _Asked(connection, ctx, self.schema, options, annotatorIds)
            there = asked.visible_ids(entity, rows.among(entity.table.c.id, rootIds))
            linked = asked.linked(entity, there)
            found = asked.annotations({child for _, child in linked}, kinds)
        answer: dict[int, list[IObject]] = {oid: [] for oid in there}
        for parent, child in linked:
            if child in found:
                answer[parent].append(found[child])
        return answer

    def loadSpecifiedAnnotationsLinkedTo(self, ctx: Context, annotationType, include, exclude, rootNodeType,
                                         rootNodeIds, options) -> dict[int, list[IObject]]:
        """Annotations of one kind by the id of the object that has them; objects without are left out."""
        entity, kind = self._entity(rootNodeType), self._annotation(annotationType)
        answer: dict[int, list[IObject]] = {}
        with self.store.read() as connection:
            asked = _Asked(connection, ctx, self.schema, options)
            linked = asked.linked(entity, asked.visible_ids(entity, rows.among(entity.table.c.id, rootNodeIds)))
            found = asked.annotations({child for _, child in linked}, [kind], _in_namespaces(kind, include, exclude))
        for parent, child in linked:
            if child in found:
                answer.setdefault(parent, []).append(found[child])
        return answer

    # -- annotations themselves ----------------------------------------------------------------------------------

    def loadSpecifiedAnnotations(self, ctx: Context, annotationType, include, exclude, options) -> list[IObject]:
        kind = self._annotation(annotationType)
        with self.store.read() as connection:
            asked = _Asked(connection, ctx, self.schema, options)
            return list(asked.annotations(None, [kind], _in_namespaces(kind, include, exclude)).values())

    def countSpecifiedAnnotations(self, ctx: Context, annotationType, include, exclude, options):
        kind = self._annotation(annotationType)
        with self.store.read() as connection:
            asked = _Asked(connection, ctx, self.schema, options)
            return rlong(len(asked.annotation_ids(None, [kind], _in_namespaces(kind, include, exclude))))

    def loadAnnotation(self, ctx: Context, annotationIds) -> list[IObject]:
        with self.store.read() as connection:
            asked = _Asked(connection, ctx, self.schema, None)
            return list(asked.annotations(annotationIds, [self.schema["Annotation"]]).values())

    def getTaggedObjectsCount(self, ctx: Context, tagIds, options) -> dict[int, int]:
        """How many objects have each tag."""
        counts = dict.fromkeys(tagIds, 0)
        with self.store.read() as connection:
            for link in self.schema.entities.values():
                if not link.name.endswith("AnnotationLink"):
                    continue
                columns = link.table.c
                wanted = [rows.among(columns.child, tagIds), *rows.visible(ctx, link)]
                for oid, number in connection.execute(sa.select(columns.child, sa.func.count()).where(
                        *wanted).group_by(columns.child)):
                    counts[oid] += number
        return counts

    # -- acquisition ---------------------------------------------------------------------------------------------

    def loadChannelAcquisitionData(self, ctx: Context, ids) -> list[IObject]:
        """Logical channels with all that was recorded of their acquisition."""
        with self.store.read() as connection:
            loader = Loader(connection, ctx)
            found = list(loader.get(self.schema["LogicalChannel"], ids).values())
            _fetch_ends(loader, self.schema, found, depth=4, collections={"LightPath"})
        return found

    def loadInstrument(self, ctx: Context, id) -> IObject | None:
        """An instrument with its parts."""
        with self.store.read() as connection:
            loader = Loader(connection, ctx)
            found = list(loader.get(self.schema["Instrument"], [id]).values())
            _fetch_ends(loader, self.schema, found, depth=3, collections={"Instrument", "FilterSet"})
        return found[0] if found else None

    # -- names ---------------------------------------------------------------------------------------------------

    def _entity(self, name: str) -> Entity:
        entity = self.schema.find(name or "")
        if entity is None or f"{entity.root.name}AnnotationLink" not in self.schema.entities:
            raise refuse(omero.ApiUsageException, f"Objects of the class {name} can't be annotated.")
        return entity

    def _annotation(self, name: str) -> Entity:
        entity = self.schema.find(name or "")
        if entity is None or not entity.is_a("Annotation"):
            raise refuse(omero.ApiUsageException, f"{name} is not a kind of annotation.")
        return entity


class _Asked:
    """One call's reading: what the user sees, restricted to the owner and group of the call's options."""

    def __init__(self, connection: sa.Connection, ctx: Context, known: Schema, options,
                 owners: Iterable[int] | None = None):
        self.connection, self.ctx, self.schema = connection, ctx, known
        asked = options.theFilter if options is not None else None
        self.group = asked.groupId.val if asked is not None and asked.groupId is not None else None
        self.owners = list(owners or ())
        if asked is not None and asked.ownerId is not None:
            self.owners.append(asked.ownerId.val)

    def visible_ids(self, entity: Entity, *conditions: sa.ColumnElement[bool]) -> list[int]:
        columns = entity.table.c
        statement = sa.select(columns.id).where(*conditions, *rows.visible(self.ctx, entity)).order_by(columns.id)
        return list(self.connection.execute(statement).scalars())

    def linked(self, entity: Entity, ids: Iterable[int]) -> list[tuple[int, int]]:
        """(object, annotation) of the links that the user sees."""
        link = self.schema[f"{entity.root.name}AnnotationLink"]
        columns = link.table.c
        return [(parent, child) for parent, child in self.connection.execute(
            sa.select(columns.parent, columns.child).where(
                rows.among(columns.parent, ids), *rows.visible(self.ctx, link)).order_by(columns.id))]

    def annotation_ids(self, ids: Iterable[int] | None, kinds: list[Entity],
                       *conditions: sa.ColumnElement[bool]) -> list[int]:
        columns = self.schema["Annotation"].table.c
        wanted = [*conditions, columns["class"].in_({one.name for kind in kinds for one in kind.family()})]
        if ids is not None:
            wanted.append(rows.among(columns.id, ids))
        if self.owners:
            wanted.append(columns._owner.in_(self.owners))
        if self.group is not None:
            wanted.append(columns._group == self.group)
        return self.visible_ids(self.schema["Annotation"], *wanted)

    def annotations(self, ids: Iterable[int] | None, kinds: list[Entity],
                    *conditions: sa.ColumnElement[bool]) -> dict[int, IObject]:
        """Annotations with owner and events loaded, and their files."""
        loader = Loader(self.connection, self.ctx)
        entity = self.schema["Annotation"]
        found = loader.get(entity, self.annotation_ids(ids, kinds, *conditions))
        loader.load_stamps(found.values())
        files = [one for one in found.values() if isinstance(one, omero.model.FileAnnotation)]
        loader.fetch(files, self.schema["FileAnnotation"].fields["file"])
        return found


def _in_namespaces(kind: Entity, include: list[str] | None, exclude: list[str] | None) -> sa.ColumnElement[bool]:
    namespace = kind.table.c.ns
    wanted: list[sa.ColumnElement[bool]] = [namespace.in_(include)] if include else []
    if exclude:
        wanted.append(sa.or_(namespace.is_(None), namespace.not_in(exclude)))
    return sa.and_(sa.true(), *wanted)


def _fetch_ends(loader: Loader, known: Schema, objects: list[IObject], depth: int, collections: set[str]) -> None:
    """Load what objects refer to, what that refers to, and so on; of some classes the collections as well."""
    by_class: dict[str, list[IObject]] = {}
    for obj in objects:
        by_class.setdefault(known.of(obj).name, []).append(obj)
    for name, some in by_class.items():
        for one in known[name].fields.values():
            if (one.kind == "ref" and one.target != "Instrument") or (
                    one.kind == "collection" and name in collections):
                below = loader.fetch(some, one)
                if depth > 1:
                    _fetch_ends(loader, known, below, depth - 1, collections)
