"""RawFileStore: the bytes of original files, one file for each. Like pixels, they survive when the server is killed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import omero
import omero.constants
import sqlalchemy as sa
from omero.rtypes import rlong

from omero_embedded.errors import refuse
from omero_embedded.files.checksums import file_checksum
from omero_embedded.files.recovery import settle
from omero_embedded.files.store import forget, write_at
from omero_embedded.kernel import Kernel
from omero_embedded.limits import check_bytes
from omero_embedded.model.access import Context
from omero_embedded.model.events import new_event
from omero_embedded.model.loading import Loader
from omero_embedded.people.sessions import Session
from omero_embedded.services.registry import StatefulService, service


@service("::omero::api::RawFileStore")
class RawFileService(StatefulService):
    def __init__(self, kernel: Kernel, session: Session):
        super().__init__(kernel, session)
        self._id: int | None = None
        self._file: int | None = None
        self._written = False
        self._writer = 0  # its number in the list of unsaved files

    def setFileId(self, ctx: Context, oid):
        files, hashers = self.kernel.schema["OriginalFile"].table, self.kernel.schema["ChecksumAlgorithm"].table
        with self.kernel.store.read() as connection:
            row = connection.execute(
                sa.select(files.c._owner, files.c._group, files.c.size, hashers.c.value)
                .join(hashers, files.c.hasher == hashers.c.id, isouter=True)
                .where(files.c.id == oid)
            ).first()
        if row is None:
            raise refuse(omero.ValidationException, f"There is no original file {oid}.")
        if not ctx.may_see(row._owner, row._group):
            raise refuse(omero.SecurityViolation, f"{ctx.user_name} may not read the original file {oid}.")
        self._close_file()
        self._id, self._owner, self._group, self._hasher = oid, row._owner, row._group, row.value
        self._path, self._size = self.kernel.store.file_path(oid), row.size
        self._written = self.failed = False

    def getFileId(self, ctx: Context):
        return None if self._id is None else rlong(self._id)

    @property
    def path(self) -> Path:
        if self._id is None:
            raise refuse(omero.ApiUsageException, "No file is chosen yet: call setFileId first.")
        return self._path

    def exists(self, ctx: Context):
        return self.path.exists()

    def size(self, ctx: Context):
        return os.fstat(self._open_to_read(ctx)).st_size

    def read(self, ctx: Context, offset, length):
        """Read a number of bytes; those after the end of the file are 0."""
        if length < 0:
            raise refuse(omero.InternalException, f"{length} bytes can't be read.")
        if offset < 0:
            raise refuse(omero.ApiUsageException, "The offset is negative.")
        check_bytes(length)
        data = os.pread(self._open_to_read(ctx), length, offset)
        return data + bytes(length - len(data)) if len(data) < length else data

    def write(self, ctx: Context, data, position, length):
        """Write the first `length` bytes of data at a position."""
        self._must_be_writable(ctx)
        if position < 0 or not 0 <= length <= len(data):
            raise refuse(omero.ApiUsageException, f"{length} bytes of {len(data)} can't be written at {position}.")
        file = self._open()
        self._note_write()
        write_at(file, memoryview(data)[:length], position)

    def truncate(self, ctx: Context, length):
        """Shorten the file; return False if it is not longer than that."""
        self._must_be_writable(ctx)
        if length < 0:
            raise refuse(omero.ApiUsageException, "The length is negative.")
        file = self._open_to_read(ctx)
        if length >= os.fstat(file).st_size:
            return False
        self._note_write()
        os.ftruncate(file, length)
        return True

    def save(self, ctx: Context):
        """Save size, time and hash of the file. Return the OriginalFile; None if nothing has changed."""
        if self.failed or self._id is None or not (self._written or self._has_another_size(ctx)):
            return None
        values: dict = {"size": self.size(ctx), "mtime": int(time.time() * 1000)}
        if self._hasher is not None:
            values["hash"] = file_checksum(self._hasher, self.path)
        entity = self.kernel.schema["OriginalFile"]
        with self.kernel.store.write() as connection:
            if not connection.execute(
                entity.table.update()
                .where(entity.table.c.id == self._id)
                .values(**values, _updateEvent=new_event(connection, ctx))
            ).rowcount:
                raise refuse(omero.ValidationException, f"The original file {self._id} was deleted.")
            forget(connection, "settle", [("originalfile", self._id)], self._writer)
            saved = Loader(connection, ctx).get(entity, [self._id]).get(self._id)
        self._written, self._size = False, values["size"]
        return saved

    def _has_another_size(self, ctx: Context) -> bool:
        """Whether the stored size is wrong. As in OMERO, an empty file is always saved."""
        if not ctx.may_edit(self._owner, self._group, "OriginalFile"):
            return False
        size = self.size(ctx)
        return size == 0 or self._size not in (None, size)

    def release(self, ctx: Context | None) -> None:
        try:
            if ctx is not None:
                self.save(ctx)
            if self._written and self._id is not None:
                settle(self.kernel.store, "originalfile", self._id, self._writer)
        finally:
            self._close_file()

    def _note_write(self) -> None:
        if not self._written:
            self._writer = self.kernel.store.note_unsaved("originalfile", self._id or 0)
        self._written = True

    def _must_be_writable(self, ctx: Context) -> None:
        self.path  # noqa: B018  (asks for a file to be chosen)
        if not ctx.may_edit(self._owner, self._group, "OriginalFile"):
            raise refuse(omero.SecurityViolation, f"{ctx.user_name} may not write the original file {self._id}.")

    def _open_to_read(self, ctx: Context) -> int:
        """Open the file. It is created if there is none, by those who may write it."""
        if not self.path.exists() and not ctx.may_edit(self._owner, self._group, "OriginalFile"):
            raise refuse(omero.ResourceError, f"{self.path} (No such file or directory)")
        return self._open()

    def _open(self) -> int:
        if self._file is None:
            try:
                self._file = self.kernel.store.open_file(self.path)
            except FileNotFoundError:
                with self.kernel.store.making_file("originalfile", self._id or 0) as path:
                    self._file = self.kernel.store.open_file(path, create=True)
        return self._file

    def _close_file(self) -> None:
        if self._file is not None:
            self.kernel.store.close_file(self._file)
            self._file = None
