"""omero-py's type tables: every class with its fields and operations.

The generated modules pass these tables to IcePy, which does not give them back. So a new interpreter imports the
modules with wrapped functions of IcePy, and prints what they are called with.
"""
from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class SliceClass:
    """A Slice class: its bases, and its own fields as (name, type), types as `::omero::RString` or `bool`."""

    base: str | None
    interfaces: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]
    operations: dict[str, bool]  # own operations; True where the servant answers through a callback ("amd")
    void: frozenset[str]  # own operations that return nothing


@dataclass(frozen=True)
class SliceTables:
    """All classes by Slice name, and the element type of every sequence."""

    classes: dict[str, SliceClass]
    sequences: dict[str, str]


@cache
def tables() -> SliceTables:
    """Read the tables of the omero-py that is installed (about half a second, once a process)."""
    done = subprocess.run([sys.executable, "-P", "-W", "ignore", __file__], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"omero-py's type tables could not be read: {done.stderr.strip()[-500:]}")
    raw = json.loads(done.stdout)
    classes = {name: SliceClass(c["base"], tuple(c["interfaces"]), tuple(map(tuple, c["fields"])), c["operations"],
                                frozenset(c["void"]))
               for name, c in raw["classes"].items()}
    return SliceTables(classes, raw["sequences"])


class _Recorder:
    """What goes through IcePy's definers."""

    def __init__(self) -> None:
        import IcePy

        self.icepy = IcePy
        self.names: dict[int, str] = {id(getattr(IcePy, "_t_" + kind)): kind for kind in (
            "bool", "byte", "short", "int", "long", "float", "double", "string")}
        self.classes: dict[str, tuple] = {}
        self.sequences: dict[str, object] = {}
        self.operations: dict[int, tuple] = {}
        self._alive: list = []  # an id is only a name as long as its object lives
        for definer in ("declareClass", "declareProxy", "defineProxy", "defineDictionary", "defineEnum",
                        "defineStruct"):
            self._wrap(definer, lambda args: None)
        self._wrap("defineClass", lambda args: self.classes.__setitem__(args[0], args))
        self._wrap("defineSequence", lambda args: self.sequences.__setitem__(args[0], args[2]))
        self._wrap("Operation", None)

    def _wrap(self, definer: str, keep: Callable[[tuple], None] | None) -> None:
        """Have a definer's arguments kept, and its result by name (an operation's only the arguments)."""
        original = getattr(self.icepy, definer)

        def wrapped(*args):
            made = original(*args)
            self._alive.append(made)
            if keep is None:
                self.operations[id(made)] = args
            else:
                self.names[id(made)] = args[0]
                keep(args)
            return made

        setattr(self.icepy, definer, wrapped)

    def described(self, args: tuple) -> dict:
        """A class by the arguments that defined it."""
        own = {key[4:]: self.operations[id(value)] for key, value in vars(args[1]).items()
               if key.startswith("_op_") and id(value) in self.operations}
        return {
            "base": self.names.get(id(args[6])),
            "interfaces": [self.names.get(id(interface), "?") for interface in args[7]],
            "fields": [(field[0], self.names.get(id(field[2]), "?")) for field in args[8]],
            "operations": {name: bool(operation[3]) for name, operation in own.items()},
            "void": [name for name, operation in own.items() if operation[8] is None and not operation[7]],
        }


def _record() -> dict:
    recorder = _Recorder()
    import omero.all  # noqa: F401

    return {"classes": {name: recorder.described(args) for name, args in recorder.classes.items()},
            "sequences": {name: recorder.names.get(id(element), "?") for name, element in recorder.sequences.items()}}


if __name__ == "__main__":
    json.dump(_record(), sys.stdout)
