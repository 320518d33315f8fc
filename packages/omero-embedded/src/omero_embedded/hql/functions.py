"""The functions of HQL, in terms of SQLite."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from omero_embedded.hql.values import NUMBERS, Value, common_kind, query_error, usage_error

AGGREGATES = ("count", "sum", "avg", "min", "max", "stddev", "variance")
CASTS = {
    "string": ("text", sa.Text),
    "text": ("text", sa.Text),
    "varchar": ("text", sa.Text),
    "int": ("int", sa.Integer),
    "integer": ("int", sa.Integer),
    "long": ("long", sa.BigInteger),
    "bigint": ("long", sa.BigInteger),
    "double": ("double", sa.Float),
    "float": ("double", sa.Float),
    "boolean": ("bool", sa.Boolean),
}


def cast(value: Value, name: str) -> Value:
    """`cast(x as string)`; `str(x)` is the same."""
    if name not in CASTS:
        raise usage_error(f"cast to {name} is not known")
    kind, sql_type = CASTS[name]
    return Value(sa.cast(value.sql, sql_type), kind)


def aggregate(name: str, value: Value | None, distinct: bool) -> Value:
    """Compile count, sum, avg, min, max, stddev or variance; without a value it is `count(*)`."""
    if value is None:
        return Value(sa.func.count(), "long")
    sql = sa.distinct(value.sql) if distinct else value.sql
    if name in ("stddev", "variance"):
        variance = _variance(value.sql)
        return Value(sa.func.sqrt(variance) if name == "stddev" else variance, "double")
    made = getattr(sa.func, name)(sql)
    if name == "count":
        return Value(made, "long")
    if name == "avg":
        return Value(made, "double")
    if name == "sum":
        return Value(made, "double" if value.kind in ("double", "unit") else "long")
    return Value(made, "double" if value.kind == "unit" else value.kind, value.entity, field=value.field)


def _variance(sql: sa.ColumnElement) -> sa.ColumnElement:
    """That of a sample: null for a single value."""
    number, total = sa.func.count(sql), sa.func.sum(sql)
    return sa.func.abs(sa.func.sum(sql * sql) - total * 1.0 * total / number) / (number - 1)


def call(name: str, args: list[Value], selected: bool = False) -> Value:
    """Compile a function that is not an aggregate.

    Parameters
    ----------
    name, args
        The function's name and its arguments.
    selected
        Whether the query selects the value. Its type has to be known then, and HQL knows that of its own functions
        only; it leaves others to the database.

    Raises
    ------
    omero.ApiUsageException
        If there is no such function, or it takes another number of arguments.
    omero.QueryException
        If the type of a selected value is not known.
    """
    made = _FUNCTIONS.get(name)
    if selected and name not in TYPED and not name.startswith("extract "):
        raise query_error(f"No data type for the function {name}.")
    if made is None:
        raise usage_error(f"The function {name} is not known.")
    try:
        return made(*args)
    except TypeError:
        raise usage_error(f"{name} doesn't take {len(args)} arguments.") from None


def concat(*values: Value) -> Value:
    """Concatenate texts; null if one of them is null."""
    first, *others = (value.sql if value.kind == "text" else sa.cast(value.sql, sa.Text) for value in values)
    for other in others:
        first = first.concat(other)
    return Value(first, "text")


def _plain(function: str, kind: str, least: int = 1, most: int = 1) -> Callable[..., Value]:
    """A function that SQLite has too, with results of one kind."""

    def made(*args: Value) -> Value:
        if not least <= len(args) <= most:
            raise TypeError
        return Value(getattr(sa.func, function)(*(arg.sql for arg in args)), kind)

    return made


def _same(function: str) -> Callable[..., Value]:
    """A function of one number that keeps its kind."""
    return lambda value: Value(getattr(sa.func, function)(value.sql), value.kind)


def _coalesce(first: Value, *others: Value) -> Value:
    like = common_kind([first, *others])
    return Value(sa.func.coalesce(first.sql, *(other.sql for other in others)), like.kind, like.entity)


def _nullif(first: Value, second: Value) -> Value:
    return Value(sa.func.nullif(first.sql, second.sql), first.kind, first.entity)


def _mod(first: Value, second: Value) -> Value:
    return Value(first.sql % second.sql, common_kind([first, second]).kind)


def _locate(part: Value, text: Value, start: Value | None = None) -> Value:
    if start is None:
        return Value(sa.func.instr(text.sql, part.sql), "int")
    found = sa.func.instr(sa.func.substr(text.sql, start.sql), part.sql)
    return Value(sa.case((found > 0, found + start.sql - 1), else_=0), "int")


def _round(value: Value, digits: Value | None = None) -> Value:
    kind = value.kind if value.kind in NUMBERS else "double"
    rounded = sa.func.round(value.sql, *([digits.sql] if digits else []))
    return Value(rounded if kind == "double" else sa.cast(rounded, sa.BigInteger), kind)


def _type(value: Value) -> Value:
    if value.kind == "entity" and value.source is not None and value.field is None and value.entity is not None:
        has = "class" in value.source.table.c
        return Value(value.source.table.c["class"] if has else sa.literal(value.entity.name), "java", value.entity)
    if value.kind != "class":
        raise usage_error("type() takes an object or its class, as in type(x) or type(x.class)")
    return Value(value.sql, "java", value.entity)


def _greatest(function: str) -> Callable[..., Value]:
    def made(first: Value, second: Value, *others: Value) -> Value:
        like = common_kind([first, second, *others])
        return Value(getattr(sa.func, function)(first.sql, second.sql, *(other.sql for other in others)), like.kind)

    return made


def _extract(form: str) -> Callable[..., Value]:
    """Compile `extract(year from x)`: a part of a time in UTC, as an integer."""

    def made(value: Value) -> Value:
        if value.kind != "time":
            raise usage_error("extract() takes a time, as in extract(year from x.time)")
        return Value(sa.cast(sa.func.strftime(form, value.sql / 1000.0, "unixepoch"), sa.Integer), "int")

    return made


def _octets(value: Value, of_each: int = 1) -> Value:
    return Value(sa.func.length(sa.cast(value.sql, sa.LargeBinary)) * of_each, "long")


def _now() -> Value:
    return Value(sa.cast((sa.func.julianday("now") - 2440587.5) * 86400000, sa.BigInteger), "time")


_PARTS = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M", "second": "%S", "epoch": "%s"}
# The functions that HQL itself knows for PostgreSQL, and so the type of their values.
TYPED = frozenset(
    (
        "abs",
        "acos",
        "ascii",
        "asin",
        "atan",
        "bit_length",
        "ceil",
        "char_length",
        "chr",
        "coalesce",
        "concat",
        "cos",
        "current_timestamp",
        "day",
        "degrees",
        "exp",
        "floor",
        "hour",
        "length",
        "ln",
        "locate",
        "log",
        "lower",
        "minute",
        "mod",
        "month",
        "now",
        "nullif",
        "octet_length",
        "radians",
        "round",
        "second",
        "sign",
        "sin",
        "sqrt",
        "str",
        "substr",
        "substring",
        "tan",
        "trim",
        "trunc",
        "type",
        "upper",
        "year",
    )
)
_FUNCTIONS: dict[str, Callable[..., Value]] = {
    "lower": _plain("lower", "text"),
    "upper": _plain("upper", "text"),
    "trim": _plain("trim", "text", 1, 2),
    "ltrim": _plain("ltrim", "text", 1, 2),
    "rtrim": _plain("rtrim", "text", 1, 2),
    "substring": _plain("substr", "text", 2, 3),
    "substr": _plain("substr", "text", 2, 3),
    "replace": _plain("replace", "text", 3, 3),
    "length": _plain("length", "int"),
    "char_length": _plain("length", "int"),
    "character_length": _plain("length", "int"),
    "locate": _locate,
    "concat": concat,
    "str": lambda value: cast(value, "string"),
    "coalesce": _coalesce,
    "nullif": _nullif,
    "mod": _mod,
    "abs": _same("abs"),
    "round": _round,
    "floor": _same("floor"),
    "ceil": _same("ceil"),
    "ceiling": _same("ceil"),
    "sign": _same("sign"),
    "sqrt": _plain("sqrt", "double"),
    "exp": _plain("exp", "double"),
    "ln": _plain("ln", "double"),
    "log": _plain("log", "double", 1, 2),
    "power": _plain("power", "double", 2, 2),
    **{name: _plain(name, "double") for name in ("sin", "cos", "tan", "asin", "acos", "atan")},
    "radians": _plain("radians", "double"),
    "degrees": _plain("degrees", "double"),
    "trunc": _same("trunc"),
    "ascii": _plain("unicode", "int"),
    "chr": _plain("char", "text"),
    "octet_length": _octets,
    "bit_length": lambda value: _octets(value, 8),
    "now": _now,
    "current_timestamp": _now,
    "greatest": _greatest("max"),
    "least": _greatest("min"),
    "type": _type,
    **{f"extract {part} from": _extract(form) for part, form in _PARTS.items()},
    **{part: _extract(form) for part, form in _PARTS.items() if part != "epoch"},
}
