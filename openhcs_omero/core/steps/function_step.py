"""Steps given as Python functions, converted to the form used in the configuration, where they are given by name."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from openhcs_omero.core.config_check import check_keys
from openhcs_omero.errors import StepError

StepLike = Callable[..., Any] | Mapping[str, Any] | str


class FunctionStep:
    """A function with its params.

    Parameters
    ----------
    func
        `f(image, filemanager, metadata, backend='disk', **params) -> (image, results)`, at the top level of a module.
        `image` is (T, C, Z, Y, X).
    name
        Prefix for the keys of the results; None for no prefix.
    channels
        The channels to process, by number from 0 or by name; None for all.
    params
        Keyword arguments of the function.
    """

    def __init__(
        self,
        func: Callable[..., Any],
        *,
        name: str | None = None,
        channels: Sequence[int | str] | None = None,
        **params: Any,
    ) -> None:
        self.func, self.name, self.channels, self.params = func, name, channels, params

    def __repr__(self) -> str:
        return f"FunctionStep({getattr(self.func, '__qualname__', self.func)!s}, {self.params})"


def configured(steps: Iterable[StepLike | FunctionStep]) -> list[dict[str, Any]]:
    """Convert steps to entries for the key `steps` of the configuration.

    Parameters
    ----------
    steps
        Functions, `FunctionStep` objects, "module:function", or entries as in the configuration.

    Raises
    ------
    StepError
        If a function can't be imported by name, which the jobs must do because they are separate processes.
    ConfigError
        If params contain dicts with keys that are not text.
    """
    entries = [_entry(f"step {position}", step) for position, step in enumerate(steps, 1)]
    check_keys(entries)
    return entries


def _entry(which: str, step: StepLike | FunctionStep) -> dict[str, Any]:
    if isinstance(step, Mapping):
        return dict(step)
    if isinstance(step, str):
        return {"call": step}
    if not isinstance(step, FunctionStep):
        return {"call": _call(which, step)}
    entry: dict[str, Any] = {"call": _call(which, step.func), "params": dict(step.params)}
    if step.name is not None:
        entry["name"] = step.name
    if step.channels is not None:
        entry["channels"] = list(step.channels)
    return entry


def _call(which: str, function: Any) -> str:
    """The "module:function" of a function that another process can import."""
    mend = "write it as a function at the top level of a module (a .py file) and import it"
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not callable(function) or not module or not name:
        raise StepError(
            f"{which} is {function!r} which is not a function: pass a function, or FunctionStep(func, **params)"
        )
    if name.endswith("<lambda>"):
        raise StepError(f"{which} is a lambda ({_place(function)}), which jobs can't import: {mend}")
    if "." in name:
        raise StepError(
            f"{which} ({name}, {_place(function)}) is defined inside another function or a class, where "
            f"jobs can't import it: {mend}"
        )
    if module == "__main__":
        raise StepError(
            f"{which} ({name}) is defined in the script or notebook itself, where jobs can't import it: {mend}"
        )
    if getattr(sys.modules.get(module), name, None) is not function:
        raise StepError(f"{which} ({module}:{name}) is not what {module} has under that name: {mend}")
    return f"{module}:{name}"


def _place(function: Any) -> str:
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}, line {code.co_firstlineno}" if code else "no source"


def import_folders(steps: Iterable[Mapping[str, Any]]) -> list[str]:
    """The folders that jobs must search for the steps' modules in addition to Python's own path."""
    installed = [Path(path).resolve() for path in sysconfig.get_paths().values()]
    folders = []
    for step in steps:
        folder = _folder_of(str(step.get("call", "")).partition(":")[0].partition(".")[0])
        if folder and not any(folder == path or path in folder.parents for path in installed):
            folders.append(str(folder))
    return list(dict.fromkeys(folders))


def _folder_of(name: str) -> Path | None:
    """The folder that contains a top-level module or package; None if this process does not find it either."""
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve().parent
    return Path(spec.origin).resolve().parent if spec.has_location and spec.origin else None
