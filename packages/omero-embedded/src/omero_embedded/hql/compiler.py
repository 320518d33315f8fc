"""Compiling HQL's syntax tree to one SQL select over the schema's tables, and a description of its columns."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from omero_embedded.hql import functions, syntax
from omero_embedded.hql.checks import check_comparable, check_distinct, check_grouping, holds_for, read_as
from omero_embedded.hql.scope import Scope
from omero_embedded.hql.values import (
    DISCRIMINATORS,
    Params,
    Source,
    Value,
    common_kind,
    constant,
    name_of,
    query_error,
    usage_error,
)
from omero_embedded.model.access import Context
from omero_embedded.model.schema import Field, Schema

COMPARISONS = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


# HQL's grammar has neither conditions nor parameters in the select clause.
NEVER_SELECTED = (
    syntax.Param,
    syntax.Logic,
    syntax.Not,
    syntax.IsNull,
    syntax.IsEmpty,
    syntax.In,
    syntax.Between,
    syntax.Like,
    syntax.Member,
    syntax.Exists,
)


@dataclass(frozen=True)
class Column:
    """One item of the select clause: its first SQL column, and what the columns hold."""

    name: str
    value: Value
    start: int


@dataclass(frozen=True)
class Node:
    """The entities of one alias that have to be loaded: selected or fetched ones.

    Attributes
    ----------
    start
        The SQL column of the id.
    owner, field, index
        For a fetched collection, the column of the owner's id, the collection, and the column of the index.
    """

    source: Source
    start: int
    owner: int | None = None
    field: Field | None = None
    index: int | None = None


@dataclass(frozen=True)
class FetchedMap:
    """The pairs of a map field that are fetched.

    Attributes
    ----------
    source
        What the map was joined from.
    field
        The map field.
    owner
        The SQL column of the id of the object that has the map.
    start
        The SQL columns of the position, the name and the value of a pair begin here.
    """

    source: Source
    field: Field
    owner: int
    start: int


@dataclass(frozen=True)
class CompiledQuery:
    """The statement for the database, and how to read its answer.

    Attributes
    ----------
    places
        The places for values in the statement, and how to find their values among the parameters.
    into
        What each row is made into: "map", "list", or "" for neither.
    """

    statement: sa.Select
    places: Mapping[str, Callable[[Params], object]]
    columns: tuple[Column, ...]
    nodes: tuple[Node, ...]
    maps: tuple[FetchedMap, ...]
    counts: tuple[tuple[Source, Field], ...]  # what has links, and which of them are counted by owner
    into: str

    @property
    def fetches_collection(self) -> bool:
        return bool(self.maps or self.counts) or any(node.field is not None for node in self.nodes)

    @property
    def selects_entity(self) -> bool:
        return len(self.columns) == 1 and self.columns[0].value.kind == "entity" and not self.into


def compile_query(query: syntax.Query, schema: Schema, ctx: Context, params: Params) -> CompiledQuery:
    """Compile a query for users with the same rights and parameters of the same kinds.

    Raises
    ------
    omero.QueryException
        If a class, property or alias is unknown, or HQL refuses a construction.
    omero.ApiUsageException
        If a parameter is missing, null or empty, or a function is unknown.
    omero.InternalException
        If a parameter has another type than what it is compared with.
    """
    return _Compiler(Scope(schema, ctx), params).plan(query)


class _Compiler:
    """Compiles one query. A subquery gets a compiler of its own, whose scope has this one's as parent."""

    def __init__(self, scope: Scope, params: Params):
        self.scope = scope
        self.params = params
        self._selecting = False  # while the select clause is compiled
        self.selected: dict[str, Value] = {}  # the select's aliases, for order by and group by

    # -- clauses ------------------------------------------------------------------------------------------------

    def plan(self, query: syntax.Query) -> CompiledQuery:
        self._from(query)
        selected = self._select(query)
        sql: list[sa.ColumnElement] = []
        columns = []
        for name, value in selected:
            columns.append(Column(name, value, len(sql)))
            sql += [value.sql, *value.more]
        nodes = self._nodes(columns, sql)
        maps = self._maps(nodes, sql)
        statement = self._finish(sql, [node.source.table for node in nodes], query)
        into = query.select.into if query.select else ""
        counts = tuple(self.scope.counts)
        return CompiledQuery(statement, self.params.places, tuple(columns), tuple(nodes), tuple(maps), counts, into)

    def subquery(self, query: syntax.Query) -> tuple[sa.Select, Value]:
        """Compile a subquery; return its statement and what it selects."""
        inner = _Compiler(Scope(self.scope.schema, self.scope.ctx, self.scope), self.params)
        inner._from(query)
        values = [value for _, value in inner._select(query)]
        if any(source.fetched for source in inner.scope.explicit):
            raise query_error("a subquery fetches nothing")
        statement = inner._finish([value.sql for value in values], [], query)
        assert inner.scope.tables is not None
        return statement.correlate_except(*inner.scope.tables._from_objects), values[0]

    def _from(self, query: syntax.Query) -> None:
        for source in query.sources:
            if isinstance(source, syntax.Root):
                self.scope.add_root(source)
            else:
                self.scope.add_join(source, self.condition)

    def _select(self, query: syntax.Query) -> list[tuple[str, Value]]:
        if query.select is None:
            sources = [source for source in self.scope.explicit if not source.fetched and source.entity]
            return [(str(i), source.value()) for i, source in enumerate(sources)]
        found = []
        self._selecting = True
        for i, item in enumerate(query.select.items):
            if _is_never_selected(item.value):
                raise query_error(f"a {type(item.value).__name__} can't be selected")
            value = self.scope.joined(self.value(item.value))
            if item.alias is not None:
                self.selected[item.alias] = value
            found.append((item.alias or str(i), value))
        self._selecting = False
        return found

    def _nodes(self, columns: list[Column], sql: list[sa.ColumnElement]) -> list[Node]:
        """Find the selected and the fetched entities; the ids of fetched ones are selected too."""
        starts = {
            column.value.source: column.start
            for column in columns
            if column.value.source is not None and column.value.kind == "entity"
        }
        nodes = [Node(source, start) for source, start in starts.items()]
        for source in self.scope.explicit:
            if not source.fetched or source.entity is None:
                continue
            if source.owner not in starts:
                raise query_error(
                    "query specified join fetching, but the owner of the fetched association was not "
                    f"present in the select list [{source.name()}]"
                )
            assert source.field is not None and source.owner is not None
            starts[source] = len(sql)
            sql.append(source.table.c.id)
            collection = source.field.kind == "collection"
            index = None
            if source.index is not None:
                index = len(sql)
                sql.append(source.index)
            nodes.append(
                Node(
                    source,
                    starts[source],
                    starts[source.owner] if collection else None,
                    source.field if collection else None,
                    index,
                )
            )
        return nodes

    def _maps(self, nodes: list[Node], sql: list[sa.ColumnElement]) -> list[FetchedMap]:
        """Find the fetched maps; their pairs are selected too."""
        starts = {node.source: node.start for node in nodes}
        found = []
        for source in self.scope.explicit:
            if source.fetched and source.field is not None and source.field.kind == "map" and source.owner in starts:
                found.append(FetchedMap(source.owner, source.field, starts[source.owner], len(sql)))
                sql += [source.table.c.position, source.table.c.name, source.table.c.value]
        return found

    def _finish(self, sql: list[sa.ColumnElement], entities: list[sa.FromClause], query: syntax.Query) -> sa.Select:
        """Make the statement that selects some columns. It is called last, when the joins of all paths are known.

        Parameters
        ----------
        entities
            The tables of which a distinct query selects all columns.
        """
        conditions = [self.condition(query.where)] if query.where is not None else []
        groups = [self._alias_or_value(expr).sql for expr in query.group]
        having = [self.condition(query.having)] if query.having is not None else []
        order = [(self._alias_or_value(expr), descending) for expr, descending in query.order]
        shown = [value.sql for value, _ in order]
        assert self.scope.tables is not None
        check_grouping([*sql, *shown, *having], groups, self.scope.tables._from_objects)
        statement = sa.select(*(column.label(f"c{i}") for i, column in enumerate(sql)))
        if query.select is not None and query.select.distinct:
            check_distinct(shown, sql, entities)
            statement = statement.distinct()
        statement = statement.select_from(self.scope.tables).where(*conditions, *self.scope.conditions)
        return statement.group_by(*groups).having(*having).order_by(*(_ordered(*one) for one in order))

    def _alias_or_value(self, expr: syntax.Expr) -> Value:
        if isinstance(expr, syntax.Path) and str(expr) in self.selected:
            return self.selected[str(expr)]
        return self.value(expr)

    # -- expressions --------------------------------------------------------------------------------------------

    def value(self, expr: syntax.Expr, expected: str | None = None) -> Value:
        """Compile an expression; `expected` is the kind that a parameter must have here."""
        match expr:
            case syntax.Path():
                return self._path(expr)
            case syntax.Param():
                return self.params.one(expr.name, expected)
            case syntax.Literal():
                return constant(expr.value, expr.kind)
            case syntax.Binary(op) if op in ("+", "-", "*", "/", "%"):
                return self._arithmetic(expr)
            case syntax.Binary("||"):
                return functions.concat(self.value(expr.left), self.value(expr.right))
            case syntax.Negative():
                inner = self.value(expr.value)
                return Value(-inner.sql, inner.kind)
            case syntax.Call():
                return self._call(expr)
            case syntax.Cast():
                return functions.cast(self.value(expr.value), expr.kind)
            case syntax.Case():
                return self._case(expr)
            case syntax.Subquery():
                return self._subquery_value(expr)
            case syntax.Elements():
                return self._collection(expr.collection)
            case _:
                return Value(self.condition(expr), "bool")

    def _path(self, path: syntax.Path) -> Value:
        """Compile a path; one without an alias may be a function without parentheses, or the database's own name."""
        if len(path.names) == 1 and not self.scope.knows(path):
            if path.names[0].lower() in functions.BARE:
                return functions.call(path.names[0].lower(), [], self._selecting)
            if not self._selecting:
                raise usage_error(f"column {path} does not exist")
        return self.scope.value(path)

    def condition(self, expr: syntax.Expr) -> sa.ColumnElement[bool]:
        """Compile an expression as a condition."""
        match expr:
            case syntax.Logic():
                parts = [self.condition(part) for part in expr.parts]
                return sa.and_(*parts) if expr.op == "and" else sa.or_(*parts)
            case syntax.Not():
                return sa.not_(self.condition(expr.value))
            case syntax.Binary(op) if op in ("=", "<>", "<", "<=", ">", ">="):
                return self._compare(expr)
            case syntax.IsNull():
                return self.value(expr.value).sql.is_(None)
            case syntax.IsEmpty():
                return sa.not_(self.scope.elements(self._collection(expr.value)).exists())
            case syntax.In():
                return self._in(expr)
            case syntax.Between():
                return self._between(expr)
            case syntax.Like():
                return self._like(expr)
            case syntax.Member():
                return self.value(expr.value).sql.in_(self.scope.elements(self._collection(expr.collection)))
            case syntax.Exists():
                if isinstance(expr.query, syntax.Subquery):
                    return self.subquery(expr.query.query)[0].exists()
                return self.scope.elements(self.value(expr.query)).exists()
            case _:
                return self._plain_condition(expr)

    def _plain_condition(self, expr: syntax.Expr) -> sa.ColumnElement[bool]:
        value = self.value(expr)
        if value.kind != "bool":
            raise query_error("unexpected expression where a condition is wanted")
        return value.sql

    def _compare(self, expr: syntax.Binary) -> sa.ColumnElement[bool]:
        if isinstance(expr.right, syntax.Subquery) and expr.right.quantifier is not None:
            return self._compare_with_rows(expr, expr.right)
        left, right = self._pair(expr.left, expr.right)
        for one, other in ((left, right), (right, left)):
            if other.kind == "unknown" and expr.op in ("=", "<>"):
                return one.sql.is_(None) if expr.op == "=" else one.sql.is_not(None)
        check_comparable(left, right, expr.op)
        return COMPARISONS[expr.op](left.sql, right.sql)

    def _compare_with_rows(self, expr: syntax.Binary, rows: syntax.Subquery) -> sa.ColumnElement[bool]:
        """Compile a comparison with all or any rows of a subquery."""
        statement, right = self.subquery(rows.query)
        left = self._as(right, expr.left)
        check_comparable(left, right, expr.op)
        return holds_for(statement, COMPARISONS[expr.op](left.sql, right.sql), every=rows.quantifier == "all")

    def _pair(self, left: syntax.Expr, right: syntax.Expr) -> tuple[Value, Value]:
        """Compile both sides of a comparison. Parameters take the other side's kind; texts may name a unit or class."""
        if _is_bound(left) and not _is_bound(right):
            known = self.value(right)
            return self._as(known, left), known
        first = self.value(left)
        return first, self._as(first, right)

    def _as(self, like: Value, expr: syntax.Expr) -> Value:
        """Compile a value that is compared with another one."""
        value = self.value(expr, None if like.kind in ("unknown", "collection") else like.kind)
        if not _is_bound(expr) or value.kind != "text":
            return value
        stands_for = "class" if like.kind == "class" else ""
        if like.kind == "symbol" and like.field is not None:
            stands_for = like.field.target or ""
        if isinstance(expr, syntax.Param):
            return self.params.one(expr.name, "text", stands_for) if stands_for else value
        return constant(name_of(stands_for, value.sql.value), "text") if stands_for else read_as(like.kind, value)

    def _in(self, expr: syntax.In) -> sa.ColumnElement[bool]:
        value = self.value(expr.value)
        choices: list[sa.ColumnElement] = []
        conditions: list[sa.ColumnElement[bool]] = []
        for one in expr.values:
            if isinstance(one, syntax.Subquery):
                conditions.append(value.sql.in_(self.subquery(one.query)[0]))
            elif isinstance(one, syntax.Elements):
                conditions.append(value.sql.in_(self.scope.elements(self.value(one))))
            elif isinstance(one, syntax.Param) and self.params.is_list(one.name):
                conditions.append(self.params.among(one.name, value.sql, value.kind))
            else:
                choices.append(self._as(value, one).sql)
        if choices:
            conditions.append(value.sql.in_(choices))
        return sa.or_(*conditions)

    def _between(self, expr: syntax.Between) -> sa.ColumnElement[bool]:
        value = self.value(expr.value)
        low, high = self._as(value, expr.low), self._as(value, expr.high)
        for end in (low, high):
            check_comparable(value, end, "between")
        return value.sql.between(low.sql, high.sql)

    def _like(self, expr: syntax.Like) -> sa.ColumnElement[bool]:
        value, pattern = self.value(expr.value), self.value(expr.pattern, "text")
        escape: sa.ColumnElement = (
            sa.literal_column("'\\'") if expr.escape is None else self.value(expr.escape, "text").sql
        )
        return sa.func.like(pattern.sql, value.sql, escape, type_=sa.Boolean)

    def _arithmetic(self, expr: syntax.Binary) -> Value:
        return functions.arithmetic(expr.op, self.value(expr.left), self.value(expr.right))

    def _case(self, expr: syntax.Case) -> Value:
        conditions = [self.condition(when) for when, _ in expr.whens]
        values = [self.value(then) for _, then in expr.whens]
        otherwise = self.value(expr.otherwise) if expr.otherwise is not None else constant(None, "null")
        like = values[0] if self._selecting else common_kind([*values, otherwise])
        if self._selecting and like.kind == "unknown":
            raise query_error("Could not determine the data type of a case, its first value is null")
        made = sa.case(
            *((when, value.sql) for when, value in zip(conditions, values, strict=True)), else_=otherwise.sql
        )
        return Value(made, like.kind, like.entity)

    def _call(self, expr: syntax.Call) -> Value:
        if expr.name in functions.AGGREGATES and not expr.star:
            counted = (syntax.Path, syntax.Elements) if expr.name == "count" else syntax.Expr
            if len(expr.args) != 1 or not isinstance(_counted(expr.args[0]), counted):
                raise query_error(f"unexpected argument of {expr.name}()")
            return functions.aggregate(expr.name, self.value(expr.args[0]), expr.distinct)
        if expr.name == "count":
            return functions.aggregate("count", None, False)
        if expr.name in ("index", "minindex", "maxindex", "size", "elements"):
            if len(expr.args) != 1 or not isinstance(expr.args[0], syntax.Path):
                raise query_error(f"{expr.name} takes an alias or a path")
            return self._of_collection(expr.name, expr.args[0])
        return functions.call(expr.name, [self.value(arg) for arg in expr.args], self._selecting)

    def _of_collection(self, name: str, path: syntax.Path) -> Value:
        """Compile a function of a collection: index(ws), minIndex(ws), size(p.wells), ..."""
        value = self.value(path)
        if name == "size":
            return self.scope.size(self._collection(path))
        if name == "elements":
            return self._collection(path)
        function = sa.func.min if name.startswith("min") else sa.func.max
        if value.kind == "collection" and name != "index":
            return self.scope.element_index(value, function)
        if value.source is None or value.source.index is None:
            raise query_error(f"{path} is no element of a list, it has no index")
        index = value.source.index
        return Value(index if name == "index" else function(index), "int", nullable=False)

    def _collection(self, expr: syntax.Expr) -> Value:
        value = self.value(expr)
        if value.kind != "collection":
            raise query_error(f"{expr} is not a collection")
        return value

    def _subquery_value(self, expr: syntax.Subquery) -> Value:
        statement, value = self.subquery(expr.query)
        if expr.quantifier is not None:
            raise query_error(f"{expr.quantifier} (select ...) stands only on the right side of a comparison")
        return Value(statement.scalar_subquery(), value.kind, value.entity, field=value.field)


def _ordered(value: Value, descending: bool) -> sa.ColumnElement:
    """Order as PostgreSQL does: nulls last, or first if the order is descending."""
    sql = sa.case(DISCRIMINATORS, value=value.sql, else_=value.sql) if value.kind == "class" else value.sql
    if descending:
        return sql.desc().nulls_first() if value.nullable else sql.desc()
    return sql.asc().nulls_last() if value.nullable else sql.asc()


def _is_never_selected(expr: syntax.Expr) -> bool:
    """Whether it is a condition, a parameter or null."""
    comparison = isinstance(expr, syntax.Binary) and expr.op in COMPARISONS
    return comparison or isinstance(expr, NEVER_SELECTED) or (isinstance(expr, syntax.Literal) and expr.value is None)


def _counted(expr: syntax.Expr) -> syntax.Expr:
    """`elements(p.wells)` is a path for count()."""
    return expr.args[0] if isinstance(expr, syntax.Call) and expr.name == "elements" and expr.args else expr


def _is_bound(expr: syntax.Expr) -> bool:
    return isinstance(expr, syntax.Param | syntax.Literal)
