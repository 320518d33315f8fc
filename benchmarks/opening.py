"""The time and the number of calls to read the structure of a plate, with 9 sites per well and no pixels.

The peers are polystore's OMEROLocalBackend and a loop over BlitzGateway's listChildren that reads the same information.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from omero.gateway import BlitzGateway
from omero.model import ChannelI, ImageI, LogicalChannelI, PixelsI, PlateI, WellI, WellSampleI
from omero.model import DimensionOrderI as OrderI
from omero.model import PixelsTypeI as TypeI
from omero.rtypes import rint, rstring
from polystore.omero_local import OMEROLocalBackend as Polystore

from benchmarks.common import BenchServer, Ratio, best, counted_calls, wells_of
from openhcs_omero.omero import queries
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.plates.paths import parse_well

SITES, CHANNELS = 9, 2
WELLS_A_SAVE = 32
ROUNDS = {96: 3, 384: 2, 1536: 1}  # by number of wells: the peers take minutes for the largest


def measure(server: BenchServer, quick: bool) -> Iterator[Ratio]:
    calls = []
    for wells in (96,) if quick else ROUNDS:
        with server.login() as conn:
            queries.query(conn)  # queried once per session
            plate = _make(conn, wells)
            runs: dict[str, Callable[[], object]] = {
                "ours": lambda conn=conn, plate=plate: load_plate(conn, plate).list_paths(),
                "polystore": lambda conn=conn, plate=plate: _polystore(conn, plate),
                "BlitzGateway": lambda conn=conn, plate=plate: _gateway(conn, plate),
            }
            counts: dict[str, int] = {}
            try:
                with counted_calls() as counted:
                    took = best(
                        {name: partial(_count, counts, counted, name, run) for name, run in runs.items()},
                        1 if quick else ROUNDS[wells],
                    )
            finally:
                queries.delete(conn, queries.current_group(conn), Plate=[plate])
        for peer in ("polystore", "BlitzGateway"):
            target = 50 if peer == "polystore" and wells == 384 else None
            what = f"open {wells} x {SITES}, against {peer}"
            yield Ratio(what, 1 / took["ours"], 1 / took[peer], "plates/s", target)
            yield Ratio(what, counts["ours"], counts[peer], "calls", None, "less")
        calls.append(counts["ours"])
    yield Ratio("calls for the largest plate, against the smallest", calls[-1], calls[0], "calls", 1, "less")


def _count(counts: dict[str, int], counted: Counter[str], name: str, run: Callable[[], object]) -> None:
    counted.clear()
    run()
    counts[name] = counted.total()


def _polystore(conn: BlitzGateway, plate: int) -> list[str]:
    return Polystore(omero_conn=conn).list_files(f"/omero/plate_{plate}")


def _gateway(conn: BlitzGateway, plate: int) -> list[tuple[Any, ...]]:
    return [
        (
            well.row,
            well.column,
            index,
            image.getId(),
            image.getSizeZ(),
            image.getSizeC(),
            image.getSizeT(),
            image.getSizeY(),
            image.getSizeX(),
        )
        for well in conn.getObject("Plate", plate).listChildren()
        for index, sample in enumerate(well.listChildren())
        for image in (sample.getImage(),)
    ]


def _make(conn: BlitzGateway, wells: int) -> int:
    """Create a plate whose images have database rows but no pixels; return its id."""
    save, group = queries.update(conn), queries.context(conn, queries.current_group(conn))
    plate = PlateI()
    plate.name = rstring(f"benchmark {uuid.uuid4().hex[:8]}")
    plate = PlateI(save.saveAndReturnObject(plate, group).id.val, False)
    names = wells_of(wells)
    for begin in range(0, wells, WELLS_A_SAVE):
        made = []
        for name in names[begin : begin + WELLS_A_SAVE]:
            well = WellI()
            well.plate = plate
            well.row, well.column = map(rint, parse_well(name))
            for site in range(1, SITES + 1):
                sample = WellSampleI()
                sample.image = plain_image(f"{name} {site}")
                well.addWellSample(sample)
            made.append(well)
        save.saveAndReturnIds(made, group)
    return plate.id.val


def plain_image(name: str) -> ImageI:
    """Make an image object for the database, without saving it."""
    image, pixels = ImageI(), PixelsI()
    image.name, pixels.sha1 = rstring(name), rstring("Pending...")
    pixels.sizeX, pixels.sizeY, pixels.sizeZ, pixels.sizeC, pixels.sizeT = map(rint, (2160, 2160, 1, CHANNELS, 1))
    pixels.pixelsType, pixels.dimensionOrder = TypeI(), OrderI()
    pixels.pixelsType.value, pixels.dimensionOrder.value = rstring("uint16"), rstring("XYZCT")
    for _ in range(CHANNELS):
        channel = ChannelI()
        channel.logicalChannel = LogicalChannelI()
        pixels.addChannel(channel)
    image.addPixels(pixels)
    return image
