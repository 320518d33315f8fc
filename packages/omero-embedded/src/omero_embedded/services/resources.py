"""SharedResources: opens tables."""

from __future__ import annotations

import omero
import omero.grid
import sqlalchemy as sa
from omero.rtypes import rstring

from omero_embedded.errors import refuse
from omero_embedded.kernel import Kernel
from omero_embedded.model import rows
from omero_embedded.model.access import Context
from omero_embedded.model.events import insert, new_event
from omero_embedded.model.saving.checks import check_place
from omero_embedded.people.bootstrap import CONFIG, DATABASE_UUID
from omero_embedded.people.sessions import Session
from omero_embedded.services.registry import Host, service
from omero_embedded.services.tables import TableService

MIMETYPE = "OMERO.tables"
REPOSITORY = 0  # no original file has this id


@service("::omero::grid::SharedResources")
class ResourcesService:
    """An open table is served until it is closed or its client is gone."""

    client: Host  # set by the client that this service works for

    def __init__(self, kernel: Kernel, session: Session):
        self.kernel, self.session = kernel, session

    def areTablesEnabled(self, ctx: Context):
        return True

    def newTable(self, ctx: Context, repository, path):
        """Create an original file for a table, and return the open table, which the client has to initialize."""
        check_place(ctx, "OriginalFile")
        with self.kernel.store.write() as connection:
            oid = insert(
                connection,
                ctx,
                self.kernel.schema["OriginalFile"],
                {"name": path, "path": path, "mimetype": MIMETYPE},
                new_event(connection, ctx),
            )
        return self._table(ctx, oid)

    def openTable(self, ctx: Context, file):
        if file is None or file.id is None:
            raise refuse(omero.ValidationException, "file must be a managed instance.")
        return self._table(ctx, rows.id_of(file) or -1)

    def repositories(self, ctx: Context):
        """Return one repository, because clients name one when they create a table. It accepts no files."""
        with self.kernel.store.read() as connection:
            uuid = connection.execute(sa.select(CONFIG.c.value).where(CONFIG.c.key == DATABASE_UUID)).scalar_one()
        place = omero.model.OriginalFileI(REPOSITORY)
        place.hash = rstring(uuid)
        place.name, place.path, place.mimetype = (
            rstring(self.kernel.store.folder.name),
            rstring("/"),
            rstring("Repository"),
        )
        return omero.grid.RepositoryMap([place], [None])

    def _table(self, ctx: Context, oid: int):
        table = TableService(self.kernel, self.session)
        table.open(ctx, oid)
        return self.client.serve(table)
