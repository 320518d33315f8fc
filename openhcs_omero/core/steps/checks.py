"""Checks that find errors in steps before any of them runs."""

from __future__ import annotations

import collections.abc
import json
import subprocess
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from openhcs_omero.core.config import Step
from openhcs_omero.errors import ConfigError, StepError

Steps = Sequence[tuple[Step, Callable[..., Any]]]

# finds modules the way a worker process does: see worker_pool.py and loading.py
_FIND = """
import importlib.util, json, os, sys
sys.path.append(os.getcwd())
print(json.dumps([name for name in json.loads(sys.argv[1]) if importlib.util.find_spec(name) is None]))
"""


def check_workers(steps: Iterable[Step]) -> None:
    """Check that worker processes can find the modules of the steps.

    Raises
    ------
    StepError
        For a module that only this process finds, for example one next to the Snakefile.
    """
    modules = [(step, step.call.partition(":")[0].partition(".")[0]) for step in steps]
    command = [sys.executable, "-P", "-c", _FIND, json.dumps(sorted({name for _, name in modules}))]
    missing = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    for step, name in modules:
        if name in missing:
            place = getattr(sys.modules.get(name), "__file__", name)
            raise StepError(
                f"{step} can be imported here, from {place}, but not by worker processes: move the module "
                "to the working directory, install it, or add its folder to PYTHONPATH"
            )


def check_params(step: Step, function: Callable[..., Any]) -> None:
    """Check the params against those annotations of the function that are understood.

    Raises
    ------
    StepError
        For the first param of the wrong type.
    """
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # ignore annotations that can't be evaluated
        return
    for name, value in step.keywords().items():
        if name in hints and not _fits(value, hints[name]):
            expected = str(hints[name]) if typing.get_origin(hints[name]) else hints[name].__name__
            raise StepError(f"{step} has {name}: {value!r} in its params, but its function expects {expected}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON has the given type; True if the type is not understood."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in arguments)
    if origin is typing.Literal:
        return value in arguments
    if hint in (None, type(None)):
        return value is None
    if hint in (int, float):  # True is an int in Python, but a mistake in a configuration
        return isinstance(value, int if hint is int else (int, float)) and not isinstance(value, bool)
    if hint in (str, bool):
        return isinstance(value, hint)
    kind = origin or hint
    if kind in (list, tuple, set, collections.abc.Sequence, collections.abc.Iterable):
        if not isinstance(value, list | tuple):
            return False
        inner = {each for each in arguments if each is not Ellipsis}
        return all(_fits(item, next(iter(inner))) for item in value) if len(inner) == 1 else True
    if kind in (dict, collections.abc.Mapping):
        return isinstance(value, Mapping)
    return True


def check_columns(steps: Steps, channels: int, heatmaps: Sequence[str] | None) -> None:
    """Check the columns that steps declare in the attribute `features` of their functions (features.py).

    Raises
    ------
    StepError
        If two steps produce the same column.
    ConfigError
        If a heat map is requested for a column that no step produces. This is checked only if all steps declare their
        columns.
    """
    given: dict[str, Step] = {}
    for step, function in steps:
        for column in _columns(step, function, channels):
            if column in given:
                raise StepError(
                    f"{given[column]} and {step} both return the column {column!r}: give one of them a `name:`"
                )
            given[column] = step
    if all(hasattr(function, "features") for _, function in steps):
        for name in heatmaps or ():
            if not any(name == column or name.startswith(f"{column}_") for column in given):
                raise ConfigError(f"heatmaps: the steps measure {', '.join(given) or 'nothing'}, but no {name!r}")


def _columns(step: Step, function: Callable[..., Any], channels: int) -> Iterator[str]:
    prefix = f"{step.name}_" if step.name else ""
    for name in getattr(function, "features", {}):
        if "{channel}" in name:
            yield from (prefix + name.replace("{channel}", str(c)) for c in step.channels or range(channels))
        else:
            yield prefix + name
