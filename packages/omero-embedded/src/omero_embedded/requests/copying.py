"""Copying graphs of objects."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

import sqlalchemy as sa

from omero_embedded.files.store import PYRAMID, Store
from omero_embedded.model import rows
from omero_embedded.model.access import Context
from omero_embedded.model.deleting import by_java_name, find_targets
from omero_embedded.model.events import new_event
from omero_embedded.model.finding import Edge, edges
from omero_embedded.model.graphs import GraphError, Ids
from omero_embedded.model.schema import Entity, schema
from omero_embedded.model.targets import is_class, is_one_of

# References whose targets are copied only if everything that refers to them is.
SHARED = {"LogicalChannel": ("Channel", "logicalChannel"), "Experiment": ("Image", "experiment")}
DEVICES = ("Detector", "LightSource", "Objective")  # their instrument is copied with them
OF_THE_OWNER = ("RenderingDef", "Thumbnail")  # copied only if they belong to the owner of the pixels
COPY, REFER, IGNORE = "copy", "refer", "ignore"


class Choice:
    """What a request says about classes. For each object, the nearest class above its own decides.

    Raises
    ------
    GraphError
        If a class is unknown, or named twice for different things.
    """

    def __init__(self, copied: Iterable[str], referred: Iterable[str], ignored: Iterable[str]):
        self._named: dict[str, str] = {}
        for what, names in ((COPY, copied), (REFER, referred), (IGNORE, ignored)):
            for name in names:
                if not is_class(name):
                    raise GraphError(f"unknown model object class named: {name}", name="bad-class", detailed=False)
                if self._named.setdefault(name.rpartition(".")[2], what) != what:
                    raise GraphError(f"{name} can't be both copied and left out.", name="bad-class", detailed=False)

    def of(self, entity: Entity) -> str:
        """Whether a class's objects are copied, referred to, or ignored."""
        above: Entity | None = entity
        while above is not None:
            if above.name in self._named:
                return self._named[above.name]
            above = above.parent
        return next((what for name, what in self._named.items() if is_one_of(entity, [name])), COPY)


def duplicate(
    store: Store,
    connection: sa.Connection,
    ctx: Context,
    targets: dict[str, list[int]],
    choice: Choice,
    dry_run: bool = False,
) -> dict[str, list[int]]:
    """Copy graphs with the bytes of their pixels and files, as omero.cmd.Duplicate does.

    Returns
    -------
    dict
        The ids of the copies by Java class name; in a dry run those of the originals.

    Raises
    ------
    GraphError
        If a target is missing, or only a part of a fileset would be copied.
    """
    found = _Originals(connection, ctx, choice)
    for entity, ids in find_targets(connection, ctx, targets, lambda *_: True, "Duplicate"):
        found.add(entity.root, ids)
    found.grow()
    if dry_run:
        return by_java_name(connection, found.ids)
    copies = _Copies(connection, ctx, choice, found.ids)
    copies.write()
    copies.copy_files(store)
    return by_java_name(connection, {name: set(known.values()) for name, known in copies.ids.items()})


class _Originals:
    """Some objects and everything that they contain, which is copied along with them."""

    def __init__(self, connection: sa.Connection, ctx: Context, choice: Choice):
        self.connection, self.ctx, self.choice = connection, ctx, choice
        self.ids: Ids = {}
        self._todo: list[tuple[Entity, set[int]]] = []

    def add(self, entity: Entity, ids: set[int]) -> None:
        fresh = self._copied(entity, ids - self.ids.get(entity.name, set()))
        if fresh:
            self.ids.setdefault(entity.name, set()).update(fresh)
            self._todo.append((entity, fresh))

    def grow(self) -> None:
        """Add everything that is copied along."""
        while self._todo:
            while self._todo:
                self._add_below(*self._todo.pop())
            self._add_shared()
            self._add_filesets()

    def _copied(self, entity: Entity, ids: set[int]) -> set[int]:
        """Select the objects that the user sees, of classes that are copied."""
        kinds = [one.name for one in entity.family() if self.choice.of(one) == COPY]
        if not ids or not kinds:
            return set()
        columns = entity.table.c
        wanted = [rows.among(columns.id, ids), *rows.visible(self.ctx, entity)]
        if "class" in columns:
            wanted.append(columns["class"].in_(kinds))
        return set(self.connection.execute(sa.select(columns.id).where(*wanted)).scalars())

    def _add_below(self, entity: Entity, ids: set[int]) -> None:
        for edge in edges():
            if edge.holder.name == "PixelsOriginalFileMap" or edge.target.root.name in SHARED:
                continue
            to_instrument = entity.name in DEVICES and edge.field.name == "instrument"
            if edge.holder.root is entity and (edge.down or to_instrument):
                self.add(edge.target.root, self._referred(edge, ids))
            if edge.target.root is entity and not edge.down:
                self.add(edge.holder.root, self._holders(edge, ids))

    def _referred(self, edge: Edge, ids: set[int]) -> set[int]:
        columns = edge.holder.table.c
        return set(
            self.connection.execute(
                sa.select(columns[edge.field.name]).where(
                    rows.among(columns.id, ids), columns[edge.field.name].is_not(None)
                )
            ).scalars()
        )

    def _holders(self, edge: Edge, ids: set[int]) -> set[int]:
        columns = edge.holder.table.c
        wanted = sa.select(columns.id).where(rows.among(columns[edge.field.name], ids))
        if edge.holder.name in OF_THE_OWNER:
            target = edge.target.table
            wanted = wanted.join(target, target.c.id == columns[edge.field.name]).where(
                target.c._owner == columns._owner
            )
        return set(self.connection.execute(wanted).scalars())

    def _add_shared(self) -> None:
        """Add what several objects own, if all of them are copied."""
        for name, (holder, field) in SHARED.items():
            columns = schema()[holder].table.c
            copied = self.ids.get(holder, set())
            had = set(
                self.connection.execute(
                    sa.select(columns[field]).where(rows.among(columns.id, copied), columns[field].is_not(None))
                ).scalars()
            )
            others = self.connection.execute(
                sa.select(columns.id, columns[field]).where(rows.among(columns[field], had))
            ).tuples()
            self.add(schema()[name], had - {target for oid, target in others if oid not in copied})

    def _add_filesets(self) -> None:
        columns = schema()["Image"].table.c
        copied = self.ids.get("Image", set())
        filesets = set(
            self.connection.execute(
                sa.select(columns.fileset).where(rows.among(columns.id, copied), columns.fileset.is_not(None))
            ).scalars()
        )
        filesets = self._copied(schema()["Fileset"], filesets)
        for oid, fileset in self.connection.execute(
            sa.select(columns.id, columns.fileset).where(rows.among(columns.fileset, filesets))
        ):
            if oid not in copied:
                raise GraphError(f"Fileset {fileset} can't be copied without its Image {oid}.")
        self.add(schema()["Fileset"], filesets)


class _Copies:
    """New rows with the values of others.

    Attributes
    ----------
    ids
        The ids of the copies by those of the originals, by topmost class.
    """

    def __init__(self, connection: sa.Connection, ctx: Context, choice: Choice, originals: Ids):
        self.connection, self.ctx, self.choice = connection, ctx, choice
        fresh = rows.Ids(connection)
        self.ids = {name: {oid: fresh.next(schema()[name]) for oid in sorted(ids)} for name, ids in originals.items()}
        self._ignored = [
            entity.root.name
            for entity in schema().entities.values()
            if choice.of(entity) == IGNORE and not entity.is_global
        ]

    def write(self) -> None:
        event = new_event(self.connection, self.ctx)
        for name, known in self.ids.items():
            entity = schema()[name]
            found = rows.select_rows(self.connection, entity.table, known)
            self.connection.execute(
                sa.insert(entity.table),
                [self._copy(entity, found[oid], event) | {"id": new} for oid, new in known.items()],
            )
            self._copy_pairs(entity, known)

    def _copy(self, entity: Entity, row: dict, event: int) -> dict:
        made = dict(row)
        kind = schema()[row["class"]] if "class" in row else entity
        for one in rows.fields_of(kind.name, "ref"):
            target = schema()[one.target or ""].root
            made[one.name] = self.ids.get(target.name, {}).get(
                row[one.name], None if target.name in self._ignored else row[one.name]
            )
            if made[one.name] is None and not one.nullable:
                raise GraphError(f"A {kind.name} can't be copied without its {one.name}.")
        made |= {"_owner": self.ctx.user, "_creationEvent": event, "_updateEvent": event if entity.is_mutable else None}
        if row["_externalInfo"] is not None:
            made["_externalInfo"] = self._copy_external(row["_externalInfo"], event)
        return made

    def _copy_external(self, oid: int, event: int) -> int:
        entity = schema()["ExternalInfo"]
        row = rows.select_rows(self.connection, entity.table, [oid])[oid]
        values = {name: value for name, value in row.items() if name != "id"}
        (made,) = self.connection.execute(
            sa.insert(entity.table).values(**values | {"_owner": self.ctx.user, "_creationEvent": event})
        ).inserted_primary_key or (0,)
        return made

    def _copy_pairs(self, entity: Entity, known: dict[int, int]) -> None:
        for table in {table.name: table for one in entity.family() for table in one.maps.values()}.values():
            found = self.connection.execute(sa.select(table).where(rows.among(table.c.parent, known))).mappings().all()
            if found:
                self.connection.execute(
                    sa.insert(table), [dict(row) | {"parent": known[row["parent"]]} for row in found]
                )

    def copy_files(self, store: Store) -> None:
        """Copy the bytes of pixels and files; they are removed again if the transaction fails."""
        made = []
        for name, table in (("Pixels", "pixels"), ("OriginalFile", "originalfile")):
            for old, new in self.ids.get(name, {}).items():
                source, target = store.path(table, old), store.path(table, new)
                if source.exists():
                    made.append((source, store.pyramid_path(new) if source.name.endswith(PYRAMID) else target))
        try:
            for source, target in made:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        except OSError:
            for _, target in made:
                target.unlink(missing_ok=True)
            raise
