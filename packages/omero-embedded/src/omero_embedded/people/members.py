"""Creating and changing users, groups and memberships, within one write transaction."""

from __future__ import annotations

from collections.abc import Iterable

import omero
import sqlalchemy as sa
from omero.rtypes import unwrap

from omero_embedded.errors import refuse
from omero_embedded.model.access import (
    GUEST,
    GUEST_GROUP,
    HIDDEN,
    PRIVILEGES,
    ROOT,
    SYSTEM_GROUP,
    USER_GROUP,
    Context,
    asked_permissions,
    checked_permissions,
)
from omero_embedded.model.events import insert, new_event
from omero_embedded.model.rows import row_of
from omero_embedded.model.schema import Entity, schema
from omero_embedded.people.accounts import WITHHELD


class Members:
    """The changes of one call."""

    def __init__(self, connection: sa.Connection, ctx: Context):
        self.connection, self.ctx = connection, ctx
        self.users, self.groups = schema()["Experimenter"], schema()["ExperimenterGroup"]
        self.maps = schema()["GroupExperimenterMap"]

    def add_group(self, group) -> int:
        """Add a group from an ExperimenterGroup object, and return its id."""
        if not unwrap(group.name):
            raise refuse(omero.ValidationException, "A group needs a name.")
        values = {
            **row_of(self.groups, group),
            "ldap": bool(unwrap(group.ldap)),
            "_permissions": asked_permissions(group) or "rw----",
        }
        return insert(self.connection, self.ctx, self.groups, values, new_event(self.connection, self.ctx))

    def add_user(self, user, groups: Iterable[int]) -> int:
        """Add a user from an Experimenter object to groups, the default group first, and return the user's id."""
        for name in ("omeName", "firstName", "lastName"):
            if not unwrap(getattr(user, name)):
                raise refuse(omero.ValidationException, f"A user needs the property {name}.")
        values = {**row_of(self.users, user), "ldap": bool(unwrap(user.ldap))}
        oid = insert(self.connection, self.ctx, self.users, values, new_event(self.connection, self.ctx))
        for group in dict.fromkeys(groups):
            self.join(oid, group)
        return oid

    def change_user(self, user) -> None:
        """Update a user with the names and addresses of an Experimenter object."""
        self._keep_name(self.users, user.id.val, "omeName", unwrap(user.omeName), (ROOT, GUEST))
        values = {
            name: value
            for name, value in row_of(self.users, user).items()
            if name in HIDDEN and (value is not None or self.users.fields[name].nullable)
        }
        self._update(self.users.table, user.id.val, values)

    def change_group(self, group) -> None:
        """Update a group with the values of an ExperimenterGroup object, including its permissions."""
        values = {
            name: value
            for name, value in row_of(self.groups, group).items()
            if value is not None or self.groups.fields[name].nullable
        }
        special = (SYSTEM_GROUP, USER_GROUP, GUEST_GROUP, self.ctx.group)
        self._keep_name(self.groups, group.id.val, "name", unwrap(group.name), special)
        wanted = asked_permissions(group)
        self._update(self.groups.table, group.id.val, {**values, "_permissions": wanted} if wanted else values)

    def set_privileges(self, user: int, privileges: frozenset[str]) -> None:
        """Restrict an administrator to these privileges; the user's configuration takes away the others."""
        config = self.users.maps["config"]
        self._update(self.users.table, user, {})
        kept = [
            (name, value)
            for name, value in self.connection.execute(
                sa.select(config.c.name, config.c.value).where(config.c.parent == user).order_by(config.c.position)
            )
            if not name.startswith(WITHHELD)
        ]
        pairs = kept + [(WITHHELD + name, "false") for name in sorted(PRIVILEGES - privileges)]
        self.connection.execute(config.delete().where(config.c.parent == user))
        if pairs:
            self.connection.execute(
                config.insert(),
                [
                    {"parent": user, "position": place, "name": name, "value": value}
                    for place, (name, value) in enumerate(pairs)
                ],
            )

    def set_permissions(self, group: int, permissions: str) -> None:
        self._update(self.groups.table, group, {"_permissions": checked_permissions(permissions)})

    def join(self, user: int, group: int, owner: bool | None = None) -> None:
        """Add a user to a group, and make the user its owner or an ordinary member if `owner` is not None."""
        table = self.maps.table
        mine = (table.c.child == user) & (table.c.parent == group)
        if self.connection.execute(sa.select(table.c.id).where(mine)).first() is None:
            self._must_exist(self.groups, group)
            self._must_exist(self.users, user)
            indexes = sa.select(sa.func.max(table.c.child_index)).where(table.c.child == user)
            last = self.connection.execute(indexes).scalar()
            insert(
                self.connection,
                self.ctx,
                self.maps,
                {"parent": group, "child": user, "owner": bool(owner), "child_index": 0 if last is None else last + 1},
                new_event(self.connection, self.ctx),
            )
        elif owner is not None:
            self.connection.execute(
                table.update().where(mine).values(owner=owner, _updateEvent=new_event(self.connection, self.ctx))
            )

    def quit(self, user: int, groups: Iterable[int]) -> None:
        """Remove a user from groups; a membership in a group other than `user` must remain."""
        table = self.maps.table
        self.connection.execute(table.delete().where((table.c.child == user) & table.c.parent.in_(list(groups))))
        left = self._groups_of(user)
        if not any(group != USER_GROUP for group in left):
            raise refuse(omero.ValidationException, "A user has to stay in at least one group other than 'user'.")
        self._renumber(user, left)

    def set_default(self, user: int, group: int) -> None:
        """Make a group the first one of a user, which is the default group."""
        groups = self._groups_of(user)
        if group not in groups:
            raise refuse(omero.ApiUsageException, f"User {user} is not a member of group {group}.")
        self._renumber(user, [group] + [other for other in groups if other != group])

    def _groups_of(self, user: int) -> list[int]:
        table = self.maps.table
        return list(
            self.connection.execute(
                sa.select(table.c.parent).where(table.c.child == user).order_by(table.c.child_index, table.c.id)
            ).scalars()
        )

    def _renumber(self, user: int, groups: Iterable[int]) -> None:
        table = self.maps.table
        for position, group in enumerate(groups):
            self.connection.execute(
                table.update().where((table.c.child == user) & (table.c.parent == group)).values(child_index=position)
            )

    def _update(self, table: sa.Table, oid: int, values: dict) -> None:
        values = {**values, "_updateEvent": new_event(self.connection, self.ctx)}
        if not self.connection.execute(table.update().where(table.c.id == oid).values(**values)).rowcount:
            raise refuse(omero.ApiUsageException, f"There is no {table.name} with the id {oid}.")

    def _keep_name(self, entity: Entity, oid: int, column: str, new: str | None, special: tuple[int, ...]) -> None:
        """Refuse to rename the users and groups that every OMERO server has, and the current group."""
        if oid in special and new is not None:
            old = self.connection.execute(sa.select(entity.table.c[column]).where(entity.table.c.id == oid)).scalar()
            if new != old:
                raise refuse(omero.ValidationException, f"The {entity.name} {old} can't be renamed.")

    def _must_exist(self, entity, oid: int) -> None:
        if self.connection.execute(sa.select(entity.table.c.id).where(entity.table.c.id == oid)).first() is None:
            raise refuse(omero.ValidationException, f"There is no {entity.name} with the id {oid}.")
