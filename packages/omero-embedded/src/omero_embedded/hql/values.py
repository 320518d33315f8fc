"""Compiled HQL expressions: their SQL, and the kind that decides which rtype a value becomes."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from dataclasses import field as made_field

import omero
import omero.model
import omero.rtypes
import sqlalchemy as sa

from omero_embedded.errors import refuse
from omero_embedded.model.rows import among_json
from omero_embedded.model.schema import SQL_TYPES, Entity, Field, schema

NUMBERS = ("int", "long", "double")
VALUE_TYPES = {
    "entity": sa.BigInteger,
    "interval": sa.BigInteger,
    "float": sa.Float,
    **SQL_TYPES,
}  # the SQL types of constants
PARAM_KINDS = {
    omero.rtypes.RIntI: "int",
    omero.rtypes.RLongI: "long",
    omero.rtypes.RDoubleI: "double",
    omero.rtypes.RStringI: "text",
    omero.rtypes.RBoolI: "bool",
    omero.rtypes.RTimeI: "time",
    omero.rtypes.RFloatI: "float",
    omero.rtypes.RObjectI: "entity",
}
# The discriminators of OMERO's mapping; `x.class` of other classes is their Java name.
DISCRIMINATORS = {
    "BasicAnnotation": "/basic/",
    "BooleanAnnotation": "/basic/bool/",
    "NumericAnnotation": "/basic/num/",
    "DoubleAnnotation": "/basic/num/double/",
    "LongAnnotation": "/basic/num/long/",
    "TermAnnotation": "/basic/term/",
    "TimestampAnnotation": "/basic/time/",
    "TextAnnotation": "/basic/text/",
    "CommentAnnotation": "/basic/text/comment/",
    "TagAnnotation": "/basic/text/tag/",
    "XmlAnnotation": "/basic/text/xml/",
    "TypeAnnotation": "/type/",
    "FileAnnotation": "/type/OriginalFile/",
    "ListAnnotation": "/list/",
    "MapAnnotation": "/map/",
    "Ellipse": "ellipse",
    "Label": "text",
    "Line": "line",
    "Mask": "mask",
    "Path": "path",
    "Point": "point",
    "Polygon": "polygon",
    "Polyline": "polyline",
    "Rectangle": "rect",
}


@dataclass(frozen=True)
class Value:
    """A compiled expression.

    Attributes
    ----------
    kind
        The kind of a field (int, long, double, text, bool, time, strings, bytes) or one of: "entity" (sql is its id),
        "collection" (of source), "unit" (sql is the value), "symbol" (the `.unit` of a unit), "permissions" (sql is
        the owner), "class" (`x.class`, the name of the class), "java" (`type(x.class)`), "unknown" (null).
    more
        Further columns: the unit of a unit; the group, own permissions and id of permissions.
    """

    sql: sa.ColumnElement
    kind: str
    entity: Entity | None = None
    source: Source | None = None
    field: Field | None = None
    more: tuple[sa.ColumnElement, ...] = ()  # further columns: a unit's unit, permissions' group and kind
    nullable: bool = True


@dataclass(eq=False)
class Source:
    """One table of a from clause.

    Attributes
    ----------
    scope
        The from clause, a Scope. Sources only compare it.
    entity
        The class of the rows; None for the pairs of a map field (columns name, value, position), for numbers of links
        (value, and the owner as position), and for a unit.
    owner, field
        What it was joined from.
    index
        The column with the index of a list.
    """

    scope: object
    table: sa.FromClause
    entity: Entity | None
    owner: Source | None = None
    field: Field | None = None
    index: sa.ColumnElement | None = None
    fetched: bool = False
    unit: Value | None = None
    joins: dict[str, Source] = made_field(default_factory=dict)  # references that paths have joined
    optional: bool = False  # whether a right or full join has rows without it

    @property
    def nullable(self) -> bool:
        return self.optional or self.owner is not None

    def value(self) -> Value:
        """The alias itself, as an expression."""
        if self.unit is not None:
            return self.unit
        if self.entity is None:
            is_count = self.field is not None and self.field.kind == "counts"
            return Value(self.table.c.value, "long" if is_count else "text", source=self)
        return Value(self.table.c.id, "entity", self.entity, source=self, nullable=self.nullable)

    def name(self) -> str:
        return self.entity.name if self.entity else "map entry"


def query_error(message: str) -> omero.ServerError:
    return refuse(omero.QueryException, message)


def usage_error(message: str) -> omero.ServerError:
    """What PostgreSQL refuses: a real server's message begins like this."""
    return refuse(
        omero.ApiUsageException,
        f"could not execute query; nested exception is org.hibernate.exception.SQLGrammarException: {message}",
    )


def cast_error(message: str) -> omero.ServerError:
    """What Java can't cast."""
    return refuse(omero.InternalException, f" Wrapped Exception: (java.lang.ClassCastException):\n{message}")


def constant(value, kind: str) -> Value:
    """Compile a literal to a bound value."""
    if value is None:
        return Value(sa.null(), "unknown")
    return Value(sa.literal(value, VALUE_TYPES[kind]), kind)


def common_kind(values: list[Value]) -> Value:
    """Of the alternatives of case or coalesce, return one with their common kind: the widest number, or the first."""
    known = [value for value in values if value.kind != "unknown"] or values
    if all(value.kind in NUMBERS for value in known):
        return max(known, key=lambda value: NUMBERS.index(value.kind))
    return known[0]


class Params:
    """The parameters of a call, checked as strictly as OMERO does.

    A compiled query has places for the values, so that it can be used for all calls whose parameters have the same
    `kinds`.

    Attributes
    ----------
    places
        How to find the value of each place, by its name.
    """

    def __init__(self, values: dict | None):
        self._values = values or {}
        self.places: dict[str, Callable[[Params], object]] = {}

    @property
    def kinds(self) -> Hashable:
        """What the compilation depends on: the types of the values, whether they are lists, and of how many."""
        return tuple((name, _kinds(value)) for name, value in self._values.items())

    def _get(self, name: str):
        if name == "?":
            raise refuse(omero.ApiUsageException, "Expected positional parameter count: 1, actual parameters: []")
        value = self._values.get(name)
        if value is None:
            raise _null(name)
        return value

    def is_list(self, name: str) -> bool:
        return isinstance(self._get(name), omero.RCollection)

    def one(self, name: str, expected: str | None = None, stands_for: str = "") -> Value:
        """Return the place of a parameter.

        Parameters
        ----------
        expected
            The kind of what it is compared with, if known.
        stands_for
            What a text stands for: "class", or a class of units such as "Length".
        """
        kind = self._checked(name, self._single(name), expected)
        place = f"hql_{name}_{stands_for}"
        self.places[place] = lambda params: name_of(stands_for, _raw(params._single(name)))
        return Value(sa.bindparam(place, type_=VALUE_TYPES[kind]), kind)

    def among(self, name: str, column: sa.ColumnElement, expected: str | None) -> sa.ColumnElement[bool]:
        """The condition that a column holds one of the values of a list."""
        elements = self._get(name).val
        if not elements:
            raise usage_error(f"The parameter :{name} is an empty list.")
        for element in elements:
            self._checked(name, element, expected)
        place = f"hql_{name}_list"
        self.places[place] = lambda params: json.dumps([_raw(element) for element in params._get(name).val])
        return among_json(column, sa.bindparam(place, type_=sa.Text))

    def _single(self, name: str):
        value = self._get(name)
        if not isinstance(value, omero.RCollection):
            return value
        elements = value.val or []
        if len(elements) != 1:
            raise usage_error(f"The parameter :{name} is a list of {len(elements)}, where one value is wanted.")
        return elements[0]

    def _checked(self, name: str, value, expected: str | None) -> str:
        """Return the kind of a value."""
        kind = PARAM_KINDS.get(type(value))
        if kind is None:
            raise cast_error(f"The parameter :{name} is a {type(value).__name__}, which no query takes.")
        if expected is not None and kind != {"symbol": "text", "class": "text"}.get(expected, expected):
            raise cast_error(f"The parameter :{name} is a {kind}, not a {expected}.")
        if _raw(value) is None:
            raise _null(name)
        return kind


def _null(name: str) -> omero.ServerError:
    return refuse(omero.ApiUsageException, f"Null parameters not allowed: {name}")


def _raw(value):
    """The value in an rtype; the id of an object."""
    raw = value.val
    if isinstance(value, omero.RObject):
        return None if raw is None or raw.id is None else raw.id.val
    return raw


def _kinds(value) -> Hashable:
    if isinstance(value, omero.RCollection):
        elements = value.val or ()
        return min(len(elements), 2), frozenset(map(_kinds, elements))
    return type(value), value is None or type(value) not in PARAM_KINDS or _raw(value) is None


def name_of(stands_for: str, value):
    """Return the name of the class or unit that a text stands for, see `Params.one`; another value as it is."""
    if not stands_for:
        return value
    return class_name(value) if stands_for == "class" else unit_name(stands_for, value)


def unit_name(unit_class: str, text: str) -> str:
    """Return the name of a unit from its symbol or name: `µm` -> `MICROMETER`."""
    symbols = getattr(omero.model, unit_class + "I").SYMBOLS
    return next((name for name, symbol in symbols.items() if symbol == text), text)


def class_name(text: str) -> str:
    """Return the name of the class with a discriminator, or with a Java name if the class has no discriminator."""
    found = next((name for name, value in DISCRIMINATORS.items() if value == text), None)
    if found is None and (entity := schema().find(text)) is not None and entity.java == text:
        return "" if entity.name in DISCRIMINATORS else entity.name
    return found or ""
