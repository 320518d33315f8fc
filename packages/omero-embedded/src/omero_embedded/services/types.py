"""ITypes: enumerations."""

from __future__ import annotations

import omero
import sqlalchemy as sa
from omero.model import IObject

from omero_embedded.errors import refuse
from omero_embedded.kernel import Kernel
from omero_embedded.model import deleting, rows, saving
from omero_embedded.model.access import Context
from omero_embedded.model.loading import Loader
from omero_embedded.model.schema import Entity
from omero_embedded.people.sessions import Session
from omero_embedded.services.registry import service


@service("::omero::api::ITypes")
class TypesService:
    """Everybody may read enumerations; administrators may change them."""

    def __init__(self, kernel: Kernel, session: Session):
        self.store = kernel.store
        self.schema = kernel.schema

    def getEnumeration(self, ctx: Context, type: str, value: str) -> IObject:
        found = self._load(ctx, self._enumeration(type), value)
        if not found:
            raise refuse(omero.ApiUsageException, f"{type} has no value {value}.")
        return found[0]

    def allEnumerations(self, ctx: Context, type: str) -> list[IObject]:
        """All objects of a class, which is an enumeration as a rule."""
        entity = self.schema.find(type or "")
        if entity is None:
            raise refuse(omero.ApiUsageException, f"There is no class {type}.")
        return self._load(ctx, entity)

    def getEnumerationTypes(self, ctx: Context) -> list[str]:
        return [entity.name for entity in self._enumerations()]

    def getEnumerationsWithEntries(self, ctx: Context) -> dict[str, list[IObject]]:
        return {entity.name: self._load(ctx, entity) for entity in self._enumerations()}

    def getAnnotationTypes(self, ctx: Context) -> list[str]:
        return [entity.name for entity in self.schema["Annotation"].family() if not entity.abstract]

    def createEnumeration(self, ctx: Context, newEnum: IObject) -> IObject:
        return self._save(ctx, [newEnum])[0]

    def updateEnumeration(self, ctx: Context, oldEnum: IObject) -> IObject:
        return self._save(ctx, [oldEnum])[0]

    def updateEnumerations(self, ctx: Context, oldEnums: list[IObject]) -> None:
        self._save(ctx, oldEnums)

    def deleteEnumeration(self, ctx: Context, oldEnum: IObject) -> None:
        with self.store.write() as connection:
            deleting.delete_parts(connection, ctx, self._entity_of(oldEnum), [rows.id_of(oldEnum) or 0])

    def _save(self, ctx: Context, objects: list[IObject]) -> list[IObject]:
        for obj in objects:
            self._entity_of(obj)
        with self.store.write() as connection:
            return saving.save(connection, ctx, objects)

    def _entity_of(self, obj: IObject) -> Entity:
        if obj is None:
            raise refuse(omero.ApiUsageException, "Null is not an enumeration.")
        return self._enumeration(self.schema.of(obj).name)

    def _enumerations(self) -> list[Entity]:
        return [entity for entity in self.schema.entities.values() if entity.is_enum]

    def _enumeration(self, name: str) -> Entity:
        entity = self.schema.find(name)
        if entity is None or not entity.is_enum:
            raise refuse(omero.ApiUsageException, f"{name} is not an enumeration.")
        return entity

    def _load(self, ctx: Context, entity: Entity, value: str | None = None) -> list[IObject]:
        wanted = sa.select(entity.table.c.id).order_by(entity.table.c.id)
        if value is not None:
            wanted = wanted.where(entity.table.c.value == value)
        wanted = wanted.where(*rows.visible(ctx, entity))
        with self.store.read() as connection:
            return list(Loader(connection, ctx).get(entity, connection.execute(wanted).scalars()).values())
