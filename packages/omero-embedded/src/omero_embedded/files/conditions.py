"""Conditions on a table's rows, as PyTables takes them: numexpr's expressions of columns, variables and values."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence

import numexpr
import numpy as np
import omero

from omero_embedded.errors import refuse

# These hold several numbers a row, which no condition takes.
ARRAYS = ("LongArrayColumn", "FloatArrayColumn", "DoubleArrayColumn")
LONGEST = 10_000  # characters
LARGEST_BASE, LARGEST_POWER = 10**6, 100  # of numbers
_NAME = re.compile(r"[A-Za-z_]\w*")
_PARTS = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.Name, ast.Load, ast.Constant),
    *(ast.operator, ast.unaryop, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)


def true_for(
    condition: str, headers: Sequence, variables: dict, values: Callable[[int], np.ndarray], count: int
) -> np.ndarray:
    """Whether the condition is true, for each of `count` rows.

    Parameters
    ----------
    values : the values of the column in a place.

    Raises
    ------
    omero.ApiUsageException
        It is no condition, or a name in it is unknown.
    omero.InternalException
        It compares what can't be compared, or a variable is a text that names no column.
    """
    _check(condition)
    places = {one.name: place for place, one in enumerate(headers)}
    known: dict = {}
    if any(isinstance(value, str) and value not in places for value in variables.values()):
        raise refuse(omero.InternalException, "A text can't be a variable: write it into the condition.")
    for name in set(_NAME.findall(condition)):
        place = places.get(name)
        if name in variables:
            place = None
            known[name] = variables[name]
            if isinstance(variables[name], str):
                place = places[variables[name]]
        if place is not None:
            kind = type(headers[place]).__name__
            if kind in ARRAYS:
                raise refuse(omero.InternalException, f"The column {name} can't be in a condition.")
            if kind == "MaskColumn":
                raise _bad(condition, f"the column {name} can't be in a condition")
            known[name] = values(place)
    if not known.keys() & places.keys() - variables.keys() and not any(isinstance(v, str) for v in variables.values()):
        raise _bad(condition, "there is no column in it")
    found = np.asarray(_evaluated(condition, known))
    if found.dtype != bool:
        raise _bad(condition, "it is neither true nor false")
    return np.broadcast_to(found, (count,)) if found.size else np.zeros(count, bool)  # of an empty list as a variable


def _bad(condition: str, why: object) -> omero.ServerError:
    return refuse(omero.ApiUsageException, f"Bad condition: {condition[:200]}, {why}")


def _check(condition: str) -> None:
    """Refuse what takes long before any row is looked at: Python computes with numbers that stand for themselves.

    Raises
    ------
    omero.ApiUsageException
        It is too long, no expression, or computes 9**9**9, 1 << 10**10 or 'x' * 10**10.
    """
    if len(condition) > LONGEST:
        raise refuse(omero.ApiUsageException, f"The condition has {len(condition)} characters: {LONGEST} are the most.")
    try:
        parts = list(ast.walk(ast.parse(condition.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as wrong:
        raise _bad(condition, wrong) from None
    for part in parts:
        if not isinstance(part, _PARTS) or (isinstance(part, ast.BinOp) and _is_costly(part)):
            raise _bad(condition, f"{ast.unparse(part)[:200]} can't be in a condition")


def _is_costly(part: ast.BinOp) -> bool:
    sides = [part.left, part.right]
    if any(isinstance(side, ast.Constant) and not isinstance(side.value, int | float | complex) for side in sides):
        return True
    if not isinstance(part.op, ast.Pow | ast.LShift):
        return False
    if any(isinstance(inner, ast.Name) for side in sides for inner in ast.walk(side)):
        return False
    if not all(isinstance(side, ast.Constant) for side in sides):
        return True
    for side, most in zip(sides, (LARGEST_BASE, LARGEST_POWER)):
        if isinstance(side, ast.Constant) and isinstance(side.value, int | float | complex) and abs(side.value) > most:
            return True
    return False


def _evaluated(condition: str, known: dict):
    try:
        return numexpr.evaluate(condition, local_dict=known, global_dict={})
    except NotImplementedError as wrong:
        raise refuse(omero.InternalException, f"{condition!r} can't be asked of these columns: {wrong}") from None
    except (KeyError, NameError, SyntaxError, TypeError, ValueError, AttributeError, IndexError) as wrong:
        raise _bad(condition, wrong) from None
