"""The from clause of a query: its aliases, its joins, and the implicit joins of dotted paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import omero
import sqlalchemy as sa

from omero_embedded.errors import refuse
from omero_embedded.hql import syntax
from omero_embedded.hql.values import Source, Value, query_error
from omero_embedded.model.access import Context
from omero_embedded.model.loading import column_of
from omero_embedded.model.schema import DETAILS, Entity, Field, Schema

COUNTS = "CountPerOwner"
OF_COLLECTIONS = ("size", "elements", "indices", "minindex", "maxindex", "minelement", "maxelement")


class Scope:
    """A from clause. The scope of a subquery has that of the outer query as its parent."""

    def __init__(self, schema: Schema, ctx: Context, parent: Scope | None = None):
        self.schema = schema
        self.ctx = ctx
        self.parent = parent
        self.aliases: dict[str, Source] = {}
        self.explicit: list[Source] = []
        self.conditions: list[sa.ColumnElement[bool]] = []
        self.counts: list[tuple[Source, Field]] = []  # the collections whose numbers by owner are fetched
        self.tables: sa.FromClause | None = None
        self._uses: dict[str, int] = parent._uses if parent else {}  # how often each table occurs in the whole query

    # -- the from clause as written ------------------------------------------------------------------------------

    def add_root(self, root: syntax.Root) -> None:
        """Add an entity or, in a subquery, a collection of an alias."""
        owner = self._alias(root.path.names[0])
        if owner is not None:
            field, owner = self._end(owner, root.path.names[1:], root.path)
            source = self._joined(owner, field)
            self._from(source.table)
            self.conditions.append(self._on(source))
        else:
            entity = self.entity(str(root.path))
            if entity is None:
                raise query_error(f"{root.path} is not mapped")
            source = Source(self, self._alias_of(entity.table), entity)
            self._from(source.table)
            self.conditions += self._restrictions(source)
        self._name(source, root.alias)

    def add_join(self, join: syntax.Join, condition: Callable[[syntax.Expr], sa.ColumnElement[bool]]) -> None:
        """Add a join by a path; `condition` compiles its `with` clause."""
        owner = self._alias(join.path.names[0])
        names = join.path.names[1:]
        if owner is None:
            owner, names = self._naked(join.path.names[0]), join.path.names
        if owner is None or not names:
            raise query_error(f"{join.path} is not a path that can be joined")
        field, owner = self._end(owner, names, join.path)
        if field.kind == "counts" and join.fetch:
            self._fetch_counts(owner, field, join)
            return
        if join.fetch and join.condition is not None:
            raise query_error(f"a fetched path takes no condition: {join.path}")
        source = self._joined(owner, field)
        source.fetched = join.fetch
        self._name(source, join.alias)
        if source.unit is not None:
            return
        on = self._on(source)
        if join.condition is not None:
            on = sa.and_(on, condition(join.condition))
        self._join(source, on, join.kind)

    def _fetch_counts(self, owner: Source, counts: Field, join: syntax.Join) -> None:
        """Note that the numbers of an object's links by their owner are fetched: `p.annotationLinksCountPerOwner`."""
        field = self._counted(owner, counts)
        self.counts.append((owner, field))
        if join.kind != "outer":
            self.conditions.append(self.elements(Value(owner.table.c.id, "collection", None, owner, field)).exists())

    def _join(self, source: Source, on: sa.ColumnElement[bool], kind: str) -> None:
        """Join a source to what is there. Of a right or full join, rows that aren't visible are left out, too."""
        if kind in ("right", "full"):
            for other in self.explicit:
                other.optional = other is not source or kind == "full"
            for restriction in self._restrictions(source, joined=True) if source.entity else ():
                missing = source.table.c.id.is_(None)
                self.conditions.append(restriction if kind == "right" else sa.or_(missing, restriction))
        assert self.tables is not None
        if kind == "right":
            self.tables = sa.join(source.table, self.tables, on, isouter=True)
        else:
            self.tables = sa.join(self.tables, source.table, on, isouter=kind == "outer", full=kind == "full")

    def _name(self, source: Source, alias: str | None) -> None:
        self.explicit.append(source)
        if alias is None:
            return
        if alias in self.aliases:
            raise query_error(f"the alias {alias} is used twice")
        self.aliases[alias] = source

    def _end(self, owner: Source, names: tuple[str, ...], path: syntax.Path) -> tuple[Field, Source]:
        """Return the last step of a path to join, and the source that it starts from."""
        *steps, last = _steps(names)
        for step in steps:
            owner = self._step(owner, step, path)
        field = self._field(owner, last, path)
        if field.kind not in ("ref", "collection", "map", "unit", "counts"):
            raise query_error(f"{path} is no association to join")
        return field, owner

    def _joined(self, owner: Source, field: Field) -> Source:
        assert owner.entity is not None
        if field.kind == "map":
            pairs = next(e.maps[field.name] for e in owner.entity.family() if field.name in e.maps)
            made = self._alias_of(pairs)
            return Source(self, made, None, owner, field, made.c.position)
        if field.kind == "unit":
            return Source(self, owner.table, None, owner, field, unit=self._unit(owner, field))
        if field.kind == "counts":
            counts = self._counts(self._counted(owner, field))
            return Source(self, counts, None, owner, field, counts.c.position)
        target = self.schema[field.target or ""]
        made = self._alias_of(target.table)
        index = made.c[field.index] if field.kind == "collection" and field.index else None
        return Source(self, made, target, owner, field, index)

    def _counted(self, owner: Source, counts: Field) -> Field:
        """Return the collection of links whose numbers by owner another property has."""
        found = self._find(owner, counts.name.removesuffix(COUNTS))
        assert found is not None
        return found

    def _counts(self, field: Field) -> sa.Subquery:
        """The numbers of links in a collection, by the owners of the links. As in OMERO, invisible ones count, too."""
        table = self.schema[field.target or ""].table
        links = self._alias_of(table)
        end, owner = links.c[field.inverse or "parent"], links.c._owner
        counted = sa.select(end.label("parent"), owner.label("position"), sa.func.count().label("value"))
        return counted.group_by(end, owner).subquery(f"{table.name}_counts_{self._uses[table.name]}")

    def _on(self, source: Source) -> sa.ColumnElement[bool]:
        owner, field = source.owner, source.field
        assert owner is not None and field is not None
        if field.kind == "ref":
            link = source.table.c.id == owner.table.c[field.name]
        else:
            link = source.table.c[field.inverse or "parent"] == owner.table.c.id
        return sa.and_(link, *(self._restrictions(source, joined=True) if source.entity else ()))

    def _restrictions(self, source: Source, joined: bool = False) -> list[sa.ColumnElement[bool]]:
        """The conditions that a row is visible, and of the class that the query names."""
        entity = source.entity
        assert entity is not None
        found = [self.ctx.visible(entity, source.table)]
        if entity.parent is not None and not joined:
            found.append(source.table.c["class"].in_([e.name for e in entity.family()]))
        return [one for one in found if one is not None]

    def _alias_of(self, table: sa.Table) -> sa.FromClause:
        """Return a table under a name that is new in this query."""
        self._uses[table.name] = number = self._uses.get(table.name, 0) + 1
        return _numbered(table, number)

    def _from(self, table: sa.FromClause) -> None:
        self.tables = table if self.tables is None else sa.join(self.tables, table, sa.true())

    # -- paths --------------------------------------------------------------------------------------------------

    def entity(self, name: str) -> Entity | None:
        """Find the entity of `Plate` or `ome.model.screen.Plate`."""
        found = self.schema.entities.get(name.rpartition(".")[2])
        return found if found is not None and name in (found.name, found.java) else None

    def chain(self) -> Iterator[Scope]:
        """This scope and those around it."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def _alias(self, name: str) -> Source | None:
        return next((scope.aliases[name] for scope in self.chain() if name in scope.aliases), None)

    def _naked(self, name: str) -> Source | None:
        """Find the only source of a from clause, if it has a property of this name."""
        for scope in self.chain():
            if len(scope.explicit) == 1:
                source = scope.explicit[0]
                if source.entity and (name in ("id", "details", "class") or source.entity.find_field(name)):
                    return source
        return None

    def knows(self, path: syntax.Path) -> bool:
        """Whether a path begins with an alias, a property of the only source, or the name of a class."""
        name = path.names[0]
        return self._alias(name) is not None or self._naked(name) is not None or self.entity(str(path)) is not None

    def value(self, path: syntax.Path) -> Value:
        """Compile a path in an expression. References on the way are joined; `x.ref` and `x.ref.id` need no join."""
        source, names = self._alias(path.names[0]), path.names[1:]
        if source is None:
            source, names = self._naked(path.names[0]), path.names
        if source is None:
            entity = self.entity(str(path))
            if entity is None:
                raise query_error(f"{path} is neither an alias nor a property")
            return Value(sa.literal(entity.name), "class", entity)
        if not names:
            return source.value()
        if source.entity is None:
            return self._of_part(source, names, path)
        steps = _steps(names)
        while len(steps) > 1 and self._continues(source, steps):
            source = self._step(source, steps.pop(0), path)
        return self._last(source, steps, path)

    def joined(self, value: Value) -> Value:
        """Join an entity that was reached by its id alone, because a select drops the rows without it."""
        if value.kind == "collection":
            assert value.source is not None and value.field is not None
            source = self._implicit(value.source, value.field)
            return source.value()
        if value.kind != "entity" or value.field is None or value.source is None:
            return value
        return self._implicit(value.source, value.field).value()

    def _continues(self, source: Source, steps: list[str]) -> bool:
        """Whether the next step is a reference, and the path needs more of it than the id."""
        field = self._find(source, steps[0])
        return field is not None and field.kind == "ref" and steps[1:] != ["id"]

    def _step(self, source: Source, name: str, path: syntax.Path) -> Source:
        field = self._field(source, name, path)
        if field.kind != "ref":
            raise query_error(f"{path} goes through {name}, which is no many-to-one end")
        return self._implicit(source, field)

    def _implicit(self, owner: Source, field: Field) -> Source:
        """The inner join that a path implies, shared by all paths that start the same way."""
        found = owner.joins.get(field.name)
        if found is not None and any(found.scope is scope for scope in self.chain()):
            return found
        source = self._joined(owner, field)
        if owner.scope is self:
            self.tables = sa.join(self.tables, source.table, self._on(source))  # type: ignore[arg-type]
        else:
            self._from(source.table)
            self.conditions.append(self._on(source))
        owner.joins[field.name] = source
        return source

    def _field(self, source: Source, name: str, path: syntax.Path) -> Field:
        found = self._find(source, name)
        if found is None:
            of = source.entity.java if source.entity else source.name()
            raise query_error(f"could not resolve property: {name} of: {of}")
        return found

    def _find(self, source: Source, name: str) -> Field | None:
        """Find a property of an alias; it may be a reference in its details, such as `details.owner`."""
        if source.entity is None:
            return None
        end = name.removeprefix("details.")
        if end != name and end in DETAILS:
            return Field("_" + end, "ref", DETAILS[end])
        if name.endswith(COUNTS):
            links = source.entity.find_field(name.removesuffix(COUNTS))
            is_link = links is not None and links.kind == "collection" and self.schema[links.target or ""].is_link
            return Field(name, "counts") if is_link else None
        return source.entity.find_field(name)

    def _last(self, source: Source, steps: list[str], path: syntax.Path) -> Value:
        """Compile the end of a path: one step, or one step and a part of it."""
        name, part = steps[0], steps[1:]
        entity = source.entity
        assert entity is not None
        if name == "id" and not part:
            return Value(source.table.c.id, "long", nullable=source.nullable)
        if name == "class" and not part:
            has = "class" in source.table.c
            return Value(source.table.c["class"] if has else sa.literal(entity.name), "class", entity)
        if name == "details.permissions" and not part:
            return self._permissions(source)
        if name == "details" and not part:
            raise refuse(
                omero.ApiUsageException, f"Unsupported conversion to rtype from ome.model.internal.Details: {path}"
            )
        field = self._field(source, name, path)
        return self._of_field(source, field, part, path)

    def _of_field(self, source: Source, field: Field, part: list[str], path: syntax.Path) -> Value:
        if field.kind == "unit":
            whole = self._unit(source, field)
            return whole if not part else self._unit_part(whole, part, path)
        if field.kind in ("collection", "map", "counts"):
            whole = Value(source.table.c.id, "collection", source=source, field=field)
            if len(part) > 1 or (part and part[0].lower() not in OF_COLLECTIONS):
                raise query_error(f"illegal attempt to dereference collection [{path}] with element property reference")
            return whole if not part else self.of_collection(part[0].lower(), whole)
        if part not in ([], ["id"]):
            raise query_error(f"{field.name} has no property {'.'.join(part)} [{path}]")
        assert source.entity is not None
        if field.kind == "ref":
            column = source.table.c[field.name]
            if part:
                return Value(column, "long")
            return Value(column, "entity", self.schema[field.target or ""], source, field)
        return Value(column_of(self.ctx, source.entity, source.table, field.name), field.kind)

    def _of_part(self, source: Source, names: tuple[str, ...], path: syntax.Path) -> Value:
        """Compile a property of a map's entry or of a unit."""
        if source.unit is not None:
            return self._unit_part(source.unit, list(names), path)
        if names not in (("name",), ("value",)):
            raise query_error(f"could not resolve property: {'.'.join(names)} of a map's entry [{path}]")
        return Value(source.table.c[names[0]], "text")

    def _unit(self, source: Source, field: Field) -> Value:
        return Value(source.table.c[field.name], "unit", field=field, more=(source.table.c[field.name + "_unit"],))

    def _unit_part(self, whole: Value, part: list[str], path: syntax.Path) -> Value:
        if part == ["value"]:
            return Value(whole.sql, "double")
        if part == ["unit"]:
            return Value(whole.more[0], "symbol", field=whole.field)
        raise query_error(f"could not resolve property: {'.'.join(part)} of a unit [{path}]")

    def _permissions(self, source: Source) -> Value:
        columns = source.table.c
        own = columns._permissions if "_permissions" in columns else sa.null()
        return Value(columns._owner, "permissions", more=(columns._group, own, columns.id))

    def size(self, collection: Value) -> Value:
        """Compile the number of elements of a collection."""
        elements = self.elements(collection, sa.func.count())
        return Value(elements.scalar_subquery(), "int")

    def elements(self, collection: Value, column: sa.ColumnElement | None = None) -> sa.Select:
        """Make a subquery on the elements of a collection: of their ids, or of another column."""
        assert collection.source is not None and collection.field is not None
        source = self._joined(collection.source, collection.field)
        if column is None:
            column = source.table.c.id if source.entity else source.table.c.value
        statement = sa.select(column).select_from(source.table).where(self._on(source))
        return statement.correlate_except(source.table)

    def of_collection(self, name: str, collection: Value) -> Value:
        """Compile a property of a collection, one of OF_COLLECTIONS."""
        assert collection.source is not None and collection.field is not None
        if name == "size":
            return self.size(collection)
        if name == "elements":
            return collection
        if name == "indices":
            source = self._implicit(collection.source, collection.field)
            return Value(*index_of(source), nullable=False)
        source = self._joined(collection.source, collection.field)
        function = sa.func.min if name.startswith("min") else sa.func.max
        if name.endswith("index"):
            value = Value(*index_of(source))
        else:
            value = source.value()
            if value.kind == "text":
                raise query_error(f"composite collection element in {name}()")
        statement = sa.select(function(value.sql)).select_from(source.table).where(self._on(source))
        return Value(statement.correlate_except(source.table).scalar_subquery(), value.kind, value.entity)

    def all_of(self, entity: Entity) -> sa.Select:
        """Make a subquery on the ids of all objects of a class."""
        table = self._alias_of(entity.table)
        statement = sa.select(table.c.id)
        if entity.parent is not None:
            statement = statement.where(table.c["class"].in_([one.name for one in entity.family()]))
        return statement.correlate_except(table)

    def members(self, collection: Value, indices: bool) -> tuple[sa.Select, Value]:
        """Make a subquery on the elements of a collection, or on the indices of a list; and what it selects."""
        assert collection.source is not None and collection.field is not None
        source = self._joined(collection.source, collection.field)
        value = Value(*index_of(source)) if indices else source.value()
        statement = sa.select(value.sql).select_from(source.table).where(self._on(source))
        return statement.correlate_except(source.table), value


def index_of(source: Source) -> tuple[sa.ColumnElement, str]:
    """Return the index of the elements of a list, or the owners of counted links; and its kind."""
    if source.index is None:
        raise query_error(f"unindexed collection before indices() or index(): {source.name()}")
    return source.index, "long" if source.field is not None and source.field.kind == "counts" else "int"


@cache
def _numbered(table: sa.Table, number: int) -> sa.FromClause:
    """The n-th alias of a table. It is cached, because SQLAlchemy copies every column for it."""
    made = table.alias(f"{table.name}_{number}")
    assert made.c is not None
    return made


def _steps(names: tuple[str, ...]) -> list[str]:
    """Split a path into steps; `details` and what follows it are one step."""
    steps: list[str] = []
    for name in names:
        if steps and steps[-1] == "details":
            steps[-1] += "." + name
        else:
            steps.append(name)
    return steps
