"""Steps: found by name, checked before anything runs, and run on a site.

A step is `f(image, filemanager, metadata, backend='disk', **params) -> (image, results)`; image is (T, C, Z, Y, X).
"""
from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
import inspect
import itertools
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np

from openhcs_omero.core.config import Step
from openhcs_omero.core.tables import PLACE
from openhcs_omero.errors import StepError

LEADING = ("image", "filemanager", "metadata", "backend")


def load_step(step: Step) -> Callable[..., Any]:
    """The step's function, imported; modules are looked for where Python does and in the working directory.

    Raises
    ------
    StepError
        Where it can't be imported, or its signature does not take what the configuration gives it.
    """
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
    _check_signature(step, function)
    return function


def _innermost(error: Exception, module_name: str) -> str:
    """Where in the step's own files the import failed, for errors that don't say it themselves."""
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
        raise StepError(f"{step} has no signature that can be read: {wanted}") from None
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
        raise StepError(f"{step} needs the parameter {missing[0]!r}: give it under params")
    if taken := set(LEADING) & set(step.params):
        raise StepError(f"{step} has {min(taken)!r} among its params, which the workflow passes itself")
    if "channels" in step.params:
        raise StepError(f"{step} has 'channels' among its params: write it beside params")


def source_hash(function: Callable[..., Any]) -> str:
    """A hash of the source that a step is made of: its module, and those of its package or folder that it imports."""
    while isinstance(function, functools.partial):
        function = function.func
    sources: dict[str, bytes] = {}
    waiting = [function.__module__]
    while waiting:
        name = waiting.pop()
        spec = importlib.util.find_spec(name)
        if name not in sources and spec is not None and spec.origin is not None:
            sources[name] = Path(spec.origin).read_bytes()
            waiting += [other for other in _imports(spec, sources[name]) if _is_beside(spec, other)]
    digest = hashlib.sha256()
    for name, source in sorted(sources.items()):
        digest.update(f"{name} {len(source)} ".encode() + source)
    return digest.hexdigest()


def _imports(spec: ModuleSpec, source: bytes) -> Iterator[str]:
    """The modules that a source names in its imports, and what may be modules: `b` in `from a import b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), spec.parent)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _is_beside(spec: ModuleSpec, name: str) -> bool:
    """Whether there is a module of that name in the same package, or in the same folder for one without a package."""
    if spec.parent and not name.startswith(f"{spec.parent}."):
        return False
    try:
        if not spec.parent:
            top = importlib.util.find_spec(name.partition(".")[0])
            here = Path(str(spec.origin)).parent
            if top is None or here not in Path(str(top.origin)).parents[:2]:
                return False
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # a name in a module, not a module
        return False


def run_steps(steps: Sequence[tuple[Step, Callable[..., Any]]], image: np.ndarray, filemanager: Any,
              metadata: Mapping[str, Any], estimates: Mapping[int, Mapping[int, np.ndarray]], backend: str,
              ) -> tuple[np.ndarray, dict[str, Any], list[dict[str, Any]]]:
    """Run all steps on one site.

    Parameters
    ----------
    steps
        The steps with their functions, in order.
    image
        (T, C, Z, Y, X).
    estimates
        By the step's position: channel -> (Y, X), for steps that have a plate estimate.
    backend
        What the steps are told to save to.

    Returns
    -------
    image, results, objects
        The last step's image, the scalars of all steps, and a row an object.

    Raises
    ------
    StepError
        Where a step returns something else than a step does, or a key that another has returned.
    """
    results: dict[str, Any] = {}
    objects: list[dict[str, Any]] = []
    for step, function in steps:
        told = dict(metadata)
        if step.position in estimates:
            told["plate_estimate"] = estimates[step.position]
        image, found = _checked(step, function(image, filemanager, told, backend=backend, **step.keywords()))
        prefix = f"{step.name}_" if step.name else ""
        rows = found.pop("objects", [])
        objects += [{"step": step.name or step.function_name, **row} for row in rows]
        for key, value in found.items():
            if prefix + key in results:
                raise StepError(f"{step} returns {prefix + key!r}, as another step does: give one of them a `name:`")
            results[prefix + key] = value
    return image, results, objects


def _checked(step: Step, returned: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """What a step returned, made sure of: an image that OMERO can keep, and a flat dict of scalars."""
    if not (isinstance(returned, tuple) and len(returned) == 2):
        raise StepError(f"{step} returned {type(returned).__name__}; a step returns (image, results)")
    image, results = returned
    if not (isinstance(image, np.ndarray) and image.ndim == 5 and image.size):
        shape = getattr(image, "shape", type(image).__name__)
        raise StepError(f"{step} returned an image {shape}; it must be an array (T, C, Z, Y, X)")
    if not isinstance(results, Mapping):
        raise StepError(f"{step} returned results of type {type(results).__name__}; they must be a dict")
    results = dict(results)
    rows = results.get("objects", [])
    if not (isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows)):
        raise StepError(f"{step} returned 'objects' that are no list of dicts, one dict an object")
    for key in itertools.chain(results, *rows):
        if not isinstance(key, str) or not key or "/" in key or key in (*PLACE, "sites"):
            raise StepError(f"{step} returned the key {key!r}; a key is text without '/', and none of "
                            f"{', '.join(PLACE)} and sites, which the tables have already")
    for key, value in results.items():
        if key != "objects" and not (value is None or np.isscalar(value)):
            raise StepError(f"{step} returned {key!r} of type {type(value).__name__}; results are numbers or text")
    return image, results
