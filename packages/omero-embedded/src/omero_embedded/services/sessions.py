"""ISession: finding, opening and ending sessions, and the values that clients store in them."""

from __future__ import annotations

from dataclasses import replace

import omero
from omero.rtypes import unwrap

from omero_embedded.errors import given, refuse
from omero_embedded.kernel import Kernel
from omero_embedded.model.access import Context
from omero_embedded.model.enumerations import VALUES
from omero_embedded.model.loading import Loader
from omero_embedded.people.sessions import LoginRefused, Session
from omero_embedded.services.registry import service

CLIENT_AGENTS = ("OMERO.insight", "OMERO.web", "OMERO.importer")


@service("::omero::api::ISession")
class SessionService:
    def __init__(self, kernel: Kernel, session: Session):
        self.kernel, self.session = kernel, session

    def _find(self, uuid: str) -> Session:
        """An open session: who knows its uuid may see and close it, as could be done by joining it."""
        found = self.kernel.sessions.find(uuid)
        if found is None:
            raise refuse(omero.RemovedSessionException, f"No context for {uuid}")
        return found

    def _loaded(self, ctx: Context, sessions: list[Session]) -> list:
        entity = self.kernel.schema["Session"]
        ctx = replace(ctx, privileges=ctx.privileges | {"ReadSession"})  # the caller may see these
        with self.kernel.store.read() as connection:
            loader = Loader(connection, ctx)
            found = list(loader.get(entity, [session.id for session in sessions]).values())
            loader.fetch(found, entity.fields["owner"])
        return found

    def getSession(self, ctx: Context, uuid):
        return self._loaded(ctx, [self._find(uuid)])[0]

    def getReferenceCount(self, ctx: Context, uuid):
        return self._find(uuid).references

    def closeSession(self, ctx: Context, session):
        """Count one reference less; return -2 after the last one, and -1 if there is no such session."""
        uuid = unwrap(given(session).uuid)
        if uuid is None:
            raise refuse(omero.ApiUsageException, "Uuid cannot be null.")
        found = self.kernel.sessions.find(uuid)
        if found is None:
            return -1
        left = self.kernel.sessions.release(found, close=True)
        return left if left else -2

    def getMyOpenSessions(self, ctx: Context):
        return self._loaded(
            ctx,
            [
                session
                for session in self.kernel.sessions.of_user(ctx.user)
                if session.real_owner == self.session.real_owner or "ReadSession" in ctx.privileges
            ],
        )

    def getMyOpenAgentSessions(self, ctx: Context, agent):
        return [one for one in self.getMyOpenSessions(ctx) if one.userAgent and one.userAgent.val == agent]

    def getMyOpenClientSessions(self, ctx: Context):
        """Those of OMERO's own clients with a window."""
        return [one for one in self.getMyOpenSessions(ctx) if unwrap(one.userAgent) in CLIENT_AGENTS]

    # -- opening -------------------------------------------------------------------------------------------------

    def createSession(self, ctx: Context, principal, password):
        """Open a session of a user whose password the caller knows, or use the one with this uuid once more."""
        known = self.kernel.sessions.find(password or "") or self.kernel.sessions.find(given(principal).name)
        if known is not None:
            self.kernel.sessions.attach(known)
            return self._loaded(ctx, [known])[0]
        try:
            user = self.kernel.sessions.verify(principal.name, password or "", self.session.as_guesser)
        except LoginRefused as reason:
            raise omero.AuthenticationException(str(reason)) from None
        return self._open(ctx, user, principal, by_password=True)

    def createUserSession(self, ctx: Context, time_to_live, time_to_idle, group):
        """Open one more session of the caller, with time limits."""
        if not self.session.by_password:
            raise refuse(
                omero.SecurityViolation, "This session was not opened with a password: see setSecurityPassword."
            )
        principal = omero.sys.Principal(self.session.user_name, group or "", "User", None)
        return self._open(ctx, self.session.user, principal, time_to_live=time_to_live, time_to_idle=time_to_idle)

    def createSessionWithTimeout(self, ctx: Context, principal, time_to_live):
        """Open a session as another user, which may be idle for as long as it lives."""
        return self.createSessionWithTimeouts(ctx, principal, time_to_live, 0)

    def createSessionWithTimeouts(self, ctx: Context, principal, time_to_live, time_to_idle):
        """Open a session as another user; only administrators may."""
        given(principal)
        if "Sudo" not in ctx.privileges:
            raise refuse(
                omero.SecurityViolation,
                "Only administrators may open sessions for others, if that is among their privileges.",
            )
        user = self.kernel.accounts.find(principal.name)
        if user is None:
            raise omero.AuthenticationException(f"There is no user {principal.name}.")
        if (principal.eventType or "User") not in VALUES["EventType"].split():
            raise omero.AuthenticationException(f"There is no event type {principal.eventType}.")
        return self._open(
            ctx, user, principal, time_to_live=time_to_live, time_to_idle=time_to_idle, sudoer=self.session
        )

    def _open(self, ctx: Context, user: int, principal, **how):
        """Open a session. Its maker counts as its first user, until somebody closes it or it times out."""
        made = self.kernel.sessions.open(user, principal.group or "", principal.eventType or "User", **how)
        self.kernel.sessions.attach(made)
        return self._loaded(ctx, [made])[0]

    # -- values of a session -------------------------------------------------------------------------------------

    def getInput(self, ctx: Context, uuid, key):
        return self._find(uuid).inputs.get(key)

    def getOutput(self, ctx: Context, uuid, key):
        return self._find(uuid).outputs.get(key)

    def setInput(self, ctx: Context, uuid, key, value):
        _put(self._find(uuid).inputs, key, value)

    def setOutput(self, ctx: Context, uuid, key, value):
        _put(self._find(uuid).outputs, key, value)

    def getInputKeys(self, ctx: Context, uuid):
        return sorted(self._find(uuid).inputs)

    def getOutputKeys(self, ctx: Context, uuid):
        return sorted(self._find(uuid).outputs)

    def getInputs(self, ctx: Context, uuid):
        return dict(self._find(uuid).inputs)

    def getOutputs(self, ctx: Context, uuid):
        return dict(self._find(uuid).outputs)


def _put(values: dict, key: str, value) -> None:
    """Store a value. As in OMERO, null is no value, and none is ever removed."""
    if value is None:
        raise refuse(omero.ApiUsageException, "Can't handle input class java.lang.Object")
    values[key] = value
