"""RawPixelsStore: the bytes of pixels, big-endian in the order XYZCT, in one raw file per Pixels.

A write is in the file when the call returns: it outlives a killed server. Nothing is flushed to the disk itself, so the
last seconds may be lost when the machine goes down.
"""
from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import omero
import sqlalchemy as sa

from omero_embedded.errors import refuse
from omero_embedded.files.pyramids import MAX_PLANE
from omero_embedded.files.recovery import UNSAVED, settle
from omero_embedded.files.store import HashedFile, forget
from omero_embedded.kernel import Kernel
from omero_embedded.model.access import Context
from omero_embedded.model.enumerations import BIT_SIZES
from omero_embedded.model.loading import Loader
from omero_embedded.model.saving import new_event
from omero_embedded.people.sessions import Session
from omero_embedded.rendering.settings import Source, load_source
from omero_embedded.services.registry import StatefulService, service

TILE_BYTES = 1 << 20
PYRAMID_TILE = 256


@dataclass(frozen=True)
class Layout:
    """Where things are in the file: sizes in pixels, everything else in bytes."""

    x: int
    y: int
    z: int
    c: int
    t: int
    width: int  # of one value

    @property
    def row(self) -> int:
        return self.x * self.width

    @property
    def plane(self) -> int:
        return self.y * self.row

    @property
    def stack(self) -> int:
        return self.z * self.plane

    @property
    def timepoint(self) -> int:
        return self.c * self.stack

    @property
    def total(self) -> int:
        return self.t * self.timepoint

    @property
    def is_pyramid(self) -> bool:
        """OMERO keeps larger planes as pyramids, written by tiles; here they are raw files as well."""
        return self.x * self.y > MAX_PLANE * MAX_PLANE

    def offset(self, y: int = 0, z: int = 0, c: int = 0, t: int = 0) -> int:
        """Where a row begins. Raises ApiUsageException where there is none."""
        for name, value, size in (("y", y, self.y), ("z", z, self.z), ("c", c, self.c), ("t", t, self.t)):
            if not 0 <= value < size:
                raise refuse(omero.ApiUsageException, f"{name} is {value}: it should be from 0 to {size - 1}.")
        return t * self.timepoint + c * self.stack + z * self.plane + y * self.row


@service("::omero::api::RawPixelsStore")
class RawPixelsService(StatefulService):
    def __init__(self, kernel: Kernel, session: Session):
        super().__init__(kernel, session)
        self._id: int | None = None
        self._layout: Layout | None = None
        self._file: int | None = None
        self._hashed: HashedFile | None = None  # once there is something to write
        self._may_write = False
        self._written = False
        self._writer = 0  # its number in the list of what is unsaved

    # -- opening and closing -------------------------------------------------------------------------------------

    def setPixelsId(self, ctx: Context, pixels, bypass_original):
        """Choose the pixels. Only a store that is opened before there are any bytes may write them."""
        schema = self.kernel.schema
        table, kinds = schema["Pixels"].table, schema["PixelsType"].table
        with self.kernel.store.read() as connection:
            row = connection.execute(
                sa.select(table.c.sizeX, table.c.sizeY, table.c.sizeZ, table.c.sizeC, table.c.sizeT, table.c._owner,
                          table.c._group, table.c.sha1, kinds.c.value, kinds.c.bitSize)
                .join(kinds, table.c.pixelsType == kinds.c.id).where(table.c.id == pixels)).first()
        if row is None or not ctx.may_see(row._owner, row._group):
            raise refuse(omero.ValidationException, f"There are no pixels {pixels}.")
        self._close_file()
        width = max(1, BIT_SIZES.get(row.value, row.bitSize or 8) // 8)
        self._kind, self._path = row.value, self.kernel.store.pixels_path(pixels)
        self._layout = Layout(row.sizeX, row.sizeY, row.sizeZ, row.sizeC, row.sizeT, width)
        self._id, self._owner, self._group = pixels, row._owner, row._group
        self._may_write = not (self._path.exists() and self._path.stat().st_size)
        self._has_hash = row.sha1 != UNSAVED
        self._written = self.failed = False

    def prepare(self, ctx: Context, pixels):
        """OMERO makes pyramids here; there is nothing to do."""

    def save(self, ctx: Context):
        """Keep the hash of what was written; the Pixels, or None where nothing was."""
        if not self._written or self.failed or self._id is None:
            return None
        digest = self._digest()
        pixels = self.kernel.schema["Pixels"]
        with self.kernel.store.write() as connection:
            if not connection.execute(pixels.table.update().where(pixels.table.c.id == self._id).values(
                    sha1=digest.hex(), _updateEvent=new_event(connection, ctx))).rowcount:
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
        if self._layout is None:
            raise refuse(omero.ApiUsageException, "No pixels are chosen yet: call setPixelsId first.")
        return self._layout

    def _open(self) -> int:
        """The file, at its full size; unwritten parts read as zeros."""
        if self._file is None:
            self.layout  # noqa: B018  (asks for pixels to be chosen)
            try:
                self._file = self.kernel.store.open_file(self._path)
            except FileNotFoundError:
                with self.kernel.store.making_file("pixels", self._id or 0) as path:
                    self._file = self.kernel.store.open_file(path, create=True)
            if os.fstat(self._file).st_size < self.layout.total:
                os.ftruncate(self._file, self.layout.total)
        return self._file

    # -- reading -------------------------------------------------------------------------------------------------

    def _read(self, offset: int, size: int) -> bytes:
        file = self._open()
        data = os.pread(file, size, offset)
        while len(data) < size:  # a call reads 2 GB at most, and zeros follow the end
            more = os.pread(file, size - len(data), offset + len(data))
            data += more or bytes(size - len(data))
        return data

    def getPlane(self, ctx: Context, z, c, t):
        return self._read(self.layout.offset(0, z, c, t), self.layout.plane)

    def getRow(self, ctx: Context, y, z, c, t):
        return self._read(self.layout.offset(y, z, c, t), self.layout.row)

    def getCol(self, ctx: Context, x, z, c, t):
        if not 0 <= x < self.layout.x:
            raise refuse(omero.InternalException, f"x is {x}: it should be from 0 to {self.layout.x - 1}.")
        return self._part(self.layout.offset(0, z, c, t), x, 1, self.layout.y)

    def getTile(self, ctx: Context, z, c, t, x, y, w, h):
        self._check_tile(x, y, w, h)
        return self._part(self.layout.offset(y, z, c, t), x, w, h)

    def getStack(self, ctx: Context, c, t):
        return self._read(self.layout.offset(0, 0, c, t), self.layout.stack)

    def getTimepoint(self, ctx: Context, t):
        return self._read(self.layout.offset(0, 0, 0, t), self.layout.timepoint)

    def getRegion(self, ctx: Context, size, offset):
        if size < 0 or offset < 0:
            raise refuse(omero.ApiUsageException, "A region has no negative size or offset.")
        return self._read(offset, min(size, max(self.layout.total, 1)))

    def getPlaneRegion(self, ctx: Context, z, c, t, count, offset):
        """So many values of a plane, from the value at offset on."""
        size, skip = count * self.layout.width, offset * self.layout.width
        if count < 0 or offset < 0 or skip + size > self.layout.plane:
            raise refuse(omero.ApiUsageException, "The region is not within the plane.")
        return self._read(self.layout.offset(0, z, c, t) + skip, size)

    def getHypercube(self, ctx: Context, offset, size, step):
        """A part of the 5D block; offset, size and step in the order XYZCT."""
        shape = self.layout
        sizes = (shape.x, shape.y, shape.z, shape.c, shape.t)
        for start, length, by, whole in zip(offset, size, step, sizes, strict=True):
            if start < 0 or length < 1 or by < 1 or start + length > whole:
                raise refuse(omero.InternalException, f"The hypercube is not within {sizes} or has a step below 1.")
        self._open()
        block = np.memmap(self._path, dtype=f"V{shape.width}", mode="r", shape=sizes[::-1])
        part = block[tuple(slice(start, start + length, by) for start, length, by in zip(offset, size, step))[::-1]]
        return np.ascontiguousarray(part).tobytes()

    def _part(self, offset: int, x: int, w: int, h: int) -> bytes:
        """Columns x to x + w of h rows; only what is needed is read where the rows are long."""
        shape = self.layout
        if w == shape.x:
            return self._read(offset, h * shape.row)
        if shape.row > TILE_BYTES // 16:
            return b"".join(self._read(offset + y * shape.row + x * shape.width, w * shape.width) for y in range(h))
        rows = np.frombuffer(self._read(offset, h * shape.row), f"V{shape.width}").reshape(h, shape.x)
        return rows[:, x:x + w].tobytes()

    def _check_tile(self, x: int, y: int, w: int, h: int) -> None:
        if min(x, y) < 0 or min(w, h) < 1 or x + w > self.layout.x or y + h > self.layout.y:
            raise refuse(omero.ApiUsageException, f"The tile of {w} x {h} at {x}, {y} is not within the plane of "
                                                  f"{self.layout.x} x {self.layout.y}.")

    def calculateMessageDigest(self, ctx: Context):
        return self._digest()

    def _digest(self) -> bytes:
        file = self._open()  # and not by its path, which is gone where the pixels are
        return self.kernel.store.hashed_file(file).digest(file)

    # -- statistics ----------------------------------------------------------------------------------------------

    def getHistogram(self, ctx: Context, channels, bins, global_range, plane):
        """How often values occur in a plane, by channel: from its smallest to its largest value, or the channel's."""
        if bins < 1:
            raise refuse(omero.ApiUsageException, f"There is no histogram of {bins} bins.")
        source = self._source(ctx)
        found = {}
        for c in channels or range(self.layout.c):
            values = source.plane(plane.z, c, plane.t).astype(np.float64)
            low, high = (global_range and source.statistics[c]) or (values.min(), values.max())
            place = ((values - low) / (high - low + 1) * bins).astype(np.int64)
            found[c] = np.bincount(np.clip(place, 0, bins - 1).ravel(), minlength=bins).tolist()
        return found

    def findMinMax(self, ctx: Context, channels):
        """The smallest and the largest value of channels, in all their planes."""
        source = self._source(ctx)
        found = {}
        for c in channels or range(self.layout.c):
            stacks = [source.stack(c, t) for t in range(self.layout.t)]
            found[c] = [float(min(s.min() for s in stacks)), float(max(s.max() for s in stacks))]
        return found

    def _source(self, ctx: Context) -> Source:
        self.layout  # noqa: B018
        with self.kernel.store.read() as connection:
            return load_source(self.kernel.store, connection, ctx, self._id or 0)

    # -- writing -------------------------------------------------------------------------------------------------

    def setPlane(self, ctx: Context, data, z, c, t):
        self._must_be_writable(ctx)
        offset = self.layout.offset(0, z, c, t)
        if self.layout.is_pyramid:
            raise refuse(omero.InternalException, "Planes of this size are written by tiles.")
        self._write(data, offset, self.layout.plane)

    def setRow(self, ctx: Context, data, y, z, c, t):
        self._must_be_writable(ctx)
        self._write(data, self.layout.offset(y, z, c, t), self.layout.row)

    def setStack(self, ctx: Context, data, z, c, t):
        self._must_be_writable(ctx)
        self._write(data, self.layout.offset(0, 0, c, t), self.layout.stack)

    def setTimepoint(self, ctx: Context, data, t):
        self._must_be_writable(ctx)
        self._write(data, self.layout.offset(0, 0, 0, t), self.layout.timepoint)

    def setRegion(self, ctx: Context, size, offset, data):
        self._must_be_writable(ctx)
        if size < 0 or offset < 0 or offset + size > self.layout.total:
            raise refuse(omero.ApiUsageException, f"The region of {size} bytes at {offset} is not within the pixels.")
        self._write(data, offset, size, omero.ApiUsageException)

    def setTile(self, ctx: Context, data, z, c, t, x, y, w, h):
        """A tile; whole rows only, but where planes are as large as a pyramid's."""
        self._must_be_writable(ctx)
        self._check_tile(x, y, w, h)
        offset, shape = self.layout.offset(y, z, c, t), self.layout
        if w == shape.x:
            self._write(data, offset, h * shape.row, omero.InternalException)
            return
        if not shape.is_pyramid or len(data) != w * h * shape.width:
            raise refuse(omero.InternalException, "A tile must be of whole rows, and its bytes as many as its pixels.")
        for y in range(h):
            part = memoryview(data)[y * w * shape.width:(y + 1) * w * shape.width]
            self._write(part, offset + y * shape.row + x * shape.width, len(part))

    def _must_be_writable(self, ctx: Context) -> None:
        self.layout  # noqa: B018  (asks for pixels to be chosen)
        if not self._may_write:
            raise refuse(omero.ApiUsageException, f"The pixels {self._id} are written already: they are read-only.")
        if not ctx.may_edit(self._owner, self._group):
            raise refuse(omero.SecurityViolation, f"{ctx.user_name} may not write the pixels {self._id}.")

    def _write(self, data, offset: int, size: int, kind: type[omero.ServerError] = omero.ResourceError) -> None:
        if len(data) != size:
            raise refuse(kind, f"{len(data)} bytes were sent where there should be {size}.")
        file = self._open()
        if self._has_hash and not self._written:
            self._writer = self.kernel.store.note_unsaved("pixels", self._id or 0)
        self._written = True
        self._hashed = self._hashed or self.kernel.store.hashed_file(file)
        self._hashed.write(file, data, offset)

    # -- sizes and offsets ---------------------------------------------------------------------------------------

    def getPixelsId(self, ctx: Context):
        self.layout  # noqa: B018
        return self._id

    def getPixelsPath(self, ctx: Context):
        self.layout  # noqa: B018
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
        return self.layout.offset(0, 0, c, t)

    def getTimepointOffset(self, ctx: Context, t):
        return self.layout.offset(0, 0, 0, t)

    # -- pyramids ------------------------------------------------------------------------------------------------

    def requiresPixelsPyramid(self, ctx: Context):
        return self.layout.is_pyramid

    def getTileSize(self, ctx: Context):
        shape = self.layout
        if shape.is_pyramid:
            return [PYRAMID_TILE, PYRAMID_TILE]
        return [shape.x, min(shape.y, max(1, TILE_BYTES // shape.row))]

    def getResolutionLevels(self, ctx: Context):
        return 1 if self.layout else 0

    def getResolutionLevel(self, ctx: Context):
        return 0 if self.layout else -1

    def setResolutionLevel(self, ctx: Context, level):
        raise refuse(omero.InternalException, "These pixels have one resolution only.")

    def getResolutionDescriptions(self, ctx: Context):
        return [omero.api.ResolutionDescription(self.layout.x, self.layout.y)]
