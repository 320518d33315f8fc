"""The event of a call, and single rows that are written under it."""

from __future__ import annotations

import time
from functools import cache

import omero
import sqlalchemy as sa

from omero_embedded.errors import refuse
from omero_embedded.model.access import Context
from omero_embedded.model.rows import insert_into
from omero_embedded.model.schema import Entity, schema


def new_event(connection: sa.Connection, ctx: Context) -> int:
    """Return the id of this call's event, which is made when the call first writes something."""
    if "id" not in ctx.event:
        found = connection.execute(_session(), {"given": ctx.session_uuid}).first()
        kind = connection.execute(_kind(), {"given": found.defaultEventType if found else "Internal"}).scalar()
        row = {
            "time": int(time.time() * 1000),
            "experimenter": ctx.user,
            "experimenterGroup": max(ctx.group, 0),
            "type": kind,
            "session": found.id if found else None,
        }
        (ctx.event["id"],) = connection.execute(insert_into(schema()["Event"].table), row).inserted_primary_key or (0,)
    return ctx.event["id"]


@cache
def _session() -> sa.Select:
    columns = schema()["Session"].table.c
    return sa.select(columns.id, columns.defaultEventType).where(columns.uuid == sa.bindparam("given"))


@cache
def _kind() -> sa.Select:
    columns = schema()["EventType"].table.c
    return sa.select(columns.id).where(columns.value == sa.bindparam("given"))


def insert(connection: sa.Connection, ctx: Context, entity: Entity, values: dict, event: int | None) -> int:
    """Write one row with its details, and return its id.

    Parameters
    ----------
    values
        Values by column name, references as ids. `id` is given only if the id is fixed.
    event
        The creating event; None for rows that are older than any event.

    Raises
    ------
    omero.ValidationException
        If the row breaks a constraint.
    """
    details: dict = {"_creationEvent": event, "_updateEvent": event if entity.is_mutable else None}
    if not entity.is_global:
        details |= {"_owner": ctx.user, "_group": ctx.group}
    if "class" in entity.table.c:
        details["class"] = entity.name
    try:
        (oid,) = connection.execute(insert_into(entity.table), details | values).inserted_primary_key or (0,)
    except sa.exc.IntegrityError as error:
        raise conflict(error) from None
    return oid


def conflict(error: sa.exc.IntegrityError) -> omero.ServerError:
    """Make the error for a row that the database refuses."""
    what = "Another object like this one is stored already" if "UNIQUE" in str(error.orig) else "This can't be stored"
    return refuse(omero.ValidationException, f"{what}: {error.orig}")
