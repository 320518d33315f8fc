"""Compiling HQL's queries to one SQL select over the schema's tables, and a description of its columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from omero_embedded.hql import syntax
from omero_embedded.hql.checks import check_distinct, check_grouping
from omero_embedded.hql.expressions import COMPARISONS, Expressions
from omero_embedded.hql.scope import Scope
from omero_embedded.hql.values import DISCRIMINATORS, Params, Source, Value, query_error
from omero_embedded.model.access import Context
from omero_embedded.model.schema import Field, Schema

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
        self.expressions = Expressions(scope, params, self.subquery)
        self.selected: dict[str, Value] = {}  # the select's aliases, for order by and group by

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
                self.scope.add_join(source, self.expressions.condition)

    def _select(self, query: syntax.Query) -> list[tuple[str, Value]]:
        if query.select is None:
            sources = [source for source in self.scope.explicit if not source.fetched and source.entity]
            return [(str(i), source.value()) for i, source in enumerate(sources)]
        found = []
        self.expressions.selecting = True
        for i, item in enumerate(query.select.items):
            if _is_never_selected(item.value):
                raise query_error(f"a {type(item.value).__name__} can't be selected")
            value = self.scope.joined(self.expressions.value(item.value))
            if item.alias is not None:
                self.selected[item.alias] = value
            found.append((item.alias or str(i), value))
        self.expressions.selecting = False
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
        conditions = [self.expressions.condition(query.where)] if query.where is not None else []
        groups = [self._alias_or_value(expr).sql for expr in query.group]
        having = [self.expressions.condition(query.having)] if query.having is not None else []
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
        return self.expressions.value(expr)


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
