"""Plates for tests, made over the wire as any client makes them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike
    from omero.gateway import BlitzGateway
    from omero.model import Image, Plate

Shape = tuple[int, int, int, int, int]  # (T, C, Z, Y, X)
WELLS_AT_ONCE = 96  # OMERO refuses messages over 250 MB, and answers slowly to large ones


def site_pixels(row: int, column: int, site: int, shape: Shape, dtype: DTypeLike = "uint16") -> np.ndarray:
    """Return the pixels that `make_plate` gives a site.

    Sites differ from each other, and so do the planes of a site.

    Parameters
    ----------
    row, column, site
        Place of the site, each counted from 0.
    shape
        Sizes as (T, C, Z, Y, X).
    dtype
        Pixel type, such as "uint8", "uint16" or "float32".

    Returns
    -------
    ndarray, shape (T, C, Z, Y, X)
        In C order, numbers that go up by one, from ``7919 * row + 613 * column + 47 * site``. Where an integer type
        ends, they start again at its smallest value.
    """
    first = 7919 * row + 613 * column + 47 * site
    return np.arange(first, first + int(np.prod(shape))).reshape(shape).astype(dtype)


def make_plate(
    conn: BlitzGateway, rows: int, columns: int, sites: int, shape: Shape, dtype: DTypeLike, name: str
) -> int:
    """Make a plate with an image for each site, owned by the user of `conn`; see `OmeroServer.make_plate`.

    Raises
    ------
    ValueError
        If there would be no well or no pixel, or OMERO has no such pixel type.
    """
    if min(rows, columns, sites, *shape) < 1 or len(shape) != 5:
        raise ValueError(
            "a plate needs at least one row, one column and one site, and a shape (T, C, Z, Y, X) of "
            f"positive numbers, not {rows} rows, {columns} columns, {sites} sites and the shape {shape}"
        )
    pixel_type = _pixel_type(np.dtype(dtype))
    update, context = conn.getUpdateService(), conn.SERVICE_OPTS
    plate_id = update.saveAndReturnObject(_plate(name, rows, columns), context).id.val
    places = list(product(range(rows), range(columns)))
    for start in range(0, len(places), WELLS_AT_ONCE):
        wells = [
            _well(plate_id, row, column, sites, shape, pixel_type)
            for row, column in places[start : start + WELLS_AT_ONCE]
        ]
        update.saveArray(wells, context)
    _write_pixels(conn, plate_id, shape, np.dtype(dtype))
    return plate_id


def _pixel_type(dtype: np.dtype) -> str:
    """OMERO's name of a pixel type."""
    known = {"float32": "float", "float64": "double", "complex64": "complex", "complex128": "double-complex"}
    name = known.get(dtype.name, dtype.name)
    if name not in {*known.values(), "int8", "uint8", "int16", "uint16", "int32", "uint32"}:
        raise ValueError(f"OMERO has no pixel type {dtype.name}")
    return name


def _plate(name: str, rows: int, columns: int) -> Plate:
    import omero.gateway
    from omero.rtypes import rint, rstring

    plate = omero.model.PlateI()
    plate.name, plate.rows, plate.columns = rstring(name), rint(rows), rint(columns)
    plate.columnNamingConvention, plate.rowNamingConvention = rstring("number"), rstring("letter")
    return plate


def _well(plate_id: int, row: int, column: int, sites: int, shape: Shape, pixel_type: str):
    import omero
    from omero.rtypes import rint

    well = omero.model.WellI()
    well.plate = omero.model.PlateI(plate_id, False)
    well.row, well.column = rint(row), rint(column)
    for site in range(sites):
        sample = omero.model.WellSampleI()
        sample.image = _image(f"row {row}, column {column}, site {site}", shape, pixel_type)
        well.addWellSample(sample)
    return well


def _image(name: str, shape: Shape, pixel_type: str) -> Image:
    import omero
    from omero.rtypes import rint, rstring

    pixels = omero.model.PixelsI()
    pixels.sizeT, pixels.sizeC, pixels.sizeZ, pixels.sizeY, pixels.sizeX = map(rint, shape)
    pixels.sha1, pixels.significantBits = rstring("Pending..."), None
    pixels.pixelsType, pixels.dimensionOrder = omero.model.PixelsTypeI(), omero.model.DimensionOrderI()
    pixels.pixelsType.value, pixels.dimensionOrder.value = rstring(pixel_type), rstring("XYZCT")
    for number in range(shape[1]):
        channel = omero.model.ChannelI()
        channel.logicalChannel = omero.model.LogicalChannelI()
        channel.logicalChannel.name = rstring(f"channel {number}")
        pixels.addChannel(channel)
    image = omero.model.ImageI()
    image.name = rstring(name)
    image.addPixels(pixels)
    return image


def _sites(conn: BlitzGateway, plate_id: int) -> Iterator[tuple[int, int, int, int]]:
    """The id of each site's pixels, with row, column and site."""
    import omero
    from omero.rtypes import unwrap

    found = unwrap(
        conn.getQueryService().projection(
            "select w.id, w.row, w.column, p.id from WellSample s join s.well w join s.image i join i.pixels p"
            " where w.plate.id = :plate order by w.id, s.id",
            omero.sys.ParametersI().addLong("plate", plate_id),
            conn.SERVICE_OPTS,
        )
    )
    last, site = None, 0
    for well, row, column, pixels in found:
        site = site + 1 if well == last else 0
        last = well
        yield pixels, row, column, site


def _write_pixels(conn: BlitzGateway, plate_id: int, shape: Shape, dtype: np.dtype) -> None:
    sites = list(_sites(conn, plate_id))
    store = conn.c.sf.createRawPixelsStore(conn.SERVICE_OPTS)
    try:
        for pixels, row, column, site in sites:
            store.setPixelsId(pixels, False, conn.SERVICE_OPTS)
            block = site_pixels(row, column, site, shape, dtype).astype(dtype.newbyteorder(">"))
            for t, c, z in product(*map(range, shape[:3])):
                store.setPlane(block[t, c, z].tobytes(), z, c, t, conn.SERVICE_OPTS)
            store.save(conn.SERVICE_OPTS)
    finally:
        store.close()
