"""What is above and below objects in the graph: omero.cmd.FindParents and FindChildren."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import sqlalchemy as sa

from omero_embedded.model import rows
from omero_embedded.model.access import Context
from omero_embedded.model.graphs import HAD_BY_TARGET, GraphError, Ids, is_had, is_part, near_end
from omero_embedded.model.schema import Entity, Field, schema
from omero_embedded.model.targets import is_class, is_one_of

# The optional reference whose target belongs to its holder, and the one whose holder belongs to its target.
DOWN, UP = ("FileAnnotation", "file"), ("Image", "fileset")


@dataclass(frozen=True)
class Edge:
    """A reference between two classes; `down` where the holder is above what it refers to."""

    holder: Entity
    field: Field
    target: Entity
    down: bool


@cache
def edges() -> tuple[Edge, ...]:
    """All references that make one object contain another."""
    found = []
    for holder in schema().entities.values():
        for one in holder.fields.values():
            inherited = holder.parent is not None and one.name in holder.parent.fields
            if one.kind == "ref" and not inherited and not holder.is_global:
                target = schema()[one.target or ""]
                down = _leads_down(holder, one, target)
                if down is not None:
                    found.append(Edge(holder, one, target, down))
    return tuple(found)


def _leads_down(holder: Entity, one: Field, target: Entity) -> bool | None:
    """Whether a reference leads from what contains to what is contained; None where it is neither way."""
    if target.is_global:
        return None
    if holder.is_link:
        return one.name != near_end(holder)
    if (holder.name, one.name) in (DOWN, UP):
        return (holder.name, one.name) == DOWN
    if is_part(holder, one) or (holder.name, one.name) in HAD_BY_TARGET:
        return False
    return True if is_had(target.root.name) or holder.name.endswith("Settings") else None


def find(
    connection: sa.Connection,
    ctx: Context,
    targets: Iterable[tuple[Entity, set[int]]],
    wanted: list[str],
    stop_before: list[str],
    up: bool,
) -> Ids:
    """Find the objects of some classes that contain the targets (`up`) or that the targets contain.

    Parameters
    ----------
    stop_before
        Classes whose objects are neither found nor passed.

    Raises
    ------
    GraphError
        If a class is unknown, or no class is wanted.
    """
    _check_names(wanted, stop_before)
    seen: Ids = {}
    todo = [(entity.root, ids) for entity, ids in targets]
    while todo:
        entity, ids = todo.pop()
        fresh = _passable(connection, ctx, entity, ids - seen.get(entity.name, set()), stop_before)
        if fresh:
            seen.setdefault(entity.name, set()).update(fresh)
            todo += _next(connection, entity, fresh, up)
    return {
        name: found
        for name, ids in seen.items()
        if (found := _of_classes(connection, schema()[name], ids, wanted, True))
    }


def _check_names(wanted: list[str], stop_before: list[str]) -> None:
    if not wanted:
        raise GraphError("No types to find are given.", name="bad-options", detailed=False)
    for name in (*wanted, *stop_before):
        if not is_class(name):
            raise GraphError(f"unknown model object class named: {name}", name="steps-cancel", detailed=False)
    if unknown := [name for name in wanted if (entity := schema().find(name)) and entity.is_global]:
        raise GraphError(f"A {unknown[0]} contains nothing and is in nothing.", name="bad-options", detailed=False)


def _passable(
    connection: sa.Connection, ctx: Context, entity: Entity, ids: set[int], stop_before: list[str]
) -> set[int]:
    """Those of some ids that the user sees and that are not to be stopped before."""
    if not ids:
        return set()
    columns = entity.table.c
    there = set(
        connection.execute(
            sa.select(columns.id).where(rows.among(columns.id, ids), *rows.visible(ctx, entity))
        ).scalars()
    )
    return _of_classes(connection, entity, there, stop_before, False)


def _of_classes(
    connection: sa.Connection, entity: Entity, ids: set[int], names: list[str], among_them: bool
) -> set[int]:
    """Those of some ids whose class is one of those named, or is none of them."""
    kinds = [one for one in entity.family() if is_one_of(one, names) == among_them]
    if len(kinds) == len(list(entity.family())):
        return ids
    if not kinds:
        return set()
    columns = entity.table.c
    return set(
        connection.execute(
            sa.select(columns.id).where(rows.among(columns.id, ids), columns["class"].in_([one.name for one in kinds]))
        ).scalars()
    )


def _next(connection: sa.Connection, entity: Entity, ids: set[int], up: bool) -> Iterator[tuple[Entity, set[int]]]:
    """What is one step above or below objects of a topmost class."""
    for edge in edges():
        column = edge.holder.table.c[edge.field.name]
        if edge.down != up and edge.holder.root is entity:
            found = connection.execute(
                sa.select(column).where(rows.among(entity.table.c.id, ids), column.is_not(None))
            ).scalars()
            yield edge.target.root, set(found)
        if edge.down == up and edge.target.root is entity:
            found = connection.execute(sa.select(edge.holder.table.c.id).where(rows.among(column, ids))).scalars()
            yield edge.holder.root, set(found)
