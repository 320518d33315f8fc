"""What a step is made of: what a well depends on besides its images."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from openhcs_omero.core.config import Step


def step_record(step: Step, function: Callable[..., Any]) -> dict[str, Any]:
    """What a step is made of: its place in the configuration, its source, and the distributions that it imports."""
    return {
        "call": step.call,
        "name": step.name,
        "channels": step.channels,
        "params": step.params,
        "source": source_hash(function),
        "distributions": distributions(function),
    }


def source_hash(function: Callable[..., Any]) -> str:
    """A hash of the source that a step is made of: its module, and those of its package or folder that it imports."""
    digest = hashlib.sha256()
    for name, (_, source) in sorted(_own_modules(function).items()):
        digest.update(f"{name} {len(source)} ".encode() + source)
    return digest.hexdigest()


def distributions(function: Callable[..., Any]) -> dict[str, str]:
    """Versions of the installed distributions that a step's own source imports, by name."""
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
    """Versions of the distributions that have a module or package of the top level.

    `importlib.metadata.packages_distributions` answers this too, and takes seconds, which each job would wait.
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
    """The modules that a step is made of, with their source, by name."""
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
