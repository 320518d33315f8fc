"""Saving graphs of model objects, as IUpdate does it.

What is saved is everything that can be reached through loaded references and collections. New objects are written
with few statements, however large the graph is; what is stored already is compared with its row and written where it
differs.
"""
from __future__ import annotations

import time

import omero
import sqlalchemy as sa
from omero.model import DetailsI, IObject, PermissionsI

from omero_embedded.errors import refuse
from omero_embedded.model import rows
from omero_embedded.model.access import ALL_GROUPS, PRIVILEGES, SYSTEM_GROUP, USER_GROUP, Context, asked_permissions
from omero_embedded.model.deleting import delete_parts
from omero_embedded.model.loading import Loader
from omero_embedded.model.saving_rules import check_details, check_link, check_new, check_path
from omero_embedded.model.schema import Entity, Field, schema

Slot = tuple  # (what holds an object, its key or index in there): `holder[key]` is the object


def new_event(connection: sa.Connection, ctx: Context) -> int:
    """The id of the event of this call; made when something is written for the first time."""
    if "id" not in ctx.event:
        known = schema()
        session = known["Session"].table
        kinds = known["EventType"].table
        found = connection.execute(sa.select(session.c.id, session.c.defaultEventType).where(
            session.c.uuid == ctx.session_uuid)).first()
        kind = connection.execute(sa.select(kinds.c.id).where(
            kinds.c.value == (found.defaultEventType if found else "Internal"))).scalar()
        (ctx.event["id"],) = connection.execute(sa.insert(known["Event"].table).values(
            time=int(time.time() * 1000), experimenter=ctx.user, experimenterGroup=max(ctx.group, 0), type=kind,
            session=found.id if found else None)).inserted_primary_key or (0,)
    return ctx.event["id"]


def insert(connection: sa.Connection, ctx: Context, entity: Entity, values: dict, event: int | None) -> int:
    """Write one row with its details.

    Parameters
    ----------
    values : column values by column name (references as ids); `id` only where the id is fixed.
    event : the creating event, None for what is older than any event.

    Returns
    -------
    The row's id.
    """
    details: dict = {"_creationEvent": event, "_updateEvent": event if entity.is_mutable else None}
    if not entity.is_global:
        details |= {"_owner": ctx.user, "_group": ctx.group}
    if "class" in entity.table.c:
        details["class"] = entity.name
    try:
        (oid,) = connection.execute(sa.insert(entity.table).values(details | values)).inserted_primary_key or (0,)
    except sa.exc.IntegrityError as error:
        raise _conflict(error) from None
    return oid


def save(connection: sa.Connection, ctx: Context, objects: list[IObject]) -> list[IObject]:
    """Save graphs and return them, with ids, details and what they refer to loaded, as IUpdate.saveAndReturn* does.

    The objects are changed in place. Nothing is written where an error is raised and the transaction rolled back.

    Raises
    ------
    ValidationException, OptimisticLockException, SecurityViolation, GroupSecurityViolation, ApiUsageException,
    InternalException: as OMERO raises them.
    """
    saver = _Saver(connection, ctx, objects)
    saver.write()
    return saver.answer()


def save_ids(connection: sa.Connection, ctx: Context, objects: list[IObject]) -> list[int]:
    """Save graphs and return the ids of their roots only."""
    saver = _Saver(connection, ctx, objects)
    saver.write()
    return [rows.id_of(obj) or 0 for obj in saver.roots]


def _conflict(error: sa.exc.IntegrityError) -> omero.ServerError:
    what = "Another object like this one is stored already" if "UNIQUE" in str(error.orig) else "This can't be stored"
    return refuse(omero.ValidationException, f"{what}: {error.orig}")


class _Saver:
    """One save: the graph, sorted into what is new, what is stored, and references to what is stored."""

    def __init__(self, connection: sa.Connection, ctx: Context, objects: list[IObject]):
        self.connection = connection
        self.ctx = ctx
        self.schema = schema()
        self.roots = list(objects)
        self.new: dict[str, list[IObject]] = {}  # by class name
        self.stored: dict[str, list[IObject]] = {}
        self.references: list[Slot] = []
        self.enumerations: list[Slot] = []
        self.places: dict[int, list[tuple[IObject, Field, IObject, int]]] = {}  # by id(element): its list, owner, index
        self.written: dict[tuple[str, int], dict] = {}  # (table, id) -> row as written
        self.known: dict[tuple[str, int], dict] = {}  # (table, id) -> stored row, of all that the graph refers to
        self.pairs: dict[tuple[str, str], dict] = {}  # (class, map field) -> stored pairs by id
        self._collect()

    # -- reading -------------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Walk the graph in the order in which ids are given: an object before its collections' elements."""
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
                self.enumerations.append((holder, key))
            elif id(obj) not in seen:
                seen.add(id(obj))
                (self.new if obj._id is None else self.stored).setdefault(entity.name, []).append(obj)
                stack.extend(reversed(_slots(entity, obj)))

    def write(self) -> None:
        """Check everything, then write."""
        self._read()
        self._find_enumerations()
        self._check_locks()
        self._find_places()
        try:
            self._insert_new()
            self._update_stored()
        except sa.exc.IntegrityError as error:
            raise _conflict(error) from None

    def _read(self) -> None:
        """Read the rows of everything that the graph refers to by id."""
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
            raise refuse(omero.ValidationException, f"There is no {entity.name} {oid}.")
        if not entity.is_global and not self.ctx.may_see(row["_owner"], row["_group"]):
            raise refuse(omero.SecurityViolation, f"{entity.name} {oid} is not visible to {self.ctx.user_name} here.")

    def _find_enumerations(self) -> None:
        """Put the stored enumeration in the place of each new one that has its value."""
        ids: dict[tuple[str, str | None], int | None] = {}
        for holder, key in self.enumerations:
            obj = holder[key]
            entity = self.schema.of(obj)
            value = obj._value._val if obj._value else None
            if (entity.name, value) not in ids:
                ids[entity.name, value] = self.connection.execute(
                    sa.select(entity.table.c.id).where(entity.table.c.value == value)).scalar()
            if (oid := ids[entity.name, value]) is not None:
                holder[key] = entity.new(oid, loaded=False)
                self.references.append((holder, key))
            elif not any(obj is other for other in self.new.get(entity.name, [])):
                self.new.setdefault(entity.name, []).append(obj)

    def _check_locks(self) -> None:
        """Refuse what was changed by somebody else since the client read it."""
        for name, objects in self.stored.items():
            for obj in objects:
                row = self._row_of(self.schema[name], rows.id_of(obj) or 0)
                sent = rows.id_of(obj._details._updateEvent) if obj._details else None
                if sent is not None and row["_updateEvent"] is not None and sent != row["_updateEvent"]:
                    raise refuse(omero.OptimisticLockException,
                                 f"{name} {row['id']} was changed since it was read; reload it before saving it.")

    def _find_places(self) -> None:
        """Note the place of every element of a loaded list, and refuse new elements that have none."""
        for name, objects in [*self.new.items(), *self.stored.items()]:
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
        raise refuse(kind, f"A new {name} has no place in the {one.name} of its {one.inverse}: "
                     f"load the {one.inverse} with its {one.name}, add to them, and save the {one.inverse}.")

    # -- writing new objects -------------------------------------------------------------------------------------

    def _insert_new(self) -> None:
        if not self.new:
            return
        if self.ctx.group == ALL_GROUPS:
            raise refuse(omero.ApiUsageException, "Nothing new can be saved in all groups at once: choose one.")
        ids = rows.Ids(self.connection)
        for name, objects in self.new.items():
            for obj in objects:
                obj._id = omero.rtypes.rlong(ids.next(self.schema[name]))
        event = new_event(self.connection, self.ctx)
        for name, objects in self.new.items():
            entity = self.schema[name]
            if entity.is_global and not self.ctx.may_edit(None, None, name):
                raise refuse(omero.SecurityViolation, f"{self.ctx.user_name} may not save a new {name}.")
            made = [self._new_row(entity, obj, event) for obj in objects]
            self.connection.execute(sa.insert(entity.table), made)
            self.written |= {(entity.table.name, row["id"]): row for row in made}
            self._write_pairs(entity, objects, replace=False)

    def _new_row(self, entity: Entity, obj: IObject, event: int) -> dict:
        row = rows.row_of(entity, obj) | self._new_details(entity, obj) | {"id": obj._id._val, "_creationEvent": event}
        row["_updateEvent"] = event if entity.is_mutable else None
        if "class" in entity.table.c:
            row["class"] = entity.name
        row |= {one.index: None for one in rows.list_memberships(entity.name)}
        row |= {one.index: index for _, one, _, index in self.places.get(id(obj), ())}
        _check_required(entity, row)
        self._check_promotion(entity, obj, row)
        self._check_links(entity, row, {})
        if not entity.is_global:
            check_new(self.ctx, entity, obj, row)
        return row

    def _new_details(self, entity: Entity, obj: IObject) -> dict:
        """Owner, group and external information of a new object, as the client chooses them."""
        if entity.is_global:
            own = {"_permissions": asked_permissions(obj) or "rw----"} if entity.name == "ExperimenterGroup" else {}
            return {"_externalInfo": None, **own}
        sent = obj._details or DetailsI()
        owner = rows.id_of(sent._owner)
        return {"_owner": self.ctx.user if owner is None else owner, "_group": self.ctx.group,
                "_externalInfo": rows.id_of(sent._externalInfo)}

    def _check_links(self, entity: Entity, row: dict, before: dict) -> None:
        """Refuse a new reference to what the user may not link to, or to what is in another group."""
        if entity.is_global:
            return
        for one in rows.fields_of(entity.name, "ref"):
            oid = row[one.name]
            target = self.schema[one.target or ""].root
            found = self.known.get((target.table.name, oid)) if oid != before.get(one.name) else None
            if found is None or target.is_global:
                continue
            if found["_group"] not in (row["_group"], USER_GROUP):
                raise refuse(omero.GroupSecurityViolation, f"The {one.name} of a {entity.name} is in another group.")
            check_link(self.ctx, entity, target, found, row["_owner"])

    def _check_promotion(self, entity: Entity, obj: IObject, row: dict) -> None:
        """Refuse a restricted administrator who would give privileges by saving: IAdmin looks at which."""
        gives = (entity.name == "GroupExperimenterMap" and row["parent"] == SYSTEM_GROUP) or (
            entity.name == "Experimenter" and self._pairs_differ(entity, obj))
        if gives and self.ctx.privileges != PRIVILEGES:
            raise refuse(omero.SecurityViolation, f"{self.ctx.user_name} may not give privileges of administrators.")

    def _write_pairs(self, entity: Entity, objects: list[IObject], replace: bool) -> None:
        """Write the map fields of objects."""
        for one in rows.fields_of(entity.name, "map"):
            table = entity.maps[one.name]
            if replace:
                parents = [obj._id._val for obj in objects]
                self.connection.execute(sa.delete(table).where(rows.among(table.c.parent, parents)))
            made = [{"parent": rows.id_of(obj), "position": position, "name": name, "value": value}
                    for obj in objects for position, (name, value) in enumerate(rows.pairs_of(obj, one))]
            if made:
                self.connection.execute(sa.insert(table), made)

    # -- changing stored objects ---------------------------------------------------------------------------------

    def _update_stored(self) -> None:
        self._change_lists()
        for name, objects in self.stored.items():
            entity = self.schema[name]
            changed = [(obj, row) for obj in objects if (row := self._changed_row(entity, obj))]
            if not changed:
                continue
            event = new_event(self.connection, self.ctx)
            for _, row in changed:
                if entity.is_mutable:
                    row["_updateEvent"] = event
                self.written[entity.table.name, row["b_id"]] = self._row_of(entity, row["b_id"]) | row
            self.connection.execute(sa.update(entity.table).where(entity.table.c.id == sa.bindparam("b_id")),
                                    [row for _, row in changed])
            self._write_pairs(entity, [obj for obj, _ in changed], replace=True)

    def _row_of(self, entity: Entity, oid: int) -> dict:
        return self.known[entity.table.name, oid]

    def _changed_row(self, entity: Entity, obj: IObject) -> dict | None:
        """The columns of a stored object as they are to be; None where nothing changed."""
        oid = obj._id._val
        before = self._row_of(entity, oid)
        row = rows.row_of(entity, obj)
        sent = obj._details
        check_details(entity, before, sent)
        owner = rows.id_of(sent._owner) if sent else None
        row["_owner"] = before["_owner"] if owner is None else owner
        made_by_client = not entity.is_global and entity.is_mutable and (sent is None or sent._updateEvent is None)
        if not made_by_client and all(before[name] == value for name, value in row.items()) \
                and not self._pairs_differ(entity, obj):
            return None
        if not self.ctx.may_edit(before["_owner"], before["_group"], entity.name):
            raise refuse(omero.SecurityViolation, f"{self.ctx.user_name} may not change {entity.name} {oid}.")
        if row["_owner"] != before["_owner"] and "Chown" not in self.ctx.privileges:
            raise refuse(omero.SecurityViolation, f"{self.ctx.user_name} may not give {entity.name} {oid} away.")
        if entity.name == "OriginalFile":
            check_path(self.ctx, row, before)
        _check_required(entity, row)
        self._check_promotion(entity, obj, row)
        self._check_links(entity, row | {"_group": before["_group"]}, before)
        return row | {"b_id": oid}

    def _pairs_differ(self, entity: Entity, obj: IObject) -> bool:
        for one in rows.fields_of(entity.name, "map"):
            if (entity.name, one.name) not in self.pairs:
                ids = [other._id._val for other in self.stored.get(entity.name, ())]
                self.pairs[entity.name, one.name] = rows.select_pairs(self.connection, entity.maps[one.name], ids)
            if self.pairs[entity.name, one.name].get(obj._id._val, []) != rows.pairs_of(obj, one):
                return True
        return False

    def _change_lists(self) -> None:
        """Give the elements of loaded lists their places, and delete those that were taken out of a list."""
        moves: dict[Field, list[dict]] = {}
        kept: dict[Field, set[int]] = {}
        for placed in self.places.values():
            for element, one, owner, index in placed:
                oid = rows.id_of(element) or 0
                kept.setdefault(one, set()).add(oid)
                before = self.known.get((self.schema[one.target or ""].root.table.name, oid))
                if before and (before[one.index or ""], before[one.inverse or ""]) != (index, rows.id_of(owner)):
                    self._check_movable(one, before, owner)
                    moves.setdefault(one, []).append({"b_id": oid, one.index: index, one.inverse: rows.id_of(owner)})
        self._free_places(moves)
        self._delete_orphans(kept)
        for one, some in moves.items():
            table = self.schema[one.target or ""].table
            self.connection.execute(sa.update(table).where(table.c.id == sa.bindparam("b_id")), some)

    def _check_movable(self, one: Field, before: dict, owner: IObject) -> None:
        if not self.ctx.may_edit(before["_owner"], before["_group"], one.target or ""):
            raise refuse(omero.SecurityViolation, f"{self.ctx.user_name} may not move {one.target} {before['id']}.")
        target = self.schema.of(owner)
        found = self.known.get((target.table.name, rows.id_of(owner) or 0))
        if found is not None and not target.is_global and rows.id_of(owner) != before[one.inverse or ""]:
            check_link(self.ctx, self.schema[one.target or ""], target, found, before["_owner"])

    def _free_places(self, moves: dict[Field, list[dict]]) -> None:
        """Take moving elements out of their old places first: no two may be in one place, not even for a moment."""
        for one, some in moves.items():
            table = self.schema[one.target or ""].table
            moving = rows.among(table.c.id, [row["b_id"] for row in some])
            self.connection.execute(sa.update(table).where(moving).values({one.index: None}))

    def _delete_orphans(self, kept: dict[Field, set[int]]) -> None:
        for name, objects in self.stored.items():
            for one in rows.ordered_collections(name):
                owners = [rows.id_of(obj) or 0 for obj in objects if rows.elements(obj, one) is not None]
                if not owners:
                    continue
                target = self.schema[one.target or ""]
                found = self.connection.execute(sa.select(target.table.c.id).where(
                    rows.among(target.table.c[one.inverse or ""], owners))).scalars()
                orphans = set(found) - kept.get(one, set()) - self._written_ids(target)
                if orphans:
                    delete_parts(self.connection, self.ctx, target, orphans)

    def _written_ids(self, entity: Entity) -> set[int]:
        return {oid for table, oid in self.written if table == entity.table.name}

    # -- answering -----------------------------------------------------------------------------------------------

    def answer(self) -> list[IObject]:
        """The graph with every reference and all details loaded."""
        loader = Loader(self.connection, self.ctx)
        self._load_references(loader)
        details = [(self._details_row(name, obj), obj) for name, objects in [*self.new.items(), *self.stored.items()]
                   if not self.schema[name].is_global for obj in objects]

        def load(kind: str, *columns: str) -> dict[int, IObject]:
            return loader.get(self.schema[kind], {row[column] for row, _ in details for column in columns} - {None})

        people, groups = load("Experimenter", "_owner"), load("ExperimenterGroup", "_group")
        events = load("Event", "_creationEvent", "_updateEvent")
        permissions: dict[tuple, PermissionsI] = {}
        for row, obj in details:
            owner, group = row["_owner"], row["_group"]
            if (owner, group) not in permissions:
                permissions[owner, group] = self.ctx.permissions(owner, group)
            made = DetailsI()
            made._owner, made._group = people.get(owner), groups.get(group)
            made._creationEvent, made._updateEvent = events.get(row["_creationEvent"]), events.get(row["_updateEvent"])
            made._permissions = permissions[owner, group]
            made._externalInfo = obj._details._externalInfo if obj._details else None
            obj._details = made
        return self.roots

    def _details_row(self, name: str, obj: IObject) -> dict:
        key = self.schema[name].table.name, rows.id_of(obj) or 0
        return self.written.get(key) or self.known[key]

    def _load_references(self, loader: Loader) -> None:
        """Put loaded objects into the places of references, the graph's own ones where it has them."""
        own = {(self.schema[name].table.name, rows.id_of(obj)): obj
               for name, objects in [*self.new.items(), *self.stored.items()] for obj in objects}
        wanted: dict[str, set[int]] = {}
        for holder, key in self.references:
            wanted.setdefault(self.schema.of(holder[key]).root.name, set()).add(rows.id_of(holder[key]) or 0)
        for name, ids in wanted.items():
            table = self.schema[name].table.name
            found = loader.get(self.schema[name], {oid for oid in ids if (table, oid) not in own})
            own |= {(table, oid): obj for oid, obj in found.items()}
        for holder, key in self.references:
            obj = holder[key]
            holder[key] = own.get((self.schema.of(obj).table.name, rows.id_of(obj)), obj)


def _slots(entity: Entity, obj: IObject) -> list[Slot]:
    """Where an object refers to others: its references, its loaded collections, its external information."""
    values = vars(obj)
    slots: list[Slot] = [(values, "_" + one.name) for one in rows.fields_of(entity.name, "ref")
                         if values["_" + one.name] is not None]
    if values["_details"] is not None and values["_details"]._externalInfo is not None:
        slots.append((vars(values["_details"]), "_externalInfo"))
    for one in rows.fields_of(entity.name, "collection"):
        found = rows.elements(obj, one) or []
        slots += [(found, i) for i in range(len(found)) if found[i] is not None]
    return slots


def _check_required(entity: Entity, row: dict) -> None:
    for one in entity.fields.values():
        if not one.nullable and one.name in row and row[one.name] is None:
            raise refuse(omero.ValidationException, f"The {one.name} of a {entity.name} may not be null.")
