"""Checks that find errors in steps before any of them runs."""

from __future__ import annotations

import collections.abc
import contextlib
import inspect
import json
import subprocess
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from openhcs_omero.core.command import check_shell
from openhcs_omero.core.config import Step
from openhcs_omero.errors import StepError

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
    modules = [(step, step.call.partition(":")[0].partition(".")[0]) for step in steps if step.command is None]
    command = [sys.executable, "-P", "-c", _FIND, json.dumps(sorted({name for _, name in modules}))]
    missing = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    for step, name in modules:
        if name in missing:
            place = getattr(sys.modules.get(name), "__file__", name)
            raise StepError(
                f"{step} can be imported here, from {place}, but not by worker processes: move the module "
                "to the working directory, install it, or add its folder to PYTHONPATH"
            )


def check_commands(steps: Iterable[Step]) -> None:
    """Check that the shell understands the commands.

    Raises
    ------
    StepError
        For the first that it does not understand.
    """
    for step in steps:
        if step.command is not None and (reason := check_shell(step.command)):
            raise StepError(f"{step} is a command that the shell does not understand: {reason}")


def check_params(step: Step, function: Callable[..., Any]) -> None:
    """Check the params against those annotations of the function that are understood.

    Raises
    ------
    StepError
        For the first param of the wrong type, or beyond the limits in its annotation (`annotated_types`).
    """
    if step.command is not None:
        return
    hints, parameters = hints_of(function), inspect.signature(function).parameters
    for name, value in step.keywords().items():
        if name not in hints or (name in parameters and value == parameters[name].default):
            continue
        if not fits(value, hints[name]):
            expected = type_text(hints[name])
            raise StepError(f"{step} has {name}: {value!r} in its params, but its function expects {expected}")
        if wrong := _beyond_limits(value, hints[name]):
            raise StepError(f"{step} has {name}: {value!r} in its params, but it {wrong}")


def _beyond_limits(value: Any, hint: Any) -> str | None:
    """Why a value of the right type is not allowed, such as "should be greater than 0"; None if it is."""
    if not _is_annotated(hint):
        return None
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        return str(error.errors()[-1]["msg"]).removeprefix("Input ")
    return None


def _is_annotated(hint: Any) -> bool:
    return hasattr(hint, "__metadata__") or any(map(_is_annotated, typing.get_args(hint)))


def type_text(hint: Any) -> str:
    """A type as people write it: ``float``, ``list[int] | None``, ``'site' | 'plate' | float``."""
    if hasattr(hint, "__metadata__"):
        return type_text(hint.__origin__)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(type_text, arguments))
    if origin is typing.Literal:
        return " | ".join(map(repr, arguments))
    if hint in (None, type(None)):
        return "None"
    if origin is not None and arguments:
        inner = ", ".join("..." if each is Ellipsis else type_text(each) for each in arguments)
        name = "list" if origin is collections.abc.Sequence else getattr(origin, "__name__", origin)
        return f"{name}[{inner}]"
    return getattr(hint, "__name__", str(hint))


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function's parameters, without those that can't be evaluated."""
    hints, names = {}, getattr(inspect.unwrap(function), "__globals__", {})
    for name, parameter in inspect.signature(function).parameters.items():
        hint = parameter.annotation
        with contextlib.suppress(Exception):  # for example, names that are imported for type checkers only
            hint = eval(hint, dict(names)) if isinstance(hint, str) else hint
            if not isinstance(hint, str) and hint is not parameter.empty:
                hints[name] = hint
    return hints


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON has the given type; True if the type is not understood."""
    if hasattr(hint, "__metadata__"):
        hint = hint.__origin__
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in arguments)
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
        if kind is tuple and arguments and Ellipsis not in arguments:
            return len(value) == len(arguments) and all(map(fits, value, arguments))
        return all(fits(item, arguments[0]) for item in value) if arguments else True
    if kind in (dict, collections.abc.Mapping):
        return isinstance(value, Mapping) and (
            not arguments or all(fits(item, arguments[1]) for item in value.values())
        )
    return True
