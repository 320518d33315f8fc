"""Compiling HQL's expressions and conditions to SQL."""

from __future__ import annotations

import operator
from collections.abc import Callable

import sqlalchemy as sa

from omero_embedded.hql import functions, syntax
from omero_embedded.hql.checks import check_comparable, holds_for, read_as
from omero_embedded.hql.scope import OF_COLLECTIONS, Scope, index_of
from omero_embedded.hql.values import Params, Value, common_kind, constant, name_of, query_error, usage_error

COMPARISONS = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Expressions:
    """Compiles the expressions of one query.

    Attributes
    ----------
    selecting
        Whether they stand in the select clause.
    """

    def __init__(
        self, scope: Scope, params: Params, subquery: Callable[[syntax.Query], tuple[sa.Select, Value]]
    ) -> None:
        self.selecting = False
        self.scope, self.params, self.subquery = scope, params, subquery

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
            case syntax.Vector():
                raise query_error("a vector such as (a, b) is only compared with vectors")
            case _:
                return Value(self.condition(expr), "bool")

    def _path(self, path: syntax.Path) -> Value:
        """Compile a path; one without an alias may be a function without parentheses, or the database's own name."""
        if len(path.names) == 1 and not self.scope.knows(path):
            if path.names[0].lower() in functions.BARE:
                return functions.call(path.names[0].lower(), [], self.selecting)
            if not self.selecting:
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
            case syntax.Member() if (entity := self.scope.entity(str(expr.collection))) is not None:
                return self.value(expr.value).sql.in_(self.scope.all_of(entity))  # `a member of TagAnnotation`
            case syntax.Member():
                return self.value(expr.value).sql.in_(self.scope.elements(self._collection(expr.collection)))
            case syntax.Exists():
                return self._rows(expr.query)[0].exists()
            case _:  # HQL takes no boolean value for a condition: `x.flag = true`
                raise query_error(f"unexpected AST node: {getattr(expr, 'name', expr)}")

    def _compare(self, expr: syntax.Binary) -> sa.ColumnElement[bool]:
        if isinstance(expr.right, syntax.Subquery) and expr.right.quantifier is not None:
            return self._compare_with_rows(expr, expr.right)
        if isinstance(expr.left, syntax.Vector):
            return COMPARISONS[expr.op](sa.tuple_(*self._vector(expr.left)), self._like_vector(expr.left, expr.right))
        left, right = self._pair(expr.left, expr.right)
        for one, other in ((left, right), (right, left)):
            if other.kind == "unknown" and expr.op in ("=", "<>"):
                return one.sql.is_(None) if expr.op == "=" else one.sql.is_not(None)
        check_comparable(left, right, expr.op)
        return COMPARISONS[expr.op](left.sql, right.sql)

    def _compare_with_rows(self, expr: syntax.Binary, rows: syntax.Subquery) -> sa.ColumnElement[bool]:
        """Compile a comparison with all or any rows of a subquery."""
        statement, right = self._rows(rows)
        left = self._as(right, expr.left)
        check_comparable(left, right, expr.op)
        return holds_for(statement, COMPARISONS[expr.op](left.sql, right.sql), every=rows.quantifier == "all")

    def _rows(self, expr: syntax.Expr) -> tuple[sa.Select, Value]:
        """Compile a subquery, or the elements or indices of a collection in its place; and what it selects."""
        inner = expr.query if isinstance(expr, syntax.Subquery) else expr
        if isinstance(inner, syntax.Query):
            return self.subquery(inner)
        assert isinstance(inner, syntax.Elements)
        return self.scope.members(self._collection(inner.collection), inner.indices)

    def _vector(self, vector: syntax.Vector) -> list[sa.ColumnElement]:
        return [self.value(part).sql for part in vector.parts]

    def _like_vector(self, vector: syntax.Vector, expr: syntax.Expr) -> sa.ColumnElement:
        """Compile what a vector is compared with: a vector of the same length, or the row of a subquery."""
        if isinstance(expr, syntax.Subquery):
            return self._rows(expr)[0].scalar_subquery()
        if not isinstance(expr, syntax.Vector) or len(expr.parts) != len(vector.parts):
            raise usage_error("unequal number of entries in row expressions")
        for left, right in zip(vector.parts, expr.parts, strict=True):
            check_comparable(self.value(left), self.value(right), "=")
        return sa.tuple_(*self._vector(expr))

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

    def _vector_in(self, vector: syntax.Vector, values: tuple[syntax.Expr, ...]) -> sa.ColumnElement[bool]:
        own = sa.tuple_(*self._vector(vector))
        if isinstance(values[0], syntax.Subquery):
            return own.in_(self._rows(values[0])[0])
        return sa.or_(*(own == self._like_vector(vector, one) for one in values))

    def _in(self, expr: syntax.In) -> sa.ColumnElement[bool]:
        if isinstance(expr.value, syntax.Vector):
            return self._vector_in(expr.value, expr.values)
        value = self.value(expr.value)
        choices: list[sa.ColumnElement] = []
        conditions: list[sa.ColumnElement[bool]] = []
        for one in expr.values:
            if isinstance(one, syntax.Subquery | syntax.Elements):
                conditions.append(value.sql.in_(self._rows(one)[0]))
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
        like = values[0] if self.selecting else common_kind([*values, otherwise])
        if self.selecting and like.kind == "unknown":
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
        if expr.name in ("index", *OF_COLLECTIONS):
            if len(expr.args) != 1 or not isinstance(expr.args[0], syntax.Path):
                raise query_error(f"{expr.name} takes an alias or a path")
            return self._of_collection(expr.name, expr.args[0])
        return functions.call(expr.name, [self.value(arg) for arg in expr.args], self.selecting)

    def _of_collection(self, name: str, path: syntax.Path) -> Value:
        """Compile a function of a collection: index(ws), minIndex(ws), size(p.wells), ..."""
        value = self.value(path)
        if value.kind == "collection" and name != "index":
            return self.scope.of_collection(name, value)
        if name in ("size", "elements", "indices"):
            raise query_error(f"{path} is not a collection")
        if value.source is None:
            raise query_error(f"{path} is no element of a list, it has no index")
        function = sa.func.min if name.startswith("min") else sa.func.max
        if name.endswith("element"):
            return Value(function(value.sql), value.kind, value.entity)
        index, kind = index_of(value.source)
        return Value(index if name == "index" else function(index), kind, nullable=False)

    def _collection(self, expr: syntax.Expr) -> Value:
        value = self.value(expr)
        if value.kind != "collection":
            raise query_error(f"{expr} is not a collection")
        return value

    def _subquery_value(self, expr: syntax.Subquery) -> Value:
        statement, value = self._rows(expr)
        if expr.quantifier is not None:
            raise query_error(f"{expr.quantifier} (select ...) stands only on the right side of a comparison")
        return Value(statement.scalar_subquery(), value.kind, value.entity, field=value.field)


def _counted(expr: syntax.Expr) -> syntax.Expr:
    """`elements(p.wells)` is a path for count()."""
    return expr.args[0] if isinstance(expr, syntax.Call) and expr.name == "elements" and expr.args else expr


def _is_bound(expr: syntax.Expr) -> bool:
    return isinstance(expr, syntax.Param | syntax.Literal)
