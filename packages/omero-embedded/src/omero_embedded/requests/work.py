"""The work of each request, in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import omero
import omero.api
import omero.cmd
import sqlalchemy as sa

from omero_embedded.errors import unsupported
from omero_embedded.kernel import Kernel
from omero_embedded.model import deleting, finding, giving, moving, saving
from omero_embedded.model.access import ALL_GROUPS, PERMISSIONS, Context
from omero_embedded.model.graphs import ChildOptions, GraphError, find_below
from omero_embedded.model.schema import schema
from omero_embedded.model.targets import LEGAL, java_names
from omero_embedded.people.members import Members
from omero_embedded.people.sessions import Session
from omero_embedded.requests import copying, reports
from omero_embedded.requests import sessions as current

log = logging.getLogger(__name__)


class Failed(Exception):
    """A request failed with this answer, and nothing of it was stored."""

    def __init__(self, answer: omero.cmd.ERR):
        super().__init__(answer.name)
        self.answer = answer


def answer(kernel: Kernel, session: Session, ctx: Context, request: omero.cmd.Request) -> omero.cmd.Response:
    """Do what a request asks for, all of it or nothing.

    Raises
    ------
    Failed
        With the answer that the client gets instead.
    """
    try:
        with kernel.store.write() as connection:
            return _Run(kernel, session, connection)(ctx, request)
    except Failed:
        raise
    except sa.exc.IntegrityError as broken:
        raise Failed(_error(request, "graph-fail", f"could not execute statement: {broken.orig}")) from None
    except Exception as broken:
        log.exception("A request failed")
        raise Failed(_error(request, "internal", f"{type(broken).__name__}: {broken}")) from broken


def _error(request: omero.cmd.Request, name: str, message: str, detailed: bool = False) -> omero.cmd.ERR:
    about = {"message": message, "stacktrace": ""}
    if detailed:
        return omero.cmd.GraphException(category=request.ice_id(), name=name, parameters=about, message=message)
    return omero.cmd.ERR(category=request.ice_id(), name=name, parameters=about)


WORK: dict[str, Callable] = {}  # by the request's Slice class


def answers(request: type[omero.cmd.Request]) -> Callable[[Callable], Callable]:
    """Register the decorated method as what a request does."""

    def register(method: Callable) -> Callable:
        WORK[request.ice_staticId()] = method
        return method

    return register


class _Run:
    """The requests of one transaction."""

    def __init__(self, kernel: Kernel, session: Session, connection: sa.Connection):
        self.kernel, self.session, self.connection = kernel, session, connection

    def __call__(self, ctx: Context, request: omero.cmd.Request) -> omero.cmd.Response:
        work = WORK.get(request.ice_id())
        if work is None:
            refused = unsupported(request.ice_id()[2:].replace("::", "."))
            raise Failed(_error(request, type(refused).__name__, refused.message))
        everywhere = omero.cmd.GraphQuery | omero.cmd.UsedFilesRequest | omero.cmd.FindPyramids
        if isinstance(request, everywhere) and not isinstance(request, omero.cmd.Duplicate):
            # as in OMERO, these look for their targets in all groups
            ctx = replace(ctx, group=ALL_GROUPS)
        try:
            return work(self, ctx, request)
        except GraphError as error:
            raise Failed(_error(request, error.name, str(error), error.detailed)) from None
        except omero.ServerError as error:
            raise Failed(_error(request, type(error).__name__, error.message)) from None

    @answers(omero.cmd.Delete2)
    def delete(self, ctx: Context, request: omero.cmd.Delete2) -> omero.cmd.Response:
        targets, ignored = request.targetObjects or {}, request.typesToIgnore or ()
        return omero.cmd.Delete2Response(
            deleting.delete(self.connection, ctx, targets, _options(request), ignored, request.dryRun)
        )

    @answers(omero.cmd.Chgrp2)
    def move(self, ctx: Context, request: omero.cmd.Chgrp2) -> omero.cmd.Response:
        moved, deleted = moving.move(
            self.connection, ctx, request.targetObjects or {}, request.groupId, _options(request), request.dryRun
        )
        return omero.cmd.Chgrp2Response(moved, deleted)

    @answers(omero.cmd.Chown2)
    def give(self, ctx: Context, request: omero.cmd.Chown2) -> omero.cmd.Response:
        given, deleted = giving.give(
            self.connection,
            ctx,
            request.targetObjects or {},
            request.targetUsers or [],
            request.userId,
            _options(request),
            request.dryRun,
        )
        return omero.cmd.Chown2Response(given, deleted)

    @answers(omero.cmd.Duplicate)
    def duplicate(self, ctx: Context, request: omero.cmd.Duplicate) -> omero.cmd.Response:
        _options(request)  # only checked: they concern nothing that is copied
        choice = copying.Choice(
            request.typesToDuplicate or (), request.typesToReference or (), request.typesToIgnore or ()
        )
        return omero.cmd.DuplicateResponse(
            copying.duplicate(
                self.kernel.store, self.connection, ctx, request.targetObjects or {}, choice, request.dryRun
            )
        )

    @answers(omero.cmd.FindParents)
    def find_parents(self, ctx: Context, request: omero.cmd.FindParents) -> omero.cmd.Response:
        return omero.cmd.FoundParents(self._found(ctx, request, request.typesOfParents, up=True))

    @answers(omero.cmd.FindChildren)
    def find_children(self, ctx: Context, request: omero.cmd.FindChildren) -> omero.cmd.Response:
        return omero.cmd.FoundChildren(self._found(ctx, request, request.typesOfChildren, up=False))

    def _found(self, ctx: Context, request: omero.cmd.GraphQuery, wanted, up: bool) -> dict[str, list[int]]:
        targets = deleting.find_targets(
            self.connection, ctx, request.targetObjects or {}, lambda *_: True, type(request).__name__
        )
        return deleting.by_java_name(
            self.connection,
            finding.find(self.connection, ctx, targets, list(wanted or ()), list(request.stopBefore or ()), up),
        )

    @answers(omero.cmd.LegalGraphTargets)
    def legal_targets(self, ctx: Context, request: omero.cmd.LegalGraphTargets) -> omero.cmd.Response:
        name = type(request.request).__name__
        if name not in LEGAL:
            raise GraphError(f"A {name} has no targets.", name="graph-no-targets", detailed=False)
        return omero.cmd.LegalGraphTargetsResponse(java_names(name))

    @answers(omero.cmd.Chmod2)
    def change_permissions(self, ctx: Context, request: omero.cmd.Chmod2) -> omero.cmd.Response:
        if request.permissions not in PERMISSIONS:
            message = f"{request.permissions} are no permissions of a group"
            raise GraphError(message, name="bad-permissions", detailed=False)
        entity = schema()["ExperimenterGroup"]
        changed: list[int] = []
        for name, ids in (request.targetObjects or {}).items():
            if schema().find(name) is not entity:
                raise GraphError(f"cannot target {name}", name="bad-target", detailed=False)
            changed += ids
        for group in changed:
            if ctx.is_admin and group not in ctx.kinds:
                raise GraphError(f"no group {group}", name="bad-group", detailed=False)
            if not ("ModifyGroup" in ctx.privileges or group in ctx.leader_of):
                raise GraphError(f"user is not an owner of group {group}")
            if not request.dryRun:
                Members(self.connection, ctx).set_permissions(group, request.permissions)
        return omero.cmd.Chmod2Response({entity.java: changed} if changed else {}, {})

    @answers(omero.cmd.SkipHead)
    def skip_head(self, ctx: Context, request: omero.cmd.SkipHead) -> omero.cmd.Response:
        inner = request.request
        if inner is None:
            raise GraphError("must pass a request argument", name="steps-cancel", detailed=False)
        if not request.startFrom:
            raise GraphError("SkipHead requires the start classes to be named", detailed=False)
        targets = deleting.find_targets(
            self.connection, ctx, request.targetObjects or {}, ctx.may_edit, type(inner).__name__
        )
        inner.targetObjects = find_below(self.connection, targets, request.startFrom or [])
        inner.childOptions = inner.childOptions or request.childOptions
        inner.dryRun = inner.dryRun or request.dryRun
        return self(ctx, inner)

    @answers(omero.cmd.DoAll)
    def do_all(self, ctx: Context, request: omero.cmd.DoAll) -> omero.cmd.Response:
        contexts = request.contexts or []
        responses = []
        for number, one in enumerate(request.requests):
            asked = contexts[number] if number < len(contexts) else None
            responses.append(self(self.kernel.sessions.context(self.session, asked) if asked else ctx, one))
        return omero.cmd.DoAllRsp(responses, [])

    @answers(omero.api.Save)
    def save(self, ctx: Context, request: omero.api.Save) -> omero.cmd.Response:
        return omero.api.SaveRsp(saving.save(self.connection, ctx, [request.obj])[0])

    @answers(omero.cmd.DiskUsage2)
    def disk_usage(self, ctx: Context, request: omero.cmd.DiskUsage2) -> omero.cmd.Response:
        return reports.disk_usage(self.kernel.store, self.connection, ctx, request)

    @answers(omero.cmd.DiskUsage)
    def disk_usage_of_old(self, ctx: Context, request: omero.cmd.DiskUsage) -> omero.cmd.Response:
        """Answer the request that DiskUsage2 has replaced."""
        found = reports.disk_usage(
            self.kernel.store, self.connection, ctx, omero.cmd.DiskUsage2(request.objects or {}, request.classes or [])
        )
        return omero.cmd.DiskUsageResponse(
            found.fileCountByReferer, found.bytesUsedByReferer, found.totalFileCount, found.totalBytesUsed
        )

    @answers(omero.cmd.UsedFilesRequest)
    def used_files(self, ctx: Context, request: omero.cmd.UsedFilesRequest) -> omero.cmd.Response:
        return reports.used_files(self.connection, ctx, request)

    @answers(omero.cmd.FindPyramids)
    def find_pyramids(self, ctx: Context, request: omero.cmd.FindPyramids) -> omero.cmd.Response:
        return reports.find_pyramids(self.kernel.store, self.connection, ctx, request)

    @answers(omero.cmd.CurrentSessionsRequest)
    def current_sessions(self, ctx: Context, request: omero.cmd.CurrentSessionsRequest) -> omero.cmd.Response:
        return current.sessions(self.kernel, self.connection, ctx)

    @answers(omero.cmd.UpdateSessionTimeoutRequest)
    def change_timeouts(self, ctx: Context, request: omero.cmd.UpdateSessionTimeoutRequest) -> omero.cmd.Response:
        return current.change_timeouts(self.kernel.sessions, self.connection, ctx, request)

    @answers(omero.cmd.OriginalMetadataRequest)
    def original_metadata(self, ctx: Context, request: omero.cmd.OriginalMetadataRequest) -> omero.cmd.Response:
        return reports.original_metadata(self.connection, ctx, request)


def _options(request: omero.cmd.GraphModify2) -> ChildOptions:
    return ChildOptions(list(request.childOptions or []))
