"""The graph as the client gets it back: with ids, details, and what it refers to loaded."""

from __future__ import annotations

from omero.model import DetailsI, IObject, PermissionsI

from omero_embedded.model import rows
from omero_embedded.model.loading import Loader
from omero_embedded.model.saving.graph import Graph
from omero_embedded.model.saving.writing import Written


def complete(graph: Graph, written: Written) -> list[IObject]:
    """Load every reference and the details of every object of a saved graph, and return its roots."""
    loader = Loader(graph.connection, graph.ctx)
    _load_references(graph, loader)
    details = [
        (_row(graph, written, name, obj), obj)
        for name, objects in graph.loaded()
        if not graph.schema[name].is_global
        for obj in objects
    ]

    def load(kind: str, *columns: str) -> dict[int, IObject]:
        return loader.get(graph.schema[kind], {row[column] for row, _ in details for column in columns} - {None})

    people, groups = load("Experimenter", "_owner"), load("ExperimenterGroup", "_group")
    events = load("Event", "_creationEvent", "_updateEvent")
    permissions: dict[tuple, PermissionsI] = {}
    for row, obj in details:
        owner, group = row["_owner"], row["_group"]
        if (owner, group) not in permissions:
            permissions[owner, group] = graph.ctx.permissions(owner, group)
        made = DetailsI()
        made._owner, made._group = people.get(owner), groups.get(group)
        made._creationEvent, made._updateEvent = events.get(row["_creationEvent"]), events.get(row["_updateEvent"])
        made._permissions = permissions[owner, group]
        made._externalInfo = obj._details._externalInfo if obj._details else None
        obj._details = made
    return graph.roots


def _row(graph: Graph, written: Written, name: str, obj: IObject) -> dict:
    key = graph.schema[name].table.name, rows.id_of(obj) or 0
    return written.get(key) or graph.known[key]


def _load_references(graph: Graph, loader: Loader) -> None:
    """Replace references with loaded objects, with those of the graph itself where it has them."""
    own = {(graph.schema[name].table.name, rows.id_of(obj)): obj for name, objects in graph.loaded() for obj in objects}
    wanted: dict[str, set[int]] = {}
    for holder, key in graph.references:
        wanted.setdefault(graph.schema.of(holder[key]).root.name, set()).add(rows.id_of(holder[key]) or 0)
    for name, ids in wanted.items():
        table = graph.schema[name].table.name
        found = loader.get(graph.schema[name], {oid for oid in ids if (table, oid) not in own})
        own |= {(table, oid): obj for oid, obj in found.items()}
    for holder, key in graph.references:
        obj = holder[key]
        holder[key] = own.get((graph.schema.of(obj).table.name, rows.id_of(obj)), obj)
