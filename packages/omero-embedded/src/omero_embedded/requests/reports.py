"""Requests that only read: disk usage, used files, pyramids, and original metadata."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import omero
import omero.api
import omero.cmd
import sqlalchemy as sa
from omero.rtypes import unwrap

from omero_embedded.files.pyramids import MAX_PLANE
from omero_embedded.files.store import Store
from omero_embedded.model import rows
from omero_embedded.model.access import Context
from omero_embedded.model.graphs import GraphError, find_below
from omero_embedded.model.schema import Entity, schema

# The references to original files, and what each link stands for.
REFERERS = (
    ("FileAnnotation", "file"),
    ("FilesetEntry", "originalFile"),
    ("JobOriginalFileLink", "child"),
    ("PixelsOriginalFileMap", "parent"),
    ("Roi", "source"),
)
ATTRIBUTED = {"JobOriginalFileLink": "Job", "PixelsOriginalFileMap": "Pixels"}
COMPANION, ORIGINAL_METADATA = "openmicroscopy.org/omero/import/companionFile", "original_metadata.txt"
PEOPLE = {"Experimenter": "_owner", "ExperimenterGroup": "_group"}  # the column that names the owner of data


def disk_usage(
    store: Store, connection: sa.Connection, ctx: Context, request: omero.cmd.DiskUsage2
) -> omero.cmd.DiskUsage2Response:
    """Count bytes and files by owner and group, and by Pixels, FileAnnotation or OriginalFile as their holder."""
    wanted = _wanted(connection, ctx, request)
    size: dict = defaultdict(lambda: defaultdict(int))
    count: dict = defaultdict(lambda: defaultdict(int))
    totals: list[dict] = [defaultdict(int), defaultdict(int)]
    for kinds, owner, group, path in _files(store, connection, ctx, wanted):
        if not path.exists() or not (length := path.stat().st_size):
            continue
        whose = omero.api.LongPair(owner, group)
        totals[0][whose] += 1
        totals[1][whose] += length
        for kind in kinds:
            count[whose][kind] += 1
            size[whose][kind] += length
    by_referer = [{whose: dict(kinds) for whose, kinds in one.items()} for one in (count, size)]
    return omero.cmd.DiskUsage2Response(by_referer[0], by_referer[1], dict(totals[0]), dict(totals[1]))


def _wanted(connection: sa.Connection, ctx: Context, request: omero.cmd.DiskUsage2) -> dict[str, set[int]]:
    """Find the ids of Pixels and OriginalFiles that belong to the requested objects."""
    asked: dict[str, list[int] | None] = {**dict.fromkeys(request.targetClasses or []), **(request.targetObjects or {})}
    found: dict[str, set[int]] = {"Pixels": set(), "OriginalFile": set()}
    for name, ids in asked.items():
        entity = schema().find(name)
        if entity is None:
            raise GraphError(f"unknown model object class named: {name}", detailed=False)
        if entity.name in PEOPLE:
            for kind in found:
                whose = schema()[kind].table.c[PEOPLE[entity.name]]
                which = [] if ids is None else [rows.among(whose, ids)]
                found[kind] |= _visible(connection, ctx, schema()[kind], which)
            continue
        if entity.is_global:
            raise GraphError(f"cannot target {name}", name="bad-target", detailed=False)
        table = entity.table
        own = _visible(connection, ctx, entity, [] if ids is None else [rows.among(table.c.id, ids)])
        if set(ids or ()) - own:
            raise GraphError(f"cannot read all the specified objects of class {entity.java}")
        if entity.name in found:
            found[entity.name] |= own
        for kind, below in find_below(connection, [(entity, own)], list(found)).items():
            found[kind] |= set(below)
    return found


def _visible(connection: sa.Connection, ctx: Context, entity: Entity, conditions: list) -> set[int]:
    """Find the ids of visible rows of an entity that meet the conditions."""
    columns = entity.table.c
    if entity.parent is not None:
        conditions = [*conditions, columns["class"].in_([one.name for one in entity.family()])]
    return set(connection.execute(sa.select(columns.id).where(*conditions, *rows.visible(ctx, entity))).scalars())


def _files(
    store: Store, connection: sa.Connection, ctx: Context, wanted: dict[str, set[int]]
) -> Iterator[tuple[list[str], int, int, Path]]:
    """Find (classes that refer to it, owner, group, path) for each visible file."""
    referers = _referers(connection, wanted["OriginalFile"])
    for name, path_of in (("Pixels", store.pixels_path), ("OriginalFile", store.file_path)):
        table = schema()[name].table
        for oid, owner, group in connection.execute(
            sa.select(table.c.id, table.c._owner, table.c._group).where(
                rows.among(table.c.id, wanted[name]), *rows.visible(ctx, schema()[name])
            )
        ):
            kinds = referers.get(oid, ["OriginalFile"]) if name == "OriginalFile" else [name]
            pyramid = store.pyramid_path(oid)
            yield kinds, owner, group, pyramid if name == "Pixels" and pyramid.exists() else path_of(oid)


def _referers(connection: sa.Connection, files: set[int]) -> dict[int, list[str]]:
    """Find the classes that refer to original files, by the file's id."""
    found: dict[int, list[str]] = defaultdict(list)
    for name, field in REFERERS:
        column = schema()[name].table.c[field]
        for oid in set(connection.execute(sa.select(column).where(rows.among(column, files))).scalars()):
            found[oid].append(ATTRIBUTED.get(name, name))
    return found


def used_files(connection: sa.Connection, ctx: Context, request: omero.cmd.UsedFilesRequest) -> omero.cmd.Response:
    """Find the files of an image without a fileset: attachments, and those that its pixels were made from."""
    image = schema()["Image"].table
    if not _visible(connection, ctx, schema()["Image"], [image.c.id == request.imageId]):
        raise GraphError(f"There is no Image {request.imageId}.", name="bad-image", detailed=False)
    if connection.execute(sa.select(image.c.fileset).where(image.c.id == request.imageId)).scalar() is not None:
        raise GraphError("This server has no filesets with files.", name="used-files-fail", detailed=False)
    pixels, maps = schema()["Pixels"].table, schema()["PixelsOriginalFileMap"].table
    if connection.execute(sa.select(pixels.c.id).where(pixels.c.image == request.imageId)).first() is None:
        raise GraphError(f"Image {request.imageId} has no pixels.", name="bad-image", detailed=False)
    links, annotations, files = (schema()[name].table for name in ("ImageAnnotationLink", "Annotation", "OriginalFile"))
    archived = (
        connection.execute(
            sa.select(maps.c.parent).join(pixels, pixels.c.id == maps.c.child).where(pixels.c.image == request.imageId)
        )
        .scalars()
        .all()
    )
    attached = (
        connection.execute(
            sa.select(files.c.id, files.c.name)
            .join(annotations, annotations.c.file == files.c.id)
            .join(links, links.c.child == annotations.c.id)
            .where(links.c.parent == request.imageId, annotations.c.ns == COMPANION)
        )
        .tuples()
        .all()
    )
    metadata = [oid for oid, name in attached if name == ORIGINAL_METADATA]
    companions = [oid for oid, name in attached if name != ORIGINAL_METADATA]
    return omero.cmd.UsedFilesResponsePreFs(list(archived), companions, metadata)


def find_pyramids(
    store: Store, connection: sa.Connection, ctx: Context, request: omero.cmd.FindPyramids
) -> omero.cmd.FindPyramidsResponse:
    """Find images whose pixels are pyramids, `limit` of them at most."""
    pixels, events = schema()["Pixels"].table, schema()["Event"].table
    image = schema()["Image"].table
    after = unwrap(request.importedAfter)
    found = connection.execute(
        sa.select(pixels.c.id, image.c.id)
        .join(image, image.c.id == pixels.c.image)
        .join(events, events.c.id == image.c._creationEvent)
        .where(
            pixels.c.sizeX * pixels.c.sizeY > MAX_PLANE * MAX_PLANE,
            events.c.time > (-1 if after is None else after),
            *rows.visible(ctx, schema()["Pixels"]),
        )
        .order_by(pixels.c.id)
    ).tuples()
    little = unwrap(request.littleEndian)  # all of them are big-endian
    images = [oid for pixel_id, oid in found if not little and store.pixels_path(pixel_id).exists()]
    return omero.cmd.FindPyramidsResponse(images[: max(0, request.limit)])


def original_metadata(
    connection: sa.Connection, ctx: Context, request: omero.cmd.OriginalMetadataRequest
) -> omero.cmd.OriginalMetadataResponse:
    """None, also of an image that isn't there: no files are read here, images come as pixels."""
    image = schema()["Image"]
    if _visible(connection, ctx, image, [image.table.c.id == request.imageId, image.table.c.fileset.is_not(None)]):
        raise GraphError("The files of filesets are not read here.", name="bf-reader-failure", detailed=False)
    return omero.cmd.OriginalMetadataResponse(None, None, {}, {})
