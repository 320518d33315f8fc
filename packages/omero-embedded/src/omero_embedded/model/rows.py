"""Model objects as rows of tables, and the statements that saving and deleting share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from operator import attrgetter

import omero
import sqlalchemy as sa
from omero.model import IObject

from omero_embedded.errors import refuse
from omero_embedded.model.access import Context
from omero_embedded.model.schema import SCALARS, Entity, Field, schema

IDS = sa.bindparam("ids", type_=sa.Text)


def among(column: sa.ColumnElement, ids: Iterable[int]) -> sa.ColumnElement[bool]:
    """The condition that a column holds one of some ids; however many there are, they are one bound parameter."""
    return among_json(column, sa.literal(as_json(ids)))


def among_json(column: sa.ColumnElement, ids: sa.BindParameter) -> sa.ColumnElement[bool]:
    """The condition that a column holds one of the ids in a JSON array."""
    values = sa.func.json_each(ids).table_valued("value")
    return column.in_(sa.select(values.c.value))


def among_given(column: sa.ColumnElement) -> sa.ColumnElement[bool]:
    """The same for a statement that is kept for many calls: it gets the ids as `ids=as_json(...)` when it is executed.

    To build a statement takes much longer than to execute it.
    """
    return among_json(column, IDS)


def as_json(ids: Iterable[int]) -> str:
    return json.dumps(list(ids))


def visible(ctx: Context, entity: Entity) -> list[sa.ColumnElement[bool]]:
    """The condition that rows of an entity are visible, in a list; an empty list if all are."""
    condition = ctx.visible(entity, entity.table)
    return [] if condition is None else [condition]


def id_of(obj: IObject | None) -> int | None:
    """The id of an object; None if there is no object or no id."""
    return None if obj is None or obj._id is None else obj._id._val


def _check_text(text: str | None) -> str | None:
    """Refuse a text with a zero byte, which PostgreSQL doesn't take."""
    if text is not None and "\0" in text:
        raise refuse(omero.ValidationException, "A text can't have a zero byte in it.")
    return text


# by kind of field, the value of a column for a value of the field that is not None
_READ: dict[str, Callable] = {
    **dict.fromkeys(SCALARS.values(), attrgetter("_val")),
    "text": lambda value: _check_text(value._val),
    "ref": id_of,
    "strings": list,
    "bytes": bytes,
}


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
    for column, key, read in _columns(entity.name):
        value = values.get(key)
        row[column] = None if value is None else read(value)
    return row


def columns_of(entity: Entity, objects: Sequence[IObject]) -> dict[str, list]:
    """The same for many objects: lists by column, without the columns in which no object has a value."""
    some = [vars(obj) for obj in objects]
    found: dict[str, list] = {}
    for column, key, read in _columns(entity.name):
        if any(values.get(key) is not None for values in some):
            found[column] = [None if (value := values.get(key)) is None else read(value) for values in some]
    return found


@cache
def _columns(entity_name: str) -> tuple[tuple[str, str, Callable], ...]:
    """The columns of an entity, each with the member that it is made of and a function of the member's value."""
    columns: list[tuple[str, str, Callable]] = []
    for one in schema()[entity_name].fields.values():
        if one.kind == "unit":
            columns.append((one.name, f"_{one.name}", lambda value: value._value))
            columns.append((f"{one.name}_unit", f"_{one.name}", lambda value: str(value._unit)))
        elif one.kind in _READ:
            columns.append((one.name, f"_{one.name}", _READ[one.kind]))
    return tuple(columns)


def pairs_of(obj: IObject, one: Field) -> list[tuple[str, str]]:
    """The pairs of a map field in order. As in OMERO, a missing value is stored as an empty one."""
    pairs = vars(obj).get("_" + one.name) or []
    return [(_check_text(pair.name) or "", _check_text(pair.value) or "") for pair in pairs if pair is not None]


def elements(obj: IObject, one: Field) -> list[IObject | None] | None:
    """The elements of a collection; None if it is not loaded."""
    values = vars(obj)
    return values[f"_{one.name}Seq"] if values[f"_{one.name}Loaded"] else None


def select_rows(connection: sa.Connection, table: sa.Table, ids: Iterable[int]) -> dict[int, dict]:
    """Read whole rows by id; missing ones are left out."""
    found = connection.execute(_rows_of(table), {"ids": as_json(ids)})
    return {row["id"]: dict(row) for row in found.mappings()}


@cache
def _rows_of(table: sa.Table) -> sa.Select:
    return sa.select(table).where(among_given(table.c.id))


def select_pairs(connection: sa.Connection, table: sa.Table, ids: Iterable[int]) -> dict[int, list[tuple[str, str]]]:
    """Read the pairs of a map field in order, by the id of the object that has them."""
    found = connection.execute(_pairs_of(table), {"ids": as_json(ids)})
    pairs: dict[int, list[tuple[str, str]]] = {}
    for parent, name, value in found:
        pairs.setdefault(parent, []).append((name, value))
    return pairs


def insert_columns(connection: sa.Connection, table: sa.Table, columns: Mapping[str, Sequence]) -> None:
    """Write new rows, given as lists of values by column; in half the time that SQLAlchemy takes for dicts."""
    converted = []
    for name, values in columns.items():
        convert = table.c[name].type.dialect_impl(connection.dialect).bind_processor(connection.dialect)
        converted.append(values if convert is None else map(convert, values))
    quote = connection.dialect.identifier_preparer.quote
    names, marks = ", ".join(map(quote, columns)), ", ".join("?" * len(columns))
    connection.exec_driver_sql(f"INSERT INTO {quote(table.name)} ({names}) VALUES ({marks})", list(zip(*converted)))


@cache
def _pairs_of(table: sa.Table) -> sa.Select:
    columns = table.c
    wanted = sa.select(columns.parent, columns.name, columns.value).where(among_given(columns.parent))
    return wanted.order_by(columns.parent, columns.position)


@cache
def insert_into(table: sa.Table) -> sa.Insert:
    """The statement that inserts rows, kept for many calls."""
    return sa.insert(table)


class Ids:
    """New ids for every table in this transaction, with one query for each table."""

    def __init__(self, connection: sa.Connection):
        known = connection.execute(sa.text("select name, seq from sqlite_sequence"))
        self._last: dict[str, int] = dict(known.tuples().all())

    def next(self, entity: Entity) -> int:
        name = entity.table.name
        self._last[name] = self._last.get(name, 0) + 1
        return self._last[name]
