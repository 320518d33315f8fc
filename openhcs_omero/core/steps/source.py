"""A hash of a step's source code: what a well depends on besides its images."""
from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any


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
