"""What a session's `submit` takes: requests that run in the background, behind a handle."""
from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import Ice
import omero
import omero.api
import omero.cmd
import sqlalchemy as sa

from omero_embedded.ice.dispatch import over_connection
from omero_embedded.model import copying, deleting, finding, giving, moving, reports, saving
from omero_embedded.model.access import ALL_GROUPS, Context
from omero_embedded.model.graphs import ChildOptions, GraphError, find_below
from omero_embedded.model.schema import schema
from omero_embedded.model.targets import LEGAL, java_names
from omero_embedded.people.members import Members
from omero_embedded.services import current

if TYPE_CHECKING:
    from omero_embedded.ice.server import Server
    from omero_embedded.people.sessions import Session

log = logging.getLogger(__name__)


class Failed(Exception):
    """A request failed with this answer; nothing of it is kept."""

    def __init__(self, answer: omero.cmd.ERR):
        super().__init__(answer.name)
        self.answer = answer


class Handle(omero.cmd.Handle):
    """A request that runs: its answer, once there is one, and those who want to be told."""

    def __init__(self, request: omero.cmd.Request):
        self._request = request
        self._callbacks: dict[Ice.Identity, omero.cmd.CmdCallbackPrx] = {}
        self._lock = threading.Lock()
        self._response: omero.cmd.Response | None = None
        self._status = omero.cmd.Status(
            category=request.ice_id(), name="", flags=[], parameters={}, currentStep=0, steps=1,
            startTime=int(time.time() * 1000), stepStartTimes=[], stepStopTimes=[], stopTime=0)
        self.forget: Callable[[], None] = lambda: None  # set by the session factory: takes the servant away

    def start(self, work: Callable[[], omero.cmd.Response]) -> None:
        threading.Thread(target=self._run, args=(work,), name="request", daemon=True).start()

    def _run(self, work: Callable[[], omero.cmd.Response]) -> None:
        try:
            response = work()
        except Failed as failed:
            response = failed.answer
            self._status.flags = [omero.cmd.State.CANCELLED, omero.cmd.State.FAILURE]
        self._status.currentStep, self._status.stopTime = 1, int(time.time() * 1000)
        with self._lock:
            self._response = response
            waiting = list(self._callbacks.values())
        for callback in waiting:
            callback.begin_finished(response, self._status, _response=lambda: None, _ex=_not_reached)

    def addCallback(self, callback, current=None):
        with self._lock:
            self._callbacks[callback.ice_getIdentity()] = omero.cmd.CmdCallbackPrx.uncheckedCast(
                over_connection(callback, current))

    def removeCallback(self, callback, current=None):
        with self._lock:
            self._callbacks.pop(callback.ice_getIdentity(), None)

    def getRequest(self, current=None):
        return self._request

    def getResponse(self, current=None):
        return self._response

    def getStatus(self, current=None):
        return self._status

    def cancel(self, current=None):
        return False  # what runs, runs to its end

    def close(self, current=None):
        self.forget()


def _not_reached(broken: Exception) -> None:
    log.debug("A client could not be told that its request is done: %s", broken)


def submit(server: Server, session: Session, ctx: Context, request: omero.cmd.Request) -> Handle:
    """Start a request; all of it happens in one transaction."""
    handle = Handle(request)
    handle.start(lambda: _answer(server, session, ctx, request))
    return handle


def _answer(server: Server, session: Session, ctx: Context, request: omero.cmd.Request) -> omero.cmd.Response:
    try:
        with server.store.write() as connection:
            return _Run(server, session, connection)(ctx, request)
    except Failed:
        raise
    except Exception as broken:
        log.exception("A request failed")
        raise Failed(_error(request, "internal", f"{type(broken).__name__}: {broken}")) from broken


def _error(request: omero.cmd.Request, name: str, message: str, detailed: bool = False) -> omero.cmd.ERR:
    about = {"message": message, "stacktrace": ""}
    if detailed:
        return omero.cmd.GraphException(category=request.ice_id(), name=name, parameters=about, message=message)
    return omero.cmd.ERR(category=request.ice_id(), name=name, parameters=about)


class _Run:
    """The requests of one transaction."""

    def __init__(self, server: Server, session: Session, connection: sa.Connection):
        self.server, self.session, self.connection = server, session, connection

    def __call__(self, ctx: Context, request: omero.cmd.Request) -> omero.cmd.Response:
        work = _WORK.get(request.ice_id())
        if work is None:
            name = request.ice_id()[2:].replace("::", ".")
            raise Failed(_error(request, "unsupported", f"{name} is unsupported here."))
        if isinstance(request, omero.cmd.GraphQuery | omero.cmd.UsedFilesRequest | omero.cmd.FindPyramids):
            # these look for their targets in all groups, as in OMERO
            ctx = replace(ctx, group=ALL_GROUPS)
        try:
            return work(self, ctx, request)
        except GraphError as error:
            raise Failed(_error(request, error.name, str(error), error.detailed)) from None
        except omero.ServerError as error:
            raise Failed(_error(request, type(error).__name__, error.message)) from None

    def delete(self, ctx: Context, request: omero.cmd.Delete2) -> omero.cmd.Response:
        if request.typesToIgnore:
            raise GraphError("typesToIgnore is unsupported here.", detailed=False)
        return omero.cmd.Delete2Response(deleting.delete(
            self.connection, ctx, request.targetObjects or {}, _options(request), request.dryRun))

    def move(self, ctx: Context, request: omero.cmd.Chgrp2) -> omero.cmd.Response:
        moved, deleted = moving.move(self.connection, ctx, request.targetObjects or {}, request.groupId,
                                     _options(request), request.dryRun)
        return omero.cmd.Chgrp2Response(moved, deleted)

    def give(self, ctx: Context, request: omero.cmd.Chown2) -> omero.cmd.Response:
        given, deleted = giving.give(self.connection, ctx, request.targetObjects or {}, request.targetUsers or [],
                                     request.userId, _options(request), request.dryRun)
        return omero.cmd.Chown2Response(given, deleted)

    def duplicate(self, ctx: Context, request: omero.cmd.Duplicate) -> omero.cmd.Response:
        choice = copying.Choice(request.typesToDuplicate or (), request.typesToReference or (),
                                request.typesToIgnore or ())
        return omero.cmd.DuplicateResponse(copying.duplicate(
            self.server.store, self.connection, ctx, request.targetObjects or {}, choice, request.dryRun))

    def find_parents(self, ctx: Context, request: omero.cmd.FindParents) -> omero.cmd.Response:
        return omero.cmd.FoundParents(self._found(ctx, request, request.typesOfParents, up=True))

    def find_children(self, ctx: Context, request: omero.cmd.FindChildren) -> omero.cmd.Response:
        return omero.cmd.FoundChildren(self._found(ctx, request, request.typesOfChildren, up=False))

    def _found(self, ctx: Context, request: omero.cmd.GraphQuery, wanted, up: bool) -> dict[str, list[int]]:
        targets = deleting.find_targets(self.connection, ctx, request.targetObjects or {}, lambda *_: True,
                                        type(request).__name__)
        return deleting.by_java_name(self.connection, finding.find(
            self.connection, ctx, targets, list(wanted or ()), list(request.stopBefore or ()), up))

    def legal_targets(self, ctx: Context, request: omero.cmd.LegalGraphTargets) -> omero.cmd.Response:
        name = type(request.request).__name__
        if name not in LEGAL:
            raise GraphError(f"A {name} has no targets.", name="graph-no-targets", detailed=False)
        return omero.cmd.LegalGraphTargetsResponse(java_names(name))

    def change_permissions(self, ctx: Context, request: omero.cmd.Chmod2) -> omero.cmd.Response:
        entity = schema()["ExperimenterGroup"]
        changed: list[int] = []
        for name, ids in (request.targetObjects or {}).items():
            if schema().find(name) is not entity:
                raise GraphError(f"A {name} has no permissions of its own.", name="bad-target", detailed=False)
            changed += ids
        for group in changed:
            if not ("ModifyGroup" in ctx.privileges or group in ctx.leader_of):
                raise GraphError(f"{ctx.user_name} may not change the permissions of group {group}.")
            if not request.dryRun:
                Members(self.connection, ctx).set_permissions(group, request.permissions)
        return omero.cmd.Chmod2Response({entity.java: changed} if changed else {}, {})

    def skip_head(self, ctx: Context, request: omero.cmd.SkipHead) -> omero.cmd.Response:
        inner = request.request
        targets = deleting.find_targets(self.connection, ctx, request.targetObjects or {}, ctx.may_edit,
                                        type(inner).__name__)
        inner.targetObjects = find_below(self.connection, targets, request.startFrom or [])
        inner.childOptions = inner.childOptions or request.childOptions
        inner.dryRun = inner.dryRun or request.dryRun
        return self(ctx, inner)

    def do_all(self, ctx: Context, request: omero.cmd.DoAll) -> omero.cmd.Response:
        contexts = request.contexts or []
        responses = []
        for number, one in enumerate(request.requests):
            asked = contexts[number] if number < len(contexts) else None
            responses.append(self(self.server.sessions.context(self.session, asked) if asked else ctx, one))
        return omero.cmd.DoAllRsp(responses, [])

    def save(self, ctx: Context, request: omero.api.Save) -> omero.cmd.Response:
        return omero.api.SaveRsp(saving.save(self.connection, ctx, [request.obj])[0])

    def disk_usage(self, ctx: Context, request: omero.cmd.DiskUsage2) -> omero.cmd.Response:
        return reports.disk_usage(self.server.store, self.connection, ctx, request)

    def disk_usage_of_old(self, ctx: Context, request: omero.cmd.DiskUsage) -> omero.cmd.Response:
        """The request that DiskUsage2 took the place of."""
        found = reports.disk_usage(self.server.store, self.connection, ctx, omero.cmd.DiskUsage2(
            request.objects or {}, request.classes or []))
        return omero.cmd.DiskUsageResponse(found.fileCountByReferer, found.bytesUsedByReferer, found.totalFileCount,
                                           found.totalBytesUsed)

    def used_files(self, ctx: Context, request: omero.cmd.UsedFilesRequest) -> omero.cmd.Response:
        return reports.used_files(self.connection, ctx, request)

    def find_pyramids(self, ctx: Context, request: omero.cmd.FindPyramids) -> omero.cmd.Response:
        return reports.find_pyramids(self.server.store, self.connection, ctx, request)

    def current_sessions(self, ctx: Context, request: omero.cmd.CurrentSessionsRequest) -> omero.cmd.Response:
        return current.sessions(self.server, self.connection, ctx)

    def change_timeouts(self, ctx: Context, request: omero.cmd.UpdateSessionTimeoutRequest) -> omero.cmd.Response:
        return current.change_timeouts(self.server.sessions, self.connection, ctx, request)

    def original_metadata(self, ctx: Context, request: omero.cmd.OriginalMetadataRequest) -> omero.cmd.Response:
        return reports.original_metadata(self.connection, ctx, request)


_WORK: dict[str, Callable] = {
    "::omero::cmd::Delete2": _Run.delete, "::omero::cmd::Chgrp2": _Run.move,
    "::omero::cmd::Chmod2": _Run.change_permissions, "::omero::cmd::SkipHead": _Run.skip_head,
    "::omero::cmd::DoAll": _Run.do_all, "::omero::api::Save": _Run.save,
    "::omero::cmd::DiskUsage2": _Run.disk_usage, "::omero::cmd::OriginalMetadataRequest": _Run.original_metadata,
    "::omero::cmd::Chown2": _Run.give, "::omero::cmd::Duplicate": _Run.duplicate,
    "::omero::cmd::FindParents": _Run.find_parents, "::omero::cmd::FindChildren": _Run.find_children,
    "::omero::cmd::LegalGraphTargets": _Run.legal_targets, "::omero::cmd::DiskUsage": _Run.disk_usage_of_old,
    "::omero::cmd::UsedFilesRequest": _Run.used_files, "::omero::cmd::FindPyramids": _Run.find_pyramids,
    "::omero::cmd::CurrentSessionsRequest": _Run.current_sessions,
    "::omero::cmd::UpdateSessionTimeoutRequest": _Run.change_timeouts,
}


def _options(request: omero.cmd.GraphModify2) -> ChildOptions:
    return ChildOptions(list(request.childOptions or []))
