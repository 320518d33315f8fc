"""Saving graphs of model objects, as IUpdate does.

Everything that can be reached through loaded references and collections is saved. New objects are written with few
statements, however large the graph is. Stored objects are compared with their rows, and written if they differ.
"""

from __future__ import annotations

import sqlalchemy as sa
from omero.model import IObject

from omero_embedded.model import rows
from omero_embedded.model.access import Context
from omero_embedded.model.saving.answering import complete
from omero_embedded.model.saving.graph import Graph
from omero_embedded.model.saving.writing import write


def save(connection: sa.Connection, ctx: Context, objects: list[IObject]) -> list[IObject]:
    """Save graphs, and return them as IUpdate.saveAndReturn* does: with ids, details and references loaded.

    The objects are changed in place. After an error the caller has to roll the transaction back.

    Raises
    ------
    omero.ServerError
        ValidationException, OptimisticLockException, SecurityViolation, GroupSecurityViolation, ApiUsageException or
        InternalException, in the cases in which OMERO raises them.
    """
    graph = Graph(connection, ctx, objects)
    return complete(graph, write(graph))


def save_ids(connection: sa.Connection, ctx: Context, objects: list[IObject]) -> list[int]:
    """Save graphs, and return only the ids of their roots."""
    graph = Graph(connection, ctx, objects)
    write(graph)
    return [rows.id_of(obj) or 0 for obj in graph.roots]
