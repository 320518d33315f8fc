"""The OMERO model as entities, fields and SQL tables, all derived from omero-py's type tables.

The classes of a hierarchy (Annotation, Shape, Job, ...) share the table of the topmost one, with the name of the
class in the column `class`. A query for a superclass can therefore use the fields of its subclasses, as OMERO allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import omero.all
import omero.model
import sqlalchemy as sa

from omero_embedded.model import slice_tables

MODEL = "::omero::model::"
SCALARS = {
    "::omero::RString": "text",
    "::omero::RInt": "int",
    "::omero::RLong": "long",
    "::omero::RDouble": "double",
    "::omero::RBool": "bool",
    "::omero::RTime": "time",
}


class Double(sa.Float):
    """A number that may be no number: SQLite would make null of that, so it is kept as a text, above all numbers."""

    def bind_processor(self, dialect):
        return lambda value: "NaN" if value is not None and value != value else value

    def result_processor(self, dialect, coltype):
        return lambda value: float(value) if isinstance(value, str) else value


SQL_TYPES = {
    "text": sa.Text,
    "int": sa.Integer,
    "long": sa.BigInteger,
    "double": Double,
    "bool": sa.Boolean,
    "time": sa.BigInteger,
    "strings": sa.JSON,
    "bytes": sa.LargeBinary,
}
ARRAYS = {"::omero::api::StringArray": "strings", "::Ice::ByteSeq": "bytes"}
UNITS = ("ElectricPotential", "Frequency", "Length", "Power", "Pressure", "Temperature", "Time")
DETAILS = {
    "owner": "Experimenter",
    "group": "ExperimenterGroup",
    "creationEvent": "Event",
    "updateEvent": "Event",
    "externalInfo": "ExternalInfo",
}


@dataclass(frozen=True)
class Field:
    """A property of an entity.

    Attributes
    ----------
    kind
        One of the values of SCALARS and ARRAYS; "unit" (the columns are `name` and `name_unit`, target is the unit's
        class); "ref" (the column `name` holds the target's id); "collection" (the column `inverse` of target holds the
        owner's id, and its column `index` the order if the collection is a list); "map" (named values in order, in a
        table of their own).
    """

    name: str
    kind: str
    target: str | None = None
    nullable: bool = True
    inverse: str | None = None
    index: str | None = None


@dataclass
class Entity:
    """A model class: its fields (inherited ones included) and the table that holds its rows."""

    name: str
    java: str
    parent: Entity | None
    abstract: bool
    is_global: bool  # no owner and no group: users, groups, events, enumerations
    is_link: bool
    is_mutable: bool  # has an update event
    is_enum: bool
    fields: dict[str, Field] = field(default_factory=dict)
    subclasses: list[Entity] = field(default_factory=list)
    table: sa.Table = None  # type: ignore[assignment]
    maps: dict[str, sa.Table] = field(default_factory=dict)  # a map field's table: parent, position, name, value

    @property
    def root(self) -> Entity:
        return self if self.parent is None else self.parent.root

    def family(self) -> Iterator[Entity]:
        """This entity and all entities below it."""
        yield self
        for child in self.subclasses:
            yield from child.family()

    def is_a(self, name: str) -> bool:
        return self.name == name or (self.parent is not None and self.parent.is_a(name))

    def find_field(self, name: str) -> Field | None:
        """Find a field by name. As HQL allows for the alias of a superclass, it may be a field of a subclass."""
        return self.fields.get(name) or next((e.fields[name] for e in self.family() if name in e.fields), None)

    def new(self, oid: int | None = None, loaded: bool = True):
        """Make an omero.model object of this class."""
        cls = getattr(omero.model, self.name + "I")
        return cls() if oid is None else cls(oid, loaded)


@dataclass(frozen=True)
class Schema:
    """All entities by name, and the SQL tables."""

    entities: dict[str, Entity]
    metadata: sa.MetaData

    def __getitem__(self, name: str) -> Entity:
        return self.entities[name]

    def find(self, name: str) -> Entity | None:
        """Find an entity by a name such as `Plate`, `PlateI`, `omero.model.Plate` or `ome.model.screen.Plate`."""
        short = name.rpartition(".")[2]
        return self.entities.get(short) or (self.entities.get(short[:-1]) if short.endswith("I") else None)

    def of(self, obj) -> Entity:
        """The entity of an omero.model object."""
        return self.entities[type(obj).__name__.removesuffix("I")]

    def references_to(self, entity: Entity) -> Iterator[tuple[Entity, Field]]:
        """Every many-to-one field (with the topmost entity that has it) that can point at this entity."""
        names = {e.name for e in entity.family()}
        parent: Entity | None = entity
        while parent is not None:
            names.add(parent.name)
            parent = parent.parent
        for other in self.entities.values():
            for one in other.fields.values():
                if one.kind == "ref" and one.target in names and not (other.parent and one.name in other.parent.fields):
                    yield other, one


@cache
def schema() -> Schema:
    """The schema of the omero-py that is installed."""
    tables = slice_tables.tables()
    names = [name for name in tables.classes if _is_entity(tables, name)]
    entities: dict[str, Entity] = {}
    for name in sorted(names, key=lambda n: _depth(tables, n)):
        entities[name.removeprefix(MODEL)] = _entity(tables, name, entities)
    for entity in entities.values():
        entity.fields = {name: _with_inverse(entities, entity, one) for name, one in entity.fields.items()}
    metadata = sa.MetaData()
    for entity in entities.values():
        if entity.parent is None:
            _make_tables(metadata, entities, entity)
    return Schema(entities, metadata)


def _is_entity(tables: slice_tables.SliceTables, name: str) -> bool:
    return name != MODEL + "Link" and name.startswith(MODEL) and _depth(tables, name) > 0


def _depth(tables: slice_tables.SliceTables, name: str) -> int:
    """How far below IObject a class is; 0 for what is not a model class."""
    depth = 0
    while name != MODEL + "IObject":
        base = tables.classes[name].base if name in tables.classes else None
        if base is None:
            return 0
        name, depth = base, depth + 1
    return depth


def _entity(tables: slice_tables.SliceTables, name: str, entities: dict[str, Entity]) -> Entity:
    short = name.removeprefix(MODEL)
    base = (tables.classes[name].base or "").removeprefix(MODEL)
    parent = entities.get(base)
    concrete = getattr(omero.model, short + "I", None)
    sample = concrete() if concrete else _first_concrete(tables, name)()
    own = {one.name: one for one in _fields(tables, name, sample)}
    entity = Entity(
        name=short,
        java=f"{_package(sample)}.{short}",
        parent=parent,
        abstract=concrete is None,
        is_global=sample.isGlobal(),
        is_link=sample.isLink(),
        is_mutable=sample.isMutable(),
        is_enum=sample.isGlobal() and not sample.isMutable() and "value" in own,
        fields={**(parent.fields if parent else {}), **own},
    )
    if parent:
        parent.subclasses.append(entity)
    return entity


def _first_concrete(tables: slice_tables.SliceTables, name: str):
    """The I class of some subclass of an abstract one."""
    for child, described in tables.classes.items():
        if described.base == name:
            found = getattr(omero.model, child.removeprefix(MODEL) + "I", None) or _first_concrete(tables, child)
            if found:
                return found
    return None


def _package(sample) -> str:
    """The Java package, out of the constants that every generated class carries (`ome.model.screen.Plate_rows`)."""
    found = next(
        value
        for key, value in vars(type(sample)).items()
        if key.isupper() and isinstance(value, str) and value.startswith("ome.model.")
    )
    return found.rpartition(".")[0]


def _fields(tables: slice_tables.SliceTables, name: str, sample) -> Iterator[Field]:
    described = tables.classes[name]
    base = tables.classes[described.base or ""]
    own = list(described.fields) + (list(base.fields) if described.base == MODEL + "Link" else [])
    for member, kind in own:
        label = member.removeprefix("_")
        if member.endswith(("Loaded", "CountPerOwner")) or label in ("id", "details"):
            continue
        info = getattr(sample._field_info, label, None)
        nullable = True if info is None else info.nullable
        short = kind.removeprefix(MODEL)
        if kind in SCALARS:
            yield Field(label, SCALARS[kind], nullable=nullable)
        elif kind == "::omero::api::NamedValueList":
            yield Field(label, "map")
        elif kind in ARRAYS:
            yield Field(label, ARRAYS[kind])
        elif kind in tables.sequences:
            yield _collection(described, label.removesuffix("Seq"), tables.sequences[kind].removeprefix(MODEL))
        elif short in UNITS:
            yield Field(label, "unit", target=short, nullable=nullable)
        else:
            yield Field(label, "ref", target=short, nullable=nullable)


def _collection(described: slice_tables.SliceClass, label: str, element: str) -> Field:
    """An ordered collection is one whose class can hand out its elements by index."""
    ordered = f"get{element}" in described.operations and f"getPrimary{element}" in described.operations
    return Field(label, "collection", target=element, index="?" if ordered else None)


def _with_inverse(entities: dict[str, Entity], entity: Entity, one: Field) -> Field:
    """A collection with the field of its element that points back, and the name of its index column."""
    if one.kind != "collection":
        return one
    owners = {e.name for e in entity.family()} | {entity.name}
    above = entity.parent
    while above is not None:
        owners.add(above.name)
        above = above.parent
    back = [f.name for f in entities[one.target or ""].fields.values() if f.kind == "ref" and f.target in owners]
    inverse = "parent" if "parent" in back and len(back) > 1 else back[0]
    return Field(one.name, "collection", one.target, True, inverse, f"{inverse}_index" if one.index else None)


def _make_tables(metadata: sa.MetaData, entities: dict[str, Entity], root: Entity) -> None:
    columns: dict[str, sa.Column] = {"id": sa.Column("id", sa.Integer, primary_key=True)}
    if root.subclasses:
        columns["class"] = sa.Column("class", sa.Text, nullable=False)
    for name in DETAILS:
        columns[f"_{name}"] = sa.Column(f"_{name}", sa.Integer, index=name in ("owner", "group"))
    if root.name == "ExperimenterGroup":
        columns["_permissions"] = sa.Column("_permissions", sa.Text, nullable=False)  # "rwr---", see access.py
    for entity in root.family():
        for one in entity.fields.values():
            for column in _columns(entities, one):
                columns.setdefault(column.name, column)
    for other in entities.values():
        for one in other.fields.values():
            if one.kind == "collection" and one.index and entities[one.target or ""].root is root:
                columns.setdefault(one.index, sa.Column(one.index, sa.Integer))
    table = sa.Table(root.name.lower(), metadata, *columns.values(), sqlite_autoincrement=True)
    for entity in root.family():
        entity.table = table
        for one in entity.fields.values():
            if one.kind == "map":
                entity.maps[one.name] = _map_table(metadata, root, one)


def _columns(entities: dict[str, Entity], one: Field) -> Iterator[sa.Column]:
    if one.kind in SQL_TYPES:
        yield sa.Column(one.name, SQL_TYPES[one.kind])
    elif one.kind == "unit":
        yield sa.Column(one.name, Double)
        yield sa.Column(f"{one.name}_unit", sa.Text)
    elif one.kind == "ref":
        target = entities[one.target or ""].root.name.lower()
        yield sa.Column(
            one.name, sa.Integer, sa.ForeignKey(f"{target}.id", deferrable=True, initially="DEFERRED"), index=True
        )


def _map_table(metadata: sa.MetaData, root: Entity, one: Field) -> sa.Table:
    name = f"{root.name}_{one.name}".lower()
    if name in metadata.tables:
        return metadata.tables[name]
    return sa.Table(
        name,
        metadata,
        sa.Column("parent", sa.Integer, sa.ForeignKey(f"{root.name.lower()}.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text),
        sa.Column("value", sa.Text),
    )
