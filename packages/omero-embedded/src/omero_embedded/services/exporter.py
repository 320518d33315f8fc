"""Exporter: an image as OME-TIFF, or only its OME-XML, made by tifffile."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import IO

import numpy as np
import omero
import sqlalchemy as sa
import tifffile

from omero_embedded.errors import refuse
from omero_embedded.files.pyramids import MAX_PLANE
from omero_embedded.kernel import Kernel
from omero_embedded.limits import check_bytes
from omero_embedded.model.access import Context
from omero_embedded.model.schema import schema
from omero_embedded.people.sessions import Session
from omero_embedded.rendering import settings
from omero_embedded.services.registry import StatefulService, service

AXES = "TCZYX"
SYMBOLS = {"MICROMETER": "µm", "NANOMETER": "nm", "MILLIMETER": "mm", "ANGSTROM": "Å", "METER": "m", "PIXEL": "pixel"}


@service("::omero::api::Exporter")
class ExporterService(StatefulService):
    """Clients call addImage, then generateTiff or generateXml, then read."""

    def __init__(self, kernel: Kernel, session: Session):
        super().__init__(kernel, session)
        self._image: int | None = None
        self._file: IO[bytes] | None = None

    def addImage(self, ctx: Context, image):
        if self._image is not None:
            raise refuse(omero.ApiUsageException, "One image can be exported at a time.")
        self._image = image

    def generateTiff(self, ctx: Context):
        """Make the OME-TIFF, and return its size in bytes."""
        source, about = self._source(ctx)
        if source.shape[3] * source.shape[4] > MAX_PLANE * MAX_PLANE:
            raise refuse(omero.ApiUsageException, f"The image {self._image} is too large to be exported as OME-TIFF.")
        file = self._new_file()
        dtype = source.plane(0, 0, 0).dtype.newbyteorder("=")
        tifffile.imwrite(
            file,
            _planes(source, dtype),
            shape=source.shape,
            dtype=dtype,
            ome=True,
            photometric="minisblack",
            metadata={"axes": AXES, **about},
        )
        return file.seek(0, 2)

    def generateXml(self, ctx: Context):
        """Make the OME-XML, and return its size in bytes."""
        source, about = self._source(ctx)
        planes, (height, width) = int(np.prod(source.shape[:3])), source.shape[3:]
        xml = tifffile.OmeXml()
        xml.addimage(
            source.plane(0, 0, 0).dtype.newbyteorder("="),
            source.shape,
            (planes, 1, 1, height, width, 1),
            axes=AXES,
            **about,
        )
        file = self._new_file()
        file.write(xml.tostring(declaration=True).encode())
        return file.tell()

    def read(self, ctx: Context, position, length):
        """Return bytes of the file, fewer at its end."""
        if self._file is None:
            raise refuse(omero.ApiUsageException, "Nothing to read yet: call generateTiff or generateXml first.")
        if position < 0 or length < 0:
            raise refuse(omero.ApiUsageException, "The position or the length is negative.")
        length = min(length, max(0, self._file.seek(0, os.SEEK_END) - position))
        check_bytes(length)
        self._file.seek(position)
        return self._file.read(length)

    def release(self, ctx: Context | None) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _new_file(self) -> IO[bytes]:
        self.release(None)
        self._file = tempfile.NamedTemporaryFile()  # noqa: SIM115  (closed by release; tifffile wants a name)
        return self._file

    def _source(self, ctx: Context) -> tuple[settings.PixelsSource, dict]:
        """Load the pixels of the image, and their metadata in tifffile's form."""
        if self._image is None:
            raise refuse(omero.ApiUsageException, "There is no image to export: call addImage first.")
        images, pixels = schema()["Image"].table, schema()["Pixels"].table
        with self.kernel.store.read() as connection:
            row = (
                connection.execute(
                    sa.select(pixels, images.c.name, images.c.description)
                    .join(images, pixels.c.image == images.c.id)
                    .where(images.c.id == self._image)
                    .order_by(pixels.c.image_index)
                )
                .mappings()
                .first()
            )
            if row is None:
                raise refuse(omero.ValidationException, f"There is no image {self._image}.")
            source = settings.load_source(self.kernel.store, connection, ctx, row["id"])
            names = _channel_names(connection, row["id"])
        about: dict = {"Name": row["name"], "Channel": {"Name": names[: source.shape[1]]}}
        if row["description"]:
            about["Description"] = row["description"]
        for axis in "XYZ":
            size, unit = row[f"physicalSize{axis}"], row[f"physicalSize{axis}_unit"]
            if size is not None and unit in SYMBOLS:
                about[f"PhysicalSize{axis}"], about[f"PhysicalSize{axis}Unit"] = size, SYMBOLS[unit]
        return source, about


def _channel_names(connection: sa.Connection, pixels: int) -> list[str]:
    """The names of the channels; a channel without one gets its number."""
    channel, logical = schema()["Channel"].table, schema()["LogicalChannel"].table
    found = connection.execute(
        sa.select(logical.c.name)
        .select_from(channel.outerjoin(logical, channel.c.logicalChannel == logical.c.id))
        .where(channel.c.pixels == pixels)
        .order_by(channel.c.pixels_index)
    ).scalars()
    return [name or str(number) for number, name in enumerate(found)]


def _planes(source: settings.PixelsSource, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Read all planes (Y, X); z changes fastest, then c, then t."""
    for t, c, z in np.ndindex(*source.shape[:3]):
        yield source.plane(z, c, t).astype(dtype)
