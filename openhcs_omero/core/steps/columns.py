"""The columns of the tables that steps return, as far as they are known before anything runs."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from openhcs_omero.core.config import Step
from openhcs_omero.core.features import declared_features
from openhcs_omero.core.steps.checks import Steps
from openhcs_omero.errors import ConfigError, StepError


def check_columns(
    steps: Steps, channels: int, heatmaps: Sequence[str] | None, names: Sequence[str | None] = ()
) -> None:
    """Check the columns that the steps return, as far as they are known (`known_columns`).

    Parameters
    ----------
    steps
        The steps, with numbers of channels.
    channels
        Number of channels of the plate.
    heatmaps
        The columns to draw.
    names
        The names of the plate's channels, where any were asked for.

    Raises
    ------
    StepError
        If two steps produce the same column.
    ConfigError
        If a heat map is requested for a column that no step produces. This is checked only if the columns of all steps
        are known.
    """
    given: dict[str, Step] = {}
    unknown: dict[tuple[Any, ...], Step] = {}
    for step, function in steps:
        columns = known_columns(step, function, channels)
        if columns is None and (twin := unknown.setdefault((function, step.name, step.channels), step)) is not step:
            raise StepError(f"{twin} and {step} both return the columns of {step.call}: give one of them a `name:`")
        for column in columns or ():
            if column in given:
                raise StepError(
                    f"{given[column]} and {step} both return the column {column!r}: give one of them a `name:`"
                )
            given[column] = step
    if unknown:
        return
    for name in heatmaps or ():
        named = [*given, *with_names(given, names)]
        if not any(name == column or name.startswith(f"{column}_") for column in named):
            raise ConfigError(f"heatmaps: the steps measure {', '.join(given) or 'nothing'}, but no {name!r}")


def known_columns(step: Step, function: Callable[..., Any], channels: int) -> list[str] | None:
    """The columns that a step returns; None if they are unknown.

    They are known if its function declares them in the attribute `features` (features.py), or returns nothing but dicts
    that are written out, as in ``return image, {"area": area}``.

    Parameters
    ----------
    step, function
        The step with its function.
    channels
        Number of channels of the plate.
    """
    declared = declared_features(step, function)
    columns = _returned_keys(function) if declared is None else list(declared)
    if columns is None:
        return None
    prefix = f"{step.name}_" if step.name else ""
    return [
        prefix + name.replace("{channel}", str(c))
        for name in columns
        for c in ((step.channels or range(channels)) if "{channel}" in name else [None])
    ]


def _returned_keys(function: Callable[..., Any]) -> list[str] | None:
    """The keys of the results that a function returns, if its source has all of them written out."""
    try:
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    if not isinstance(definition, ast.FunctionDef) or definition.decorator_list:
        return None
    found: dict[str, None] = {}
    returns = list(_own_returns(definition))
    if not returns:  # it only raises errors, for instance
        return None
    for node in returns:
        returned = node.value.elts[1] if isinstance(node.value, ast.Tuple) and len(node.value.elts) == 2 else None
        if not isinstance(returned, ast.Dict):
            return None
        for key in returned.keys:
            if not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
                return None
            found[key.value] = None
    return [key for key in found if key not in ("objects", "labels")]  # which are no columns


def _own_returns(node: ast.AST) -> Iterator[ast.Return]:
    """The return statements of a function, without those of functions inside it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Return):
            yield child
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield from _own_returns(child)


def with_names(columns: Iterable[str], names: Sequence[str | None]) -> dict[str, str]:
    """Columns by the names that they have with names of channels instead of numbers: ``spots_cGFP`` for ``spots_c0``.

    Names that stand for several columns are left out.
    """

    def name_of(match: re.Match[str]) -> str:
        number = int(match[1])
        return f"_c{names[number]}" if number < len(names) and names[number] else match[0]

    found: dict[str, list[str]] = {}
    for column in columns:
        found.setdefault(re.sub(r"_c(\d+)", name_of, column), []).append(column)
    return {named: same[0] for named, same in found.items() if len(same) == 1}
