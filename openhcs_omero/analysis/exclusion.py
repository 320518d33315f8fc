"""Which rows of a table are excluded: conditions such as ``saturated > 0.01 or focus_z < -4``."""

from __future__ import annotations

import ast
import operator
from typing import Any

import numpy as np
import pandas as pd

from openhcs_omero.errors import ConfigError

_COMPARE: dict[type, Any] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def excluded_rows(table: pd.DataFrame, condition: str) -> np.ndarray:
    """The rows that fulfill the condition, bool, shape (rows,).

    Parameters
    ----------
    condition
        Comparisons (``< <= > >= == !=``) of columns, numbers and quoted texts, joined by ``and``, ``or``, ``not`` and
        parentheses. A missing value fulfills no comparison.

    Raises
    ------
    ConfigError
        If it is something else, or names a column that the table doesn't have.
    """
    try:
        tree = ast.parse(condition.strip(), mode="eval").body
    except SyntaxError as error:
        raise _refused(condition, error.msg) from None
    return np.broadcast_to(_decide(tree, table, condition), len(table)).copy()


def _refused(condition: str, why: str) -> ConfigError:
    return ConfigError(f"qc.exclude {condition!r} is not a valid condition: {why}")


def _decide(node: ast.AST, table: pd.DataFrame, condition: str) -> np.ndarray:
    if isinstance(node, ast.BoolOp):
        parts = [_decide(part, table, condition) for part in node.values]
        return np.logical_and.reduce(parts) if isinstance(node.op, ast.And) else np.logical_or.reduce(parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ~_decide(node.operand, table, condition)
    if isinstance(node, ast.Compare) and all(type(op) in _COMPARE for op in node.ops):
        values = [_value(side, table, condition) for side in (node.left, *node.comparators)]
        return np.logical_and.reduce(
            [_compare(op, left, right, condition) for op, left, right in zip(node.ops, values, values[1:])]
        )
    raise _refused(condition, "expected comparisons such as `saturated > 0.01`, joined by `and`, `or` and `not`")


def _compare(op: ast.cmpop, left: Any, right: Any, condition: str) -> np.ndarray:
    texts = [
        isinstance(side, str) or (isinstance(side, pd.Series) and not pd.api.types.is_numeric_dtype(side))
        for side in (left, right)
    ]
    if texts[0] != texts[1]:
        raise _refused(condition, "it compares a text with a number")
    known = np.asarray(pd.notna(left)) & np.asarray(pd.notna(right))
    return np.asarray(_COMPARE[type(op)](left, right), dtype=bool) & known


def _value(node: ast.AST, table: pd.DataFrame, condition: str) -> Any:
    if isinstance(node, ast.Name):
        if node.id not in table.columns:
            raise _refused(condition, f"the tables have no column {node.id}")
        return table[node.id]
    try:
        value = ast.literal_eval(node)
    except ValueError:
        value = None
    if type(value) in (int, float, str):
        return value
    raise _refused(condition, "expected a column, a number or a quoted text on each side")
