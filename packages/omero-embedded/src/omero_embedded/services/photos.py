"""The photos of users, which are original files that everybody may see."""

from __future__ import annotations

from dataclasses import replace

import omero.constants.namespaces
import sqlalchemy as sa
from omero.rtypes import rlong, rstring

from omero_embedded.hql.results import Results
from omero_embedded.kernel import Kernel
from omero_embedded.model.access import USER_GROUP, Context
from omero_embedded.model.events import insert, new_event
from omero_embedded.people.sessions import Session
from omero_embedded.services.rawfiles import RawFileService

NAMESPACE = omero.constants.namespaces.NSEXPERIMENTERPHOTO
HASHER = "SHA1-160"
PHOTOS = (
    "select f from Experimenter e join e.annotationLinks l join l.child a join a.file f "
    "where e.id = :id and a.ns = :ns order by f.id"
)


def photos(kernel: Kernel, ctx: Context) -> list:
    """Find the photos of the caller."""
    with kernel.store.read() as connection:
        given = {"id": rlong(ctx.user), "ns": rstring(NAMESPACE)}
        return Results(connection, ctx, PHOTOS, given).objects()


def upload(kernel: Kernel, session: Session, ctx: Context, name: str, mimetype: str, data: bytes) -> int:
    """Save the photo of the caller in place of an earlier one, and return the id of its original file."""
    ctx = replace(ctx, group=USER_GROUP)
    values = {"name": name, "path": name, "mimetype": mimetype}
    known = photos(kernel, ctx)
    if known:
        oid = known[0].id.val
        files = kernel.schema["OriginalFile"].table
        with kernel.store.write() as connection:
            event = new_event(connection, ctx)
            connection.execute(files.update().where(files.c.id == oid).values(**values, _updateEvent=event))
    else:
        oid = _add(kernel, ctx, values)
    file = RawFileService(kernel, session)
    try:
        file.setFileId(ctx, oid)
        file.truncate(ctx, len(data))
        file.write(ctx, data, 0, len(data))
        file.save(ctx)
    finally:
        file.release(ctx)
    return oid


def _add(kernel: Kernel, ctx: Context, values: dict) -> int:
    """Add an original file that is attached to the caller."""
    hashers = kernel.schema["ChecksumAlgorithm"].table
    with kernel.store.write() as connection:
        event = new_event(connection, ctx)
        hasher = connection.execute(sa.select(hashers.c.id).where(hashers.c.value == HASHER)).scalar_one()
        oid = insert(connection, ctx, kernel.schema["OriginalFile"], {**values, "hasher": hasher}, event)
        attached = {"ns": NAMESPACE, "file": oid}
        annotation = insert(connection, ctx, kernel.schema["FileAnnotation"], attached, event)
        link = {"parent": ctx.user, "child": annotation}
        insert(connection, ctx, kernel.schema["ExperimenterAnnotationLink"], link, event)
    return oid
