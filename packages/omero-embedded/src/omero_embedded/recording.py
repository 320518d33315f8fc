"""omero-py's type tables: every class with its fields and operations, as plain data.

The generated modules pass these tables to IcePy, which does not give them back. So the modules are imported with
wrapped functions of IcePy, which note what they are called with. That works once per interpreter, and only before
anything else has imported omero-py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable


class _Recorder:
    """Notes what passes through IcePy's definers."""

    def __init__(self) -> None:
        import IcePy

        self.icepy = IcePy
        self.names: dict[int, str] = {
            id(getattr(IcePy, "_t_" + kind)): kind
            for kind in ("bool", "byte", "short", "int", "long", "float", "double", "string")
        }
        self.classes: dict[str, tuple] = {}
        self.sequences: dict[str, object] = {}
        self.operations: dict[int, tuple] = {}
        self._alive: list = []  # an id is only a name as long as its object lives
        self._originals: dict[str, Callable] = {}
        for definer in (
            "declareClass",
            "declareProxy",
            "defineProxy",
            "defineDictionary",
            "defineEnum",
            "defineStruct",
        ):
            self._wrap(definer, lambda args: None)
        self._wrap("defineClass", lambda args: self.classes.__setitem__(args[0], args))
        self._wrap("defineSequence", lambda args: self.sequences.__setitem__(args[0], args[2]))
        self._wrap("Operation", None)

    def stop(self) -> None:
        """Give IcePy its own functions back."""
        for definer, original in self._originals.items():
            setattr(self.icepy, definer, original)

    def _wrap(self, definer: str, keep: Callable[[tuple], None] | None) -> None:
        """Keep a definer's arguments, and its result by name; of an operation, the arguments only."""
        original = self._originals[definer] = getattr(self.icepy, definer)

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
        own = {
            key[4:]: self.operations[id(value)]
            for key, value in vars(args[1]).items()
            if key.startswith("_op_") and id(value) in self.operations
        }
        return {
            "base": self.names.get(id(args[6])),
            "interfaces": [self.names.get(id(interface), "?") for interface in args[7]],
            "fields": [(field[0], self.names.get(id(field[2]), "?")) for field in args[8]],
            "operations": {name: bool(operation[3]) for name, operation in own.items()},
            "void": [name for name, operation in own.items() if operation[8] is None and not operation[7]],
        }


def record() -> dict:
    """Import omero-py, and return its classes and sequences by Slice name."""
    recorder = _Recorder()
    import omero.all  # noqa: F401

    recorder.stop()
    return {
        "classes": {name: recorder.described(args) for name, args in recorder.classes.items()},
        "sequences": {name: recorder.names.get(id(element), "?") for name, element in recorder.sequences.items()},
    }


if __name__ == "__main__":
    json.dump(record(), sys.stdout)
