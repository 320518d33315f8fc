"""omero-py's type tables: every class with its fields and operations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from omero_embedded import omeropy


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
    """Return the tables of the omero-py that is installed."""
    raw = omeropy.type_tables()
    classes = {
        name: SliceClass(
            c["base"], tuple(c["interfaces"]), tuple(map(tuple, c["fields"])), c["operations"], frozenset(c["void"])
        )
        for name, c in raw["classes"].items()
    }
    return SliceTables(classes, raw["sequences"])
