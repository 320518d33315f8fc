"""The requests about open sessions: CurrentSessionsRequest and UpdateSessionTimeoutRequest."""

from __future__ import annotations

import omero
import omero.cmd
import sqlalchemy as sa
from omero.rtypes import rlong, rstring, rtime, unwrap

from omero_embedded.kernel import Kernel
from omero_embedded.model.access import GUEST, Context
from omero_embedded.model.graphs import GraphError
from omero_embedded.model.loading import Loader
from omero_embedded.model.schema import schema
from omero_embedded.people.event_context import event_context
from omero_embedded.people.sessions import Session, Sessions

MOST_IDLE = 6_000_000  # milliseconds, for ordinary users: omero.sessions.max_user_time_to_idle


def sessions(kernel: Kernel, connection: sa.Connection, ctx: Context) -> omero.cmd.Response:
    """List all open sessions; those that the caller may not see with only user and group."""
    answer = omero.cmd.CurrentSessionsResponse([], [], [])
    opened = kernel.sessions.all()
    loaded = Loader(connection, ctx).get(schema()["Session"], [session.id for session in opened])
    for session in opened:
        its_context = event_context(kernel.store, kernel.accounts, session, kernel.sessions.context(session, None))
        if session.id not in loaded:
            if ctx.user == GUEST:
                continue
            its_context = omero.sys.EventContext(
                userId=its_context.userId,
                userName=its_context.userName,
                groupId=its_context.groupId,
                groupName=its_context.groupName,
                isAdmin=its_context.isAdmin,
            )
        answer.sessions.append(loaded.get(session.id))
        answer.contexts.append(its_context)
        answer.data.append(_data(session) if session.id in loaded else {})
    return answer


def _data(session: Session) -> dict:
    return {
        "sessionUuid": rstring(session.uuid),
        "hitCount": rlong(session.hits),
        "lastAccessTime": rtime(int(session.last_used * 1000)),
        "startTime": rtime(int(session.started * 1000)),
    }


def change_timeouts(
    opened: Sessions, connection: sa.Connection, ctx: Context, request: omero.cmd.UpdateSessionTimeoutRequest
) -> omero.cmd.Response:
    """Change how long a session may live or idle; only administrators may make it last forever."""
    session = opened.find(request.session)
    if session is None or not (session.user == ctx.user or "ReadSession" in ctx.privileges):
        raise GraphError("There is no such session.", name="no-session", detailed=False)
    asked = {"time_to_live": unwrap(request.timeToLive), "time_to_idle": unwrap(request.timeToIdle)}
    wanted = {name: value for name, value in asked.items() if value is not None}
    if not wanted:
        raise GraphError("Give a time to live or a time to idle.", name="no-update-performed", detailed=False)
    for name, value in wanted.items():
        if not ctx.is_admin and value <= 0 and value != getattr(session, name):
            raise GraphError(
                "Only administrators may let a session last forever.", name="non-admin-disabling", detailed=False
            )
        longest = MOST_IDLE if name == "time_to_idle" and not ctx.is_admin else value
        setattr(session, name, min(value, longest))
    table = schema()["Session"].table
    connection.execute(
        table.update()
        .where(table.c.id == session.id)
        .values(timeToLive=session.time_to_live, timeToIdle=session.time_to_idle)
    )
    return omero.cmd.OK()
