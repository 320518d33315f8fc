"""IUpdate: saving and deleting model objects."""

from __future__ import annotations

import omero
from omero.model import IObject

from omero_embedded.errors import no_row, refuse
from omero_embedded.kernel import Kernel
from omero_embedded.model import deleting, rows, saving
from omero_embedded.model.access import Context
from omero_embedded.people.sessions import Session
from omero_embedded.services.registry import service


@service("::omero::api::IUpdate")
class UpdateService:
    """Every call is one transaction, which stores everything or nothing."""

    def __init__(self, kernel: Kernel, session: Session):
        self.store = kernel.store

    def saveObject(self, ctx: Context, obj: IObject) -> None:
        self.saveAndReturnIds(ctx, [obj])

    def saveArray(self, ctx: Context, graph: list[IObject]) -> None:
        self.saveAndReturnIds(ctx, graph)

    saveCollection = saveArray

    def saveAndReturnObject(self, ctx: Context, obj: IObject) -> IObject:
        return self.saveAndReturnArray(ctx, [obj])[0]

    def saveAndReturnArray(self, ctx: Context, graph: list[IObject]) -> list[IObject]:
        with self.store.write() as connection:
            return saving.save(connection, ctx, _all_there(graph))

    def saveAndReturnIds(self, ctx: Context, graph: list[IObject]) -> list[int]:
        with self.store.write() as connection:
            return saving.save_ids(connection, ctx, _all_there(graph))

    def deleteObject(self, ctx: Context, row: IObject) -> None:
        if row is None:
            return
        entity = self.store.schema.of(row)
        oid = rows.id_of(row)
        if oid is None:
            raise refuse(omero.ApiUsageException, "Non-managed IObject entity cannot be deleted. Must have an id.")
        with self.store.write() as connection:
            found = rows.select_rows(connection, entity.table, [oid])
            if oid not in found:
                raise no_row(entity.java, oid)
            if not entity.is_global and not ctx.may_see(found[oid]["_owner"], found[oid]["_group"]):
                raise refuse(omero.SecurityViolation, f"{entity.name} {oid} is not visible to {ctx.user_name} here.")
            deleting.delete_parts(connection, ctx, entity, [oid])

    def indexObject(self, ctx: Context, row: IObject) -> None:
        """Do nothing: searches read the tables."""
        if not ctx.is_admin:
            raise refuse(omero.SecurityViolation, "Only administrators may have objects indexed.")
        if row is None or row.id is None:
            raise refuse(omero.ValidationException, "Non-managed object cannot be indexed.")


def _all_there(objects: list[IObject]) -> list[IObject]:
    if any(obj is None for obj in objects):
        raise refuse(omero.ApiUsageException, "attempt to create saveOrUpdate event with null entity")
    return objects
