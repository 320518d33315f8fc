"""The description of a session that clients ask for."""

from __future__ import annotations

import omero
import omero.sys
import sqlalchemy as sa
from omero.rtypes import rlong, rstring

from omero_embedded.files.store import Store
from omero_embedded.model.access import ALL_GROUPS, Context
from omero_embedded.people.accounts import Accounts
from omero_embedded.people.sessions import Session


def event_context(store: Store, accounts: Accounts, session: Session, ctx: Context) -> omero.sys.EventContext:
    """Describe the user, the group and the rights of a session. Its memberships start with its first group."""
    account = accounts.get(session.user)
    groups = store.schema["ExperimenterGroup"].table
    group = session.group if ctx.group == ALL_GROUPS else ctx.group
    with store.read() as connection:
        name, permissions = connection.execute(
            sa.select(groups.c.name, groups.c._permissions).where(groups.c.id == group)
        ).one()
    made = omero.sys.EventContext()
    made.shareId, made.sessionId, made.sessionUuid = -1, session.id, session.uuid
    made.userId, made.userName = session.user, account.name
    made.sudoerId = None if session.sudoer is None else rlong(session.sudoer)
    made.sudoerName = None if session.sudoer_name is None else rstring(session.sudoer_name)
    made.groupId, made.groupName, made.isAdmin = group, name, account.is_admin
    made.adminPrivileges = sorted(ctx.privileges)
    made.eventId, made.eventType = -1, session.event_type
    made.memberOfGroups = [session.first_group] + [other for other in account.groups if other != session.first_group]
    made.leaderOfGroups = sorted(account.leader_of)
    made.groupPermissions = omero.model.PermissionsI(permissions)
    return made
