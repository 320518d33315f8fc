"""RawPixelsStore: the bytes of pixels, big-endian in the order XYZCT, in one raw file per Pixels.

A write is in the file when the call returns, so it survives when the server is killed. It is not flushed to disk: if
the machine goes down, the last seconds may be lost.
"""

from __future__ import annotations

import math
import os

import numpy as np
import omero
import sqlalchemy as sa

from omero_embedded.errors import refuse
from omero_embedded.files.layout import Layout
from omero_embedded.files.pyramids import LEVELS, TILE, choose_level, is_pyramid, level_part, level_sizes
from omero_embedded.files.recovery import UNSAVED, settle
from omero_embedded.files.store import HashedFile, forget
from omero_embedded.kernel import Kernel
from omero_embedded.limits import check_bytes
from omero_embedded.model.access import Context
from omero_embedded.model.enumerations import BIT_SIZES
from omero_embedded.model.events import new_event
from omero_embedded.model.loading import Loader
from omero_embedded.people.sessions import Session
from omero_embedded.rendering import statistics
from omero_embedded.rendering.settings import PixelsSource, load_source
from omero_embedded.services.registry import StatefulService, service

TILE_BYTES = 1 << 20


@service("::omero::api::RawPixelsStore")
class RawPixelsService(StatefulService):
    def __init__(self, kernel: Kernel, session: Session):
        super().__init__(kernel, session)
        self._id: int | None = None
        self._layout: Layout | None = None  # of the whole planes
        self._pyramid = False
        self._level = 0  # of a pyramid; level 0 has the whole planes
        self._file: int | None = None
        self._hashed: HashedFile | None = None  # once there is something to write
        self._may_write = False
        self._written = False
        self._writer = 0  # its number in the list of unsaved files

    # -- opening and closing -------------------------------------------------------------------------------------

    def setPixelsId(self, ctx: Context, pixels, bypass_original):
        """Choose the pixels. Only a store that is opened before pixel data exist may write them."""
        schema = self.kernel.schema
        table, kinds = schema["Pixels"].table, schema["PixelsType"].table
        with self.kernel.store.read() as connection:
            row = connection.execute(
                sa.select(
                    table.c.sizeX,
                    table.c.sizeY,
                    table.c.sizeZ,
                    table.c.sizeC,
                    table.c.sizeT,
                    table.c._owner,
                    table.c._group,
                    table.c.sha1,
                    kinds.c.value,
                    kinds.c.bitSize,
                )
                .join(kinds, table.c.pixelsType == kinds.c.id)
                .where(table.c.id == pixels)
            ).first()
        if row is None or not ctx.may_see(row._owner, row._group):
            raise refuse(omero.ValidationException, f"There are no pixels {pixels}.")
        self._close_file()
        width = max(1, BIT_SIZES.get(row.value, row.bitSize or 8) // 8)
        self._pyramid, self._level = is_pyramid(row.sizeX, row.sizeY), 0
        store = self.kernel.store
        self._kind, self._path = row.value, (store.pyramid_path if self._pyramid else store.pixels_path)(pixels)
        self._layout = Layout(row.sizeX, row.sizeY, row.sizeZ, row.sizeC, row.sizeT, width)
        self._id, self._owner, self._group = pixels, row._owner, row._group
        self._may_write = not (self._path.exists() and self._path.stat().st_size)
        self._has_hash = row.sha1 != UNSAVED
        self._written = self.failed = False

    def prepare(self, ctx: Context, pixels):
        """Do nothing: OMERO makes pyramids here."""

    def save(self, ctx: Context):
        """Save the hash of what was written. Return the Pixels; None if nothing was written."""
        if not self._written or self.failed or self._id is None:
            return None
        digest = self._digest()
        pixels = self.kernel.schema["Pixels"]
        with self.kernel.store.write() as connection:
            if not connection.execute(
                pixels.table.update()
                .where(pixels.table.c.id == self._id)
                .values(sha1=digest.hex(), _updateEvent=new_event(connection, ctx))
            ).rowcount:
                raise refuse(omero.ValidationException, f"The pixels {self._id} were deleted.")
            forget(connection, "settle", [("pixels", self._id)], self._writer)
            saved = Loader(connection, ctx).get(pixels, [self._id]).get(self._id)
        self._written, self._has_hash = False, True
        return saved

    def release(self, ctx: Context | None) -> None:
        try:
            if ctx is not None:
                self.save(ctx)
            if self._written and self._has_hash and self._id is not None:
                settle(self.kernel.store, "pixels", self._id, self._writer)
        finally:
            self._close_file()

    def _close_file(self) -> None:
        self._hashed = None
        if self._file is not None:
            self.kernel.store.close_file(self._file)
            self._file = None

    @property
    def layout(self) -> Layout:
        """Of what is read: of a pyramid's level. ResourceError where a pyramid is not written yet."""
        whole = self._whole()
        if self._pyramid and not self._path.exists():
            raise refuse(omero.ResourceError, f"The pyramid of the pixels {self._id} is not written yet.")
        return whole.at_level(self._level) if self._level else whole

    def _whole(self) -> Layout:
        if self._layout is None:
            raise refuse(omero.ApiUsageException, "No pixels are chosen yet: call setPixelsId first.")
        return self._layout

    def _not_of_pyramids(self) -> None:
        self._whole()
        if self._pyramid:
            raise refuse(omero.InternalException, "A pyramid does not support that: use planes or tiles.")

    def _open(self) -> int:
        """Open the file in its full size; unwritten parts are 0."""
        if self._file is None:
            total = self._whole().total
            try:
                self._file = self.kernel.store.open_file(self._path)
            except FileNotFoundError:
                with self.kernel.store.making_file("pixels", self._id or 0, self._pyramid) as path:
                    self._file = self.kernel.store.open_file(path, create=True)
            if os.fstat(self._file).st_size < total:
                os.ftruncate(self._file, total)
        return self._file

    # -- reading -------------------------------------------------------------------------------------------------

    def _read(self, offset: int, size: int) -> bytes:
        check_bytes(size)
        file = self._open()
        data = os.pread(file, size, offset)
        while len(data) < size:  # a call reads 2 GB at most; bytes after the end are 0
            more = os.pread(file, size - len(data), offset + len(data))
            data += more or bytes(size - len(data))
        return data

    def getPlane(self, ctx: Context, z, c, t):
        return self._part(z, c, t, 0, 0, self.layout.x, self.layout.y)

    def getRow(self, ctx: Context, y, z, c, t):
        self.layout.offset(y, z, c, t)
        return self._part(z, c, t, 0, y, self.layout.x, 1)

    def getCol(self, ctx: Context, x, z, c, t):
        if not 0 <= x < self.layout.x:
            raise refuse(omero.InternalException, f"x is {x}: it should be from 0 to {self.layout.x - 1}.")
        return self._part(z, c, t, x, 0, 1, self.layout.y)

    def getTile(self, ctx: Context, z, c, t, x, y, w, h):
        self.layout.offset(0, z, c, t)
        self._check_tile(self.layout, x, y, w, h)
        return self._part(z, c, t, x, y, w, h)

    def getStack(self, ctx: Context, c, t):
        self._not_of_pyramids()
        return self._read(self.layout.offset(0, 0, c, t), self.layout.stack)

    def getTimepoint(self, ctx: Context, t):
        self._not_of_pyramids()
        return self._read(self.layout.offset(0, 0, 0, t), self.layout.timepoint)

    def getRegion(self, ctx: Context, size, offset):
        self._not_of_pyramids()
        if size < 0 or offset < 0:
            raise refuse(omero.ApiUsageException, "The size or the offset of the region is negative.")
        return self._read(offset, min(size, max(self.layout.total, 1)))

    def getPlaneRegion(self, ctx: Context, z, c, t, count, offset):
        """Read a number of values of a plane, starting at an offset in values."""
        self._not_of_pyramids()
        size, skip = count * self.layout.width, offset * self.layout.width
        start = self.layout.offset(0, z, c, t)
        if count < 0:
            raise refuse(omero.InternalException, f"{count} values can't be read.")
        if not 0 <= skip <= self.layout.plane:
            raise refuse(omero.ApiUsageException, f"The offset {offset} is not within the plane.")
        if skip + size > self.layout.plane:
            raise refuse(omero.ResourceError, f"There are no {count} values after offset {offset} in the plane.")
        return self._read(start + skip, size)

    def getHypercube(self, ctx: Context, offset, size, step):
        """Read a part of the 5D block; offset, size and step are in the order XYZCT."""
        self._not_of_pyramids()
        shape = self.layout
        sizes = (shape.x, shape.y, shape.z, shape.c, shape.t)
        for start, length, by, whole in zip(offset, size, step, sizes, strict=True):
            if start < 0 or length < 1 or by < 1 or start + length > whole:
                raise refuse(omero.InternalException, f"The hypercube is not within {sizes} or has a step below 1.")
        check_bytes(math.prod(-(-length // by) for length, by in zip(size, step)) * shape.width)
        self._open()
        block = np.memmap(self._path, dtype=f"V{shape.width}", mode="r", shape=sizes[::-1])
        part = block[tuple(slice(start, start + length, by) for start, length, by in zip(offset, size, step))[::-1]]
        return np.ascontiguousarray(part).tobytes()

    def _part(self, z: int, c: int, t: int, x: int, y: int, w: int, h: int) -> bytes:
        """Read columns x to x + w of h rows of a plane, without reading long rows whole."""
        check_bytes(w * h * self.layout.width)
        if self._level:
            return self._part_of_level(z, c, t, x, y, w, h)
        shape = self.layout
        offset = shape.offset(y, z, c, t)
        if w == shape.x:
            return self._read(offset, h * shape.row)
        if shape.row > TILE_BYTES // 16:
            return b"".join(self._read(offset + row * shape.row + x * shape.width, w * shape.width) for row in range(h))
        rows = np.frombuffer(self._read(offset, h * shape.row), f"V{shape.width}").reshape(h, shape.x)
        return rows[:, x : x + w].tobytes()

    def _part_of_level(self, z: int, c: int, t: int, x: int, y: int, w: int, h: int) -> bytes:
        whole = self._whole()
        self._open()
        plane = np.memmap(self._path, f"V{whole.width}", "r", whole.offset(0, z, c, t), (whole.y, whole.x))
        return np.ascontiguousarray(level_part(plane, self._level, x, y, w, h)).tobytes()

    def _check_tile(self, shape: Layout, x: int, y: int, w: int, h: int) -> None:
        if min(x, y) < 0 or min(w, h) < 1 or x + w > shape.x or y + h > shape.y:
            kind = omero.InternalException if self._pyramid else omero.ApiUsageException
            raise refuse(kind, f"The tile of {w} x {h} at {x}, {y} is not within the plane of {shape.x} x {shape.y}.")

    def calculateMessageDigest(self, ctx: Context):
        return self._digest()

    def _digest(self) -> bytes:
        file = self._open()  # not by its path, which is gone if the pixels are deleted
        return self.kernel.store.hashed_file(file).digest(file)

    # -- statistics ----------------------------------------------------------------------------------------------

    def getHistogram(self, ctx: Context, channels, bins, global_range, plane):
        """Count how often values occur in a plane, or in a region of it, by channel."""
        source = self._source(ctx)
        return {c: statistics.histogram(source, self._channel(c), bins, global_range, plane) for c in channels or ()}

    def findMinMax(self, ctx: Context, channels):
        """Find the smallest and the largest value of channels in their middle plane; nothing for pyramids."""
        if self._whole() and self._pyramid:
            return {}
        source = self._source(ctx)
        return {c: statistics.middle_range(source, self._channel(c)) for c in channels or ()}

    def _channel(self, c: int) -> int:
        if not 0 <= c < self.layout.c:
            raise refuse(omero.InternalException, f"c is {c}: it should be from 0 to {self.layout.c - 1}.")
        return c

    def _source(self, ctx: Context) -> PixelsSource:
        self._whole()
        with self.kernel.store.read() as connection:
            return load_source(self.kernel.store, connection, ctx, self._id or 0)

    # -- writing -------------------------------------------------------------------------------------------------

    def setPlane(self, ctx: Context, data, z, c, t):
        offset = self._place(ctx, z=z, c=c, t=t)
        self._write_whole(data, offset, self.layout.plane)

    def setRow(self, ctx: Context, data, y, z, c, t):
        """Write from the start of a row; data that are longer than the row continue in the next ones."""
        self._write(data, self._place(ctx, y, z, c, t))

    def setStack(self, ctx: Context, data, z, c, t):
        offset = self._place(ctx, c=c, t=t)
        self._write_whole(data, offset, self.layout.stack)

    def setTimepoint(self, ctx: Context, data, t):
        offset = self._place(ctx, t=t)
        self._write_whole(data, offset, self.layout.timepoint)

    def setRegion(self, ctx: Context, size, offset, data):
        """Write a number of bytes at an offset; those beyond the end of the pixels are dropped."""
        self._place(ctx)
        if not 0 <= size <= len(data) or offset < 0:
            raise refuse(omero.ApiUsageException, f"{size} bytes of {len(data)} can't be written at {offset}.")
        self._write(memoryview(data)[:size], offset)

    def setTile(self, ctx: Context, data, z, c, t, x, y, w, h):
        """Write a tile. For pixels that are no pyramid it has to consist of whole rows, of any length."""
        self._must_be_writable(ctx)
        shape = self._whole()
        if not self._pyramid:
            if x != 0 or w != shape.x:
                raise refuse(omero.InternalException, "A tile must consist of whole rows.")
            if y < 0:
                raise refuse(omero.ApiUsageException, f"y is {y}: it should be 0 or more.")
            self._write(data, shape.offset(0, z, c, t) + y * shape.row)
            return
        offset = shape.offset(0, z, c, t) + y * shape.row + x * shape.width
        self._check_tile(shape, x, y, w, h)
        if len(data) != w * h * shape.width:
            raise refuse(omero.InternalException, f"{len(data)} bytes are not a tile of {w} x {h} pixels.")
        length = w * shape.width
        for row in range(h):
            self._write(memoryview(data)[row * length : (row + 1) * length], offset + row * shape.row)

    def _place(self, ctx: Context, y: int = 0, z: int = 0, c: int = 0, t: int = 0) -> int:
        """Return where to write; refuse pixels that may not be written, and pyramids."""
        self._must_be_writable(ctx)
        if self._pyramid:
            raise refuse(
                omero.InternalException,
                "Non-tile based writing unsupported: planes of this size are written by setTile.",
            )
        return self.layout.offset(y, z, c, t)

    def _must_be_writable(self, ctx: Context) -> None:
        self._whole()
        if not self._may_write:
            raise refuse(omero.ApiUsageException, f"The pixels {self._id} are written already: they are read-only.")
        if not ctx.may_edit(self._owner, self._group):
            raise refuse(omero.SecurityViolation, f"{ctx.user_name} may not write the pixels {self._id}.")

    def _write_whole(self, data, offset: int, size: int) -> None:
        if len(data) != size:
            raise refuse(omero.ResourceError, f"{len(data)} bytes were sent where there should be {size}.")
        self._write(data, offset)

    def _write(self, data, offset: int) -> None:
        """Write as much at an offset as the pixels have room for."""
        file = self._open()
        if self._has_hash and not self._written:
            self._writer = self.kernel.store.note_unsaved("pixels", self._id or 0)
        self._written = True
        self._hashed = self._hashed or self.kernel.store.hashed_file(file)
        self._hashed.write(file, memoryview(data)[: max(0, self._whole().total - offset)], offset)

    # -- sizes and offsets ---------------------------------------------------------------------------------------

    def getPixelsId(self, ctx: Context):
        self._whole()
        return self._id

    def getPixelsPath(self, ctx: Context):
        self._whole()
        return str(self._path)

    def getByteWidth(self, ctx: Context):
        return self.layout.width

    def isFloat(self, ctx: Context):
        return bool(self.layout) and self._kind in ("float", "double")

    def isSigned(self, ctx: Context):
        return bool(self.layout) and not self._kind.startswith(("uint", "bit"))

    def getRowSize(self, ctx: Context):
        return self.layout.row

    def getPlaneSize(self, ctx: Context):
        return self.layout.plane

    def getStackSize(self, ctx: Context):
        return self.layout.stack

    def getTimepointSize(self, ctx: Context):
        return self.layout.timepoint

    def getTotalSize(self, ctx: Context):
        return self.layout.total

    def getRowOffset(self, ctx: Context, y, z, c, t):
        return self.layout.offset(y, z, c, t)

    def getPlaneOffset(self, ctx: Context, z, c, t):
        return self.layout.offset(0, z, c, t)

    def getStackOffset(self, ctx: Context, c, t):
        self._not_of_pyramids()
        return self.layout.offset(0, 0, c, t)

    def getTimepointOffset(self, ctx: Context, t):
        self._not_of_pyramids()
        return self.layout.offset(0, 0, 0, t)

    # -- pyramids ------------------------------------------------------------------------------------------------

    def requiresPixelsPyramid(self, ctx: Context):
        self._whole()
        return self._pyramid

    def getTileSize(self, ctx: Context):
        shape = self._whole()
        if self._pyramid:
            return [TILE, TILE]
        return [shape.x, min(shape.y, max(1, TILE_BYTES // shape.row))]

    def _levels(self) -> int:
        if self._whole() and self._pyramid and not self._path.exists():
            raise refuse(omero.ApiUsageException, "In write mode: this pyramid has no levels yet.")
        return LEVELS if self._pyramid else 1

    def getResolutionLevels(self, ctx: Context):
        return self._levels()

    def getResolutionLevel(self, ctx: Context):
        return self._levels() - 1 - self._level

    def setResolutionLevel(self, ctx: Context, level):
        self._level = choose_level(level, self._levels())

    def getResolutionDescriptions(self, ctx: Context):
        shape = self._whole()
        sizes = level_sizes(shape.x, shape.y)[: self._levels()]
        return [omero.api.ResolutionDescription(width, height) for width, height in sizes]
