"""The source code behind a step, which a well depends on in addition to its images."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from openhcs_omero.core.config import Step

PACKAGE = __name__.partition(".")[0]


def step_record(step: Step, function: Callable[..., Any]) -> dict[str, Any]:
    """Describe a step: its entry in the configuration, its source, and the distributions that it imports.

    A command has no source but its version and the SHA-256 of its files, which stand among its params.
    """
    if step.command is not None:
        params = {**step.params, **step.command.resolved()}
        source = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()
        about = {"call": step.call, "name": step.name, "channels": step.channels}
        return {**about, "params": params, "source": source, "distributions": {}}
    return {
        "call": step.call,
        "name": step.name,
        "channels": step.channels,
        "params": step.params,
        "source": source_hash(function),
        "distributions": distributions(function),
    }


def source_hash(function: Callable[..., Any]) -> str:
    """Hash the source of a step: its module, and the modules of the same package or folder that they import."""
    digest = hashlib.sha256()
    for name, (_, source) in sorted(_own_modules(function).items()):
        digest.update(f"{name} {len(source)} ".encode() + source)
    return digest.hexdigest()


def distributions(function: Callable[..., Any]) -> dict[str, str]:
    """Versions, by name, of the installed distributions that the step's source imports."""
    own = _own_modules(function)
    imported = {name.partition(".")[0] for spec, source in own.values() for name in _imports(spec, source)}
    inside = {name.partition(".")[0] for name in own}
    found = {
        name: version
        for top in imported - inside - sys.stdlib_module_names
        for name, version in _distributions_with(top).items()
    }
    return dict(sorted(found.items()))


@functools.cache
def _distributions_with(top: str) -> dict[str, str]:
    """Versions, by name, of the distributions that contain a top-level module or package.

    `importlib.metadata.packages_distributions` answers this too, but takes seconds in every job.
    """
    spec = importlib.util.find_spec(top)
    places = [] if spec is None else spec.submodule_search_locations or [spec.origin or ""]
    found = {}
    for folder in {Path(place).parent for place in places}:
        for record in folder.glob("*.dist-info/RECORD"):
            if re.search(rf"^{top}(/|\.py,|\..*\.so,)", record.read_text(), re.MULTILINE):
                distribution = importlib.metadata.PathDistribution(record.parent)
                found[distribution.name] = distribution.version
    return found


def _own_modules(function: Callable[..., Any]) -> dict[str, tuple[ModuleSpec, bytes]]:
    """The modules that make up a step, with their source, by name."""
    while isinstance(function, functools.partial):
        function = function.func
    own: dict[str, tuple[ModuleSpec, bytes]] = {}
    waiting = [function.__module__]
    while waiting:
        name = waiting.pop()
        spec = importlib.util.find_spec(name)
        if name not in own and spec is not None and spec.origin is not None:
            own[name] = spec, Path(spec.origin).read_bytes()
            waiting += [other for other in _imports(*own[name]) if _is_beside(spec, other)]
    return own


def _imports(spec: ModuleSpec, source: bytes) -> Iterator[str]:
    """Yield the modules that a source imports, and names that may be modules, such as `b` in `from a import b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), spec.parent)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _is_beside(spec: ModuleSpec, name: str) -> bool:
    """Whether a module of that name belongs to a step like the one that imports it.

    It does if both are of one package, or if both stand in the folder where Python found the step. What is installed
    counts by its version, and of the steps in the box the modules of the same package count.
    """
    own, top = spec.name.partition(".")[0], name.partition(".")[0]
    if own == top == PACKAGE and not name.startswith(f"{spec.parent}."):
        return False
    try:
        if own != top and (_place(top) != _place(own) or _distributions_with(top)):
            return False
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # a name inside a module, not a module
        return False


def _place(top: str) -> Path | None:
    """The folder that contains a top-level module or package; None without one."""
    spec = importlib.util.find_spec(top)
    inside = None if spec is None else next(iter(spec.submodule_search_locations or [spec.origin or ""]))
    return Path(inside).resolve().parent if inside and os.path.exists(inside) else None
