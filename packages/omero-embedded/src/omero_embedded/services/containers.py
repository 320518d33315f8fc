"""IContainer: projects, datasets, screens and plates, and the images in them."""

from __future__ import annotations

from collections.abc import Iterable

import omero
import sqlalchemy as sa
from omero.model import IObject
from omero.rtypes import unwrap

from omero_embedded.errors import given, refuse
from omero_embedded.kernel import Kernel
from omero_embedded.model import deleting, rows, saving
from omero_embedded.model.access import Context
from omero_embedded.model.loading import Loader
from omero_embedded.model.schema import Entity, Field, schema
from omero_embedded.people.sessions import Session
from omero_embedded.services.registry import service

# Container classes, and what their hierarchies show of what is in them.
HIERARCHIES = {
    "Project": ("datasetLinks.child",),
    "Dataset": (),
    "Screen": ("plateLinks.child.plateAcquisitions",),
    "Plate": ("plateAcquisitions",),
}
LEAVES = {
    "Project": "datasetLinks.child.imageLinks.child",
    "Dataset": "imageLinks.child",
    "Screen": "plateLinks.child.plateAcquisitions.wellSample.image",
    "Plate": "plateAcquisitions.wellSample.image",
}
MEMBERS = {"Project": "Dataset", "Screen": "Plate"}  # what may be in none of these
OF_IMAGES = ("pixels.pixelsType", "format")
OF_ACQUISITION = (
    "stageLabel",
    "imagingEnvironment",
    "objectiveSettings.medium",
    "objectiveSettings.objective.immersion",
    "objectiveSettings.objective.correction",
)
# How containers lead to what is in them: link class, or class and its reference to the container.
INSIDE = {
    "Project": ("ProjectDatasetLink", "parent", "child", "Dataset"),
    "Dataset": ("DatasetImageLink", "parent", "child", "Image"),
    "Screen": ("ScreenPlateLink", "parent", "child", "Plate"),
    "Plate": ("Well", "plate", "id", "Well"),
    "Well": ("WellSample", "well", "image", "Image"),
    "Fileset": ("Image", "fileset", "id", "Image"),
    "Folder": ("FolderImageLink", "parent", "child", "Image"),
}

# The links that are counted by owner in what is loaded.
COUNTED = {
    "Project": ("annotationLinks",),
    "Dataset": ("annotationLinks", "imageLinks"),
    "Screen": ("annotationLinks",),
    "Plate": ("annotationLinks",),
    "PlateAcquisition": ("annotationLinks",),
    "Image": ("annotationLinks", "datasetLinks"),
}


@service("::omero::api::IContainer")
class ContainerService:
    """Each call reads one snapshot, or writes one transaction."""

    def __init__(self, kernel: Kernel, session: Session):
        self.store = kernel.store
        self.schema = kernel.schema

    # -- reading -------------------------------------------------------------------------------------------------

    def loadContainerHierarchy(self, ctx: Context, rootType, rootIds, options) -> list[IObject]:
        """Load containers with their content; with images and their pixels if the options ask for leaves."""
        entity = self._entity(rootType)
        if entity.name not in HIERARCHIES:
            raise refuse(
                omero.ApiUsageException,
                f"Class parameter for loadContainerIHierarchy() must be in {{{','.join(HIERARCHIES)}}}, not {rootType}",
            )
        wanted = rootIds or None  # Ice turns null into an empty list
        with self.store.read() as connection:
            loader = Loader(connection, ctx)
            found = list(loader.get(entity, self._ids(connection, ctx, entity, wanted, options)).values())
            if wanted is None and entity.name in MEMBERS and _option(options, "orphan"):
                found += self._orphans(connection, loader, MEMBERS[entity.name], INSIDE[entity.name][0], options)
            self._load_hierarchy(loader, found, options)
        return found

    def _orphans(self, connection: sa.Connection, loader: Loader, name: str, link: str, options) -> list[IObject]:
        """The members of a class that no container has."""
        entity, links = self.schema[name], self.schema[link]
        ids = self._ids(connection, loader.ctx, entity, None, options)
        linked = set(
            connection.execute(
                sa.select(links.table.c.child).where(
                    rows.among(links.table.c.child, ids), *rows.visible(loader.ctx, links)
                )
            ).scalars()
        )
        return list(loader.get(entity, [oid for oid in ids if oid not in linked]).values())

    def _load_hierarchy(self, loader: Loader, containers: list[IObject], options) -> None:
        loader.load_events(containers, "creationEvent")
        for name in {self.schema.of(one).name for one in containers}:
            some = [one for one in containers if self.schema.of(one).name == name]
            loader.fetch_paths(some, *HIERARCHIES[name])
            if _option(options, "leaves"):
                loader.fetch_paths(some, LEAVES[name])
                images = loader.loaded("Image")
                self._load_images(loader, images, options)
        loader.load_events(loader.loaded("Plate"), "creationEvent", "updateEvent")
        self._count(loader, COUNTED)

    def findContainerHierarchies(self, ctx: Context, rootType, imageIds, options) -> list[IObject]:
        """The topmost of projects, datasets and images over images, with all that is between."""
        if self._entity(rootType).name != "Project":
            raise refuse(
                omero.ApiUsageException,
                f"Class parameter for findContainerHierarchies() must be in {{Project}}, not {rootType}",
            )
        with self.store.read() as connection:
            loader = Loader(connection, ctx)
            images = list(loader.get(self.schema["Image"], imageIds).values())
            datasets, alone = self._above(connection, loader, images, "DatasetImageLink", "imageLinks", options)
            projects, lone = self._above(connection, loader, datasets, "ProjectDatasetLink", "datasetLinks", options)
        return projects + lone + alone

    def _above(
        self, connection: sa.Connection, loader: Loader, members: list[IObject], link: str, collection: str, options
    ) -> tuple[list[IObject], list[IObject]]:
        """The containers of some objects, holding these alone; and the objects that are in none."""
        links = self.schema[link]
        columns = links.table.c
        found = connection.execute(
            sa.select(columns.id, columns.parent, columns.child).where(
                rows.among(columns.child, [one.id.val for one in members]),
                *rows.visible(loader.ctx, links),
                *_filters(links, options),
            )
        ).all()
        loaded = loader.get(links, [row.id for row in found])
        parent = self.schema[links.fields["parent"].target or ""]
        containers = loader.get(parent, [row.parent for row in found])
        for oid, container in containers.items():
            inside = [(loaded[row.id], None) for row in found if row.parent == oid and row.id in loaded]
            loader.fill(container, parent.fields[collection], inside)
        held = {row.child for row in found if row.parent in containers}
        return list(containers.values()), [one for one in members if one.id.val not in held]

    def getImages(self, ctx: Context, rootType, rootIds, options) -> list[IObject]:
        """Load images, with their pixels, by their own ids or by those of their datasets or projects."""
        entity, image = self._entity(rootType), self.schema["Image"]
        if entity.name not in ("Image", "Dataset", "Project"):
            raise refuse(omero.ApiUsageException, f"Images can't be asked for by {rootType}.")
        with self.store.read() as connection:
            loader = Loader(connection, ctx)
            inside = self._image_ids(connection, ctx, {entity.name: rootIds})
            found = list(loader.get(image, self._ids(connection, ctx, image, inside, options)).values())
            self._load_images(loader, found, options)
        return found

    def getImagesByOptions(self, ctx: Context, options) -> list[IObject]:
        """Images that were made in the time that the options name."""
        asked = options.theFilter if options is not None else None
        if asked is None or (asked.startTime is None and asked.endTime is None):
            raise refuse(omero.ApiUsageException, "start or end time option is required for getImagesByOptions().")
        return self._all_images(ctx, options)

    def getUserImages(self, ctx: Context, options) -> list[IObject]:
        """Load the images of the owner or group that the options name."""
        asked = options.theFilter if options is not None else None
        if asked is None or (asked.ownerId is None and asked.groupId is None):
            raise refuse(omero.ApiUsageException, "experimenter or group option is required for getUserImages().")
        return self._all_images(ctx, options)

    def _all_images(self, ctx: Context, options) -> list[IObject]:
        with self.store.read() as connection:
            loader = Loader(connection, ctx)
            image = self.schema["Image"]
            found = list(loader.get(image, self._ids(connection, ctx, image, None, options)).values())
            self._load_images(loader, found, options)
        return found

    def getImagesBySplitFilesets(self, ctx: Context, included, options) -> dict[int, dict[bool, list[int]]]:
        """Find filesets with only a part of their images among some images or containers: that part, and the rest."""
        columns = self.schema["Image"].table.c
        with self.store.read() as connection:
            inside = self._image_ids(connection, ctx, {self._entity(name).name: ids for name, ids in included.items()})
            filesets = sa.select(columns.fileset).where(rows.among(columns.id, inside), columns.fileset.is_not(None))
            found = (
                connection.execute(
                    sa.select(columns.fileset, columns.id)
                    .where(columns.fileset.in_(filesets), *rows.visible(ctx, self.schema["Image"]))
                    .order_by(columns.id)
                )
                .tuples()
                .all()
            )
        answer: dict[int, dict[bool, list[int]]] = {}
        for fileset, image in found:
            answer.setdefault(fileset, {True: [], False: []})[image in inside].append(image)
        return {fileset: parts for fileset, parts in answer.items() if parts[False]}

    def getCollectionCount(self, ctx: Context, type, property, ids, options) -> dict[int, int]:
        """Count the members of a collection of each object."""
        one = self._collection(self._entity(type), property)
        element = self.schema[one.target or ""]
        owner = element.table.c[one.inverse or ""]
        statement = (
            sa.select(owner, sa.func.count()).where(rows.among(owner, ids), *rows.visible(ctx, element)).group_by(owner)
        )
        with self.store.read() as connection:
            return dict.fromkeys(ids, 0) | dict(connection.execute(statement).tuples().all())

    def retrieveCollection(self, ctx: Context, obj, collectionName, options) -> list[IObject]:
        """Load the members of an object's collection."""
        entity = self.schema.of(obj)
        one = self._collection(entity, collectionName)
        with self.store.read() as connection:
            loader = Loader(connection, ctx)
            return loader.fetch(loader.get(entity, [rows.id_of(obj) or 0]).values(), one)

    # -- writing -------------------------------------------------------------------------------------------------

    def createDataObject(self, ctx: Context, obj, options) -> IObject:
        return self.createDataObjects(ctx, [obj], options)[0]

    def createDataObjects(self, ctx: Context, dataObjects, options) -> list[IObject]:
        for one in dataObjects:
            given(one)
        with self.store.write() as connection:
            return saving.save(connection, ctx, dataObjects)

    updateDataObject = createDataObject
    updateDataObjects = createDataObjects
    link = createDataObjects

    def unlink(self, ctx: Context, links, options) -> None:
        with self.store.write() as connection:
            for one in links:
                entity = self.schema.of(one)
                if not entity.is_link:
                    raise refuse(omero.ApiUsageException, f"A {entity.name} is not a link.")
                deleting.delete_parts(connection, ctx, entity, [rows.id_of(one) or 0])

    # -- parts of the answers ------------------------------------------------------------------------------------

    def _entity(self, name: str) -> Entity:
        entity = self.schema.find(name or "")
        if entity is None:
            raise refuse(omero.ApiUsageException, f"{name} does not specify a valid class.")
        return entity

    def _collection(self, entity: Entity, name: str) -> Field:
        one = entity.fields.get(name.rpartition("_")[2])
        if one is None or one.kind != "collection":
            raise refuse(omero.ApiUsageException, f"{entity.java}.{name} is an unknown property on type {entity.java}")
        return one

    def _ids(
        self, connection: sa.Connection, ctx: Context, entity: Entity, ids: Iterable[int] | None, options
    ) -> list[int]:
        columns = entity.table.c
        wanted = [*rows.visible(ctx, entity), *_filters(entity, options)]
        if ids is not None:
            wanted.append(rows.among(columns.id, ids))
        asked = options.theFilter if options is not None else None
        statement = sa.select(columns.id).where(*wanted).order_by(columns.id)
        if asked is not None and asked.limit is not None:
            statement = statement.limit(asked.limit.val).offset(unwrap(asked.offset) or 0)
        return list(connection.execute(statement).scalars())

    def _image_ids(self, connection: sa.Connection, ctx: Context, asked: dict[str, Iterable[int]]) -> set[int]:
        """The ids of images: given, or those in containers, and in what is in these."""
        known = {name: set(ids) for name, ids in asked.items()}
        for name, (holder, container, member, inside) in INSIDE.items():  # containers before what is in them
            if known.get(name):
                entity = self.schema[holder]
                columns = entity.table.c
                known.setdefault(inside, set()).update(
                    connection.execute(
                        sa.select(columns[member]).where(
                            rows.among(columns[container], known[name]),
                            columns[member].is_not(None),
                            *rows.visible(ctx, entity),
                        )
                    ).scalars()
                )
        return known.get("Image", set())

    def _load_images(self, loader: Loader, images: list[IObject], options) -> None:
        loader.load_events(images, "creationEvent", "updateEvent")
        loader.fetch_paths(images, *OF_IMAGES, *(OF_ACQUISITION if _option(options, "acquisitionData") else ()))
        self._count(loader, {"Image": COUNTED["Image"]})

    def _count(self, loader: Loader, counted: dict[str, tuple[str, ...]]) -> None:
        for name, collections in counted.items():
            for one in collections:
                loader.count_by_owner(loader.loaded(name), self.schema[name].fields[one])


def _option(options, name: str) -> bool:
    """Whether a call's options ask for something."""
    asked = options.theOptions if options is not None else None
    return asked is not None and bool(unwrap(getattr(asked, name)))


def _filters(entity: Entity, options) -> list[sa.ColumnElement[bool]]:
    """The owner, the group and the time that a call's options ask for."""
    asked = options.theFilter if options is not None else None
    if asked is None:
        return []
    columns = entity.table.c
    found = [
        column == value.val
        for column, value in ((columns._owner, asked.ownerId), (columns._group, asked.groupId))
        if value is not None
    ]
    if asked.startTime is not None or asked.endTime is not None:
        events = schema()["Event"].table
        times = [events.c.time > asked.startTime.val] if asked.startTime is not None else []
        times += [events.c.time < asked.endTime.val] if asked.endTime is not None else []
        found.append(columns._creationEvent.in_(sa.select(events.c.id).where(*times)))
    return found
