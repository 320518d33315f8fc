"""The functions of HQL, in terms of SQLite."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import sqlalchemy as sa

from omero_embedded.hql.values import NUMBERS, VALUE_TYPES, Value, common_kind, constant, query_error, usage_error

AGGREGATES = ("count", "sum", "avg", "min", "max", "stddev", "variance")
# The types that Hibernate knows by these names, as the kinds of values.
CASTS = {
    "string": "text",
    "text": "text",
    "int": "int",
    "integer": "int",
    "short": "int",
    "long": "long",
    "double": "double",
    "float": "float",
    "boolean": "bool",
    "timestamp": "time",
    "date": "time",
}


def cast(value: Value, name: str) -> Value:
    """`cast(x as string)`; `str(x)` is the same. Texts that are no numbers or times are refused when they are read."""
    if name not in CASTS:
        raise query_error(f"Could not resolve requested type for CAST: {name}")
    kind = CASTS[name]
    sql: sa.ColumnElement
    if kind == "text":
        sql = text_of(value)
    elif kind == "time":
        sql = _cast_to_time(value, name)
    elif kind == "bool":
        sql = sa.cast(value.sql, sa.Boolean)
    elif value.kind == "text":
        sql = sa.func.to_number(value.sql, "double" if kind == "float" else kind)
    elif kind in ("double", "float"):
        sql = sa.cast(value.sql, sa.Float)
    else:
        sql = sa.cast(sa.func.round(value.sql), sa.BigInteger)
    return Value(sa.type_coerce(sql, VALUE_TYPES[kind]), kind)


def _cast_to_time(value: Value, name: str) -> sa.ColumnElement:
    if value.kind == "text":
        found: sa.ColumnElement = sa.func.time_value(value.sql)
    elif value.kind == "time":
        found = value.sql
    else:
        raise usage_error(f"cannot cast type {value.kind} to {name}")
    return sa.func.date_trunc("day", found) if name == "date" else found


def text_of(value: Value) -> sa.ColumnElement:
    """Compile a value as the text that PostgreSQL makes of it."""
    if value.kind in ("text", "symbol", "unknown"):
        return value.sql
    if value.kind == "time":
        return sa.func.time_text(value.sql, type_=sa.Text)
    if value.kind == "bool":
        return sa.case((value.sql, "true"), else_="false")
    if value.kind == "double" and not isinstance(value.sql, sa.BindParameter):
        return sa.func.number_text(value.sql, type_=sa.Text)
    return sa.cast(value.sql, sa.Text)


def aggregate(name: str, value: Value | None, distinct: bool) -> Value:
    """Compile count, sum, avg, min, max, stddev or variance; without a value it is `count(*)`."""
    if value is None:
        return Value(sa.func.count(), "long")
    taken = value.kind in (*NUMBERS, "float", "unknown")
    if (value.kind == "unit" and name != "count") or (not taken and name in ("sum", "avg", "stddev", "variance")):
        raise usage_error(f"function {name}({value.kind}) does not exist")
    if distinct and name != "count":
        raise query_error(f"unexpected token: distinct in {name}()")
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
        return Value(made, "double" if value.kind in ("double", "float") else "long")
    return Value(made, value.kind, value.entity, field=value.field)


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
    typed = name in TYPED or name.partition(" ")[0] in ("extract", "trim")
    typeless = name in ("coalesce", "nullif", "abs", "lower", "upper") and (not args or args[0].kind == "unknown")
    if selected and (not typed or typeless):
        raise query_error(f"No data type for the function {name}.")
    if made is None:
        raise usage_error(f"The function {name} is not known.")
    try:
        return made(*args)
    except TypeError:
        raise usage_error(f"{name} doesn't take {len(args)} arguments.") from None


def concat(first: Value, *others: Value) -> Value:
    """Concatenate texts; null if one of them is null. Of two values, one has to be a text."""
    made, kind = text_of(first), first.kind
    for other in others:
        if not {kind, other.kind} & {"text", "symbol", "unknown"}:
            raise usage_error(f"operator does not exist: {kind} || {other.kind}")
        made, kind = made.concat(text_of(other)), "text"
    return Value(made, "text")


def arithmetic(op: str, left: Value, right: Value) -> Value:
    """Compile `left op right`; dividing by 0 is refused when it happens."""
    kinds = {left.kind, right.kind}
    for one in (left, right):
        if one.kind not in (*NUMBERS, "time", "unknown", "float"):
            raise usage_error(f"operator does not exist: {left.kind} {op} {right.kind}")
    if "time" in kinds and (op != "-" or kinds & {*NUMBERS, "float"}):
        raise usage_error(f"operator does not exist: {left.kind} {op} {right.kind}")
    if "double" in kinds:
        kind = "double"
    elif "float" in kinds:
        kind = "float"
    else:
        kind = "long" if kinds & {"long", "time"} else "int"
    first: sa.ColumnElement = sa.type_coerce(left.sql, VALUE_TYPES[kind])
    second: sa.ColumnElement = sa.type_coerce(right.sql, VALUE_TYPES[kind])
    if op in "/%":
        second = divisor(second)
    made = {
        "+": lambda: first + second,
        "-": lambda: first - second,
        "*": lambda: first * second,
        "/": lambda: first / second if kind in ("double", "float") else first // second,
        "%": lambda: first % second,
    }
    return Value(made[op](), kind)


def _plain(function: str, kind: str, least: int = 1, most: int = 1) -> Callable[..., Value]:
    """A function that SQLite has too, with results of one kind."""

    def made(*args: Value) -> Value:
        if not least <= len(args) <= most:
            raise TypeError
        return Value(getattr(sa.func, function)(*(arg.sql for arg in args)), kind)

    return made


def _of_texts(function: str, kind: str, least: int = 1, most: int = 1) -> Callable[..., Value]:
    """A function whose first argument has to be a text."""
    plain = _plain(function, kind, least, most)

    def made(*args: Value) -> Value:
        if args and args[0].kind not in ("text", "symbol", "class", "unknown", "bytes"):
            raise usage_error(f"function {function}({args[0].kind}) does not exist")
        return plain(*args)

    return made


def _of_numbers(function: str, kind: str | None = None, most: int = 1) -> Callable[..., Value]:
    """A function of numbers; without a kind the result is of that of the first."""

    def made(*args: Value) -> Value:
        if not 1 <= len(args) <= most:
            raise TypeError
        for arg in args:
            if arg.kind not in (*NUMBERS, "float", "unknown"):
                raise usage_error(f"function {function}({arg.kind}) does not exist")
        return Value(getattr(sa.func, function)(*(arg.sql for arg in args)), kind or args[0].kind)

    return made


def _check_alike(name: str, *values: Value) -> None:
    """Refuse texts beside numbers, which PostgreSQL can't bring together."""
    kinds = {value.kind for value in values}
    if "text" in kinds and kinds & {*NUMBERS, "float", "time", "bool"}:
        raise usage_error(f"{name} types {' and '.join(sorted(kinds))} cannot be matched")


def _coalesce(first: Value, *others: Value) -> Value:
    """Take the first value that is not null. As in HQL, the kind is that of the first one."""
    _check_alike("COALESCE", first, *others)
    return Value(sa.func.coalesce(first.sql, *(other.sql for other in others)), first.kind, first.entity)


def _nullif(first: Value, second: Value) -> Value:
    _check_alike("NULLIF", first, second)
    return Value(sa.func.nullif(first.sql, second.sql), first.kind, first.entity)


def _mod(first: Value, second: Value) -> Value:
    return Value(first.sql % divisor(second.sql), "int")


def divisor(sql: sa.ColumnElement) -> sa.ColumnElement:
    """Compile what is divided by, which must not be 0."""
    bound = sql.clause if isinstance(sql, sa.TypeCoerce) else sql
    if isinstance(bound, sa.BindParameter) and bound.value:
        return sql
    return sa.func.divisor(sql, type_=sql.type)


def _trim(first: Value, text: Value | None = None, *, side: str = "trim") -> Value:
    """`trim(x)`, `trim('a', x)` or `trim(leading 'a' from x)`: remove blanks or other letters at the ends."""
    if text is None:
        return _of_texts(side, "text")(first)
    return _of_texts(side, "text", 2, 2)(text, first)


def _date_trunc(unit: Value, time: Value) -> Value:
    if time.kind != "time":
        raise usage_error(f"function date_trunc({unit.kind}, {time.kind}) does not exist")
    return Value(sa.func.date_trunc(unit.sql, time.sql), "time")


def _to_char(value: Value, pattern: Value) -> Value:
    if value.kind in (*NUMBERS, "float"):
        return Value(sa.func.number_to_char(value.sql, pattern.sql), "text")
    if value.kind != "time":
        raise usage_error(f"function to_char({value.kind}, {pattern.kind}) does not exist")
    return Value(sa.func.to_char(value.sql, pattern.sql), "text")


def _to_time(text: Value, pattern: Value) -> Value:
    return Value(sa.func.time_of_pattern(text.sql, pattern.sql), "time")


def _age(later: Value, earlier: Value | None = None) -> Value:
    """The time between two times, or since one until today."""
    first, second = (later, earlier) if earlier is not None else (_today(), later)
    if {first.kind, second.kind} - {"time", "unknown"}:
        raise usage_error(f"function age({first.kind}, {second.kind}) does not exist")
    return Value(first.sql - second.sql, "interval")


def _chr(code: Value) -> Value:
    return Value(sa.func.char(code.sql), "character")


def _random() -> Value:
    return Value(sa.func.abs(sa.func.random() / 9223372036854775808.0), "double")


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


def _today() -> Value:
    return Value(sa.func.date_trunc("day", _now().sql), "time")


_PARTS = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M", "second": "%S", "epoch": "%s"}
# The functions that HQL itself knows for PostgreSQL, and so the type of their values.
_TYPED = (
    "abs acos age ascii asin atan bit_length cbrt ceil char_length chr coalesce concat cos cot current_date "
    "current_timestamp date_trunc day degrees exp floor hour initcap length ln localtimestamp locate log "
    "lower md5 minute mod month now nullif octet_length radians random round second sign sin sqrt str substr "
    "substring tan to_char to_date to_timestamp trim trunc type upper year "
)
TYPED = frozenset(_TYPED.split())
BARE = ("current_date", "current_timestamp", "localtimestamp")  # those that need no parentheses
_FUNCTIONS: dict[str, Callable[..., Value]] = {
    "lower": _of_texts("lower", "text"),
    "upper": _of_texts("upper", "text"),
    "initcap": _of_texts("initcap", "text"),
    "trim": _trim,
    **{
        f"trim {name}": partial(_trim, side=side)
        for name, side in (("both", "trim"), ("leading", "ltrim"), ("trailing", "rtrim"))
    },
    "ltrim": _of_texts("ltrim", "text", 1, 2),
    "rtrim": _of_texts("rtrim", "text", 1, 2),
    "substring": _of_texts("part_of", "text", 2, 3),
    "substr": _of_texts("part_of", "text", 2, 3),
    "replace": _of_texts("replace", "text", 3, 3),
    "length": _of_texts("length", "int"),
    "char_length": _of_texts("length", "long"),
    "character_length": _of_texts("length", "int"),
    "locate": _locate,
    "concat": concat,
    "str": lambda value: cast(value, "string"),
    "coalesce": _coalesce,
    "nullif": _nullif,
    "mod": _mod,
    "abs": _of_numbers("abs"),
    "round": _round,
    "floor": _of_numbers("floor"),
    "ceil": _of_numbers("ceil"),
    "ceiling": _of_numbers("ceil"),
    "sign": _of_numbers("sign", "int"),
    "sqrt": _of_numbers("square_root", "double"),
    "ln": _of_numbers("logarithm", "double"),
    "log": lambda value, *base: _of_numbers("logarithm", "double", 2)(
        *((base[0], value) if base else (value, constant(10.0, "double")))
    ),
    "exp": _of_numbers("exp", "double"),
    "power": _of_numbers("power", "double", 2),
    **{name: _of_numbers(name, "double") for name in ("sin", "cos", "tan", "asin", "acos", "atan")},
    "cot": lambda value: Value(1 / sa.func.tan(value.sql), "double"),
    "cbrt": lambda value: Value(sa.func.sign(value.sql) * sa.func.power(sa.func.abs(value.sql), 1 / 3), "double"),
    "radians": _of_numbers("radians", "double"),
    "degrees": _of_numbers("degrees", "double"),
    "trunc": _of_numbers("trunc"),
    "random": _random,
    "ascii": _of_texts("unicode", "int"),
    "chr": _chr,
    "octet_length": _octets,
    "bit_length": lambda value: _octets(value, 8),
    "now": _now,
    "current_timestamp": _now,
    "localtimestamp": _now,
    "current_date": _today,
    "date_trunc": _date_trunc,
    "to_char": _to_char,
    "to_timestamp": _to_time,
    "to_date": _to_time,
    "age": _age,
    "md5": _of_texts("md5", "text"),
    # those that only PostgreSQL knows, and so only conditions have
    "left": _of_texts("left_part", "text", 2, 2),
    "right": _of_texts("right_part", "text", 2, 2),
    "reverse": _of_texts("reverse", "text"),
    "repeat": _of_texts("repeat", "text", 2, 2),
    "lpad": _of_texts("lpad", "text", 2, 3),
    "rpad": _of_texts("rpad", "text", 2, 3),
    "btrim": _of_texts("trim", "text", 1, 2),
    "strpos": _of_texts("instr", "int", 2, 2),
    "split_part": _of_texts("split_part", "text", 3, 3),
    "greatest": _greatest("max"),
    "least": _greatest("min"),
    "type": _type,
    **{f"extract {part} from": _extract(form) for part, form in _PARTS.items()},
    **{part: _extract(form) for part, form in _PARTS.items() if part != "epoch"},
}
