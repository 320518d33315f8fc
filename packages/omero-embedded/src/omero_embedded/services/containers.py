"""IContainer: projects, datasets, screens and plates, and the images in them."""
from __future__ import annotations

from collections.abc import Iterable

import omero
import sqlalchemy as sa
from omero.model import IObject
from omero.rtypes import unwrap

from omero_embedded.errors import refuse
from omero_embedded.kernel import Kernel
from omero_embedded.model import deleting, rows, saving
from omero_embedded.model.access import Context
from omero_embedded.model.loading import Loader
from omero_embedded.model.schema import Entity, Field
from omero_embedded.people.sessions import Session
from omero_embedded.services.registry import service

# Container classes: the collection that leads to what is in them.
INSIDE = {"Project": "datasetLinks", "Dataset": "imageLinks", "Screen": "plateLinks", "Plate": "wells"}


@service("::omero::api::IContainer")
class ContainerService:
    """Reads one snapshot, or writes one transaction, a call."""

    def __init__(self, kernel: Kernel, session: Session):
        self.store = kernel.store
        self.schema = kernel.schema

    # -- reading -------------------------------------------------------------------------------------------------

    def loadContainerHierarchy(self, ctx: Context, rootType, rootIds, options) -> list[IObject]:
        """Containers with what is in them; with images and their pixels where the options ask for leaves."""
        entity = self._entity(rootType)
        if entity.name not in INSIDE:
            raise refuse(omero.ApiUsageException, f"{rootType} is not a container: use one of {', '.join(INSIDE)}.")
        wanted = rootIds or None  # Ice makes an empty list of null
        if wanted is None and not _filters(entity, options):
            raise refuse(omero.ApiUsageException, "Give ids of containers, or the owner or group of containers.")
        with self.store.read() as connection:
            loader = Loader(connection, ctx)
            found = list(loader.get(entity, self._ids(connection, ctx, entity, wanted, options)).values())
            loader.load_stamps(found)
            leaves = options is not None and options.theOptions is not None and unwrap(options.theOptions.leaves)
            inside = self._load_inside(loader, entity, found) if entity.name != "Plate" or leaves else []
            if entity.name == "Project" and leaves:
                inside = self._load_inside(loader, self.schema["Dataset"], inside)
            if leaves:
                self._load_pixels(loader, [one for one in inside if isinstance(one, omero.model.Image)])
        return found

    def getImages(self, ctx: Context, rootType, rootIds, options) -> list[IObject]:
        """Images by their own ids or by those of their datasets or projects, with their pixels."""
        entity, image = self._entity(rootType), self.schema["Image"]
        with self.store.read() as connection:
            loader = Loader(connection, ctx)
            ids = self._image_ids(connection, ctx, entity, rootIds)
            found = list(loader.get(image, self._ids(connection, ctx, image, ids, options)).values())
            loader.load_stamps(found)
            self._load_pixels(loader, found)
        return found

    def getUserImages(self, ctx: Context, options) -> list[IObject]:
        """The images of the owner or group that the options name."""
        if not _filters(self.schema["Image"], options):
            raise refuse(omero.ApiUsageException, "Give the owner or the group of the images.")
        with self.store.read() as connection:
            loader = Loader(connection, ctx)
            image = self.schema["Image"]
            found = list(loader.get(image, self._ids(connection, ctx, image, None, options)).values())
            self._load_pixels(loader, found)
        return found

    def getImagesBySplitFilesets(self, ctx: Context, included, options) -> dict[int, dict[bool, list[int]]]:
        """Filesets of which only a part is among some images or in their containers: that part, and the others."""
        columns = self.schema["Image"].table.c
        with self.store.read() as connection:
            inside: set[int] = set()
            for name, ids in included.items():
                inside.update(self._image_ids(connection, ctx, self._entity(name), ids))
            filesets = sa.select(columns.fileset).where(rows.among(columns.id, inside), columns.fileset.is_not(None))
            found = connection.execute(sa.select(columns.fileset, columns.id).where(
                columns.fileset.in_(filesets), *rows.visible(ctx, self.schema["Image"])).order_by(columns.id)
            ).tuples().all()
        answer: dict[int, dict[bool, list[int]]] = {}
        for fileset, image in found:
            answer.setdefault(fileset, {True: [], False: []})[image in inside].append(image)
        return {fileset: parts for fileset, parts in answer.items() if parts[False]}

    def getCollectionCount(self, ctx: Context, type, property, ids, options) -> dict[int, int]:
        """How many members the collection of each object has."""
        one = self._collection(self._entity(type), property)
        element = self.schema[one.target or ""]
        owner = element.table.c[one.inverse or ""]
        statement = sa.select(owner, sa.func.count()).where(
            rows.among(owner, ids), *rows.visible(ctx, element)).group_by(owner)
        with self.store.read() as connection:
            return dict.fromkeys(ids, 0) | dict(connection.execute(statement).tuples().all())

    def retrieveCollection(self, ctx: Context, obj, collectionName, options) -> list[IObject]:
        """The loaded members of an object's collection."""
        entity = self.schema.of(obj)
        one = self._collection(entity, collectionName)
        with self.store.read() as connection:
            loader = Loader(connection, ctx)
            return loader.fetch(loader.get(entity, [rows.id_of(obj) or 0]).values(), one)

    # -- writing -------------------------------------------------------------------------------------------------

    def createDataObject(self, ctx: Context, obj, options) -> IObject:
        return self.createDataObjects(ctx, [obj], options)[0]

    def createDataObjects(self, ctx: Context, dataObjects, options) -> list[IObject]:
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
            raise refuse(omero.ApiUsageException, f"There is no class {name}.")
        return entity

    def _collection(self, entity: Entity, name: str) -> Field:
        one = entity.fields.get(name.rpartition("_")[2])
        if one is None or one.kind != "collection":
            raise refuse(omero.ApiUsageException, f"A {entity.name} has no collection {name}.")
        return one

    def _ids(self, connection: sa.Connection, ctx: Context, entity: Entity, ids: Iterable[int] | None,
             options) -> list[int]:
        columns = entity.table.c
        wanted = [*rows.visible(ctx, entity), *_filters(entity, options)]
        if ids is not None:
            wanted.append(rows.among(columns.id, ids))
        asked = options.theFilter if options is not None else None
        statement = sa.select(columns.id).where(*wanted).order_by(columns.id)
        if asked is not None and asked.limit is not None:
            statement = statement.limit(asked.limit.val).offset(unwrap(asked.offset) or 0)
        return list(connection.execute(statement).scalars())

    def _image_ids(self, connection: sa.Connection, ctx: Context, entity: Entity, ids: Iterable[int]) -> Iterable[int]:
        """The ids of images: given, or those in datasets or projects."""
        while entity.name != "Image":
            if entity.name not in ("Project", "Dataset"):
                raise refuse(omero.ApiUsageException, f"Images can't be found by a {entity.name}.")
            link = self.schema[entity.fields[INSIDE[entity.name]].target or ""]
            ids = self._ends(connection, ctx, link, ids)
            entity = self.schema[link.fields["child"].target or ""]
        return ids

    def _ends(self, connection: sa.Connection, ctx: Context, link: Entity, parents: Iterable[int]) -> list[int]:
        columns = link.table.c
        return list(connection.execute(sa.select(columns.child).where(
            rows.among(columns.parent, parents), *rows.visible(ctx, link))).scalars())

    def _load_inside(self, loader: Loader, entity: Entity, containers: list[IObject]) -> list[IObject]:
        """Load what is in containers; through links where it is linked."""
        members = loader.fetch(containers, entity.fields[INSIDE[entity.name]])
        link = self.schema[entity.fields[INSIDE[entity.name]].target or ""]
        return loader.fetch(members, link.fields["child"]) if link.is_link else members

    def _load_pixels(self, loader: Loader, images: list[IObject]) -> None:
        pixels = loader.fetch(images, self.schema["Image"].fields["pixels"])
        for name in ("pixelsType", "dimensionOrder"):
            loader.fetch(pixels, self.schema["Pixels"].fields[name])


def _filters(entity: Entity, options) -> list[sa.ColumnElement[bool]]:
    """The owner and group that a call's options ask for."""
    asked = options.theFilter if options is not None else None
    if asked is None:
        return []
    pairs = ((entity.table.c._owner, asked.ownerId), (entity.table.c._group, asked.groupId))
    return [column == value.val for column, value in pairs if value is not None]
