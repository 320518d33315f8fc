"""IMetadata: annotations of many objects at once, channels and instruments."""

from __future__ import annotations

from collections.abc import Iterable

import omero
import sqlalchemy as sa
from omero.model import IObject
from omero.rtypes import rlist, rlong, rstring, unwrap

from omero_embedded.errors import refuse
from omero_embedded.hql.results import Results
from omero_embedded.kernel import Kernel
from omero_embedded.model import rows
from omero_embedded.model.access import Context
from omero_embedded.model.loading import Loader
from omero_embedded.model.schema import Entity, Schema
from omero_embedded.people.sessions import Session
from omero_embedded.services.registry import service

TAG_SET = omero.constants.metadata.NSINSIGHTTAGSET
LOG = "application/omero-log-file"  # the mimetype of the logs of imports
TAGGED = ("Image", "Dataset", "Project", "Screen", "Plate")
# What is loaded of light sources, objectives, filters.
_LIGHT = ("type", "laserMedium", "pulse", "pump.type")
_FILTERS = (
    "dichroic",
    "emissionFilterLink.child.type",
    "emissionFilterLink.child.transmittanceRange",
    "excitationFilterLink.child.type",
    "excitationFilterLink.child.transmittanceRange",
)
_OTF = ("pixelsType", "objective.immersion", "objective.correction", "filterSet.dichroic")
OF_INSTRUMENTS = (
    "microscope.type",
    "objective.immersion",
    "objective.correction",
    "detector.type",
    "filter.type",
    "filter.transmittanceRange",
    "filterSet.dichroic",
    "dichroic",
    *(f"otf.{one}" for one in _OTF),
    *(f"lightSource.{one}" for one in _LIGHT),
)
OF_CHANNELS = (
    "mode",
    "illumination",
    "contrastMethod",
    "detectorSettings.detector.type",
    "detectorSettings.binning",
    "lightSourceSettings.microbeamManipulation",
    "lightSourceSettings.lightSource.instrument",
    *(f"lightSourceSettings.lightSource.{one}" for one in _LIGHT),
    *(f"otf.{one}" for one in _OTF),
    *(f"filterSet.{one}" for one in _FILTERS),
    *(f"lightPath.{one}" for one in _FILTERS),
)

# What loadSpecifiedAnnotationsLinkedTo knows.
LINKED = ("Image", "Dataset", "Project", "Screen", "Plate", "PlateAcquisition", "Well", "Fileset")


@service("::omero::api::IMetadata")
class MetadataService:
    """Each call reads one snapshot."""

    def __init__(self, kernel: Kernel, session: Session):
        self.store = kernel.store
        self.schema = kernel.schema

    # -- annotations of objects ----------------------------------------------------------------------------------

    def loadAnnotations(
        self, ctx: Context, rootType, rootIds, annotationTypes, annotatorIds, options
    ) -> dict[int, list[IObject]]:
        """Load annotations by the id of their object, [] for objects without any; missing ids are left out."""
        entity = self._entity(rootType)
        kinds = [self._annotation(name) for name in annotationTypes or ()] or [self.schema["Annotation"]]
        with self.store.read() as connection:
            asked = _Asked(connection, ctx, self.schema, options, annotatorIds)
            there = asked.visible_ids(entity, rows.among(entity.table.c.id, rootIds))
            linked = asked.linked(entity, there)
            found = asked.annotations({child for _, child in linked}, kinds)
        answer: dict[int, list[IObject]] = {oid: [] for oid in there}
        for parent, child in dict.fromkeys(linked):  # once, however many have linked it
            if child in found:
                answer[parent].append(found[child])
        return answer

    def loadSpecifiedAnnotationsLinkedTo(
        self, ctx: Context, annotationType, include, exclude, rootNodeType, rootNodeIds, options
    ) -> dict[int, list[IObject]]:
        """Load annotations of one kind by the id of their object; objects without any are left out.

        As in OMERO, no ids mean all objects of the class.
        """
        entity, kind = self._entity(rootNodeType), self._annotation(annotationType)
        if entity.name not in LINKED:
            raise refuse(omero.QueryException, f"Annotations linked to a {entity.name} can't be asked for")
        which = [rows.among(entity.table.c.id, rootNodeIds)] if rootNodeIds else []
        answer: dict[int, list[IObject]] = {}
        with self.store.read() as connection:
            asked = _Asked(connection, ctx, self.schema, options)
            linked = asked.linked(entity, asked.visible_ids(entity, *which))
            found = asked.annotations({child for _, child in linked}, [kind], _in_namespaces(kind, include, exclude))
        for parent, child in dict.fromkeys(linked):
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

    # -- tags ----------------------------------------------------------------------------------------------------

    def getTaggedObjectsCount(self, ctx: Context, tagIds, options) -> dict[int, int]:
        """How many images and containers have each tag; wells don't count."""
        counts = dict.fromkeys(tagIds, 0)
        with self.store.read() as connection:
            for name in TAGGED:
                link = self.schema[f"{name}AnnotationLink"]
                columns = link.table.c
                wanted = [rows.among(columns.child, tagIds), *rows.visible(ctx, link)]
                tagged = sa.select(columns.child, sa.func.count(columns.parent.distinct())).where(*wanted)
                for oid, number in connection.execute(tagged.group_by(columns.child)):
                    counts[oid] += number
        return counts

    def loadTagContent(self, ctx: Context, tagIds, options) -> dict[int, list[IObject]]:
        """The images and containers that have each tag, projects and screens with what is in them."""
        answer: dict[int, list[IObject]] = {}
        with self.store.read() as connection:
            for oid in tagIds:
                loader = Loader(connection, ctx)
                answer[oid] = [obj for name in TAGGED for obj in self._tagged(connection, loader, name, oid)]
        return answer

    def _tagged(self, connection: sa.Connection, loader: Loader, name: str, tag: int) -> list[IObject]:
        link = self.schema[f"{name}AnnotationLink"]
        parents = connection.execute(
            sa.select(link.table.c.parent).where(link.table.c.child == tag, *rows.visible(loader.ctx, link))
        ).scalars()
        found = list(loader.get(self.schema[name], parents).values())
        if name in ("Project", "Screen"):
            loader.fetch_paths(found, "datasetLinks.child", "plateLinks.child")
        else:
            loader.fetch_paths(found, "annotationLinks.child", "pixels.pixelsType")
        return found

    def loadTagSets(self, ctx: Context, options) -> list[IObject]:
        """Tag sets with their tags; with the option "orphan" the tags that are in none as well."""
        owner = None if options is None or options.theFilter is None else unwrap(options.theFilter.ownerId)
        mine = "" if owner is None else " and t.details.owner.id = :owner"
        params = {"ns": rstring(TAG_SET), **({} if owner is None else {"owner": rlong(owner)})}
        with self.store.read() as connection:
            sets = Results(
                connection,
                ctx,
                "select t from TagAnnotation t left outer join fetch t.annotationLinks l "
                "left outer join fetch l.child c left outer join fetch c.details.owner "
                "join fetch t.details.owner where t.ns = :ns and (l.id is null or c.class = TagAnnotation)" + mine,
                params,
            ).objects()
            if not (options is not None and options.theOptions is not None and unwrap(options.theOptions.orphan)):
                return sets
            inside = {link.child.id.val for one in sets for link in one.copyAnnotationLinks()}
            others = Results(
                connection, ctx, "select t from TagAnnotation t where (t.ns is null or t.ns != :ns)" + mine, params
            ).objects()
        return sets + [one for one in others if one.id.val not in inside]

    def loadAnnotationsUsedNotOwned(self, ctx: Context, annotationType, userId) -> list[IObject]:
        """The annotations of others that a user has linked to images or containers."""
        kind = self._annotation(annotationType)
        with self.store.read() as connection:
            found = {
                one.id.val: one
                for name in TAGGED
                for one in Results(
                    connection,
                    ctx,
                    f"select c from {name}AnnotationLink l join l.child c join fetch c.details.owner o "
                    "where o.id != :user and l.details.owner.id = :user",
                    {"user": rlong(userId)},
                ).objects()
            }
        return [one for one in found.values() if self.schema.of(one).is_a(kind.name)]

    def countAnnotationsUsedNotOwned(self, ctx: Context, annotationType, userId):
        return rlong(len(self.loadAnnotationsUsedNotOwned(ctx, annotationType, userId)))

    def loadLogFiles(self, ctx: Context, rootType, ids) -> dict[int, list[IObject]]:
        """The logs of the import of filesets, or of those of images; objects without are left out."""
        entity = self.schema.find(rootType or "")
        if entity is None or entity.name not in ("Image", "Fileset"):
            raise refuse(omero.ApiUsageException, "can load log files only by Fileset or Image")
        if not ids:
            return {}
        whose = "i.id" if entity.name == "Image" else "f.id"
        hql = (
            f"select distinct {whose}, o from Fileset f left outer join f.images i join f.jobLinks fl, "
            "JobOriginalFileLink jl join jl.child o "
            f"where jl.parent.id = fl.child.id and o.mimetype = :log and {whose} in (:ids)"
        )
        params = {"log": rstring(LOG), "ids": rlist([rlong(oid) for oid in ids])}
        answer: dict[int, list[IObject]] = {}
        with self.store.read() as connection:
            for oid, log in Results(connection, ctx, hql, params).projected():
                assert oid is not None and log is not None  # the query asks for both
                answer.setdefault(oid.val, []).append(log.val)
        return answer

    # -- acquisition ---------------------------------------------------------------------------------------------

    def loadChannelAcquisitionData(self, ctx: Context, ids) -> list[IObject]:
        """Load logical channels with everything that was recorded about their acquisition."""
        return self._with_ends(ctx, "LogicalChannel", ids, OF_CHANNELS)

    def loadInstrument(self, ctx: Context, id) -> IObject | None:
        """Load an instrument with its parts."""
        found = self._with_ends(ctx, "Instrument", [id], OF_INSTRUMENTS)
        return found[0] if found else None

    def _with_ends(self, ctx: Context, name: str, ids: Iterable[int], paths: Iterable[str]) -> list[IObject]:
        with self.store.read() as connection:
            loader = Loader(connection, ctx)
            found = list(loader.get(self.schema[name], ids).values())
            loader.fetch_paths(found, *paths)
        return found

    # -- names ---------------------------------------------------------------------------------------------------

    def _entity(self, name: str) -> Entity:
        entity = self.schema.find(name or "")
        if entity is None or f"{entity.root.name}AnnotationLink" not in self.schema.entities:
            raise refuse(omero.ApiUsageException, f"Objects of the class {name} can't be annotated.")
        return entity

    def _annotation(self, name: str) -> Entity:
        entity = self.schema.find(name or "")
        if entity is None or not entity.is_a("Annotation") or entity.abstract:
            raise refuse(omero.ApiUsageException, f"{name} does not specify a valid class.")
        return entity


class _Asked:
    """What one call reads: what the user sees, restricted to the owner and group of the call's options."""

    def __init__(
        self, connection: sa.Connection, ctx: Context, known: Schema, options, owners: Iterable[int] | None = None
    ):
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
        """Find (object, annotation) of the links that the user sees."""
        link = self.schema[f"{entity.root.name}AnnotationLink"]
        columns = link.table.c
        return [
            (parent, child)
            for parent, child in self.connection.execute(
                sa.select(columns.parent, columns.child)
                .where(rows.among(columns.parent, ids), *rows.visible(self.ctx, link))
                .order_by(columns.id)
            )
        ]

    def annotation_ids(
        self, ids: Iterable[int] | None, kinds: list[Entity], *conditions: sa.ColumnElement[bool]
    ) -> list[int]:
        columns = self.schema["Annotation"].table.c
        wanted = [*conditions, columns["class"].in_({one.name for kind in kinds for one in kind.family()})]
        if ids is not None:
            wanted.append(rows.among(columns.id, ids))
        if self.owners:
            wanted.append(columns._owner.in_(self.owners))
        if self.group is not None:
            wanted.append(columns._group == self.group)
        return self.visible_ids(self.schema["Annotation"], *wanted)

    def annotations(
        self, ids: Iterable[int] | None, kinds: list[Entity], *conditions: sa.ColumnElement[bool]
    ) -> dict[int, IObject]:
        """Load annotations with owner, events and files."""
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
