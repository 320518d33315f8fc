"""Shared helpers for the tests of openhcs_omero.omero: plates, and control over every call to the server."""

from collections.abc import Callable

import numpy as np
import omero
import omero.clients
import pytest
from omero.model import ImageI, PlateI, WellI, WellSampleI
from omero.rtypes import rint, rstring

from openhcs_omero.omero import queries
from openhcs_omero.omero.writing import write_well_images
from openhcs_omero.plates.image import NewImage
from openhcs_omero.plates.paths import parse_well

SHAPE = (1, 2, 3, 4, 6)  # (T, C, Z, Y, X)


def block(seed, shape=SHAPE, dtype="uint16"):
    """Pixels that differ between planes and between seeds."""
    return (np.arange(int(np.prod(shape))).reshape(shape) * 3 + seed * 17).astype(dtype)


def make_plate(conn, wells=None, name="plate", shape=SHAPE, dtype="uint16"):
    """Make a plate with `wells[name]` sites per well, as any client would; return its id.

    Site s of the n-th well has the pixels `block(10 * n + s)`.
    """
    group = queries.current_group(conn)
    plate = PlateI()
    plate.name, plate.rows, plate.columns = rstring(name), rint(8), rint(12)
    for n, (well_id, sites) in enumerate((wells or {"A01": 2, "B03": 2}).items()):
        well = WellI()
        well.row, well.column = map(rint, parse_well(well_id))
        images = [NewImage(f"{well_id} {site}", block(10 * n + site, shape, dtype)) for site in range(1, sites + 1)]
        for image in write_well_images(conn, images, "test", group) if images else []:
            sample = WellSampleI()
            sample.image = ImageI(image.image_id, False)
            well.addWellSample(sample)
        plate.addWell(well)
    return queries.update(conn).saveAndReturnObject(plate, queries.context(conn, group)).id.val


def add_well(conn, plate_id, name, image_id):
    """Add a well with one site to a plate."""
    well = WellI()
    well.row, well.column = map(rint, parse_well(name))
    well.plate = PlateI(plate_id, False)
    sample = WellSampleI()
    sample.image = ImageI(image_id, False)
    well.addWellSample(sample)
    queries.update(conn).saveObject(well)


def images_in_no_well(conn):
    """Ids of the images that belong to no well."""
    return [
        row[0]
        for row in queries.rows(
            conn, "select i.id from Image i left outer join i.wellSamples ws where ws.id is null order by i.id"
        )
    ]


def count(conn, *kinds):
    """Number of objects of each class."""
    return {kind: queries.rows(conn, f"select count(x) from {kind} x")[0][0] for kind in kinds}


class Killed(BaseException):
    """Simulates the death of the process: nothing it does afterwards reaches the server."""


class Wire:
    """Records and controls all calls to the server between `start` and `stop`.

    Attributes
    ----------
    calls
        Names of the calls made.
    dies_at
        Number of the first call, from 0, that fails like all later ones; None for never.
    before
        Called with the number of each call before it is made.
    """

    def __init__(self) -> None:
        self.on = False
        self.calls: list[str] = []
        self.dies_at: int | None = None
        self.before: Callable[[int], None] | None = None

    def start(self, dies_at=None, before=None):
        self.on, self.calls, self.dies_at, self.before = True, [], dies_at, before

    def stop(self):
        self.on = False
        return self.calls

    def wrap(self, name, method):
        def call(*args, **kwargs):
            if self.on:
                if self.dies_at is not None and len(self.calls) >= self.dies_at:
                    raise Killed(name)
                self.calls.append(name)
                if self.before:
                    self.before(len(self.calls) - 1)
            return method(*args, **kwargs)

        return call


@pytest.fixture
def wire(monkeypatch):
    """See `Wire`; recording begins with `wire.start()`."""
    made = Wire()
    for module in (omero.api, omero.cmd, omero.grid):
        for prx in [value for name, value in vars(module).items() if isinstance(value, type) and name.endswith("Prx")]:
            for name, method in list(vars(prx).items()):
                if callable(method) and not name.startswith(("_", "begin_", "end_", "ice_")):
                    monkeypatch.setattr(prx, name, made.wrap(name, method))
    return made
