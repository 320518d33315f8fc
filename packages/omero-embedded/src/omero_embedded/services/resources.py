"""SharedResources: opens tables."""
from __future__ import annotations

import uuid as uuids
from typing import TYPE_CHECKING

import omero
import omero.grid
import sqlalchemy as sa
from omero.rtypes import rstring

from omero_embedded.ice.dispatch import make_servant
from omero_embedded.model import rows
from omero_embedded.model.access import Context
from omero_embedded.model.saving import insert, new_event
from omero_embedded.model.saving_rules import check_place
from omero_embedded.people.bootstrap import CONFIG, DATABASE_UUID
from omero_embedded.services.tables import TableService

if TYPE_CHECKING:
    from omero_embedded.ice.factory import Client

MIMETYPE = "OMERO.tables"
REPOSITORY = 0  # no original file has this id


class ResourcesService:
    """Each table that is opened is served until it is closed, or its client is gone."""

    interface = "::omero::grid::SharedResources"

    client: Client | None = None  # set by the session factory: whose service this is

    def __init__(self, server, session):
        self.server, self.session = server, session

    def areTablesEnabled(self, ctx: Context):
        return True

    def newTable(self, ctx: Context, repository, path):
        """A new original file for a table, and the open table, which is to be initialized."""
        check_place(ctx, "OriginalFile")
        with self.server.store.write() as connection:
            oid = insert(connection, ctx, self.server.schema["OriginalFile"],
                         {"name": path, "path": path, "mimetype": MIMETYPE}, new_event(connection, ctx))
        return self._table(ctx, oid)

    def openTable(self, ctx: Context, file):
        return self._table(ctx, rows.id_of(file) or -1)

    def repositories(self, ctx: Context):
        """One for show: clients name one where they make a table. It takes no files."""
        with self.server.store.read() as connection:
            uuid = connection.execute(sa.select(CONFIG.c.value).where(CONFIG.c.key == DATABASE_UUID)).scalar_one()
        place = omero.model.OriginalFileI(REPOSITORY)
        place.hash = rstring(uuid)
        place.name, place.path, place.mimetype = rstring(self.server.store.folder.name), rstring("/"), rstring(
            "Repository")
        return omero.grid.RepositoryMap([place], [None])

    def _table(self, ctx: Context, oid: int):
        servant, service = make_servant(self.server, self.session, TableService.interface)
        assert isinstance(service, TableService)
        service.open(ctx, oid)
        client = self.client
        assert client is not None
        name = f"{uuids.uuid4()}omero.grid.Table"
        service.forget = lambda: client.forget(name)
        client.add(servant, name, service)
        return client.proxy(name)
