"""IProjection: the sections of a stack as one plane."""

from __future__ import annotations

import numpy as np
import omero
import omero.constants.projection
import sqlalchemy as sa
from omero.rtypes import rint

from omero_embedded.errors import refuse
from omero_embedded.files.pyramids import is_pyramid
from omero_embedded.files.store import write_at
from omero_embedded.kernel import Kernel
from omero_embedded.model.access import Context
from omero_embedded.model.events import insert, new_event
from omero_embedded.people.sessions import Session
from omero_embedded.rendering.pictures import DTYPES, project_sections
from omero_embedded.rendering.settings import PixelsSource, load_source
from omero_embedded.services.pixels import PixelsService
from omero_embedded.services.registry import service

METHODS = {"MAXIMUMINTENSITY": "maximum", "MEANINTENSITY": "mean", "SUMINTENSITY": "sum"}
METHODOLOGIES = {
    "maximum": "MAXIMUM_INTENSITY_PROJECTION",
    "mean": "MEAN_INTENSITY_PROJECTION",
    "sum": "SUM_INTENSITY_PROJECTION",
}


@service("::omero::api::IProjection")
class ProjectionService:
    def __init__(self, kernel: Kernel, session: Session):
        self.kernel, self.schema = kernel, kernel.schema
        self._pixels = PixelsService(kernel, session)

    def projectStack(self, ctx: Context, pixels, pixels_type, algorithm, t, c, step, start, end):
        """Project one stack to a plane of big-endian bytes."""
        source = self._source(ctx, pixels, step, start, end)
        if not (0 <= t < source.shape[0] and 0 <= c < source.shape[1]):
            raise refuse(omero.ValidationException, f"There is no stack of channel {c} and timepoint {t}.")
        kind, _ = self._kind(source, pixels_type)
        return _plane(source, kind, METHODS[str(algorithm)], c, t, step, start, end).tobytes()

    def projectPixels(
        self, ctx: Context, pixels, pixels_type, algorithm, first, last, channels, step, start, end, name
    ):
        """Create an image of projected stacks, and return its id."""
        source = self._source(ctx, pixels, step, start, end)
        if not 0 <= first <= last < source.shape[0]:
            raise refuse(omero.ValidationException, f"There are no timepoints {first} to {last}.")
        if is_pyramid(source.shape[4], source.shape[3]):
            raise refuse(omero.InternalException, "Projections of pyramids can't be written.")
        how, (kind, kind_id) = METHODS[str(algorithm)], self._kind(source, pixels_type)
        table = self.schema["Pixels"].table
        with self.kernel.store.read() as connection:
            row = connection.execute(sa.select(table.c.image).where(table.c.id == pixels)).scalar_one()
            images = self.schema["Image"].table
            label = connection.execute(sa.select(images.c.name).where(images.c.id == row)).scalar()
        made = self._pixels.copyAndResizeImage(
            ctx, row, None, None, rint(1), rint(last - first + 1), channels, name or f"{label} Projection", False
        ).val
        planes = np.stack(
            [[_plane(source, kind, how, c, t, step, start, end) for c in channels] for t in range(first, last + 1)]
        )  # (T, C, Y, X)
        self._write(ctx, made, kind_id, METHODOLOGIES[how], planes)
        return made

    def _write(self, ctx: Context, image: int, kind: int, methodology: str, planes: np.ndarray) -> None:
        """Write the planes (T, C, Y, X) of a new image, its pixels type, and the range of each channel."""
        pixels, channel = self.schema["Pixels"].table, self.schema["Channel"].table
        with self.kernel.store.read() as connection:
            oid = connection.execute(sa.select(pixels.c.id).where(pixels.c.image == image)).scalar_one()
        with self.kernel.store.making_file("pixels", oid) as path:
            file = self.kernel.store.open_file(path, create=True)
            try:
                write_at(file, planes.tobytes(), 0)
            finally:
                self.kernel.store.close_file(file)
        with self.kernel.store.write() as connection:
            event = new_event(connection, ctx)
            connection.execute(
                pixels.update()
                .where(pixels.c.id == oid)
                .values(pixelsType=kind, methodology=methodology, _updateEvent=event)
            )
            for index in range(planes.shape[1]):
                stats = insert(
                    connection,
                    ctx,
                    self.schema["StatsInfo"],
                    {"globalMin": float(planes[:, index].min()), "globalMax": float(planes[:, index].max())},
                    event,
                )
                connection.execute(
                    channel.update()
                    .where(channel.c.pixels == oid, channel.c.pixels_index == index)
                    .values(statsInfo=stats)
                )

    def _source(self, ctx: Context, pixels: int, step: int, start: int, end: int) -> PixelsSource:
        with self.kernel.store.read() as connection:
            source = load_source(self.kernel.store, connection, ctx, pixels)
        if min(start, end) < 0 or max(start, end) >= source.shape[2] or step < 1:
            raise refuse(omero.ValidationException, f"There are no sections {start} to {end} in steps of {step}.")
        return source

    def _kind(self, source: PixelsSource, given) -> tuple[str, int]:
        """The name and the id of the pixels type that is asked for, or of the source's."""
        table = self.schema["PixelsType"].table
        wanted = table.c.value == source.kind if given is None or given.id is None else table.c.id == given.id.val
        with self.kernel.store.read() as connection:
            return tuple(connection.execute(sa.select(table.c.value, table.c.id).where(wanted)).one())


def _plane(source: PixelsSource, kind: str, how: str, c: int, t: int, step: int, start: int, end: int) -> np.ndarray:
    """Project one stack to (Y, X) of a pixels type, cut to what that can hold."""
    found = project_sections(source.stack(c, t), how, start, end, step)
    dtype = np.dtype(DTYPES[kind])
    if dtype.kind in "iu":
        found = np.clip(found, np.iinfo(dtype).min, np.iinfo(dtype).max)
    return found.astype(dtype)
