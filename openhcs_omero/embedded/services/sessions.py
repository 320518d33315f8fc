"""ISession: looking at sessions, opening them for others, ending them."""
from __future__ import annotations

from typing import TYPE_CHECKING

import omero

from openhcs_omero.embedded.access import Context
from openhcs_omero.embedded.errors import refuse
from openhcs_omero.embedded.loading import Loader

if TYPE_CHECKING:
    from openhcs_omero.embedded.server import Server
    from openhcs_omero.embedded.sessions import Session


class SessionService:
    interface = "::omero::api::ISession"

    def __init__(self, server: Server, session: Session):
        self.server, self.session = server, session

    def _find(self, uuid: str) -> Session:
        """An open session that the caller may see: the own ones, or all for an administrator."""
        found = self.server.sessions.find(uuid)
        caller = self.server.accounts.get(self.session.user)
        if found is None or not (caller.is_admin or found.user == self.session.user):
            raise refuse(omero.RemovedSessionException, "There is no such session.")
        return found

    def _loaded(self, ctx: Context, session: Session):
        with self.server.store.read() as connection:
            return Loader(connection, ctx).get(self.server.schema["Session"], [session.id])[session.id]

    def getSession(self, ctx: Context, uuid):
        return self._loaded(ctx, self._find(uuid))

    def getReferenceCount(self, ctx: Context, uuid):
        return self._find(uuid).references

    def closeSession(self, ctx: Context, session):
        """One reference less; -2 when that was the last."""
        found = self._find(session.uuid.val)
        left = self.server.sessions.release(found, close=True)
        return left if left else -2
