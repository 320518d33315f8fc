"""What omero-py's own type tables say: every class with its fields, and which operations are dispatched how.

IcePy keeps the tables that the generated modules hand it to itself. They can be seen only while those modules are being
imported, so a fresh interpreter imports them with IcePy's definers wrapped, and prints what went through.
"""
from __future__ import annotations

import json
import subprocess
import sys
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


def _record() -> dict:
    import IcePy

    names: dict[int, str] = {id(getattr(IcePy, "_t_" + kind)): kind for kind in (
        "bool", "byte", "short", "int", "long", "float", "double", "string")}
    alive: list = []  # an id is only a name as long as its object lives
    classes: dict[str, tuple] = {}
    sequences: dict[str, object] = {}
    operations: dict[int, tuple] = {}

    def wrap(definer: str, keep) -> None:
        original = getattr(IcePy, definer)

        def wrapped(*args):
            made = original(*args)
            alive.append(made)
            keep(made, args)
            return made

        setattr(IcePy, definer, wrapped)

    def name_it(made, args):
        names[id(made)] = args[0]

    def define_class(made, args):
        name_it(made, args)
        classes[args[0]] = args

    def define_sequence(made, args):
        name_it(made, args)
        sequences[args[0]] = args[2]

    for definer in ("declareClass", "declareProxy", "defineProxy", "defineDictionary", "defineEnum", "defineStruct"):
        wrap(definer, name_it)
    wrap("defineClass", define_class)
    wrap("defineSequence", define_sequence)
    wrap("Operation", lambda made, args: operations.__setitem__(id(made), args))

    import omero.all  # noqa: F401

    def described(args: tuple) -> dict:
        own = {key[4:]: operations[id(value)] for key, value in vars(args[1]).items()
               if key.startswith("_op_") and id(value) in operations}
        return {
            "base": names.get(id(args[6])),
            "interfaces": [names.get(id(interface), "?") for interface in args[7]],
            "fields": [(field[0], names.get(id(field[2]), "?")) for field in args[8]],
            "operations": {name: bool(operation[3]) for name, operation in own.items()},
            "void": [name for name, operation in own.items() if operation[8] is None and not operation[7]],
        }

    return {"classes": {name: described(args) for name, args in classes.items()},
            "sequences": {name: names.get(id(element), "?") for name, element in sequences.items()}}


if __name__ == "__main__":
    json.dump(_record(), sys.stdout)
