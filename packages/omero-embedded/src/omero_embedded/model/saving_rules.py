"""What a client may not do by saving: the rules of OMERO's interceptor of saved objects, each with its error."""
from __future__ import annotations

import omero
from omero.model import DetailsI, IObject

from omero_embedded.errors import refuse
from omero_embedded.model import rows
from omero_embedded.model.access import ALL_GROUPS, Context
from omero_embedded.model.schema import Entity


def check_place(ctx: Context, kind: str) -> None:
    """Refuse to make something new of a class where the user may not, or in all groups at once."""
    if ctx.group == ALL_GROUPS:
        raise refuse(omero.ApiUsageException, "Something new is made in one group: say which.")
    if not ctx.may_create(ctx.user, ctx.group, kind):
        raise refuse(omero.SecurityViolation, f"{ctx.user_name} may not make a new {kind} in group {ctx.group}.")


def check_new(ctx: Context, entity: Entity, obj: IObject, row: dict) -> None:
    """Refuse a new object whose details the client may not choose, or that nobody may make by saving."""
    if not ctx.may_create(row["_owner"], ctx.group, entity.name):
        raise refuse(omero.SecurityViolation, f"{ctx.user_name} may not save a new {entity.name} of user "
                     f"{row['_owner']} in group {ctx.group}.")
    if row.get("repo") is not None:
        raise refuse(omero.SecurityViolation, "An original file can't be put into a repository by saving it.")
    sent = obj._details or DetailsI()
    group = rows.id_of(sent._group)
    if group is not None and group != ctx.group:
        raise refuse(omero.SecurityViolation, f"A new {entity.name} goes into the current group "
                     f"{ctx.group}, not into group {group}.")
    kind = ctx.kinds.get(ctx.group)
    if sent._permissions is not None and str(sent._permissions) != kind:
        raise refuse(omero.GroupSecurityViolation, f"The permissions of a {entity.name} are those of its group.")


def check_link(ctx: Context, entity: Entity, target: Entity, found: dict, new_owner: int) -> None:
    """Refuse a reference from a row of `new_owner` to a stored one."""
    oid, owner, group = found["id"], found["_owner"], found["_group"]
    if ctx.is_critical(owner, group):  # it would tie users' private data together
        if owner != new_owner:
            raise refuse(omero.ReadOnlyGroupSecurityViolation, f"{target.name} {oid} is another user's in a "
                         f"private group: {ctx.user_name} may not link a {entity.name} to it.")
        if ctx.may_edit(owner, group):
            return
    allowed = ctx.may_link
    if entity.name in ("RenderingDef", "Thumbnail"):
        allowed = ctx.may_display
    elif entity.name.endswith("AnnotationLink") or (entity.name, target.name) == ("Roi", "Image"):
        allowed = ctx.may_annotate
    if not allowed(owner, group):
        raise refuse(omero.SecurityViolation,
                     f"{ctx.user_name} may not link a {entity.name} to {target.name} {oid}.")


def check_details(entity: Entity, before: dict, sent: DetailsI | None) -> None:
    """Refuse another group or creating event than the stored object has; saving changes neither."""
    for name, column in (("group", "_group"), ("creation event", "_creationEvent")):
        given = rows.id_of(getattr(sent, column)) if sent else None
        if given is not None and not entity.is_global and given != before[column]:
            raise refuse(omero.SecurityViolation, f"Saving {entity.name} {before['id']} can't change its {name}.")


def check_path(ctx: Context, row: dict, before: dict) -> None:
    """Refuse a changed path that leads through `..`; a file's repository stays what it is, without a word."""
    row["repo"] = before["repo"]
    whole = (row["path"] or "") + (row["name"] or "")
    changed = (row["path"], row["name"]) != (before["path"], before["name"])
    if changed and not ctx.is_admin and {".", ".."} & set(whole.split("/")):
        raise refuse(omero.SecurityViolation, f"The path of original file {before['id']} can't be made {whole}.")
