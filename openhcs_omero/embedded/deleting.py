"""Deleting: single objects with their parts, and graphs of objects by OMERO's rules."""
from __future__ import annotations

from collections.abc import Iterable

import omero
import sqlalchemy as sa

from openhcs_omero.embedded import rows
from openhcs_omero.embedded.access import Context
from openhcs_omero.embedded.errors import refuse
from openhcs_omero.embedded.schema import Entity, schema
from openhcs_omero.embedded.store import Store


def delete_parts(connection: sa.Connection, ctx: Context, entity: Entity, ids: Iterable[int]) -> dict[str, set[int]]:
    """Delete objects with the elements of their lists, and nothing else.

    Returns
    -------
    The ids that were deleted, by the name of the topmost class.

    Raises
    ------
    ValidationException: something else refers to what would be deleted.
    SecurityViolation: the user may not delete it.
    """
    doomed: dict[str, set[int]] = {}
    todo = [(entity.root, set(ids))]
    while todo:
        owner, owner_ids = todo.pop()
        fresh = owner_ids - doomed.get(owner.name, set())
        if not fresh:
            continue
        doomed.setdefault(owner.name, set()).update(fresh)
        for one in {f.name: f for e in owner.family() for f in rows.ordered_collections(e.name)}.values():
            part = schema()[one.target or ""].root
            inside = rows.among(part.table.c[one.inverse or ""], fresh)
            todo.append((part, set(connection.execute(sa.select(part.table.c.id).where(inside)).scalars())))
    for name, some in doomed.items():
        _check_deletable(connection, ctx, schema()[name], some)
        _check_free(connection, schema()[name], some, doomed)
    for name, some in doomed.items():
        table = schema()[name].table
        connection.execute(sa.delete(table).where(rows.among(table.c.id, some)))
    return doomed


def _check_deletable(connection: sa.Connection, ctx: Context, entity: Entity, ids: set[int]) -> None:
    table = entity.table
    for oid, owner, group in connection.execute(sa.select(table.c.id, table.c._owner, table.c._group).where(
            rows.among(table.c.id, ids))):
        if not ctx.may_edit(owner, group):
            raise refuse(omero.SecurityViolation, f"{ctx.user_name} may not delete {entity.name} {oid}.")


def _check_free(connection: sa.Connection, entity: Entity, ids: set[int], doomed: dict[str, set[int]]) -> None:
    """Refuse to delete what something that stays refers to."""
    for other, one in schema().references_to(entity):
        column = other.table.c[one.name]
        found = set(connection.execute(sa.select(other.table.c.id).where(rows.among(column, ids))).scalars())
        left = found - doomed.get(other.root.name, set())
        if left:
            raise refuse(omero.ValidationException, f"{other.name} {min(left)} refers to a {entity.name} that would be "
                         f"deleted.")


def remove_bytes(store: Store, deleted: dict[str, set[int]]) -> None:
    """Remove the files of deleted pixels and original files; to be called after the commit."""
    for oid in deleted.get("Pixels", ()):
        store.pixels_path(oid).unlink(missing_ok=True)
    for oid in deleted.get("OriginalFile", ()):
        store.file_path(oid).unlink(missing_ok=True)
