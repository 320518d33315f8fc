"""Users and their groups, and the context that a call runs in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import omero
import sqlalchemy as sa

from omero_embedded.errors import refuse
from omero_embedded.files.store import Store
from omero_embedded.model.access import ALL_GROUPS, PRIVILEGES, ROOT, SYSTEM_GROUP, USER_GROUP, Context

_NUMBER = re.compile(r"-?\d{1,18}")
WITHHELD = "AdminPrivilege:"  # `AdminPrivilege:Sudo` = false in a user's configuration takes Sudo away


@dataclass(frozen=True)
class Account:
    """A user with the memberships in their order; the first is the default group."""

    id: int
    name: str
    groups: tuple[int, ...]
    leader_of: frozenset[int]
    kinds: dict[int, str]  # permissions by group: of the user's groups, or of all groups for an administrator
    privileges: frozenset[str]  # of an administrator; a restricted one lacks some

    @property
    def is_admin(self) -> bool:
        return SYSTEM_GROUP in self.groups

    @property
    def default_group(self) -> int | None:
        return next((group for group in self.groups if group != USER_GROUP), None)


class Accounts:
    """Reads accounts, and keeps them until a user, a group or a membership changes."""

    def __init__(self, store: Store):
        self._store = store
        entities = store.schema
        self._user, self._group = entities["Experimenter"].table, entities["ExperimenterGroup"].table
        self._map = entities["GroupExperimenterMap"].table
        self._known: dict[int, Account] = {}
        self._known_at = -1

    def find(self, name: str) -> int | None:
        """Return the id of the user with a login name; None if there is none."""
        with self._store.read() as connection:
            return connection.execute(sa.select(self._user.c.id).where(self._user.c.omeName == name)).scalar()

    def get(self, user: int) -> Account:
        """Return the account of an existing user."""
        now = self._store.account_changes
        if now != self._known_at:
            self._known, self._known_at = {}, now
        known = self._known
        if user not in known:
            known[user] = self._read(user)
        return known[user]

    def known(self, user: int) -> Account | None:
        """Return what is known about a user; None if there is none with this id."""
        try:
            return self.get(user)
        except sa.exc.NoResultFound:
            return None

    def _read(self, user: int) -> Account:
        with self._store.read() as connection:
            name = connection.execute(sa.select(self._user.c.omeName).where(self._user.c.id == user)).scalar_one()
            maps = connection.execute(
                sa.select(self._map.c.parent, self._map.c.owner)
                .where(self._map.c.child == user)
                .order_by(self._map.c.child_index, self._map.c.id)
            ).all()
            groups = tuple(row.parent for row in maps)
            wanted = sa.select(self._group.c.id, self._group.c._permissions)
            if SYSTEM_GROUP not in groups:
                wanted = wanted.where(self._group.c.id.in_(groups))
            kinds = {row.id: row._permissions for row in connection.execute(wanted)}
            withheld = _withheld(self._store, connection, user) if SYSTEM_GROUP in groups else PRIVILEGES
        return Account(
            user, name, groups, frozenset(row.parent for row in maps if row.owner), kinds, PRIVILEGES - withheld
        )

    def withheld(self, user: int) -> set[str]:
        """Return the privileges that a user's configuration takes away."""
        with self._store.read() as connection:
            return _withheld(self._store, connection, user)

    def group_named(self, name: str) -> int | None:
        """Return the id of a group by its name, or by its id as text; None if there is none."""
        with self._store.read() as connection:
            found = connection.execute(sa.select(self._group.c.id).where(self._group.c.name == name)).scalar()
            if found is None and name.lstrip("-").isdigit():
                found = connection.execute(sa.select(self._group.c.id).where(self._group.c.id == int(name))).scalar()
        return found

    def context(
        self, user: int, group: int, uuid: str, asked: Mapping[str, str], acting_for: int | None = None
    ) -> Context:
        """Return what a call of a session runs as.

        Parameters
        ----------
        user, group, uuid
            The session's user, its current group, and its uuid.
        asked
            The call's Ice context. `omero.group` chooses a group; as in OMERO, one that is no number is ignored.
            `omero.user` may name another user in the calls of an administrator only.
        acting_for
            The administrator who opened the session for the user.

        Raises
        ------
        omero.ValidationException
            If there is no such group.
        omero.SecurityViolation
            If the user is not a member of it.
        """
        account = self.get(user)
        if asked.get("omero.user") not in (None, "", str(user)) and not account.is_admin:
            raise refuse(omero.SecurityViolation, f"User {account.name} can't call as another user.")
        wanted = asked.get("omero.group", "").strip()
        if _NUMBER.fullmatch(wanted):
            group = self._asked_group(account, int(wanted))
        elif group not in account.kinds:
            raise refuse(omero.SecurityViolation, f"User {account.name} is no longer a member of group {group}.")
        privileges = account.privileges
        if acting_for is not None and privileges:
            privileges &= self.get(acting_for).privileges
        return Context(
            user=user,
            user_name=account.name,
            group=group,
            is_admin=account.is_admin,
            member_of=frozenset(account.groups),
            leader_of=account.leader_of,
            kinds=account.kinds,
            session_uuid=uuid,
            privileges=privileges,
            acting_for=acting_for,
            asked=asked,
        )

    def _asked_group(self, account: Account, wanted: int) -> int:
        if wanted < 0:
            return ALL_GROUPS
        if wanted in account.kinds:
            return wanted
        if self.group_named(str(wanted)) is None:
            raise refuse(omero.ValidationException, f"There is no group {wanted}.")
        raise refuse(omero.SecurityViolation, f"User {account.name} is not a member of group {wanted}.")


def _withheld(store: Store, connection: sa.Connection, user: int) -> set[str]:
    """Read the privileges that an administrator's configuration takes away; root keeps all."""
    config = store.schema["Experimenter"].maps["config"]
    found = connection.execute(sa.select(config.c.name, config.c.value).where(config.c.parent == user))
    return {
        name.removeprefix(WITHHELD)
        for name, value in found
        if name.startswith(WITHHELD) and (value or "").lower() != "true" and user != ROOT
    }
