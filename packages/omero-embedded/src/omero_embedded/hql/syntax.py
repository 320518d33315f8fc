"""The syntax tree of HQL, and the parser that makes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import omero
from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedToken, VisitError

from omero_embedded.errors import refuse


class Expr:
    """Anything that has a value, including conditions."""


@dataclass(frozen=True)
class Path(Expr):
    """`p.plate.name`: an alias or a property, and what is reached from it."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.names)


@dataclass(frozen=True)
class Literal(Expr):
    """A constant; kind is int, long, double, text, bool or null."""

    value: Any
    kind: str


@dataclass(frozen=True)
class Param(Expr):
    """`:name`, or `?1`, whose name is "1". A plain `?` has the name "?"."""

    name: str


@dataclass(frozen=True)
class Call(Expr):
    """`count(distinct x)`, `lower(x)`, `count(*)` (no arguments, star)."""

    name: str
    args: tuple[Expr, ...]
    distinct: bool = False
    star: bool = False


@dataclass(frozen=True)
class Cast(Expr):
    """`cast(x as string)`"""

    value: Expr
    kind: str


@dataclass(frozen=True)
class Binary(Expr):
    """Arithmetic (+ - * / %), `||`, and comparisons (= <> < <= > >=)."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True)
class Negative(Expr):
    """`-x`"""

    value: Expr


@dataclass(frozen=True)
class Logic(Expr):
    """`and` / `or` of two or more conditions."""

    op: str
    parts: tuple[Expr, ...]


@dataclass(frozen=True)
class Not(Expr):
    """`not x`"""

    value: Expr


@dataclass(frozen=True)
class IsNull(Expr):
    """`x is null`"""

    value: Expr


@dataclass(frozen=True)
class IsEmpty(Expr):
    """`p.wells is empty`"""

    value: Expr


@dataclass(frozen=True)
class In(Expr):
    """`x in (...)`: values or a subquery. A parameter that is a list stands for its elements."""

    value: Expr
    values: tuple[Expr, ...]


@dataclass(frozen=True)
class Between(Expr):
    """`x between low and high`"""

    value: Expr
    low: Expr
    high: Expr


@dataclass(frozen=True)
class Like(Expr):
    """`x like pattern escape '!'`"""

    value: Expr
    pattern: Expr
    escape: Expr | None


@dataclass(frozen=True)
class Member(Expr):
    """`x member of p.wells`"""

    value: Expr
    collection: Path


@dataclass(frozen=True)
class Elements(Expr):
    """`elements(p.wells)` or `indices(w.wellSamples)`, in the place of a subquery"""

    collection: Path
    indices: bool = False


@dataclass(frozen=True)
class Vector(Expr):
    """`(a, b)`, which is compared with another vector."""

    parts: tuple[Expr, ...]


@dataclass(frozen=True)
class Case(Expr):
    """Both kinds of `case`. The conditions of a simple one are comparisons."""

    whens: tuple[tuple[Expr, Expr], ...]
    otherwise: Expr | None


@dataclass(frozen=True)
class Subquery(Expr):
    """`(select ...)`, possibly after `all` or `any`, where it may be the elements of a collection."""

    query: Query | Elements
    quantifier: str | None = None


@dataclass(frozen=True)
class Exists(Expr):
    """`exists (select ...)`"""

    query: Expr


@dataclass(frozen=True)
class Item:
    """One column of a select, with its alias."""

    value: Expr
    alias: str | None


@dataclass(frozen=True)
class Select:
    """The select clause; into is "map" or "list" in `select new map(...)` and `select new list(...)`."""

    items: tuple[Item, ...]
    distinct: bool
    into: str = ""


@dataclass(frozen=True)
class Root:
    """One entity of the from clause or, in a subquery, a collection of an outer alias."""

    path: Path
    alias: str | None


@dataclass(frozen=True)
class Join:
    """`left outer join fetch p.wells w with w.row = 0`; kind is inner, outer (a left one), right or full."""

    path: Path
    alias: str | None
    kind: str
    fetch: bool
    condition: Expr | None


@dataclass(frozen=True)
class Query:
    """A whole query; order holds (expression, descending)."""

    select: Select | None
    sources: tuple[Root | Join, ...]
    where: Expr | None = None
    group: tuple[Expr, ...] = ()
    having: Expr | None = None
    order: tuple[tuple[Expr, bool], ...] = field(default=())


@lru_cache(maxsize=1024)
def parse(text: str) -> Query:
    """Parse HQL.

    Raises
    ------
    omero.QueryException
        If the text is not HQL.
    omero.ApiUsageException
        If it is a statement that changes data.
    """
    try:
        tree = _ToSyntax().transform(_parser().parse(text))
    except UnexpectedCharacters as exc:
        raise refuse(omero.QueryException, f"unexpected char: {exc.char!r}{_where(exc)}") from None
    except UnexpectedToken as exc:
        is_end = exc.token.type == "$END"
        what = "unexpected end of subtree" if is_end else f"unexpected token: {exc.token}{_where(exc)}"
        raise refuse(omero.QueryException, what) from None
    except VisitError as exc:
        raise exc.orig_exc from None
    if not isinstance(tree, Query):
        raise refuse(omero.ApiUsageException, f"Not supported for DML operations [{text}]")
    return tree


def _where(exc: UnexpectedCharacters | UnexpectedToken) -> str:
    return f" near line {exc.line}, column {exc.column}"


@cache
def _parser() -> Lark:
    return Lark.open("grammar.lark", rel_to=__file__, parser="lalr", maybe_placeholders=False)


class _Word(str):
    """A keyword that a rule has to know about: `not`, `distinct`, `fetch`, ..."""


class _Where(tuple):
    """A clause of a query, with its name."""


@v_args(inline=True)
class _ToSyntax(Transformer):
    """Converts Lark's tree to the classes above, from the leaves up."""

    def other_statement(self, *_):
        return None

    def query(self, *parts):
        clauses = {part[0]: part[1:] for part in parts}
        where = clauses.get("where", (None,))[0]
        group, having = clauses.get("group", ((), None))
        return Query(
            clauses.get("select", (None,))[0], clauses["from"][0], where, group, having, clauses.get("order", ((),))[0]
        )

    def select(self, *parts):
        return _Where(("select", Select(parts[-1], len(parts) == 2)))

    def select_map(self, *parts):
        return _Where(("select", Select(parts[-1], len(parts) == 2, into="map")))

    def select_list(self, *parts):
        return _Where(("select", Select(parts[-1], len(parts) == 2, into="list")))

    def select_object(self, *parts):
        return _Where(("select", Select((Item(parts[-1], None),), len(parts) == 2)))

    def items(self, *items):
        return items

    def item(self, value, alias=None):
        return Item(value, alias)

    def as_name(self, name):
        return str(name)

    def from_clause(self, *sources):
        return _Where(("from", sources))

    def root(self, path, alias=None):
        return Root(path, None if alias is None else str(alias))

    comma_root = root

    def in_root(self, path, alias):
        return Join(path, str(alias), "inner", fetch=False, condition=None)

    def join(self, kind, *parts):
        fetch = bool(parts) and isinstance(parts[0], _Word)
        path, *rest = parts[1:] if fetch else parts
        condition = rest.pop()[1] if rest and isinstance(rest[-1], _Where) else None
        return Join(path, str(rest[0]) if rest else None, str(kind), fetch, condition)

    def condition(self, condition):
        return _Where(("with", condition))

    def where(self, condition):
        return _Where(("where", condition))

    def group(self, *parts):
        having = parts[-1][1] if isinstance(parts[-1], _Where) else None
        return _Where(("group", tuple(p for p in parts if not isinstance(p, _Where)), having))

    def having(self, condition):
        return _Where(("having", condition))

    def order(self, *items):
        return _Where(("order", items))

    def order_item(self, value, direction="ascending"):
        return value, direction == "descending"

    def expr(self, *parts):
        return Logic("or", parts)

    def and_expr(self, *parts):
        return Logic("and", parts)

    def negation(self, value):
        return Not(value)

    def compare(self, left, op, right):
        op = str(op)
        return Binary("<>" if op in ("!=", "^=") else op, left, right)

    def is_null(self, value, *negated):
        return _negate(IsNull(value), negated)

    def is_empty(self, value, *negated):
        return _negate(IsEmpty(value), negated)

    def is_in(self, value, *rest):
        return _negate(In(value, rest[-1]), rest[:-1])

    def between(self, value, *rest):
        return _negate(Between(value, *rest[-2:]), rest[:-2])

    def like(self, value, *rest):
        negated = rest[:1] if isinstance(rest[0], _Word) else ()
        pattern, *escape = rest[len(negated) :]
        return _negate(Like(value, pattern, escape[0] if escape else None), negated)

    def member(self, value, *rest):
        return _negate(Member(value, rest[-1]), rest[:-1])

    def in_values(self, *values):
        return values

    def in_query(self, query):
        return (Subquery(query),)

    def concat(self, first, *others):
        for other in others:
            first = Binary("||", first, other)
        return first

    def plus(self, left, right):
        return Binary("+", left, right)

    def minus(self, left, right):
        return Binary("-", left, right)

    def times(self, left, right):
        return Binary("*", left, right)

    def divide(self, left, right):
        return Binary("/", left, right)

    def modulo(self, left, right):
        return Binary("%", left, right)

    def negative(self, value):
        return Negative(value)

    def vector(self, *parts):
        return Vector(parts)

    def subquery(self, query):
        return Subquery(query)

    def exists(self, query):
        return Exists(Subquery(query))

    def elements(self, function, path):
        if function.lower() not in ("elements", "indices"):
            raise refuse(omero.QueryException, f"{function}({path}) is not a collection")
        return Elements(path, function.lower() == "indices")

    def exists_in(self, elements):
        return Exists(elements)

    def quantified(self, quantifier, query):
        return Subquery(query, str(quantifier))

    def quantified_in(self, quantifier, elements):
        return Subquery(elements, str(quantifier))

    def cast(self, value, kind):
        return Cast(value, kind.lower())

    def extract(self, part, value):
        return Call(f"extract {part.lower()} from", (value,))

    def trim(self, *parts):
        side = str(parts[0]) if isinstance(parts[0], _Word) else "both"
        return Call(f"trim {side}", tuple(part for part in parts if not isinstance(part, _Word)))

    def searched_case(self, *parts):
        return _case(parts)

    def simple_case(self, value, *parts):
        return _case(
            tuple((Binary("=", value, part[0]), part[1]) if isinstance(part, tuple) else part for part in parts)
        )

    def when(self, condition, value):
        return condition, value

    def otherwise(self, value):
        return value

    def call_star(self, name):
        return Call(name.lower(), (), star=True)

    def call(self, name, *args):
        distinct = bool(args) and isinstance(args[0], _Word)
        return Call(name.lower(), args[1:] if distinct else args, distinct)

    def path(self, *names):
        return Path(tuple(str(name) for name in names))

    def param(self, name):
        return Param(str(name))

    def positional(self):
        return Param("?")

    def literal(self, token: Token):
        text = str(token)
        if token.type == "STRING":
            return Literal(text[1:-1].replace("''", "'"), "text")
        if token.type == "INTEGER":
            digits = text.rstrip("lL")
            return Literal(int(digits), "int" if digits == text and int(digits) < 2**31 else "long")
        return Literal(float(text.rstrip("fFdD")), "float" if text[-1] in "fF" else "double")

    def null(self):
        return Literal(None, "null")

    def true(self):
        return Literal(True, "bool")

    def false(self):
        return Literal(False, "bool")

    def __default__(self, data, children, meta):
        return _Word(data)  # a rule that is only a keyword


def _negate(condition: Expr, negated: tuple) -> Expr:
    return Not(condition) if negated else condition


def _case(parts: tuple) -> Case:
    whens = tuple(part for part in parts if isinstance(part, tuple))
    return Case(whens, parts[-1] if len(whens) < len(parts) else None)
