"""Planes written per second, and the calls and bytes that this takes, for one well of nine sites at a time.

In the comparison with polystore's save_batch, this package's save_batch writes the images to a derived plate, where
they are visible at the end. In the comparison with a plain createImageFromNumpySeq loop, the images belong to no well.
"""

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from itertools import count

import psutil
from omero.gateway import BlitzGateway
from omero.model import PlateI, WellI, WellSampleI
from omero.rtypes import rint, rstring
from polystore.omero_local import OMEROLocalBackend as Polystore

from benchmarks.common import BenchServer, Ratio, best, counted_calls, noise, wells_of
from benchmarks.opening import plain_image
from openhcs_omero.io.omero_local import OMEROLocalBackend
from openhcs_omero.omero import queries
from openhcs_omero.omero.derived import find_derived
from openhcs_omero.omero.writing import write_well_images
from openhcs_omero.plates.image import NewImage
from openhcs_omero.plates.paths import parse_well

SITES = 9


def measure(server: BenchServer, quick: bool) -> Iterator[Ratio]:
    with tempfile.TemporaryDirectory(prefix="openhcs-bench-") as home, server.login() as conn:
        before = os.environ.get("HOME")
        os.environ["HOME"] = home  # polystore keeps its locks there
        try:
            for channels, side in ((2, 512),) if quick else ((2, 512), (4, 1080)):
                yield from _measure(conn, channels, side, 2 if quick else 5)
        finally:
            os.environ.pop("HOME")
            if before is not None:
                os.environ["HOME"] = before


def _measure(conn: BlitzGateway, channels: int, side: int, rounds: int) -> Iterator[Ratio]:
    sites = [noise((1, channels, 1, side, side), site) for site in range(SITES)]
    source, label, images = _source(conn), f"benchmark {uuid.uuid4().hex[:8]}", []
    ours, peer = OMEROLocalBackend(omero_conn=conn), Polystore(omero_conn=conn)
    wells = {name: (well for well in wells_of(96)) for name in ("ours", "polystore")}
    number = count()

    def save_batch() -> None:
        well = next(wells["ours"])
        paths = [
            f"/omero/plate_{source}_bench/{well}/{well}_s{site:03d}_z000_c{c:03d}.tif"
            for site in range(1, SITES + 1)
            for c in range(channels)
        ]
        ours.save_batch([plane for site in sites for plane in site[0, :, 0]], paths)

    def polystore() -> None:
        well = next(wells["polystore"])
        paths = [
            f"/omero/plate_{source}_outputs/images/{well}_s{site:03d}_w{c}_z001_t001.tif"
            for site in range(1, SITES + 1)
            for c in range(1, channels + 1)
        ]
        peer.save_batch([plane for site in sites for plane in site[0, :, 0]], paths)

    def write_images() -> None:
        new = [NewImage(f"{label} {next(number)}", site) for site in sites]
        written = write_well_images(conn, new, "benchmark", queries.current_group(conn))
        images.extend(image.image_id for image in written)

    def numpy_seq() -> None:
        for site in sites:
            made = conn.createImageFromNumpySeq(iter(site[0, :, 0]), f"{label} {next(number)}", sizeC=channels)
            images.append(made.getId())

    runs: dict[str, Callable[[], None]] = {
        "ours": save_batch,
        "polystore": polystore,
        "images": write_images,
        "numpy seq": numpy_seq,
    }
    calls, sent = {}, {}
    for run in runs.values():
        run()  # creates the derived plates
    for name, run in runs.items():
        before = psutil.net_io_counters().bytes_sent
        with counted_calls() as counted:
            run()
        calls[name] = counted.total() / SITES
        sent[name] = (psutil.net_io_counters().bytes_sent - before) / SITES
    took = best(runs, rounds)
    _clean(conn, source, images)
    planes, what = SITES * channels, f"write {channels} x {side} x {side}"
    for mine, theirs, named, target in (
        ("ours", "polystore", "polystore's save_batch", 3),
        ("images", "numpy seq", "a createImageFromNumpySeq loop", 2),
    ):
        yield Ratio(f"{what}, against {named}", planes / took[mine], planes / took[theirs], "planes/s", target)
        yield Ratio(f"{what}, against {named}", calls[mine], calls[theirs], "calls/image", None, "less")
        yield Ratio(f"{what}, against {named}", sent[mine] / 1e6, sent[theirs] / 1e6, "MB/image", None, "less")


def _source(conn: BlitzGateway) -> int:
    """Create a plate whose wells each have one image without pixels; return its id."""
    plate = PlateI()
    plate.name = rstring("benchmark writing")
    for name in wells_of(96):
        well = WellI()
        well.row, well.column = map(rint, parse_well(name))
        sample = WellSampleI()
        sample.image = plain_image(name)
        well.addWellSample(sample)
        plate.addWell(well)
    group = queries.context(conn, queries.current_group(conn))
    return queries.update(conn).saveAndReturnObject(plate, group).id.val


def _clean(conn: BlitzGateway, source: int, images: list[int]) -> None:
    theirs = queries.rows(conn, "select p.id from Plate p where p.name = :name", name=f"plate_{source}_outputs_images")
    derived = find_derived(conn, source, "bench")
    plates = [source, *(row[0] for row in theirs), *([derived] if derived else [])]
    queries.delete(conn, queries.current_group(conn), Plate=plates, Image=images)
