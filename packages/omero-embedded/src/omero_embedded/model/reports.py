"""Requests that only look: how much room objects take, and what the files that they came from say."""
from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import omero
import omero.api
import omero.cmd
import sqlalchemy as sa

from omero_embedded.files.store import Store
from omero_embedded.model import rows
from omero_embedded.model.access import Context
from omero_embedded.model.graphs import GraphError, find_below
from omero_embedded.model.schema import Entity, schema

PEOPLE = {"Experimenter": "_owner", "ExperimenterGroup": "_group"}  # what they have, by column


def disk_usage(store: Store, connection: sa.Connection, ctx: Context,
               request: omero.cmd.DiskUsage2) -> omero.cmd.DiskUsage2Response:
    """Bytes and files of pixels, of attachments ("Annotation") and of other original files, by owner and group."""
    wanted = _wanted(connection, ctx, request)
    size: dict = defaultdict(lambda: defaultdict(int))
    count: dict = defaultdict(lambda: defaultdict(int))
    for kind, owner, group, path in _files(store, connection, ctx, wanted):
        if path.exists():
            whose = omero.api.LongPair(owner, group)
            size[whose][kind] += path.stat().st_size
            count[whose][kind] += 1
    by_referer = [{whose: dict(kinds) for whose, kinds in one.items()} for one in (count, size)]
    totals = [{whose: sum(kinds.values()) for whose, kinds in one.items()} for one in by_referer]
    return omero.cmd.DiskUsage2Response(by_referer[0], by_referer[1], totals[0], totals[1])


def _wanted(connection: sa.Connection, ctx: Context, request: omero.cmd.DiskUsage2) -> dict[str, set[int]]:
    """The ids of Pixels and OriginalFiles that belong to what is asked for."""
    asked: dict[str, list[int] | None] = {**dict.fromkeys(request.targetClasses or []), **(request.targetObjects or {})}
    found: dict[str, set[int]] = {"Pixels": set(), "OriginalFile": set()}
    for name, ids in asked.items():
        entity = schema().find(name)
        if entity is None:
            raise GraphError(f"There is no class {name}.", detailed=False)
        if entity.name in PEOPLE:
            for kind in found:
                whose = schema()[kind].table.c[PEOPLE[entity.name]]
                which = [] if ids is None else [rows.among(whose, ids)]
                found[kind] |= _visible(connection, ctx, schema()[kind], which)
            continue
        if entity.is_global:
            raise GraphError(f"A {name} takes no room of its own.", name="bad-target", detailed=False)
        table = entity.table
        own = _visible(connection, ctx, entity, [] if ids is None else [rows.among(table.c.id, ids)])
        if missing := set(ids or ()) - own:
            raise GraphError(f"There is no {name} {min(missing)}.")
        if entity.name in found:
            found[entity.name] |= own
        for kind, below in find_below(connection, [(entity, own)], list(found)).items():
            found[kind] |= set(below)
    return found


def _visible(connection: sa.Connection, ctx: Context, entity: Entity, conditions: list) -> set[int]:
    """Ids of an entity's visible rows for which the conditions hold."""
    columns = entity.table.c
    if entity.parent is not None:
        conditions = [*conditions, columns["class"].in_([one.name for one in entity.family()])]
    return set(connection.execute(sa.select(columns.id).where(*conditions, *rows.visible(ctx, entity))).scalars())


def _files(store: Store, connection: sa.Connection, ctx: Context,
           wanted: dict[str, set[int]]) -> list[tuple[str, int, int, Path]]:
    """(what refers to it, owner, group, path) of each file that is visible."""
    pixels, files = schema()["Pixels"].table, schema()["OriginalFile"].table
    annotations = schema()["Annotation"].table
    attached = set(connection.execute(sa.select(annotations.c.file).where(
        rows.among(annotations.c.file, wanted["OriginalFile"]))).scalars())
    found = []
    for table, name, path_of in ((pixels, "Pixels", store.pixels_path), (files, "OriginalFile", store.file_path)):
        for oid, owner, group in connection.execute(sa.select(table.c.id, table.c._owner, table.c._group).where(
                rows.among(table.c.id, wanted[name]), *rows.visible(ctx, schema()[name]))):
            kind = "Annotation" if name == "OriginalFile" and oid in attached else name
            found.append((kind, owner, group, path_of(oid)))
    return found


def original_metadata(connection: sa.Connection, ctx: Context,
                      request: omero.cmd.OriginalMetadataRequest) -> omero.cmd.OriginalMetadataResponse:
    """None: no files are read here, images come as pixels."""
    image = schema()["Image"]
    if not _visible(connection, ctx, image, [image.table.c.id == request.imageId]):
        raise GraphError(f"There is no Image {request.imageId}.", detailed=False)
    return omero.cmd.OriginalMetadataResponse(None, None, {}, {})
