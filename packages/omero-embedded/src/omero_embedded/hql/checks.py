"""What SQLite accepts and PostgreSQL refuses: comparisons, aggregates and `distinct`; and `all` and `any`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import omero
import sqlalchemy as sa

from omero_embedded.errors import refuse
from omero_embedded.hql.functions import AGGREGATES
from omero_embedded.hql.values import NUMBERS, Value, cast_error, constant, query_error, usage_error
from omero_embedded.model.sql_functions import interval_of, time_of


def check_comparable(left: Value, right: Value, operator: str) -> None:
    """Refuse to compare text with numbers, times with either, and entities with anything but ids."""
    kinds = {left.kind, right.kind}
    if "collection" in kinds or "permissions" in kinds:
        raise query_error("a collection or permissions can't be compared")
    if "unit" in kinds and kinds != {"unit"}:
        raise query_error("left and right hand sides of a comparison were incompatible: compare `.value` or `.unit`")
    texts, numbers = kinds & {"text", "symbol"}, kinds & {*NUMBERS, "float"}
    if (texts and (numbers or kinds & {"time", "bool", "entity", "interval"})) or (
        numbers and kinds & {"time", "bool"}
    ):
        raise usage_error(f"operator does not exist: {left.kind} {operator} {right.kind}")
    if "entity" in kinds and not kinds <= {"entity", "long", "int", "unknown"}:
        raise cast_error(f"an entity is compared with a {(kinds - {'entity'}).pop()}")


def read_as(kind: str, text: Value) -> Value:
    """Read a text constant as PostgreSQL does where it is compared with a number, a time or a boolean."""
    written = text.sql.value  # type: ignore[attr-defined]
    try:
        if kind in NUMBERS:
            return constant(float(written) if kind == "double" else int(written), kind)
        if kind == "time":
            return constant(time_of(written), kind)
        if kind == "interval":
            return constant(interval_of(written), kind)
        if kind == "bool":
            return constant({"true": True, "t": True, "false": False, "f": False}[written.lower()], kind)
    except (ValueError, KeyError):
        raise refuse(omero.ValidationException, f"invalid input syntax for {kind}: '{written}'") from None
    return text


def check_grouping(
    shown: Sequence[sa.ColumnElement], groups: Sequence[sa.ColumnElement], tables: Iterable[sa.FromClause]
) -> None:
    """Check that a query with aggregates or groups selects nothing that its groups don't determine.

    Parameters
    ----------
    shown
        What the query selects and orders by.
    groups
        What it groups by.
    tables
        The query's own tables, without those of an outer query.

    Raises
    ------
    omero.ApiUsageException
        If a column is neither in the group by clause nor of a row whose id is.
    """
    if not groups and not any(_has_aggregate(one) for one in shown):
        return
    checked = set(tables) - {one.table for one in groups if isinstance(one, sa.Column) and one.name == "id"}
    for one in shown:
        for column in _bare_columns(one, groups):
            if column.table in checked:
                raise usage_error(f"column {column.name} must appear in the GROUP BY clause or be used in an aggregate")


def check_distinct(
    order: Iterable[sa.ColumnElement], selected: Sequence[sa.ColumnElement], entities: Iterable[sa.FromClause]
) -> None:
    """Check that `select distinct` is ordered only by what it selects. An entity selects all of its columns.

    Raises
    ------
    omero.ApiUsageException
        If it is ordered by anything else.
    """
    whole = set(entities)
    for one in order:
        of_entity = isinstance(one, sa.Column) and one.table in whole
        if not of_entity and not any(one.compare(other) for other in selected):
            raise usage_error("for SELECT DISTINCT, ORDER BY expressions must appear in the select list")


def holds_for(statement: sa.Select, comparison: sa.ColumnElement[bool], *, every: bool) -> sa.ColumnElement[bool]:
    """Whether a comparison with what a subquery selects is true for every row of the subquery, or for any."""
    wanted = sa.or_(sa.not_(comparison), comparison.is_(None)) if every else comparison
    aggregated = bool(statement._group_by_clauses) or any(_has_aggregate(one) for one in statement.selected_columns)
    found = (statement.having(wanted) if aggregated else statement.where(wanted)).order_by(None).exists()
    return sa.not_(found) if every else found


def _is_aggregate(one: sa.ClauseElement) -> bool:
    if not isinstance(one, sa.sql.functions.FunctionElement) or getattr(one, "name", "") not in AGGREGATES:
        return False
    return len(one.clauses) < 2  # max and min of several values are not aggregates


def _has_aggregate(one: sa.ClauseElement) -> bool:
    if isinstance(one, sa.SelectBase | sa.ScalarSelect | sa.Exists):
        return False
    return _is_aggregate(one) or any(_has_aggregate(child) for child in one.get_children())


def _bare_columns(one: sa.ClauseElement, groups: Sequence[sa.ColumnElement]) -> Iterator[sa.Column]:
    """The columns of an expression outside aggregates and outside the expressions of the group by clause."""
    if isinstance(one, sa.SelectBase | sa.ScalarSelect | sa.Exists) or _is_aggregate(one):
        return
    if isinstance(one, sa.ColumnElement) and any(one.compare(group) for group in groups):
        return
    if isinstance(one, sa.Column):
        yield one
        return
    for child in one.get_children():
        yield from _bare_columns(child, groups)
