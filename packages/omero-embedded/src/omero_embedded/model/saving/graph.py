"""The graph that a client saves, sorted into what is new, what is stored, and references to what is stored."""

from __future__ import annotations

from functools import cache

import omero
import sqlalchemy as sa
from omero.model import IObject

from omero_embedded.errors import no_row, refuse
from omero_embedded.model import rows
from omero_embedded.model.access import Context
from omero_embedded.model.schema import Entity, Field, schema

Slot = tuple  # (what holds an object, its key or index there): `holder[key]` is the object


class Graph:
    """All objects that can be reached from the saved ones through loaded references and collections.

    Attributes
    ----------
    roots
        The objects that the client saves.
    new, stored
        Loaded objects by class name.
    references
        The slots of unloaded objects.
    places
        By the id() of a list's element: (element, list, the list's owner, index).
    known
        The rows of all stored objects that the graph refers to, by (table, id).
    """

    def __init__(self, connection: sa.Connection, ctx: Context, objects: list[IObject]):
        self.connection, self.ctx, self.schema = connection, ctx, schema()
        self.roots = list(objects)
        self.new: dict[str, list[IObject]] = {}
        self.stored: dict[str, list[IObject]] = {}
        self.references: list[Slot] = []
        self.places: dict[int, list[tuple[IObject, Field, IObject, int]]] = {}
        self.known: dict[tuple[str, int], dict] = {}
        self._enumerations: list[Slot] = []
        self._pairs: dict[tuple[str, str], dict] = {}  # (class, map field) -> stored pairs by id
        self._collect()
        self._read()
        self._find_enumerations()
        self._check_locks()
        self._find_places()

    def _collect(self) -> None:
        """Walk the graph in the order that ids are given in: an object before the elements of its collections."""
        seen: set[int] = set()
        stack: list[Slot] = [(self.roots, i) for i in reversed(range(len(self.roots)))]
        while stack:
            holder, key = stack.pop()
            obj = holder[key]
            if not obj._loaded:
                self.references.append((holder, key))
                continue
            entity = self.schema.of(obj)
            if entity.is_enum and obj._id is None:
                self._enumerations.append((holder, key))
            elif id(obj) not in seen:
                seen.add(id(obj))
                (self.new if obj._id is None else self.stored).setdefault(entity.name, []).append(obj)
                stack.extend(reversed(_slots(entity, obj)))

    def _read(self) -> None:
        """Read the rows of all objects that the graph refers to by id."""
        wanted: dict[str, set[int]] = {}
        named = [holder[key] for holder, key in self.references] + [o for some in self.stored.values() for o in some]
        for obj in named:
            oid = rows.id_of(obj)
            if oid is None:
                raise refuse(omero.ValidationException, f"An unloaded {self.schema.of(obj).name} has no id.")
            wanted.setdefault(self.schema.of(obj).root.name, set()).add(oid)
        for name, ids in wanted.items():
            table = self.schema[name].table
            found = rows.select_rows(self.connection, table, ids)
            self.known |= {(table.name, oid): row for oid, row in found.items()}
        for obj in named:
            self._check_readable(self.schema.of(obj), obj._id._val)

    def _check_readable(self, entity: Entity, oid: int) -> None:
        row = self.known.get((entity.table.name, oid))
        if row is None or not self.schema[row.get("class", entity.name)].is_a(entity.name):
            raise no_row(entity.java, oid)
        if not entity.is_global and not self.ctx.may_see(row["_owner"], row["_group"]):
            raise refuse(omero.SecurityViolation, f"{entity.name} {oid} is not visible to {self.ctx.user_name} here.")

    def _find_enumerations(self) -> None:
        """Replace each new enumeration with the stored one of the same value."""
        ids: dict[tuple[str, str | None], int | None] = {}
        for holder, key in self._enumerations:
            obj = holder[key]
            entity = self.schema.of(obj)
            value = obj._value._val if obj._value else None
            if (entity.name, value) not in ids:
                ids[entity.name, value] = self.connection.execute(_enumeration(entity.table), {"given": value}).scalar()
            if (oid := ids[entity.name, value]) is not None:
                holder[key] = entity.new(oid, loaded=False)
                self.references.append((holder, key))
            elif not any(obj is other for other in self.new.get(entity.name, [])):
                self.new.setdefault(entity.name, []).append(obj)

    def _check_locks(self) -> None:
        """Refuse objects that somebody else has changed since the client read them."""
        for name, objects in self.stored.items():
            for obj in objects:
                row = self.row_of(self.schema[name], rows.id_of(obj) or 0)
                sent = rows.id_of(obj._details._updateEvent) if obj._details else None
                if sent is not None and row["_updateEvent"] is not None and sent != row["_updateEvent"]:
                    raise refuse(
                        omero.OptimisticLockException,
                        f"{name} {row['id']} was changed since it was read; reload it before saving it.",
                    )

    def _find_places(self) -> None:
        """Note the place of every element of a loaded list, and refuse new elements without a place."""
        for name, objects in self.loaded():
            for one in rows.ordered_collections(name):
                for owner in objects:
                    for index, element in enumerate(rows.elements(owner, one) or ()):
                        if element is not None:
                            self.places.setdefault(id(element), []).append((element, one, owner, index))
                            if element._loaded:
                                vars(element)[f"_{one.inverse}"] = owner
        for name, objects in self.new.items():
            for one in rows.list_memberships(name):
                for obj in objects:
                    self._check_placed(name, obj, one)

    def _check_placed(self, name: str, obj: IObject, one: Field) -> None:
        owner = vars(obj)[f"_{one.inverse}"]
        if owner is None or any(field is one for _, field, _, _ in self.places.get(id(obj), ())):
            return
        kind = omero.ValidationException if owner._loaded else omero.InternalException
        raise refuse(
            kind,
            f"A new {name} has no place in the {one.name} of its {one.inverse}: "
            f"load the {one.inverse} with its {one.name}, add to them, and save the {one.inverse}.",
        )

    def place_in(self, one: Field, obj: IObject) -> int | None:
        """The index of an object in a list; None if it is in no such list."""
        return next((index for _, field, _, index in self.places.get(id(obj), ()) if field is one), None)

    def loaded(self) -> list[tuple[str, list[IObject]]]:
        """New and stored objects by class name."""
        return [*self.new.items(), *self.stored.items()]

    def row_of(self, entity: Entity, oid: int) -> dict:
        """The row of a stored object."""
        return self.known[entity.table.name, oid]

    def pairs_differ(self, entity: Entity, obj: IObject) -> bool:
        """Whether the map fields of a stored object differ from what is stored."""
        for one in rows.fields_of(entity.name, "map"):
            if (entity.name, one.name) not in self._pairs:
                ids = [other._id._val for other in self.stored.get(entity.name, ())]
                self._pairs[entity.name, one.name] = rows.select_pairs(self.connection, entity.maps[one.name], ids)
            if self._pairs[entity.name, one.name].get(obj._id._val, []) != rows.pairs_of(obj, one):
                return True
        return False


@cache
def _enumeration(table: sa.Table) -> sa.Select:
    return sa.select(table.c.id).where(table.c.value == sa.bindparam("given"))


def _slots(entity: Entity, obj: IObject) -> list[Slot]:
    """Where an object refers to others: its references, its loaded collections, its external information."""
    values = vars(obj)
    slots: list[Slot] = [
        (values, "_" + one.name) for one in rows.fields_of(entity.name, "ref") if values["_" + one.name] is not None
    ]
    if values["_details"] is not None and values["_details"]._externalInfo is not None:
        slots.append((vars(values["_details"]), "_externalInfo"))
    for one in rows.fields_of(entity.name, "collection"):
        found = rows.elements(obj, one) or []
        slots += [(found, i) for i in range(len(found)) if found[i] is not None]
    return slots
