"""IAdmin: users, groups, memberships and passwords."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import omero
import omero.sys
import sqlalchemy as sa
from omero.rtypes import rlist, rlong, rstring, unwrap

from omero_embedded.errors import given, refuse
from omero_embedded.kernel import Kernel
from omero_embedded.model.access import GUEST_GROUP, PRIVILEGES, ROOT, SYSTEM_GROUP, USER_GROUP, Context
from omero_embedded.model.loading import Loader
from omero_embedded.people.bootstrap import GUEST
from omero_embedded.people.event_context import event_context
from omero_embedded.people.members import Members
from omero_embedded.people.passwords import PASSWORD, set_password
from omero_embedded.people.sessions import LoginRefused, Session
from omero_embedded.services import photos
from omero_embedded.services.registry import service


@service("::omero::api::IAdmin")
class AdminService:
    def __init__(self, kernel: Kernel, session: Session):
        self.kernel, self.session = kernel, session
        self.users, self.groups = kernel.schema["Experimenter"], kernel.schema["ExperimenterGroup"]
        self.maps = kernel.schema["GroupExperimenterMap"]

    # -- the caller ----------------------------------------------------------------------------------------------

    def getEventContext(self, ctx: Context):
        return event_context(self.kernel.store, self.kernel.accounts, self.session, ctx)

    def getSecurityRoles(self, ctx: Context):
        return omero.sys.Roles(
            rootId=ROOT,
            rootName="root",
            systemGroupId=SYSTEM_GROUP,
            systemGroupName="system",
            userGroupId=USER_GROUP,
            userGroupName="user",
            guestId=GUEST,
            guestName="guest",
            guestGroupId=GUEST_GROUP,
            guestGroupName="guest",
        )

    def canUpdate(self, ctx: Context, obj):
        given(obj)
        table = self.kernel.schema.of(obj).table
        with self.kernel.store.read() as connection:
            row = connection.execute(sa.select(table.c._owner, table.c._group).where(table.c.id == obj.id.val)).first()
        kind = self.kernel.schema.of(obj).root.name
        return row is not None and ctx.may_see(*row) and ctx.may_edit(row._owner, row._group, kind)

    # -- privileges ----------------------------------------------------------------------------------------------

    def getCurrentAdminPrivileges(self, ctx: Context):
        return self._privileges(ctx, ctx.privileges)

    def getAdminPrivileges(self, ctx: Context, user):
        return self._privileges(ctx, self._account(user.id.val).privileges)

    def getAdminsWithPrivileges(self, ctx: Context, privileges):
        """Find the administrators who have all of some privileges."""
        wanted = _known(privileges)
        maps = self.maps.table
        admins = self._load(
            ctx, self.users, self.users.table.c.id.in_(sa.select(maps.c.child).where(maps.c.parent == SYSTEM_GROUP))
        )
        return [one for one in admins if wanted <= self._account(one.id.val).privileges]

    def setAdminPrivileges(self, ctx: Context, user, privileges):
        """Restrict an administrator to some privileges. Callers can't give privileges that they don't have."""
        wanted, oid = _known(privileges), user.id.val
        if not ctx.is_admin or "ModifyUser" not in ctx.privileges:
            raise refuse(omero.SecurityViolation, f"{ctx.user_name} may not change users.")
        if oid == ROOT and wanted != PRIVILEGES:
            raise refuse(omero.ApiUsageException, "Root keeps all privileges.")
        self._no_elevation(ctx, wanted - self._account(oid).privileges)
        with self.kernel.store.write() as connection:
            Members(connection, ctx).set_privileges(oid, wanted)

    def _privileges(self, ctx: Context, names: Iterable[str]) -> list:
        entity = self.kernel.schema["AdminPrivilege"]
        with self.kernel.store.read() as connection:
            ids = connection.execute(sa.select(entity.table.c.id).where(entity.table.c.value.in_(names))).scalars()
            return list(Loader(connection, ctx).get(entity, ids).values())

    def _no_elevation(self, ctx: Context, gained: Iterable[str]) -> None:
        if not set(gained) <= ctx.privileges:
            raise refuse(omero.SecurityViolation, "Administrators can't give privileges that they don't have.")

    def getMyUserPhotos(self, ctx: Context):
        return photos.photos(self.kernel, ctx)

    def uploadMyUserPhoto(self, ctx: Context, name, mimetype, data):
        return photos.upload(self.kernel, self.session, ctx, name, mimetype, data)

    def reportForgottenPassword(self, ctx: Context, name, email):
        """Refuse, because no mail is sent: an OMERO server without a mail server does, too."""
        user = self.kernel.accounts.find(name)
        table = self.users.table
        with self.kernel.store.read() as connection:
            stored = connection.execute(sa.select(table.c.email).where(table.c.id == user)).scalar()
        if user is None or stored != email:
            reason = "Unknown user." if user is None else "Email address does not match."
            raise omero.AuthenticationException(reason if user is None or stored else "User has no email address.")
        raise refuse(omero.InternalException, f"Password was not changed because no mail can be sent to {name}.")

    def synchronizeLoginCache(self, ctx: Context):
        """Do nothing: every login reads the database."""

    # -- looking up ----------------------------------------------------------------------------------------------

    def _load(self, ctx: Context, entity, which: sa.ColumnElement | None = None) -> list:
        """Load users or groups by a condition, in the order of their ids, with memberships and both ends of each."""
        with self.kernel.store.read() as connection:
            loader = Loader(connection, ctx)
            wanted = sa.select(entity.table.c.id).order_by(entity.table.c.id)
            ids = connection.execute(wanted if which is None else wanted.where(which)).scalars().all()
            found = list(loader.get(entity, ids).values())
            maps = loader.fetch(found, entity.fields["groupExperimenterMap"])
            loader.fetch(maps, self.maps.fields["parent" if entity is self.users else "child"])
        return found

    def _one(self, ctx: Context, entity, which: sa.ColumnElement, asked):
        found = self._load(ctx, entity, which)
        if not found:
            kind = "experimenter" if entity is self.users else "group"
            raise refuse(omero.ApiUsageException, f"No such {kind}: {asked}")
        return found[0]

    def lookupExperimenters(self, ctx: Context):
        return self._load(ctx, self.users)

    def lookupGroups(self, ctx: Context):
        return self._load(ctx, self.groups)

    def lookupExperimenter(self, ctx: Context, name):
        return self._one(ctx, self.users, self.users.table.c.omeName == name, name)

    def lookupGroup(self, ctx: Context, name):
        return self._one(ctx, self.groups, self.groups.table.c.name == name, name)

    def getExperimenter(self, ctx: Context, oid):
        return self._one(ctx, self.users, self.users.table.c.id == oid, oid)

    def getGroup(self, ctx: Context, oid):
        return self._one(ctx, self.groups, self.groups.table.c.id == oid, oid)

    def containedExperimenters(self, ctx: Context, group):
        maps = self.maps.table
        members = sa.select(maps.c.child).where(maps.c.parent == group)
        return self._load(ctx, self.users, self.users.table.c.id.in_(members))

    def containedGroups(self, ctx: Context, user):
        maps = self.maps.table
        groups = sa.select(maps.c.parent).where(maps.c.child == user)
        return self._load(ctx, self.groups, self.groups.table.c.id.in_(groups))

    def getDefaultGroup(self, ctx: Context, user):
        account = self.kernel.accounts.known(user)
        if account is None or account.default_group is None:
            raise refuse(omero.ValidationException, f"The user {user} has no default group set.")
        return self.getGroup(ctx, account.default_group)

    def getMemberOfGroupIds(self, ctx: Context, user):
        account = self.kernel.accounts.known(given(given(user).id).val)
        return list(account.groups) if account else []

    def getLeaderOfGroupIds(self, ctx: Context, user):
        account = self.kernel.accounts.known(given(given(user).id).val)
        return sorted(account.leader_of) if account else []

    def lookupLdapAuthExperimenters(self, ctx: Context):
        return rlist([])

    def lookupLdapAuthExperimenter(self, ctx: Context, user):
        return ""

    def _account(self, user: int):
        found = self.kernel.accounts.known(user)
        if found is None:
            raise refuse(omero.ValidationException, f"There is no Experimenter {user}.")
        return found

    # -- making and changing -------------------------------------------------------------------------------------

    @contextmanager
    def _changes(self, ctx: Context, privilege: str, groups: Iterable[int] = ()) -> Iterator[Members]:
        """Open a transaction for an administrator with a privilege, or for an owner of all groups that are changed."""
        groups = set(groups)
        if privilege not in ctx.privileges and not (groups and groups <= ctx.leader_of):
            raise refuse(omero.SecurityViolation, f"{ctx.user_name} may not change these users or groups.")
        try:
            with self.kernel.store.write() as connection:
                yield Members(connection, ctx)
        except sa.exc.IntegrityError:
            raise refuse(omero.ValidationException, "Stored objects still refer to it.") from None

    def createGroup(self, ctx: Context, group):
        with self._changes(ctx, "ModifyGroup") as members:
            return members.add_group(group)

    def createExperimenter(self, ctx: Context, user, default, groups):
        return self.createExperimenterWithPassword(ctx, user, None, default, groups)

    def createExperimenterWithPassword(self, ctx: Context, user, password, default, groups):
        if default is None:
            raise refuse(omero.ApiUsageException, "A user needs a default group.")
        return self._create(ctx, user, password, [default.id.val, *(group.id.val for group in groups or [])])

    def createUser(self, ctx: Context, user, group):
        return self._create(ctx, user, None, [self.lookupGroup(ctx, group).id.val, USER_GROUP])

    def createSystemUser(self, ctx: Context, user):
        return self._create(ctx, user, None, [SYSTEM_GROUP, USER_GROUP])

    def createRestrictedSystemUser(self, ctx: Context, user, privileges):
        return self.createRestrictedSystemUserWithPassword(ctx, user, privileges, None)

    def createRestrictedSystemUserWithPassword(self, ctx: Context, user, privileges, password):
        """Add an administrator with only some privileges, and return the id."""
        return self._create(ctx, user, password, [SYSTEM_GROUP, USER_GROUP], _known(privileges))

    def _create(self, ctx: Context, user, password, groups: list[int], privileges: frozenset[str] = PRIVILEGES) -> int:
        if SYSTEM_GROUP in groups:
            self._no_elevation(ctx, privileges)
        with self._changes(ctx, "ModifyUser", [group for group in groups if group != USER_GROUP]) as members:
            oid = members.add_user(user, groups)
            if privileges != PRIVILEGES:
                members.set_privileges(oid, privileges)
            if password is not None and password.val:
                set_password(members.connection, oid, password.val)
        return oid

    def updateSelf(self, ctx: Context, user):
        given(user)
        with self.kernel.store.write() as connection:
            user = _with_id(user, ctx.user)
            user.omeName = rstring(ctx.user_name)
            Members(connection, ctx).change_user(user)

    def updateExperimenter(self, ctx: Context, user):
        if given(user).id.val == ctx.user and "ModifyUser" not in ctx.privileges:
            self.updateSelf(ctx, user)
        else:
            self.updateExperimenterWithPassword(ctx, user, None)

    def updateExperimenterWithPassword(self, ctx: Context, user, password):
        oid = given(user).id.val
        with self._changes(ctx, "ModifyUser") as members:
            if password is not None and password.val:
                self._no_elevation(ctx, self._account(oid).privileges)
                set_password(members.connection, oid, password.val)
            members.change_user(user)

    def updateGroup(self, ctx: Context, group):
        with self._changes(ctx, "ModifyGroup", [given(group).id.val]) as members:
            members.change_group(group)

    def changePermissions(self, ctx: Context, group, permissions):
        if not isinstance(group, omero.model.ExperimenterGroup):
            raise refuse(omero.ApiUsageException, "Permissions belong to groups: only a group's can be changed.")
        with self._changes(ctx, "ModifyGroup", [group.id.val]) as members:
            members.set_permissions(group.id.val, str(permissions))

    def deleteExperimenter(self, ctx: Context, user):
        oid = user.id.val
        with self._changes(ctx, "ModifyUser") as members:
            self._account(oid)
            maps = self.maps.table
            members.connection.execute(maps.delete().where(maps.c.child == oid))
            members.connection.execute(PASSWORD.delete().where(PASSWORD.c.experimenter == oid))
            members.connection.execute(self.users.table.delete().where(self.users.table.c.id == oid))
        for session in self.kernel.sessions.of_user(oid):
            self.kernel.sessions.end(session)

    def deleteGroup(self, ctx: Context, group):
        with self._changes(ctx, "ModifyGroup", [group.id.val]) as members:
            maps = self.maps.table
            members.connection.execute(maps.delete().where(maps.c.parent == group.id.val))
            gone = self.groups.table.delete().where(self.groups.table.c.id == group.id.val)
            if not members.connection.execute(gone).rowcount:
                raise refuse(omero.ValidationException, f"There is no ExperimenterGroup {group.id.val}.")

    # -- memberships ---------------------------------------------------------------------------------------------

    def addGroups(self, ctx: Context, user, groups):
        if not groups:
            raise refuse(omero.ValidationException, "Nothing to do.")
        for one in (user, *groups):
            given(given(one).id)
        with self._memberships(ctx, groups) as members:
            for group in groups:
                self._check_promotion(ctx, user, group)
                members.join(user.id.val, group.id.val)

    def removeGroups(self, ctx: Context, user, groups):
        if user is None:
            return
        left = {group.id.val for group in groups}
        with self._memberships(ctx, groups) as members:
            if left & {SYSTEM_GROUP, USER_GROUP} and user.id.val in (ROOT, ctx.user):
                raise refuse(
                    omero.ValidationException,
                    "Root stays in the groups 'system' and 'user', and nobody leaves these by themselves.",
                )
            members.quit(user.id.val, left)

    def setDefaultGroup(self, ctx: Context, user, group):
        if user is None or group is None:
            return
        if user.id.val != ctx.user and "ModifyUser" not in ctx.privileges:
            raise refuse(omero.SecurityViolation, f"{ctx.user_name} may not change other users.")
        if group.id.val == USER_GROUP:
            raise refuse(omero.ApiUsageException, "The group 'user' is nobody's default group.")
        with self.kernel.store.write() as connection:
            Members(connection, ctx).set_default(user.id.val, group.id.val)

    def setGroupOwner(self, ctx: Context, group, owner):
        self.addGroupOwners(ctx, group, [owner])

    def unsetGroupOwner(self, ctx: Context, group, owner):
        self.removeGroupOwners(ctx, group, [owner])

    def addGroupOwners(self, ctx: Context, group, owners):
        self._own(ctx, group, owners, True)

    def removeGroupOwners(self, ctx: Context, group, owners):
        self._own(ctx, group, owners, False)

    def _own(self, ctx: Context, group, owners, owns: bool) -> None:
        with self._memberships(ctx, [] if group is None else [group]) as members:
            for owner in owners:
                if owner is None or group is None:
                    continue
                self._check_promotion(ctx, owner, group)
                members.join(owner.id.val, group.id.val, owner=owns)

    def _memberships(self, ctx: Context, groups):
        return self._changes(ctx, "ModifyGroupMembership", [group.id.val for group in groups])

    def _check_promotion(self, ctx: Context, user, group) -> None:
        """Refuse to give privileges that the caller lacks, by making a user an administrator."""
        account = self._account(user.id.val)
        if group.id.val == SYSTEM_GROUP and not account.is_admin:
            self._no_elevation(ctx, PRIVILEGES - self.kernel.accounts.withheld(user.id.val))

    # -- passwords -----------------------------------------------------------------------------------------------

    def changePassword(self, ctx: Context, new):
        if not self.session.by_password:
            raise refuse(omero.SecurityViolation, "This session was not opened with a password: the old one is needed.")
        self._set_password(ctx.user, new)

    def changePasswordWithOldPassword(self, ctx: Context, old, new):
        try:
            self.kernel.sessions.verify(ctx.user_name, old.val if old else "", self.session.as_guesser)
        except LoginRefused as reason:
            raise refuse(omero.SecurityViolation, str(reason)) from None
        self._set_password(ctx.user, new)

    def changeUserPassword(self, ctx: Context, name, new):
        if "ModifyUser" not in ctx.privileges:
            raise refuse(
                omero.SecurityViolation,
                "Only administrators may change another user's password, if that is among their privileges.",
            )
        user = self.kernel.accounts.find(name)
        if user is None:
            raise refuse(omero.ApiUsageException, f"No such experimenter: {name}")
        if not self._account(user).privileges <= ctx.privileges:
            raise refuse(omero.SecurityViolation, "The password of a more privileged administrator can't be changed.")
        self._set_password(user, new)

    def _set_password(self, user: int, new) -> None:
        if new is None or not new.val:
            raise refuse(omero.ApiUsageException, "A password can't be empty.")
        if user == GUEST:
            raise refuse(omero.SecurityViolation, "The guest's password can't be changed.")
        with self.kernel.store.write() as connection:
            set_password(connection, user, new.val)


def _known(privileges) -> frozenset[str]:
    """Return the values of AdminPrivilege objects."""
    names = frozenset(unwrap(one.value) for one in privileges or ())
    if not names <= PRIVILEGES:
        raise refuse(omero.ApiUsageException, f"There are no privileges {', '.join(map(str, names - PRIVILEGES))}.")
    return names


def _with_id(user, oid: int):
    user.id = rlong(oid)
    return user
