"""IAdmin: who is there, in which groups, and with which passwords."""
from __future__ import annotations

from typing import TYPE_CHECKING

import omero
import omero.sys
import sqlalchemy as sa

from openhcs_omero.embedded.access import ALL_GROUPS, GUEST_GROUP, ROOT, SYSTEM_GROUP, USER_GROUP, Context

if TYPE_CHECKING:
    from openhcs_omero.embedded.server import Server
    from openhcs_omero.embedded.sessions import Session


def event_context(server: Server, session: Session, ctx: Context) -> omero.sys.EventContext:
    """What a session runs as; the current group comes first in its memberships."""
    account = server.accounts.get(session.user)
    groups = server.schema["ExperimenterGroup"].table
    group = session.group if ctx.group == ALL_GROUPS else ctx.group
    with server.store.read() as connection:
        name, permissions = connection.execute(
            sa.select(groups.c.name, groups.c._permissions).where(groups.c.id == group)).one()
        enum = server.schema["AdminPrivilege"].table
        privileges = connection.execute(sa.select(enum.c.value)).scalars().all() if account.is_admin else []
    made = omero.sys.EventContext()
    made.shareId, made.sessionId, made.sessionUuid = -1, session.id, session.uuid
    made.userId, made.userName = session.user, account.name
    made.sudoerId = None if session.sudoer is None else omero.rtypes.rlong(session.sudoer)
    made.sudoerName = None if session.sudoer_name is None else omero.rtypes.rstring(session.sudoer_name)
    made.groupId, made.groupName, made.isAdmin = group, name, account.is_admin
    made.adminPrivileges = list(privileges)
    made.eventId, made.eventType = -1, session.event_type
    made.memberOfGroups = [group] + [other for other in account.groups if other != group]
    made.leaderOfGroups = sorted(account.leader_of)
    made.groupPermissions = omero.model.PermissionsI(permissions)
    return made


class AdminService:
    interface = "::omero::api::IAdmin"

    def __init__(self, server: Server, session: Session):
        self.server, self.session = server, session

    def getEventContext(self, ctx: Context):
        return event_context(self.server, self.session, ctx)

    def getSecurityRoles(self, ctx: Context):
        return omero.sys.Roles(
            rootId=ROOT, rootName="root", systemGroupId=SYSTEM_GROUP, systemGroupName="system", userGroupId=USER_GROUP,
            userGroupName="user", guestId=1, guestName="guest", guestGroupId=GUEST_GROUP, guestGroupName="guest")
