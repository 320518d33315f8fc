"""Writing a graph: new rows with few statements, changed rows, and the places of elements in lists."""

from __future__ import annotations

from functools import cache

import omero
import sqlalchemy as sa
from omero.model import IObject

from omero_embedded.errors import refuse
from omero_embedded.model import rows
from omero_embedded.model.access import ALL_GROUPS, asked_permissions
from omero_embedded.model.deleting import delete_parts
from omero_embedded.model.events import conflict, new_event
from omero_embedded.model.saving.checks import (
    check_details,
    check_links,
    check_movable,
    check_new,
    check_new_links,
    check_path,
    check_promotion,
    check_required,
)
from omero_embedded.model.saving.graph import Graph
from omero_embedded.model.schema import Entity, Field

Written = dict[tuple[str, int], dict]  # rows as they were written, by (table, id)


def write(graph: Graph) -> Written:
    """Write a graph, and return the rows of the objects that are new or have changed."""
    writer = _Writer(graph)
    try:
        writer.insert_new()
        writer.update_stored()
    except sa.exc.IntegrityError as error:
        raise conflict(error) from None
    return writer.written


class _Writer:
    def __init__(self, graph: Graph):
        self.graph, self.connection, self.ctx, self.schema = graph, graph.connection, graph.ctx, graph.schema
        self.written: Written = {}

    # -- new objects -----------------------------------------------------------------------------------------------

    def insert_new(self) -> None:
        if not self.graph.new:
            return
        if self.ctx.group == ALL_GROUPS:
            raise refuse(omero.ApiUsageException, "Nothing new can be saved in all groups at once: choose one.")
        ids = rows.Ids(self.connection)
        for name, objects in self.graph.new.items():
            for obj in objects:
                obj._id = omero.rtypes.rlong(ids.next(self.schema[name]))
        event = new_event(self.connection, self.ctx)
        for name, objects in self.graph.new.items():
            entity = self.schema[name]
            if entity.is_global and not self.ctx.may_edit(None, None, name):
                raise refuse(omero.SecurityViolation, f"{self.ctx.user_name} may not save a new {name}.")
            columns = self._new_columns(entity, objects, event)
            made = [dict(zip(columns, values)) for values in zip(*columns.values())]
            self._check_new(entity, objects, made)
            rows.insert_columns(self.connection, entity.table, columns)
            self.written |= {(entity.table.name, row["id"]): row for row in made}
            self._write_pairs(entity, objects, replace=False)

    def _new_columns(self, entity: Entity, objects: list[IObject], event: int) -> dict[str, list]:
        """The values of new objects by column; columns without any value may be left out."""
        columns = rows.columns_of(entity, objects) | self._new_details(entity, objects)
        columns["id"] = [obj._id._val for obj in objects]
        columns["_creationEvent"] = [event] * len(objects)
        columns["_updateEvent"] = [event if entity.is_mutable else None] * len(objects)
        if "class" in entity.table.c:
            columns["class"] = [entity.name] * len(objects)
        for one in rows.list_memberships(entity.name):
            columns[one.index or ""] = [self.graph.place_in(one, obj) for obj in objects]
        return columns

    def _new_details(self, entity: Entity, objects: list[IObject]) -> dict[str, list]:
        """Owner, group and external information of new objects, as the client chooses them."""
        if entity.is_global:
            of_group = entity.name == "ExperimenterGroup"
            return {"_permissions": [asked_permissions(obj) or "rw----" for obj in objects]} if of_group else {}
        sent = [obj._details for obj in objects]
        owners = [rows.id_of(details._owner) if details else None for details in sent]
        return {
            "_owner": [self.ctx.user if owner is None else owner for owner in owners],
            "_group": [self.ctx.group] * len(objects),
            "_externalInfo": [rows.id_of(details._externalInfo) if details else None for details in sent],
        }

    def _check_new(self, entity: Entity, objects: list[IObject], made: list[dict]) -> None:
        check_required(entity, made)
        check_new_links(self.graph, entity, made)
        for obj, row in zip(objects, made):
            check_promotion(self.graph, entity, obj, row)
            if not entity.is_global:
                check_new(self.ctx, entity, obj, row)

    def _write_pairs(self, entity: Entity, objects: list[IObject], replace: bool) -> None:
        """Write the map fields of objects."""
        for one in rows.fields_of(entity.name, "map"):
            table = entity.maps[one.name]
            if replace:
                parents = [obj._id._val for obj in objects]
                self.connection.execute(sa.delete(table).where(rows.among(table.c.parent, parents)))
            made = [
                {"parent": rows.id_of(obj), "position": position, "name": name, "value": value}
                for obj in objects
                for position, (name, value) in enumerate(rows.pairs_of(obj, one))
            ]
            if made:
                self.connection.execute(rows.insert_into(table), made)

    # -- stored objects --------------------------------------------------------------------------------------------

    def update_stored(self) -> None:
        self._change_lists()
        for name, objects in self.graph.stored.items():
            entity = self.schema[name]
            changed = [(obj, row) for obj in objects if (row := self._changed_row(entity, obj))]
            if not changed:
                continue
            event = new_event(self.connection, self.ctx)
            for _, row in changed:
                if entity.is_mutable:
                    row["_updateEvent"] = event
                self.written[entity.table.name, row["b_id"]] = self.graph.row_of(entity, row["b_id"]) | row
            self.connection.execute(
                sa.update(entity.table).where(entity.table.c.id == sa.bindparam("b_id")), [row for _, row in changed]
            )
            self._write_pairs(entity, [obj for obj, _ in changed], replace=True)

    def _changed_row(self, entity: Entity, obj: IObject) -> dict | None:
        """The columns of a stored object after the save; None if nothing has changed."""
        oid = obj._id._val
        before = self.graph.row_of(entity, oid)
        row = rows.row_of(entity, obj)
        sent = obj._details
        check_details(entity, before, sent)
        owner = rows.id_of(sent._owner) if sent else None
        row["_owner"] = before["_owner"] if owner is None else owner
        made_by_client = not entity.is_global and entity.is_mutable and (sent is None or sent._updateEvent is None)
        if (
            not made_by_client
            and all(before[name] == value for name, value in row.items())
            and not self.graph.pairs_differ(entity, obj)
        ):
            return None
        if not self.ctx.may_edit(before["_owner"], before["_group"], entity.name):
            raise refuse(omero.SecurityViolation, f"{self.ctx.user_name} may not change {entity.name} {oid}.")
        if row["_owner"] != before["_owner"] and "Chown" not in self.ctx.privileges:
            raise refuse(omero.SecurityViolation, f"{self.ctx.user_name} may not give {entity.name} {oid} away.")
        if entity.name == "OriginalFile":
            check_path(self.ctx, row, before)
        check_required(entity, [row])
        check_promotion(self.graph, entity, obj, row)
        check_links(self.graph, entity, row | {"_group": before["_group"]}, before)
        return row | {"b_id": oid}

    def _change_lists(self) -> None:
        """Write the places of the elements of loaded lists, and delete elements that were taken out of a list."""
        moves: dict[Field, list[dict]] = {}
        kept: dict[Field, set[int]] = {}
        for placed in self.graph.places.values():
            for element, one, owner, index in placed:
                oid = rows.id_of(element) or 0
                kept.setdefault(one, set()).add(oid)
                before = self.graph.known.get((self.schema[one.target or ""].root.table.name, oid))
                if before and (before[one.index or ""], before[one.inverse or ""]) != (index, rows.id_of(owner)):
                    check_movable(self.graph, one, before, owner)
                    moves.setdefault(one, []).append({"b_id": oid, one.index: index, one.inverse: rows.id_of(owner)})
        self._free_places(moves)
        self._delete_orphans(kept)
        for one, some in moves.items():
            table = self.schema[one.target or ""].table
            self.connection.execute(sa.update(table).where(table.c.id == sa.bindparam("b_id")), some)

    def _free_places(self, moves: dict[Field, list[dict]]) -> None:
        """Take moving elements out of their old places first, because no two may be in one place at any moment."""
        for one, some in moves.items():
            table = self.schema[one.target or ""].table
            moving = rows.among(table.c.id, [row["b_id"] for row in some])
            self.connection.execute(sa.update(table).where(moving).values({one.index: None}))

    def _delete_orphans(self, kept: dict[Field, set[int]]) -> None:
        for name, objects in self.graph.stored.items():
            for one in rows.ordered_collections(name):
                owners = [rows.id_of(obj) or 0 for obj in objects if rows.elements(obj, one) is not None]
                if not owners:
                    continue
                target = self.schema[one.target or ""]
                found = self.connection.execute(
                    _elements(target.table, one.inverse or ""), {"ids": rows.as_json(owners)}
                )
                orphans = set(found.scalars()) - kept.get(one, set()) - self._written_ids(target)
                if orphans:
                    delete_parts(self.connection, self.ctx, target, orphans)

    def _written_ids(self, entity: Entity) -> set[int]:
        return {oid for table, oid in self.written if table == entity.table.name}


@cache
def _elements(table: sa.Table, inverse: str) -> sa.Select:
    """Find the elements of collections by the ids of the owners."""
    return sa.select(table.c.id).where(rows.among_given(table.c[inverse]))
