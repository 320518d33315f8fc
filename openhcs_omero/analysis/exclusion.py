"""Which rows of a table are excluded: conditions such as ``saturated > 0.01 or focus_z < -4``."""

from __future__ import annotations

import ast
import operator
from typing import Any

import numpy as np
import pandas as pd

from openhcs_omero.errors import ConfigError, brief

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
    return np.broadcast_to(_decide(_parse(condition), table, condition), len(table)).copy()


def condition_columns(condition: str) -> list[str]:
    """The columns that a condition names; raises ConfigError if it is no condition."""
    names: list[str] = []
    _collect(_parse(condition), names, condition)
    return list(dict.fromkeys(names))


def _parse(condition: str) -> ast.AST:
    try:
        return ast.parse(condition.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refused(condition, getattr(error, "msg", None) or "it can't be read") from None


def _refused(condition: str, why: str) -> ConfigError:
    return ConfigError(f"qc.exclude {brief(condition)} is not a valid condition: {why}")


def _parts(node: ast.AST, condition: str) -> list[ast.AST]:
    """The parts of an `and`, `or` or `not`, or the sides of a comparison."""
    if isinstance(node, ast.BoolOp):
        return list(node.values)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return [node.operand]
    if isinstance(node, ast.Compare) and all(type(op) in _COMPARE for op in node.ops):
        return [node.left, *node.comparators]
    raise _refused(condition, "expected comparisons such as `saturated > 0.01`, joined by `and`, `or` and `not`")


def _collect(node: ast.AST, names: list[str], condition: str) -> None:
    for part in _parts(node, condition):
        if not isinstance(node, ast.Compare):
            _collect(part, names, condition)
        elif isinstance(part, ast.Name):
            names.append(part.id)
        else:
            _literal(part, condition)


def _decide(node: ast.AST, table: pd.DataFrame, condition: str) -> np.ndarray:
    parts = _parts(node, condition)
    if isinstance(node, ast.Compare):
        values = [_value(side, table, condition) for side in parts]
        return np.logical_and.reduce(
            [_compare(op, left, right, condition) for op, left, right in zip(node.ops, values, values[1:])]
        )
    decided = [_decide(part, table, condition) for part in parts]
    if isinstance(node, ast.BoolOp):
        return np.logical_and.reduce(decided) if isinstance(node.op, ast.And) else np.logical_or.reduce(decided)
    return ~decided[0]


def _compare(op: ast.cmpop, left: Any, right: Any, condition: str) -> np.ndarray:
    texts = [
        isinstance(side, str) or (isinstance(side, pd.Series) and not pd.api.types.is_numeric_dtype(side))
        for side in (left, right)
    ]
    if texts[0] != texts[1]:
        text = left if texts[0] else right
        what = f"the column {text.name}, which has texts," if isinstance(text, pd.Series) else f"the text {brief(text)}"
        raise _refused(condition, f"it compares {what} with a number")
    known = np.asarray(pd.notna(left)) & np.asarray(pd.notna(right))
    return np.asarray(_COMPARE[type(op)](left, right), dtype=bool) & known


def _value(node: ast.AST, table: pd.DataFrame, condition: str) -> Any:
    if not isinstance(node, ast.Name):
        return _literal(node, condition)
    if node.id not in table.columns:
        raise _refused(condition, f"the tables have no column {node.id}")
    return table[node.id]


def _literal(node: ast.AST, condition: str) -> int | float | str:
    try:
        value = ast.literal_eval(node)
    except (ValueError, RecursionError):
        value = None
    if type(value) in (int, float, str):
        return value
    raise _refused(condition, "expected a column, a number or a quoted text on each side")
