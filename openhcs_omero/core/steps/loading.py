"""Finding steps by name, and checking them before anything runs.

A step is `f(image, filemanager, metadata, backend='disk', **params) -> (image, results)`; image is (T, C, Z, Y, X).
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from openhcs_omero.core.config import Step
from openhcs_omero.core.features import Features
from openhcs_omero.core.steps.command_step import CommandStep
from openhcs_omero.errors import StepError

LEADING = ("image", "filemanager", "metadata", "backend")


def load_step(step: Step) -> Callable[..., Any]:
    """Import the function of a step, searching Python's path and the working directory; a `CommandStep` for a command.

    Raises
    ------
    StepError
        If the import fails, the signature does not accept what the configuration passes, or the declaration of features
        is not valid.
    """
    if step.command is not None:
        return CommandStep(step)
    function = import_function(step)
    _check_signature(step, function)
    Features.of([(step, function)])
    return function


def import_function(step: Step) -> Callable[..., Any]:
    """Import the function of a step, whatever its signature; raises StepError if the import fails."""
    module_name, _, function_name = step.call.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        where = _innermost(error, module_name)
        raise StepError(f"{step} can't be imported: {type(error).__name__}: {error}{where}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise StepError(f"{step} can't be imported: {module.__file__} has no function {function_name!r}")
    return function


def wants_treatment(function: Callable[..., Any]) -> bool:
    """Whether a step needs the treatment of its well: such functions have the attribute `reads_treatment`."""
    return bool(getattr(function, "reads_treatment", False))


def _innermost(error: Exception, module_name: str) -> str:
    """The place in the step's own files where the import failed, for errors that don't name it themselves."""
    if isinstance(error, ModuleNotFoundError) and error.name and module_name.startswith(error.name):
        return f" (looked for in the installed packages and in {os.getcwd()})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def _check_signature(step: Step, function: Callable[..., Any]) -> None:
    wanted = f"a step is f({', '.join(LEADING[:3])}, backend='disk', **params)"
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise StepError(f"{step} has a signature that can't be read; {wanted}") from None
    kinds = inspect.Parameter
    named = {name for name, p in parameters.items() if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)}
    anything = any(p.kind is kinds.VAR_KEYWORD for p in parameters.values())
    if tuple(parameters)[:3] != LEADING[:3] or not (anything or "backend" in named):
        raise StepError(f"{step} has the signature ({', '.join(parameters)}), but {wanted}")
    if unknown := [key for key in step.keywords() if not anything and key not in named]:
        takes = ", ".join(sorted(named - set(LEADING))) or "none"
        raise StepError(f"{step} does not take {unknown[0]!r}; its parameters are: {takes}")
    required = [name for name, p in parameters.items() if p.default is p.empty and name in named]
    if missing := [name for name in required if name not in LEADING and name not in step.keywords()]:
        raise StepError(f"{step} needs the parameter {missing[0]!r}: add it to params")
    if taken := set(LEADING) & set(step.params):
        raise StepError(f"{step} has {min(taken)!r} in its params, but the workflow passes this itself")
    if "channels" in step.params:
        raise StepError(f"{step} has 'channels' in its params: write it next to params")
