"""What clients may not save. OMERO has the same rules and answers with the same errors."""

from __future__ import annotations

import omero
from omero.model import DetailsI, IObject

from omero_embedded.errors import refuse
from omero_embedded.model import rows
from omero_embedded.model.access import ALL_GROUPS, PRIVILEGES, SYSTEM_GROUP, USER_GROUP, Context
from omero_embedded.model.saving.graph import Graph
from omero_embedded.model.schema import Entity, Field


def check_place(ctx: Context, kind: str) -> None:
    """Refuse a new object of a class in a group where the user may create none, or in all groups at once."""
    if ctx.group == ALL_GROUPS:
        raise refuse(omero.ApiUsageException, "New objects are created in one group: choose a group.")
    if not ctx.may_create(ctx.user, ctx.group, kind):
        raise refuse(omero.SecurityViolation, f"{ctx.user_name} may not create a new {kind} in group {ctx.group}.")


def check_new(ctx: Context, entity: Entity, obj: IObject, row: dict) -> None:
    """Refuse a new object with details that the client may not choose."""
    if not ctx.may_create(row["_owner"], ctx.group, entity.name):
        raise refuse(
            omero.SecurityViolation,
            f"{ctx.user_name} may not save a new {entity.name} of user {row['_owner']} in group {ctx.group}.",
        )
    if row.get("repo") is not None:
        raise refuse(omero.SecurityViolation, "An original file can't be put into a repository by saving it.")
    sent = obj._details
    if sent is None:
        return
    group = rows.id_of(sent._group)
    if group is not None and group != ctx.group:
        raise refuse(
            omero.SecurityViolation,
            f"A new {entity.name} goes into the current group {ctx.group}, not into group {group}.",
        )
    kind = ctx.kinds.get(ctx.group)
    if sent._permissions is not None and str(sent._permissions) != kind:
        raise refuse(omero.GroupSecurityViolation, f"The permissions of a {entity.name} are those of its group.")


def check_link(ctx: Context, entity: Entity, target: Entity, found: dict, new_owner: int) -> None:
    """Refuse a reference to a stored row, from a row that belongs to `new_owner`, if the user may not make it."""
    oid, owner, group = found["id"], found["_owner"], found["_group"]
    if ctx.is_critical(owner, group):  # it would tie users' private data together
        if owner != new_owner:
            raise refuse(
                omero.ReadOnlyGroupSecurityViolation,
                f"{target.name} {oid} is another user's in a "
                f"private group: {ctx.user_name} may not link a {entity.name} to it.",
            )
        if ctx.may_edit(owner, group):
            return
    allowed = ctx.may_link
    if entity.name in ("RenderingDef", "Thumbnail"):
        allowed = ctx.may_display
    elif entity.name.endswith("AnnotationLink") or (entity.name, target.name) == ("Roi", "Image"):
        allowed = ctx.may_annotate
    if not allowed(owner, group):
        raise refuse(omero.SecurityViolation, f"{ctx.user_name} may not link a {entity.name} to {target.name} {oid}.")


def check_details(entity: Entity, before: dict, sent: DetailsI | None) -> None:
    """Refuse another group or creating event than the stored object has."""
    for name, column in (("group", "_group"), ("creation event", "_creationEvent")):
        given = rows.id_of(getattr(sent, column)) if sent else None
        if given is not None and not entity.is_global and given != before[column]:
            raise refuse(omero.SecurityViolation, f"Saving {entity.name} {before['id']} can't change its {name}.")


def check_path(ctx: Context, row: dict, before: dict) -> None:
    """Refuse a changed path that leads through `..`. As in OMERO, a changed repository is ignored."""
    row["repo"] = before["repo"]
    whole = (row["path"] or "") + (row["name"] or "")
    changed = (row["path"], row["name"]) != (before["path"], before["name"])
    if changed and not ctx.is_admin and {".", ".."} & set(whole.split("/")):
        raise refuse(omero.SecurityViolation, f"The path of original file {before['id']} can't be changed to {whole}.")


def check_links(graph: Graph, entity: Entity, row: dict, before: dict) -> None:
    """Refuse changed references of a stored object to objects in another group, or that the user may not link to."""
    if entity.is_global:
        return
    for one in rows.fields_of(entity.name, "ref"):
        if row[one.name] != before[one.name]:
            _check_target(graph, entity, one, row[one.name], row["_owner"], row["_group"])


def check_new_links(graph: Graph, entity: Entity, made: list[dict]) -> None:
    """The same for the references of new objects."""
    if entity.is_global:
        return
    for one in rows.fields_of(entity.name, "ref"):
        for oid, owner, group in {(row.get(one.name), row["_owner"], row["_group"]) for row in made}:
            _check_target(graph, entity, one, oid, owner, group)


def _check_target(graph: Graph, entity: Entity, one: Field, oid: int | None, owner: int, group: int) -> None:
    target = graph.schema[one.target or ""].root
    found = None if oid is None else graph.known.get((target.table.name, oid))
    if found is None or target.is_global:
        return
    if found["_group"] not in (group, USER_GROUP):
        raise refuse(omero.GroupSecurityViolation, f"The {one.name} of a {entity.name} is in another group.")
    check_link(graph.ctx, entity, target, found, owner)


def check_promotion(graph: Graph, entity: Entity, obj: IObject, row: dict) -> None:
    """Refuse restricted administrators who would give privileges by saving; IAdmin knows which they may give."""
    gives = (entity.name == "GroupExperimenterMap" and row["parent"] == SYSTEM_GROUP) or (
        entity.name == "Experimenter" and graph.pairs_differ(entity, obj)
    )
    if gives and graph.ctx.privileges != PRIVILEGES:
        raise refuse(omero.SecurityViolation, f"{graph.ctx.user_name} may not give privileges of administrators.")


def check_movable(graph: Graph, one: Field, before: dict, owner: IObject) -> None:
    """Refuse to move an element of a list that the user may not change, or to an owner that it may not link to."""
    if not graph.ctx.may_edit(before["_owner"], before["_group"], one.target or ""):
        raise refuse(omero.SecurityViolation, f"{graph.ctx.user_name} may not move {one.target} {before['id']}.")
    target = graph.schema.of(owner)
    found = graph.known.get((target.table.name, rows.id_of(owner) or 0))
    if found is not None and not target.is_global and rows.id_of(owner) != before[one.inverse or ""]:
        check_link(graph.ctx, graph.schema[one.target or ""], target, found, before["_owner"])


def check_required(entity: Entity, some: list[dict]) -> None:
    """Refuse rows without a value that the class requires."""
    for one in entity.fields.values():
        if not one.nullable and any(row.get(one.name) is None for row in some):
            raise refuse(
                omero.ValidationException,
                f"not-null property references a null or transient value: {entity.java}.{one.name}",
            )
