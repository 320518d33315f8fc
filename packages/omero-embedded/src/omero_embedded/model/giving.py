"""Giving graphs of objects to another user."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from omero_embedded.model import rows
from omero_embedded.model.access import Context
from omero_embedded.model.deleting import by_java_name, delete_rows, find_targets
from omero_embedded.model.graphs import ChildOptions, Closure, GraphError, Ids
from omero_embedded.model.others import annotations_of_others, rois_of_others
from omero_embedded.model.schema import Entity, schema
from omero_embedded.model.targets import LEGAL

# What goes along with what holds it only where whoever gives it could give away what is their own.
MEMBERS = frozenset(("Project", "Dataset", "Image", "Plate", "Screen", "Folder"))
NOT_A_USER = "There is no Experimenter {}."


def give(
    connection: sa.Connection,
    ctx: Context,
    targets: dict[str, list[int]],
    users: Iterable[int],
    receiver: int,
    options: ChildOptions,
    dry_run: bool = False,
) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Give graphs to another user, as omero.cmd.Chown2 does.

    Parameters
    ----------
    users
        Users whose data are all given, in addition to the targets.

    Returns
    -------
    tuple
        What was given, and the links that were deleted, as ids by Java class name.

    Raises
    ------
    GraphError
        If the user may not give these objects, the receiver does not exist or is not a member of the group, or
        something that stays needs a given object.
    """
    if "Chown" not in ctx.privileges and not ctx.leader_of:
        raise GraphError("not an owner of any group", name="steps-cancel", detailed=False)
    _check_receiver(connection, receiver)
    closure = _Given(connection, options, lambda owner, group, kind: _goes_along(ctx, owner, kind))
    for entity, ids in find_targets(connection, ctx, targets, lambda *_: True, "Chown2"):
        closure.add(entity, ids)
    for entity, ids in _all_of(connection, ctx, users):
        closure.add(entity, ids)
    closure.grow()
    _check_givable(connection, ctx, closure.ids, receiver)
    _check_together(connection, ctx, closure.ids)
    cut = _cut_links(connection, ctx, closure.ids)
    given = {}
    for name, ids in closure.ids.items():
        link = schema()[name]
        kept = _half(connection, link, ids, closure.ids) | _of_third_parties(connection, link, ids)
        given[name] = ids - cut.get(name, set()) - kept
    answer = by_java_name(connection, given), by_java_name(connection, cut)
    if not dry_run:
        delete_rows(connection, cut)
        for name, ids in given.items():
            table = schema()[name].table
            connection.execute(sa.update(table).where(rows.among(table.c.id, ids)).values(_owner=receiver))
    return answer


class _Given(Closure):
    """What goes along to another user: of annotations and regions only those with the owner of what they are on.

    In groups whose members annotate each other's data, annotations and regions stay, unless an option includes them.
    """

    def suitable(self, entity: Entity, free: set[int], included: set[int]) -> set[int]:
        if entity.name not in ("Annotation", "Roi"):
            return free | included
        columns, groups = entity.table.c, schema()["ExperimenterGroup"].table.c
        closed = set(
            self.connection.execute(
                sa.select(columns.id).where(
                    rows.among(columns.id, free),
                    groups.id == columns._group,
                    sa.func.substr(groups._permissions, 4, 1) == "-",
                )
            ).scalars()
        )
        of_others = annotations_of_others if entity.name == "Annotation" else rois_of_others
        return (closed | included) - of_others(self.connection, self.ids, closed | included)


def _goes_along(ctx: Context, owner: int | None, kind: str) -> bool:
    return kind not in MEMBERS or owner == ctx.user or "Chown" in ctx.privileges


def _check_receiver(connection: sa.Connection, receiver: int) -> None:
    users = schema()["Experimenter"].table
    if connection.execute(sa.select(users.c.id).where(users.c.id == receiver)).first() is None:
        raise GraphError(NOT_A_USER.format(receiver), detailed=False)


def _all_of(connection: sa.Connection, ctx: Context, users: Iterable[int]) -> Iterable[tuple[Entity, set[int]]]:
    """Everything that some users own in the groups where the caller may give it."""
    owners = list(users)
    for name in LEGAL["Chown2"] if owners else ():
        entity = schema().find(name)
        if entity is None:
            continue
        columns = entity.table.c
        wanted = [columns._owner.in_(owners), *rows.visible(ctx, entity)]
        if "Chown" not in ctx.privileges:
            wanted.append(columns._group.in_(ctx.leader_of))
        yield entity, set(connection.execute(sa.select(columns.id).where(*wanted)).scalars())


def _check_givable(connection: sa.Connection, ctx: Context, given: Ids, receiver: int) -> None:
    """Refuse to give what is in a group that the user doesn't own or the receiver is not in."""
    if "Chown" in ctx.privileges:
        return
    maps = schema()["GroupExperimenterMap"].table
    joined = set(connection.execute(sa.select(maps.c.parent).where(maps.c.child == receiver)).scalars())
    for name, ids in given.items():
        columns = schema()[name].table.c
        for oid, group in connection.execute(sa.select(columns.id, columns._group).where(rows.among(columns.id, ids))):
            if group not in ctx.leader_of or group not in joined:
                raise GraphError(f"not permitted to give {schema()[name].java}[{oid}] to user {receiver}")


def _check_together(connection: sa.Connection, ctx: Context, given: Ids) -> None:
    """Refuse to tear what wells show from the wells in a private group."""
    columns = schema()["WellSample"].table.c
    private = [group for group, kind in ctx.kinds.items() if kind[2] != "r"]
    samples, images = given.get("WellSample", set()), given.get("Image", set())
    for one, other, near, far in (
        (columns.id, columns.image, samples, images),
        (columns.image, columns.id, images, samples),
    ):
        for oid in connection.execute(
            sa.select(other).where(rows.among(one, near), columns._group.in_(private))
        ).scalars():
            if oid not in far:
                what = "Image" if other is columns.image else "WellSample"
                raise GraphError(f"{what} {oid} can't stay another user's in a private group.")


def _half(connection: sa.Connection, link: Entity, ids: set[int], given: Ids) -> set[int]:
    """The links of which one end is not given."""
    if not link.is_link or not ids:
        return set()
    ends = [given.get(schema()[link.fields[end].target or ""].root.name, set()) for end in ("parent", "child")]
    found = connection.execute(
        sa.select(link.table.c.id, link.table.c.parent, link.table.c.child).where(rows.among(link.table.c.id, ids))
    )
    return {oid for oid, parent, child in found if parent not in ends[0] or child not in ends[1]}


def _of_third_parties(connection: sa.Connection, link: Entity, ids: set[int]) -> set[int]:
    """The links that belong to neither the owner of their parent nor that of their child; they stay."""
    if not link.is_link or not ids:
        return set()
    parent, child = (schema()[link.fields[end].target or ""].root.table.alias() for end in ("parent", "child"))
    own = link.table.c
    found = connection.execute(
        sa.select(own.id).where(
            rows.among(own.id, ids),
            parent.c.id == own.parent,
            child.c.id == own.child,
            parent.c._owner != own._owner,
            child.c._owner != own._owner,
        )
    )
    return set(found.scalars())


def _cut_links(connection: sa.Connection, ctx: Context, given: Ids) -> Ids:
    """The links to what stays that its group doesn't allow between two users: they are deleted."""
    cut: Ids = {}
    for name, ids in given.items():
        link = schema()[name]
        half = _half(connection, link, ids, given)
        if not half:
            continue
        kept = ("r-", "ra", "rw") if link.name.endswith("AnnotationLink") else ("rw",)
        groups = [group for group, kind in ctx.kinds.items() if kind[2:4] not in kept]
        cut[name] = set(
            connection.execute(
                sa.select(link.table.c.id).where(rows.among(link.table.c.id, half), link.table.c._group.in_(groups))
            ).scalars()
        )
    return cut
