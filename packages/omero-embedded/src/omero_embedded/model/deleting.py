"""Deleting: single objects with their parts, and graphs of objects by OMERO's rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import omero
import sqlalchemy as sa

from omero_embedded.errors import refuse
from omero_embedded.model import rows
from omero_embedded.model.access import Context
from omero_embedded.model.graphs import Allowed, ChildOptions, Closure, GraphError, Ids, of_class, referring
from omero_embedded.model.schema import Entity, Field, schema
from omero_embedded.model.targets import LEGAL, is_class, is_one_of

# What is deleted along, whoever owns it (OMERO's blitz-delete-rules.xml, the rules "regardless of permissions").
FREE = frozenset(
    (
        "RenderingDef",
        "QuantumDef",
        "ProjectionDef",
        "ChannelBinding",
        "CodomainMapContext",
        "Thumbnail",
        "OriginalFile",
        "ExternalInfo",
        "FileAnnotation",
        "BasicAnnotation",
        "CommentAnnotation",
        "BooleanAnnotation",
        "DoubleAnnotation",
        "LongAnnotation",
        "NumericAnnotation",
        "TermAnnotation",
        "TimestampAnnotation",
    )
)


def delete_parts(connection: sa.Connection, ctx: Context, entity: Entity, ids: Iterable[int]) -> Ids:
    """Delete objects with the elements of their lists, and nothing else.

    Returns
    -------
    dict
        The deleted ids by the name of the topmost class.

    Raises
    ------
    omero.ValidationException
        If something else refers to a deleted object.
    omero.SecurityViolation
        If the user may not delete an object.
    """
    doomed: Ids = {}
    todo = [(entity.root, set(ids))]
    while todo:
        owner, owner_ids = todo.pop()
        fresh = owner_ids - doomed.get(owner.name, set())
        if not fresh:
            continue
        doomed.setdefault(owner.name, set()).update(fresh)
        for one in {f.name: f for e in owner.family() for f in rows.ordered_collections(e.name)}.values():
            part = schema()[one.target or ""].root
            inside = rows.among(part.table.c[one.inverse or ""], fresh)
            todo.append((part, set(connection.execute(sa.select(part.table.c.id).where(inside)).scalars())))
    for name, some in doomed.items():
        _check_deletable(connection, ctx, schema()[name], some)
        _check_free(connection, schema()[name], some, doomed)
    delete_rows(connection, doomed)
    return doomed


def _check_deletable(connection: sa.Connection, ctx: Context, entity: Entity, ids: set[int]) -> None:
    table = entity.table
    for oid, owner, group in connection.execute(
        sa.select(table.c.id, table.c._owner, table.c._group).where(rows.among(table.c.id, ids))
    ):
        if not ctx.may_delete(owner, group, entity.name):
            raise refuse(omero.SecurityViolation, f"{ctx.user_name} may not delete {entity.name} {oid}.")


def _check_free(connection: sa.Connection, entity: Entity, ids: set[int], doomed: Ids) -> None:
    """Refuse to delete objects that others, which stay, refer to."""
    for other, _, found in referring(connection, entity.name, ids):
        if left := set(found) - doomed.get(other.root.name, set()):
            raise refuse(
                omero.ValidationException, f"{other.name} {min(left)} refers to a {entity.name} that would be deleted."
            )


def delete(
    connection: sa.Connection,
    ctx: Context,
    targets: dict[str, list[int]],
    options: ChildOptions,
    ignored: Iterable[str] = (),
    dry_run: bool = False,
) -> dict[str, list[int]]:
    """Delete graphs, as omero.cmd.Delete2 does.

    Parameters
    ----------
    targets
        Ids by class name.
    ignored
        Classes whose objects stay, and keep nothing else from being deleted.
    dry_run
        Only find out what would be deleted.

    Returns
    -------
    dict
        The deleted ids by the Java name of their class.

    Raises
    ------
    GraphError
        If a target is missing, may not be deleted, or is needed by something that stays.
    """
    ignored = list(ignored)
    if unknown := [name for name in ignored if not is_class(name)]:
        raise GraphError(f"unknown model object class named: {unknown[0]}", name="steps-cancel", detailed=False)
    closure = Closure(connection, options, ctx.may_delete, FREE, ignored)
    for entity, ids in find_targets(connection, ctx, targets, ctx.may_delete, "Delete2"):
        closure.add(entity, ids)
    closure.grow()
    _check_parts(connection, ctx, closure.ids)
    _check_tags(connection, ctx, closure.ids)
    if split := closure.split_filesets():
        raise GraphError(f"Fileset {min(split)} can't be split: delete all of its images or none.")
    cut = list(closure.outsiders())
    for entity, one, ids in cut:
        if not one.nullable:
            raise GraphError(f"{entity.name} {min(ids)} has a {one.name} that would be deleted: delete it first.")
        _check_unlinkable(connection, ctx, entity, one, ids)
    answer = by_java_name(connection, closure.ids)
    if not dry_run:
        for entity, one, ids in cut:
            set_null(connection, entity, one, ids)
        delete_rows(connection, closure.ids)
    return answer


def set_null(connection: sa.Connection, entity: Entity, one: Field, ids: Iterable[int]) -> None:
    """Set a reference of some objects to null."""
    table = entity.table
    connection.execute(sa.update(table).where(rows.among(table.c.id, ids)).values({one.name: None}))


def _check_parts(connection: sa.Connection, ctx: Context, going: Ids) -> None:
    """Refuse to delete objects of other users, except for links and what is always deleted along."""
    for name, ids in going.items():
        table = schema()[name].table
        if name in FREE or schema()[name].is_link or not ids:
            continue
        kind = table.c["class"] if "class" in table.c else sa.literal(name)
        for oid, owner, group, its_class in connection.execute(
            sa.select(table.c.id, table.c._owner, table.c._group, kind).where(rows.among(table.c.id, ids))
        ):
            if its_class not in FREE and not ctx.may_delete(owner, group, name):
                raise GraphError(f"not permitted to delete {schema()[its_class].java}[{oid}]")


def _check_tags(connection: sa.Connection, ctx: Context, going: Ids) -> None:
    """Refuse to delete tags of objects that stay and that the user may not delete."""
    annotation = schema()["Annotation"].table.c
    tags = set(
        connection.execute(
            sa.select(annotation.id).where(
                rows.among(annotation.id, going.get("Annotation", ())), annotation["class"] == "TagAnnotation"
            )
        ).scalars()
    )
    for link, one, _ in referring(connection, "Annotation", tags):
        if not link.is_link or one.name != "child":
            continue
        parent = schema()[link.fields["parent"].target or ""].root
        columns, whose = link.table.c, parent.table.alias()
        for tag, oid, owner, group in connection.execute(
            sa.select(columns.child, whose.c.id, whose.c._owner, whose.c._group).where(
                rows.among(columns.child, tags), columns.parent == whose.c.id
            )
        ):
            if oid not in going.get(parent.name, set()) and not ctx.may_delete(owner, group, parent.name):
                raise GraphError(f"TagAnnotation {tag} can't be deleted while it is on {parent.name} {oid}.")


def _check_unlinkable(connection: sa.Connection, ctx: Context, entity: Entity, one: Field, ids: Iterable[int]) -> None:
    """Refuse to remove a reference from objects that the user may not change."""
    columns = entity.root.table.c
    for oid, owner, group in connection.execute(
        sa.select(columns.id, columns._owner, columns._group).where(rows.among(columns.id, ids))
    ):
        if not ctx.may_edit(owner, group, entity.root.name):
            raise GraphError(f"{entity.name} {oid} of another user has a {one.name} that would be deleted.")


def find_targets(
    connection: sa.Connection, ctx: Context, targets: dict[str, list[int]], allowed: Allowed, request: str
) -> Iterator[tuple[Entity, set[int]]]:
    """The targets of a request; the user sees each, and is allowed to do it to a row of that owner, group and class."""
    for name, listed in targets.items():
        entity = schema().entities.get(name.rpartition(".")[2])
        if entity is None:
            raise GraphError(f"unknown model object class named: {name}", detailed=False)
        if entity.is_global or not is_one_of(entity, LEGAL[request]):
            raise GraphError(f"cannot target {entity.name}", name="bad-target", detailed=False)
        table = entity.table
        found = {
            row.id: row
            for row in connection.execute(
                sa.select(table.c.id, table.c._owner, table.c._group).where(
                    rows.among(table.c.id, of_class(connection, entity, listed))
                )
            )
        }
        for oid in listed:
            if oid not in found or not ctx.may_see(found[oid]._owner, found[oid]._group):
                raise GraphError(f"cannot read all the specified objects of class {entity.java}")
            if not allowed(found[oid]._owner, found[oid]._group, entity.root.name):
                raise GraphError(f"{ctx.user_name} may not change {name} {oid}.")
        yield entity, set(listed)


def delete_rows(connection: sa.Connection, doomed: Ids) -> None:
    """Delete rows with their external information. The bytes of pixels and files are removed after the commit."""
    known = schema()
    external = known["ExternalInfo"].table
    for name, ids in doomed.items():
        table = known[name].table
        gone = rows.among(table.c.id, ids)
        infos = connection.execute(sa.select(table.c._externalInfo).where(gone, table.c._externalInfo.is_not(None)))
        if found := infos.scalars().all():
            connection.execute(sa.delete(external).where(rows.among(external.c.id, found)))
        connection.execute(sa.delete(table).where(gone))
        if name in ("Pixels", "OriginalFile"):
            connection.info["gone"] += [(table.name, oid) for oid in ids]


def by_java_name(connection: sa.Connection, ids: Ids) -> dict[str, list[int]]:
    """Group ids by the Java name of their class, as answers have them. Call it before the rows are deleted."""
    named: dict[str, list[int]] = {}
    known = schema()
    for name, some in ids.items():
        table = known[name].table
        if "class" not in table.c:
            found: Iterable[tuple[int, str]] = [(oid, name) for oid in some]
        else:
            found = (
                connection.execute(sa.select(table.c.id, table.c["class"]).where(rows.among(table.c.id, some)))
                .tuples()
                .all()
            )
        for oid, kind in sorted(found):
            named.setdefault(known[kind].java, []).append(oid)
    return named
