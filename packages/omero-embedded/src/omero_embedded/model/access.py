"""What users may see and do: OMERO's rules for the four kinds of groups.

The kinds are private rw----, read-only rwr---, read-annotate rwra-- and read-write rwrw--. Administrators read
everything; what else they may do depends on their privileges, of which restricted administrators lack some. See
"Groups and permissions" in OMERO's documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import omero
import sqlalchemy as sa
from omero.model import PermissionsI
from sqlalchemy.sql.expression import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from omero_embedded.errors import refuse
from omero_embedded.model.enumerations import VALUES
from omero_embedded.model.schema import Entity, schema

SYSTEM_GROUP, USER_GROUP, GUEST_GROUP = 0, 1, 2
ROOT, GUEST = 0, 1
FIRST_SESSION = 0  # of the event that made the database; it is never open, and visible to everybody
ALL_GROUPS = -1
PERMISSIONS = ("rw----", "rwr---", "rwra--", "rwrw--")  # the permissions that a group can have
PRIVILEGES = frozenset(VALUES["AdminPrivilege"].split())
# Objects without an owner, which only administrators with a privilege may create, change and delete.
TO_CHANGE = {
    "Experimenter": "ModifyUser",
    "ExperimenterGroup": "ModifyGroup",
    "GroupExperimenterMap": "ModifyGroupMembership",
}
# Fields of users that are hidden from those who share no group with them.
HIDDEN = frozenset({"omeName", "firstName", "middleName", "lastName", "institution", "email"})


@dataclass(frozen=True)
class Context:
    """What one call runs as: the session's user, and the group of the call or the session.

    Contexts with the same rights are equal.

    Attributes
    ----------
    group
        The group's id, or ALL_GROUPS.
    kinds
        The permissions, such as `rwra--`, of every group that the user may see, by group id.
    privileges
        Those of an administrator; if somebody acts for the user, only those that both have.
    acting_for
        Who opened the session for the user by sudo; None if the user did.
    asked
        The Ice context of the call.
    """

    user: int
    user_name: str = field(compare=False)
    group: int
    is_admin: bool
    member_of: frozenset[int]
    leader_of: frozenset[int]
    kinds: dict[int, str] = field(hash=False)
    session_uuid: str = field(default="", compare=False)
    privileges: frozenset[str] = frozenset()
    acting_for: int | None = None
    asked: Mapping[str, str] = field(default_factory=dict, compare=False)
    event: dict = field(default_factory=dict, compare=False)  # the event of this call, see events.py

    def groups(self) -> list[int]:
        """The groups whose data this call sees."""
        return sorted(self.kinds) if self.group == ALL_GROUPS else [self.group]

    def visible(self, entity: Entity, table: sa.FromClause) -> sa.ColumnElement[bool] | None:
        """The condition that a row of an entity is visible; None if all are."""
        if entity.root.name == "Session":
            real_owner = sa.func.coalesce(table.c.sudoer, table.c.owner)
            me = self.user if self.acting_for is None else self.acting_for
            return None if "ReadSession" in self.privileges else sa.or_(real_owner == me, table.c.id == FIRST_SESSION)
        if entity.is_global or (self.is_admin and self.group == ALL_GROUPS):
            return None
        open_groups, own_groups = [USER_GROUP], []
        for group in self.groups():
            kind = self.kinds[group]
            if self.is_admin or group in self.leader_of or kind[2] == "r":
                open_groups.append(group)
            else:
                own_groups.append(group)
        in_group = _unindexed(table.c._group)
        clauses: list[sa.ColumnElement[bool]] = [in_group.in_(open_groups)]
        if own_groups:
            clauses.append(sa.and_(in_group.in_(own_groups), _unindexed(table.c._owner) == self.user))
        return sa.or_(*clauses)

    def knows(self, user: sa.ColumnElement) -> sa.ColumnElement[bool] | None:
        """The condition that a user shares a group other than `user` with this one; None if all users are known."""
        if self.is_admin:
            return None
        members = _members()
        shared = self.member_of - {USER_GROUP}
        return sa.or_(
            user.in_([self.user, ROOT, GUEST]), user.in_(sa.select(members.c.child).where(members.c.parent.in_(shared)))
        )

    def may_see(self, owner: int | None, group: int | None) -> bool:
        """Like `visible`, for one row that was read."""
        if group is None or group == USER_GROUP:
            return True
        if group not in self.groups():
            return False
        return self.is_admin or group in self.leader_of or self.kinds[group][2] == "r" or owner == self.user

    def may_edit(self, owner: int | None, group: int | None, kind: str = "") -> bool:
        """Whether a row of a class may be changed."""
        if group is None:
            return self.is_admin and TO_CHANGE.get(kind) in (None, *self.privileges)
        return self._may_write(owner, group, "WriteFile" if kind == "OriginalFile" else "WriteOwned")

    def may_delete(self, owner: int | None, group: int | None, kind: str = "") -> bool:
        """Whether a row of a class may be deleted."""
        if group is None:
            return self.may_edit(owner, group, kind)
        return self._may_write(owner, group, "DeleteFile" if kind == "OriginalFile" else "DeleteOwned")

    def _may_write(self, owner: int | None, group: int, privilege: str) -> bool:
        if self.user == GUEST:
            return False
        if privilege in self.privileges or owner == self.user or group in self.leader_of:
            return True
        return group != USER_GROUP and self.kinds.get(group, "rw----")[2:4] == "rw" and group in self.member_of

    def may_move(self, owner: int | None, _group: int | None, _kind: str = "") -> bool:
        """Whether a row may be moved into another group. A group's owners may not move the rows of others."""
        return "Chgrp" in self.privileges or (owner == self.user and self.user != GUEST)

    def may_annotate(self, owner: int | None, group: int | None) -> bool:
        """Whether a row may be annotated. In a private group only its owner may, and no administrator."""
        return self._may_refer(owner, group, "aw")

    def may_link(self, owner: int | None, group: int | None) -> bool:
        """Whether a row may be put into a container or become part of something else."""
        return self._may_refer(owner, group, "w")

    def may_display(self, owner: int | None, group: int | None) -> bool:
        """Whether rendering settings for a row may be saved."""
        return self._may_refer(owner, group, "raw-")

    def _may_refer(self, owner: int | None, group: int | None, granted: str) -> bool:
        if owner == self.user or group == USER_GROUP:
            return self.user != GUEST
        kind = self.kinds.get(group, "rw----") if group is not None else "rw----"
        if kind[2] != "r":
            return False
        return (
            "WriteOwned" in self.privileges
            or group in self.leader_of
            or (kind[3] in granted and group in self.member_of)
        )

    def is_critical(self, owner: int | None, group: int | None) -> bool:
        """Whether a row belongs to somebody else in a private group, and this user sees it nevertheless."""
        kind = self.kinds.get(group, "rw----") if group is not None else "rw----"
        return owner != self.user and kind[2] != "r" and (self.is_admin or group in self.leader_of)

    def may_create(self, owner: int, group: int, kind: str) -> bool:
        """Whether a new row of a class may belong to a user and a group."""
        if self.user == GUEST:
            return False
        privileged = ("WriteFile" if kind == "OriginalFile" else "WriteOwned") in self.privileges
        return privileged or (owner == self.user and group in self.member_of)

    def permissions(self, owner: int | None, group: int | None, kind: str = "") -> PermissionsI:
        """The permissions of a row of a class, with this user's flags, as the row's details have them."""
        made = PermissionsI(self.kinds.get(group, "rwr---") if group is not None else "rw----")
        may = (
            self.may_link(owner, group),
            self.may_edit(owner, group, kind),
            self.may_delete(owner, group, kind),
            self.may_annotate(owner, group),
            self.may_move(owner, group),
            "Chown" in self.privileges or group in self.leader_of,
        )
        made._restrictions = [not allowed for allowed in may]
        return made


@cache
def _members() -> sa.FromClause:
    """The memberships of users, apart from those that a query asks for."""
    return schema()["GroupExperimenterMap"].table.alias()


def _unindexed(column: sa.ColumnElement) -> sa.ColumnElement:
    """A column that SQLite uses no index for: a query's own conditions select better than those of visibility."""
    return UnaryExpression(column, operator=custom_op("+"), type_=column.type)


def checked_permissions(permissions: str) -> str:
    """Return a group's permissions if they are of one of the four kinds; raise a ValidationException otherwise."""
    if permissions not in PERMISSIONS:
        raise refuse(
            omero.ValidationException, f"A group's permissions are one of {', '.join(PERMISSIONS)}, not {permissions}."
        )
    return permissions


def asked_permissions(group) -> str | None:
    """The permissions that an ExperimenterGroup object asks for; None if it has none."""
    asked = group._details and group._details._permissions
    return checked_permissions(str(asked)) if asked else None
