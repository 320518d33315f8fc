"""Model objects as rows of tables, and the statements that saving and deleting share."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache

import omero
import sqlalchemy as sa
from omero.model import IObject

from omero_embedded.errors import refuse
from omero_embedded.model.access import Context
from omero_embedded.model.schema import SCALARS, Entity, Field, schema

_SCALAR_KINDS = frozenset(SCALARS.values())


def among(column: sa.ColumnElement, ids: Iterable[int]) -> sa.ColumnElement[bool]:
    """The condition that a column holds one of some ids; however many there are, they are one bound parameter."""
    return among_json(column, sa.literal(json.dumps(list(ids))))


def among_json(column: sa.ColumnElement, ids: sa.BindParameter) -> sa.ColumnElement[bool]:
    """The condition that a column holds one of the ids in a JSON array."""
    values = sa.func.json_each(ids).table_valued("value")
    return column.in_(sa.select(values.c.value))


def visible(ctx: Context, entity: Entity) -> list[sa.ColumnElement[bool]]:
    """The condition that rows of an entity are visible, in a list; an empty list if all are."""
    condition = ctx.visible(entity, entity.table)
    return [] if condition is None else [condition]


def id_of(obj: IObject | None) -> int | None:
    """The id of an object; None if there is no object or no id."""
    return None if obj is None or obj._id is None else obj._id._val


@cache
def fields_of(entity_name: str, *kinds: str) -> tuple[Field, ...]:
    """The fields of an entity that are of some kinds."""
    return tuple(one for one in schema()[entity_name].fields.values() if one.kind in kinds)


@cache
def ordered_collections(entity_name: str) -> tuple[Field, ...]:
    """The lists of an entity: collections whose elements are deleted with it."""
    return tuple(one for one in fields_of(entity_name, "collection") if one.index)


@cache
def list_memberships(entity_name: str) -> tuple[Field, ...]:
    """The lists, of any entity, whose elements are of this entity."""
    return tuple(
        one
        for other in schema().entities.values()
        for one in ordered_collections(other.name)
        if schema()[entity_name].is_a(one.target or "") and one.name not in _inherited(other)
    )


def _inherited(entity: Entity) -> dict[str, Field]:
    return entity.parent.fields if entity.parent else {}


def row_of(entity: Entity, obj: IObject) -> dict:
    """The column values of an object, without id, details, list indexes and maps.

    A reference becomes the id of its target; None if the target has no id yet.
    """
    values = vars(obj)
    row: dict = {}
    for one in entity.fields.values():
        value = values.get("_" + one.name)
        if one.kind in _SCALAR_KINDS:
            row[one.name] = None if value is None else value._val
            if one.kind == "text":
                _check_text(row[one.name])
        elif one.kind == "ref":
            row[one.name] = id_of(value)
        elif one.kind == "unit":
            row[one.name] = None if value is None else value._value
            row[one.name + "_unit"] = None if value is None else str(value._unit)
        elif one.kind == "strings":
            row[one.name] = None if value is None else list(value)
        elif one.kind == "bytes":
            row[one.name] = None if value is None else bytes(value)
    return row


def pairs_of(obj: IObject, one: Field) -> list[tuple[str, str]]:
    """The pairs of a map field in order. As in OMERO, a missing value is stored as an empty one."""
    pairs = vars(obj).get("_" + one.name) or []
    return [(_check_text(pair.name) or "", _check_text(pair.value) or "") for pair in pairs if pair is not None]


def _check_text(text: str | None) -> str | None:
    """Refuse a text with a zero byte, which PostgreSQL doesn't take."""
    if text is not None and "\0" in text:
        raise refuse(omero.ValidationException, "A text can't have a zero byte in it.")
    return text


def elements(obj: IObject, one: Field) -> list[IObject | None] | None:
    """The elements of a collection; None if it is not loaded."""
    values = vars(obj)
    return values[f"_{one.name}Seq"] if values[f"_{one.name}Loaded"] else None


def select_rows(connection: sa.Connection, table: sa.Table, ids: Iterable[int]) -> dict[int, dict]:
    """Read whole rows by id; missing ones are left out."""
    found = connection.execute(sa.select(table).where(among(table.c.id, ids)))
    return {row["id"]: dict(row) for row in found.mappings()}


def select_pairs(connection: sa.Connection, table: sa.Table, ids: Iterable[int]) -> dict[int, list[tuple[str, str]]]:
    """Read the pairs of a map field in order, by the id of the object that has them."""
    found = connection.execute(
        sa.select(table.c.parent, table.c.name, table.c.value)
        .where(among(table.c.parent, ids))
        .order_by(table.c.parent, table.c.position)
    )
    pairs: dict[int, list[tuple[str, str]]] = {}
    for parent, name, value in found:
        pairs.setdefault(parent, []).append((name, value))
    return pairs


class Ids:
    """New ids for every table in this transaction, with one query for each table."""

    def __init__(self, connection: sa.Connection):
        known = connection.execute(sa.text("select name, seq from sqlite_sequence"))
        self._last: dict[str, int] = dict(known.tuples().all())

    def next(self, entity: Entity) -> int:
        name = entity.table.name
        self._last[name] = self._last.get(name, 0) + 1
        return self._last[name]
