"""Loading omero.model objects from rows, in the form in which OMERO's IQuery returns them.

References are unloaded proxies, collections are not loaded, maps are. Of the details, only the group is loaded. A
loader works on one snapshot: an id stands for one object, and a proxy is replaced when its object is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache

import omero.model
import sqlalchemy as sa
from omero.model import DetailsI, IObject, PermissionsI
from omero.rtypes import rbool, rdouble, rint, rlong, rstring, rtime

from omero_embedded.model.access import HIDDEN, Context
from omero_embedded.model.rows import among, among_given, as_json, select_pairs
from omero_embedded.model.schema import DETAILS, Entity, Field, schema

RTYPES: dict[str, Callable] = {
    "text": rstring,
    "int": rint,
    "long": rlong,
    "double": rdouble,
    "bool": rbool,
    "time": rtime,
}
# OMERO always returns images with their well samples.
ALWAYS_FETCHED = {"Image": "wellSamples", "Shape": "roi"}


class _Made(dict):
    """A cache of what is made of values."""

    def __init__(self, make: Callable):
        super().__init__()
        self._make = make

    def __missing__(self, value):
        made = self[value] = self._make(value)
        return made


class Rtypes(dict[str, _Made]):
    """The rtypes of one answer by kind and value. Equal values share an object, which travels once."""

    def __init__(self) -> None:
        super().__init__((kind, _Made(make)) for kind, make in RTYPES.items())


class Loader:
    """The objects of one call, read through one connection with the rights of one user."""

    def __init__(self, connection: sa.Connection, ctx: Context):
        self.connection = connection
        self.ctx = ctx
        self.schema = schema()
        self._objects: dict[tuple[str, int], IObject] = {}
        self._permissions: dict[tuple[int | None, int | None, str], PermissionsI] = {}
        self.rtypes = Rtypes()

    def get(self, entity: Entity, ids: Iterable[int]) -> dict[int, IObject]:
        """Load objects, and return them by id. Those that are missing, invisible or of another class are left out.

        Parameters
        ----------
        entity
            The class, or an abstract one above it.
        ids
            Any number of ids, which take few SQL statements.
        """
        wanted = list(dict.fromkeys(ids))
        missing = [oid for oid in wanted if not self._is_loaded(entity, oid)]
        if missing:
            self._load(entity, missing)
        found = ((oid, self._objects.get((entity.root.name, oid))) for oid in wanted)
        return {
            oid: obj for oid, obj in found if obj is not None and obj._loaded and self.schema.of(obj).is_a(entity.name)
        }

    def fetch(self, objects: Iterable[IObject], field: Field) -> list[IObject]:
        """Load one association of all these objects, as `join fetch` does, and return what was loaded.

        Parameters
        ----------
        field
            A reference or a collection.
        """
        owners = [obj for obj in objects if obj is not None and obj._loaded]
        target = self.schema[field.target or ""]
        if field.kind == "ref":
            ends = (vars(obj).get("_" + field.name) for obj in owners)
            return list(self.get(target, [end._id._val for end in ends if end is not None]).values())
        ids = as_json(obj._id._val for obj in owners)
        found = self.connection.execute(_elements(target.table, field), {"ids": ids}).all()
        elements = self.get(target, [row[1] for row in found])
        collections: dict[int, dict[int, int | None]] = {obj._id._val: {} for obj in owners}
        for owner, oid, index in found:
            if oid in elements:
                collections[owner][oid] = index
        for obj in owners:
            members = collections[obj._id._val]
            self.fill(obj, field, [(elements[oid], index) for oid, index in members.items()])
        return list(elements.values())

    def count_by_owner(self, objects: Iterable[IObject], field: Field) -> None:
        """Set how many links of a collection each user owns. As in OMERO, invisible ones count, too."""
        links = self.schema[field.target or ""].table.c
        end = links[field.inverse or "parent"]
        found: dict[int, dict[int, int]] = {obj._id._val: {} for obj in objects}
        counted = sa.select(end, links._owner, sa.func.count()).where(among(end, found)).group_by(end, links._owner)
        for oid, owner, number in self.connection.execute(counted):
            found[oid][owner] = number
        for obj in objects:
            vars(obj)[f"_{field.name}CountPerOwner"] = found[obj._id._val]

    def fetch_paths(self, objects: Iterable[IObject], *paths: str) -> None:
        """Load what dotted paths lead to from objects, whatever their classes: `pixels.pixelsType`."""
        for path in paths:
            reached = list(objects)
            for name in path.split("."):
                by_class: dict[str, list[IObject]] = {}
                for obj in reached:
                    by_class.setdefault(self.schema.of(obj).name, []).append(obj)
                reached = [
                    end
                    for cls, some in by_class.items()
                    if (field := self.schema[cls].fields.get(name))
                    for end in self.fetch(some, field)
                ]

    def load_events(self, objects: Iterable[IObject], *names: str) -> None:
        """Load events in the details of objects: `creationEvent`, `updateEvent`."""
        stamps = [vars(obj._details) for obj in objects]
        events = (one["_" + name] for one in stamps for name in names)
        self.get(self.schema["Event"], {event._id._val for event in events if event})

    def load_stamps(self, objects: Iterable[IObject]) -> None:
        """Load the owners and events in the details of objects."""
        stamps = [vars(obj._details) for obj in objects]
        self.get(self.schema["Experimenter"], {one["_owner"]._id._val for one in stamps if one["_owner"]})
        events = (one[name] for one in stamps for name in ("_creationEvent", "_updateEvent"))
        self.get(self.schema["Event"], {event._id._val for event in events if event})

    @staticmethod
    def fill(owner: IObject, field: Field, members: Sequence[tuple[IObject, int | None]]) -> None:
        """Set a collection of an object; a gap in a list's indexes becomes None."""
        if field.index:
            elements: list[IObject | None] = [None] * (1 + max((i for _, i in members if i is not None), default=-1))
            for element, index in members:
                if index is not None:
                    elements[index] = element
        else:
            elements = [element for element, _ in members]
        vars(owner).update({f"_{field.name}Seq": elements, f"_{field.name}Loaded": True})

    def permissions(self, owner: int | None, group: int | None, kind: str = "") -> PermissionsI:
        """The permissions of rows with an owner, group and class, with this user's flags; one object for all."""
        found = self._permissions.get((owner, group, kind))
        if found is None:
            found = self._permissions[owner, group, kind] = self.ctx.permissions(owner, group, kind)
        return found

    def loaded(self, name: str) -> list[IObject]:
        """All objects of a class that were loaded until now."""
        return [obj for obj in self._objects.values() if obj._loaded and self.schema.of(obj).is_a(name)]

    def proxy(self, entity: Entity, oid: int) -> IObject:
        """The object of an id: loaded if it was loaded before, else unloaded."""
        key = (entity.root.name, oid)
        found = self._objects.get(key)
        if found is None:
            found = self._objects[key] = entity.new(oid, loaded=False)
        return found

    def _is_loaded(self, entity: Entity, oid: int) -> bool:
        found = self._objects.get((entity.root.name, oid))
        return found is not None and found._loaded

    def _load(self, entity: Entity, ids: list[int]) -> None:
        statement = _visible_rows(self.ctx, entity.name)
        rows = self.connection.execute(statement, {"ids": as_json(ids)}).mappings().all()
        self._resolve_classes(entity, rows)
        loaded: dict[str, list[IObject]] = {}
        groups = set()
        for row in rows:
            one = self.schema[row["class"]] if "class" in row else entity
            loaded.setdefault(one.name, []).append(self._made(one, row))
            if not one.is_global:
                groups.add(row["_group"])
        self.get(self.schema["ExperimenterGroup"], groups - {None})
        for name, objects in loaded.items():
            self._load_maps(self.schema[name], objects)
            always = ALWAYS_FETCHED.get(self.schema[name].root.name)
            if always is not None:
                self.fetch(objects, self.schema[name].fields[always])

    def _resolve_classes(self, entity: Entity, rows) -> None:
        """Find the true classes of references, with one statement for each reference whose class has subclasses."""
        for one in (f for e in entity.root.family() for f in e.fields.values() if f.kind == "ref"):
            target = self.schema[one.target or ""]
            if not target.subclasses:
                continue
            ids = {row[one.name] for row in rows if row[one.name] is not None}
            unknown = [oid for oid in ids if (target.root.name, oid) not in self._objects]
            if unknown:
                for oid, name in self.connection.execute(_classes(target.table), {"ids": as_json(unknown)}):
                    self.proxy(self.schema[name], oid)

    def _made(self, entity: Entity, row) -> IObject:
        """Make the loaded object of a row, without collections."""
        obj = self.proxy(entity, row["id"])
        values = vars(obj)
        for attribute, column, kind in _scalars(entity.name):
            value = row[column]
            if value is not None:
                values[attribute] = self.rtypes[kind][value]
        for attribute, column, target in _references(entity.name):
            if row[column] is not None:
                values[attribute] = self.proxy(target, row[column])
        for attribute, column, make in _units(entity.name):
            values[attribute] = make(row[column], row[column + "_unit"])
        for attribute, column in _arrays(entity.name):
            values[attribute] = row[column]
        values["_loaded"] = True
        values["_details"] = self._details(entity, row)
        return obj

    def _details(self, entity: Entity, row) -> DetailsI:
        details = DetailsI()
        values = vars(details)
        if not entity.is_global:  # users, groups and enumerations have none
            for name, target in _details_ends():
                if row["_" + name] is not None:
                    values["_" + name] = self.proxy(target, row["_" + name])
        if entity.name == "ExperimenterGroup":
            values["_permissions"] = PermissionsI(row["_permissions"])
        else:
            kind = entity.root.name if entity.is_global or entity.name == "OriginalFile" else ""  # others are alike
            values["_permissions"] = self.permissions(row["_owner"], row["_group"], kind)
        return details

    def _load_maps(self, entity: Entity, objects: list[IObject]) -> None:
        for name, table in entity.maps.items():
            pairs = select_pairs(self.connection, table, [obj._id._val for obj in objects])
            for obj in objects:
                vars(obj)["_" + name] = [omero.model.NamedValue(*pair) for pair in pairs.get(obj._id._val, ())]


@lru_cache(maxsize=1000)
def _visible_rows(ctx: Context, name: str) -> sa.Select:
    """Find those of the objects of a class that a user may see, by id."""
    entity = schema()[name]
    table = entity.table
    statement = sa.select(*columns_of(ctx, entity, table)).where(among_given(table.c.id))
    if entity.parent is not None:
        statement = statement.where(table.c["class"].in_([e.name for e in entity.family()]))
    visible = ctx.visible(entity, table)
    return statement if visible is None else statement.where(visible)


@cache
def _elements(table: sa.Table, field: Field) -> sa.Select:
    """Find the elements of a collection, with their owners and places, by the ids of the owners."""
    columns = table.c
    inverse = columns[field.inverse or ""]
    statement = sa.select(inverse, columns.id, columns[field.index] if field.index else sa.null())
    return statement.where(among_given(inverse)).order_by(columns.id)


@cache
def _classes(table: sa.Table) -> sa.Select:
    return sa.select(table.c.id, table.c["class"]).where(among_given(table.c.id))


def columns_of(ctx: Context, entity: Entity, table: sa.FromClause) -> list[sa.ColumnElement]:
    """The columns of an entity's table; those that this user must not see are replaced."""
    known = ctx.knows(table.c.id) if entity.name == "Experimenter" else None
    return [_hidden(column, known) if column.name in HIDDEN else column for column in table.c]


def column_of(ctx: Context, entity: Entity, table: sa.FromClause, name: str) -> sa.ColumnElement:
    """One column; the names of users who share no group with the caller are hidden."""
    if entity.name != "Experimenter" or name not in HIDDEN:
        return table.c[name]
    return _hidden(table.c[name], ctx.knows(table.c.id))


def _hidden(column: sa.ColumnElement, known: sa.ColumnElement[bool] | None) -> sa.ColumnElement:
    if known is None:
        return column
    return sa.case((known, column), (column.is_not(None), "<hidden>"), else_=None).label(column.name)


@cache
def _scalars(name: str) -> list[tuple[str, str, str]]:
    return [("_" + one.name, one.name, one.kind) for one in schema()[name].fields.values() if one.kind in RTYPES]


@cache
def _references(name: str) -> list[tuple[str, str, Entity]]:
    return [
        ("_" + one.name, one.name, schema()[one.target or ""])
        for one in schema()[name].fields.values()
        if one.kind == "ref"
    ]


@cache
def _units(name: str) -> list[tuple[str, str, Callable]]:
    return [
        ("_" + one.name, one.name, _unit_maker(one.target or ""))
        for one in schema()[name].fields.values()
        if one.kind == "unit"
    ]


@cache
def _arrays(name: str) -> list[tuple[str, str]]:
    return [("_" + one.name, one.name) for one in schema()[name].fields.values() if one.kind in ("strings", "bytes")]


@cache
def _details_ends() -> list[tuple[str, Entity]]:
    return [(name, schema()[target]) for name, target in DETAILS.items()]


def _unit_maker(name: str) -> Callable:
    make = getattr(omero.model, name + "I")
    units = getattr(omero.model.enums, "Units" + name)

    def made(value: float | None, unit: str | None):
        return None if value is None else make(value, getattr(units, unit or ""))

    return made
