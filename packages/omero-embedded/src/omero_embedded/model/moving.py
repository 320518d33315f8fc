"""Moving graphs of objects into another group."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from omero_embedded.model import rows
from omero_embedded.model.access import USER_GROUP, Context
from omero_embedded.model.deleting import FREE, by_java_name, delete_rows, find_targets, set_null
from omero_embedded.model.graphs import ChildOptions, Closure, GraphError, Ids
from omero_embedded.model.others import annotations_of_others, rois_of_others
from omero_embedded.model.schema import Entity, schema

# What goes along whoever owns it, and the classes of what is on the data of others.
ANYBODYS = FREE | {"Roi"}
ON_OTHERS = ("Annotation", "Roi", "Shape", "AffineTransform")


def move(
    connection: sa.Connection,
    ctx: Context,
    targets: dict[str, list[int]],
    group: int,
    options: ChildOptions,
    dry_run: bool = False,
) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Move graphs into another group, as omero.cmd.Chgrp2 does.

    Returns
    -------
    tuple
        What was moved, and the deleted links to what stays, as ids by Java class name.

    Raises
    ------
    GraphError
        If the user is not in the group, a target is missing or may not be moved, or something that stays needs it.
    """
    if not (group in ctx.member_of or "Chgrp" in ctx.privileges):
        message = "not a member of the chgrp destination group"
        raise GraphError(message, name="not-in-group", detailed=False)
    if group not in ctx.kinds:
        raise GraphError(f"There is no group {group}.", name="steps-cancel", detailed=False)
    private = ctx.kinds[group][2] != "r"

    def allowed(owner: int | None, where: int | None, kind: str) -> bool:
        if ctx.may_move(owner, where):
            return True
        return (kind == "Annotation" or not private) and ctx.may_delete(owner, where, kind)

    def closure_of(targets: Iterable[tuple[Entity, set[int]]]) -> Closure:
        made = Closure(connection, options, allowed, ANYBODYS)
        for entity, ids in targets:
            made.add(entity, ids)
        made.grow()
        return made

    closure = closure_of(find_targets(connection, ctx, targets, ctx.may_move, "Chgrp2"))
    doomed = {"Annotation": _deleted_annotations(connection, ctx, closure.ids, private)}
    if private and (rois := rois_of_others(connection, closure.ids, closure.ids.get("Roi", set()))):
        for name, ids in closure_of([(schema()["Roi"], rois)]).ids.items():
            doomed[name] = doomed.get(name, set()) | (ids & closure.ids.get(name, set()))
    cut = list(closure.outsiders())
    for entity, one, ids in cut:
        if not one.nullable:
            raise GraphError(f"{entity.name} {min(ids)} has a {one.name} that would be in another group.")
    going = {name: ids - doomed.get(name, set()) for name, ids in closure.ids.items()}
    for name, ids in _links_to_others(connection, going).items():
        doomed[name] = doomed.get(name, set()) | ids
    moved = {name: ids - doomed.get(name, set()) for name, ids in closure.ids.items()}
    _check_movable(connection, ctx, moved)
    _check_references(connection, moved, group)
    answer = by_java_name(connection, moved), by_java_name(connection, doomed)
    if not dry_run:
        for entity, one, ids in cut:
            set_null(connection, entity, one, ids)
        delete_rows(connection, dict(sorted(doomed.items(), key=lambda one: not schema()[one[0]].is_link)))
        for name, ids in moved.items():
            table = schema()[name].table
            connection.execute(sa.update(table).where(rows.among(table.c.id, ids)).values(_group=group))
    return answer


def _deleted_annotations(connection: sa.Connection, ctx: Context, going: Ids, private: bool) -> set[int]:
    """The annotations that are deleted, because they belong to others than what they are on.

    In a private group nobody would see them. Elsewhere they are moved by those who may delete them.
    """
    foreign = annotations_of_others(connection, going, going.get("Annotation", set()))
    columns = schema()["Annotation"].table.c
    owners = connection.execute(
        sa.select(columns.id, columns._owner, columns._group).where(rows.among(columns.id, foreign))
    )
    return {oid for oid, owner, where in owners if private or not ctx.may_delete(owner, where, "Annotation")}


def _links_to_others(connection: sa.Connection, going: Ids) -> Ids:
    """The links with only one end among the moved objects."""
    left: Ids = {}
    for name, ids in going.items():
        link = schema()[name]
        if not link.is_link or not ids:
            continue
        ends = [going.get(schema()[link.fields[end].target or ""].root.name, set()) for end in ("parent", "child")]
        found = connection.execute(
            sa.select(link.table.c.id, link.table.c.parent, link.table.c.child).where(rows.among(link.table.c.id, ids))
        )
        left[name] = {oid for oid, parent, child in found if parent not in ends[0] or child not in ends[1]}
    return left


def _check_movable(connection: sa.Connection, ctx: Context, moved: Ids) -> None:
    """Refuse to move objects of other users."""
    for name, ids in moved.items():
        columns = schema()[name].table.c
        if name in (*FREE, *ON_OTHERS) or schema()[name].is_link:
            continue
        for oid, owner, group in connection.execute(
            sa.select(columns.id, columns._owner, columns._group).where(rows.among(columns.id, ids))
        ):
            if not (ctx.may_move(owner, group) or ctx.may_delete(owner, group, name)):
                raise GraphError(f"not permitted to move {schema()[name].java}[{oid}]")


def _check_references(connection: sa.Connection, moved: Ids, group: int) -> None:
    """Refuse to move objects that need something that stays in the old group."""
    known = schema()
    for name, ids in moved.items():
        for one in {f.name: f for member in known[name].family() for f in rows.fields_of(member.name, "ref")}.values():
            target = known[one.target or ""].root
            if target.is_global or not ids:
                continue
            column = known[name].table.c[one.name]
            stays = connection.execute(
                sa.select(target.table.c.id).where(
                    target.table.c.id.in_(sa.select(column).where(rows.among(known[name].table.c.id, ids))),
                    target.table.c._group.not_in([group, USER_GROUP]),
                )
            ).scalars()
            if others := set(stays) - moved.get(target.name, set()):
                raise GraphError(f"A {name} has {one.name} {min(others)}, which stays in another group.")
