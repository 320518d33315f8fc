"""ITypes: enumerations."""

from __future__ import annotations

import omero
import sqlalchemy as sa
from omero.model import IObject
from omero.rtypes import rstring

from omero_embedded.errors import refuse
from omero_embedded.kernel import Kernel
from omero_embedded.model import deleting, rows, saving
from omero_embedded.model.access import Context
from omero_embedded.model.enumerations import VALUES
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
            raise refuse(
                omero.ApiUsageException,
                f"An {self._enumeration(type).java} enum does not exist with the value: {value}",
            )
        return found[0]

    def allEnumerations(self, ctx: Context, type: str) -> list[IObject]:
        """All objects of a class, which is an enumeration as a rule."""
        entity = self.schema.find(type or "")
        if entity is None:
            raise refuse(omero.ApiUsageException, f"{type} does not specify a valid class.")
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
        if oldEnum is None:
            return
        with self.store.write() as connection:
            deleting.delete_parts(connection, ctx, self._entity_of(oldEnum), [rows.id_of(oldEnum) or 0])

    def getOriginalEnumerations(self, ctx: Context) -> list[IObject]:
        """Make the values that a new server has, without ids."""
        self._admins_only(ctx)
        found = []
        for name, values in VALUES.items():
            for value in values.split():
                made = self.schema[name].new()
                made.value = rstring(value)
                found.append(made)
        return found

    def resetEnumerations(self, ctx: Context, name: str) -> None:
        """Delete the values of an enumeration that a new server has not, and add those that are missing."""
        self._admins_only(ctx)
        entity = self._enumeration(name)
        original = VALUES.get(entity.name, "").split()
        known = {one.value.val: one for one in self._load(ctx, entity)}
        for value in known.keys() - original:
            self.deleteEnumeration(ctx, known[value])
        missing = [entity.new() for _ in range(len(original) - len(known.keys() & original))]
        for made, value in zip(missing, [one for one in original if one not in known], strict=True):
            made.value = rstring(value)
        self._save(ctx, missing)

    def _admins_only(self, ctx: Context) -> None:
        if not ctx.is_admin:
            raise refuse(omero.SecurityViolation, f"{ctx.user_name} is no administrator.")

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
            raise refuse(omero.ApiUsageException, f"{name} does not specify a valid class.")
        return entity

    def _load(self, ctx: Context, entity: Entity, value: str | None = None) -> list[IObject]:
        wanted = sa.select(entity.table.c.id).order_by(entity.table.c.id)
        if value is not None:
            wanted = wanted.where(entity.table.c.value == value)
        wanted = wanted.where(*rows.visible(ctx, entity))
        with self.store.read() as connection:
            return list(Loader(connection, ctx).get(entity, connection.execute(wanted).scalars()).values())
