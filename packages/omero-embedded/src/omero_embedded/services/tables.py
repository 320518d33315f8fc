"""Table: an open OMERO.table."""

from __future__ import annotations

import omero
import sqlalchemy as sa

from omero_embedded.errors import refuse
from omero_embedded.files.store import forget
from omero_embedded.files.table_files import TableFile
from omero_embedded.model import deleting
from omero_embedded.model.access import Context
from omero_embedded.model.events import new_event
from omero_embedded.model.loading import Loader
from omero_embedded.services.registry import StatefulService, service

ROW_NUMBERS = "omero.tables.include_row_numbers"


@service("::omero::grid::Table")
class TableService(StatefulService):
    def open(self, ctx: Context, oid: int) -> None:
        """Open the table in an original file; ValidationException or SecurityViolation if that is impossible."""
        files = self.kernel.schema["OriginalFile"].table
        with self.kernel.store.read() as connection:
            row = connection.execute(sa.select(files.c._owner, files.c._group).where(files.c.id == oid)).first()
        if row is None:
            raise refuse(omero.ValidationException, f"There is no original file {oid}.")
        if not ctx.may_see(row._owner, row._group):
            raise refuse(omero.SecurityViolation, f"{ctx.user_name} may not read the original file {oid}.")
        self._id, self._owner, self._group = oid, row._owner, row._group
        self._table = TableFile(self.kernel.store, oid)
        if self._table.is_other():
            raise refuse(omero.InternalException, f"The original file {oid} is not a table.")
        self._written, self._writer = False, 0  # and its number in the list of unsaved files

    def release(self, ctx: Context | None) -> None:
        """Save the file's size, if something was written."""
        if self._written and self._table.path.exists():
            files = self.kernel.schema["OriginalFile"].table
            values = {"size": self._table.path.stat().st_size}
            with self.kernel.store.write() as connection:
                if ctx is not None:
                    values["_updateEvent"] = new_event(connection, ctx)
                connection.execute(files.update().where(files.c.id == self._id).values(**values))
                forget(connection, "settle", [("originalfile", self._id)], self._writer)
            self._written = False

    def _write(self, ctx: Context) -> TableFile:
        if not ctx.may_edit(self._owner, self._group, "OriginalFile"):
            raise refuse(omero.SecurityViolation, f"Current user cannot write to file {self._id}")
        if not self._written:
            self._writer = self.kernel.store.note_unsaved("originalfile", self._id)
        self._written = True
        return self._table

    # -- reading -------------------------------------------------------------------------------------------------

    def getOriginalFile(self, ctx: Context):
        with self.kernel.store.read() as connection:
            return Loader(connection, ctx).get(self.kernel.schema["OriginalFile"], [self._id]).get(self._id)

    def getHeaders(self, ctx: Context):
        return self._table.headers()

    def getNumberOfRows(self, ctx: Context):
        return self._table.count()

    def getWhereList(self, ctx: Context, condition, variables, start, stop, step):
        return self._table.where(condition, variables, start, stop, step)

    def read(self, ctx: Context, columns, start, stop):
        """Read the rows `start` to `stop`; all of them if both are 0."""
        return _numbered(ctx, self._table.read(columns or [], start, stop))

    def readCoordinates(self, ctx: Context, rows):
        return _numbered(ctx, self._table.read_rows(range(len(self._table.headers())), rows or []))

    def slice(self, ctx: Context, columns, rows):
        """Read some rows of some columns; no rows or columns mean all of them."""
        columns, rows = columns or range(len(self._table.headers())), rows or range(self._table.count())
        return _numbered(ctx, self._table.read_rows(columns, rows))

    def getAllMetadata(self, ctx: Context):
        return self._table.metadata()

    def getMetadata(self, ctx: Context, key):
        return self._table.metadata().get(key)

    # -- writing -------------------------------------------------------------------------------------------------

    def initialize(self, ctx: Context, columns):
        self._write(ctx).initialize(columns)

    def addData(self, ctx: Context, columns):
        self._write(ctx).add(columns)

    def update(self, ctx: Context, data):
        if data is not None:
            self._write(ctx).update(data.rowNumbers, data.columns)

    def addColumn(self, ctx: Context, column):
        raise refuse(omero.ApiUsageException, "NYI")

    def setMetadata(self, ctx: Context, key, value):
        self._write(ctx).set_metadata({key: value})

    def setAllMetadata(self, ctx: Context, values):
        self._write(ctx).set_metadata(values, replace=True)

    def delete(self, ctx: Context):
        """Delete the original file with the table, and close this one."""
        self._write(ctx)
        with self.kernel.store.write() as connection:
            deleting.delete_parts(connection, ctx, self.kernel.schema["OriginalFile"], [self._id])
            forget(connection, "settle", [("originalfile", self._id)])
        self._written = False
        self.forget()


def _numbered(ctx: Context, data: omero.grid.Data) -> omero.grid.Data:
    """Leave out the numbers of rows if the call's context says so."""
    if ctx.asked.get(ROW_NUMBERS, "true").lower() != "true":
        data.rowNumbers = []
    return data
