"""Planes read per second: over Ice, and near the data if the server's data folder is accessible.

The data are a well with nine sites. The peers over Ice are polystore's load, BlitzGateway's getPlane, and a loop over
getPlane of one raw pixels store. Near the data, the peer is numpy, which reads the same bytes from the same files but
does not check that they are right.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from omero.gateway import BlitzGateway
from omero.model import ImageI, PlateI, WellI, WellSampleI
from omero.rtypes import rint, rstring
from polystore.omero_local import OMEROLocalBackend as Polystore

from benchmarks.common import BenchServer, Ratio, best, noise
from benchmarks.network import distant
from openhcs_omero.omero import near, queries
from openhcs_omero.omero.connection import connect, disconnect
from openhcs_omero.omero.near import pixels_file
from openhcs_omero.omero.pixels import read_sites
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.server import Server
from openhcs_omero.omero.writing import write_well_images
from openhcs_omero.plates.image import NewImage
from openhcs_omero.plates.structure import ImageStructure

ROUNDS = 8
SIZES = (4, 1080), (2, 512)  # number of channels, and side length in pixels
DELAY = 1.0  # ms that the simulated network adds to each call


def measure(server: BenchServer, quick: bool) -> Iterator[Ratio]:
    sites, rounds = (2, 2) if quick else (9, ROUNDS)
    with server.login() as conn:
        for channels, side in SIZES:
            plate = _make(conn, sites, channels, side)
            try:
                yield from _over_ice(server, conn, plate, rounds)
                if (channels, side) == SIZES[0] and server.data is not None:
                    yield from _near(server, plate, rounds)
            finally:
                queries.delete(conn, queries.current_group(conn), Plate=[plate])


def _over_ice(server: BenchServer, conn: BlitzGateway, plate: int, rounds: int) -> Iterator[Ratio]:
    """Measure reading over Ice: all take turns, and only connections of the same kind are compared."""
    with contextlib.ExitStack() as stack:
        far = stack.enter_context(distant(server, DELAY))
        kinds = {"": (server, True), " without TLS": (server, False), f" {DELAY:g} ms away": (far, True)}
        runs: dict[str, Callable[[], object]] = {}
        for kind, (where, secure) in kinds.items():
            ours = stack.enter_context(_connected(where, secure=secure))
            theirs = stack.enter_context(where.login(secure=secure))
            images = [image for _, image in load_plate(ours, plate).images()]
            runs |= {f"ours{kind}": partial(_ours, ours, images), f"store{kind}": partial(_store, theirs, images)}
        took = best(
            {
                **runs,
                "polystore": lambda: _polystore(conn, plate, images),
                "BlitzGateway": lambda: _gateway(conn, images),
            },
            rounds,
        )
    channels, _, side, _ = images[0].shape[1:]
    planes, what = len(images) * channels, f"read {channels} x {side}² over Ice"
    for peer, named, target in (("polystore", "polystore's load", 10.0), ("BlitzGateway", "getPlane", None)):
        yield Ratio(f"{what}, against {named}", planes / took["ours"], planes / took[peer], "planes/s", target)
    for kind in kinds:
        yield Ratio(
            f"{what}{kind}, against a bare getPlane loop",
            planes / took[f"ours{kind}"],
            planes / took[f"store{kind}"],
            "planes/s",
            None if kind else 1.5,
        )


def _near(server: BenchServer, plate: int, rounds: int) -> Iterator[Ratio]:
    """Measure reading near the data: files on disk, files in the system's cache, and files that were checked before."""
    assert server.data is not None
    with _connected(server, data_dir=str(server.data)) as conn:
        images = [image for _, image in load_plate(conn, plate).images()]
        files = [pixels_file(server.data, image.pixels_id) for image in images]
        planes = len(images) * images[0].size_c

        def first() -> None:
            near._right.clear()
            _ours(conn, images)

        def numpy() -> None:
            for file, image in zip(files, images):
                np.fromfile(file, np.dtype(image.pixel_type).newbyteorder(">")).astype(image.pixel_type)

        cold: dict[str, float] = {}
        for _ in range(rounds):
            for name, run in (("ours", first), ("numpy", numpy)):
                for file in files:
                    _forget(file)
                took = best({name: run}, 1)[name]
                cold[name] = min(took, cold.get(name, took))
        warm = best({"ours": first, "numpy": numpy}, rounds)
        again = best({"ours": lambda: _ours(conn, images), "numpy": numpy}, rounds)
    for what, took, target in (
        ("from disk", cold, 0.7),
        ("from the system's memory", warm, None),
        ("once they were found right", again, None),
    ):
        yield Ratio(
            f"read near the data {what}, against numpy",
            planes / took["ours"],
            planes / took["numpy"],
            "planes/s",
            target,
        )


def _forget(file: os.PathLike[str]) -> None:
    """Make the system drop a file from its cache."""
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def _connected(server: BenchServer, **options: object) -> Iterator[BlitzGateway]:
    """Yield a connection made by this package."""
    where = Server(server.host, server.port, server.user, **options)  # type: ignore[arg-type]
    os.environ["OMERO_PASSWORD"] = server.password
    try:
        yield connect(where)
    finally:
        disconnect(where)


def _ours(conn: BlitzGateway, images: list[ImageStructure]) -> None:
    for _ in read_sites(conn, images):
        pass


def _polystore(conn: BlitzGateway, plate: int, images: list[ImageStructure]) -> None:
    backend = Polystore(omero_conn=conn)
    for image in images:
        for channel in range(1, image.size_c + 1):
            backend.load(f"/omero/plate_{plate}/A01_s{image.site:03d}_w{channel}_z001_t001.tif")


def _gateway(conn: BlitzGateway, images: list[ImageStructure]) -> None:
    for image in images:
        pixels = conn.getObject("Image", image.image_id).getPrimaryPixels()
        for channel in range(image.size_c):
            pixels.getPlane(0, channel, 0)


def _store(conn: BlitzGateway, images: list[ImageStructure]) -> None:
    store = conn.c.sf.createRawPixelsStore()
    try:
        for image in images:
            store.setPixelsId(image.pixels_id, False)
            for channel in range(image.size_c):
                np.frombuffer(store.getPlane(0, channel, 0), ">u2").reshape(image.shape[3:]).astype("u2")
    finally:
        store.close()


def _make(conn: BlitzGateway, sites: int, channels: int, side: int) -> int:
    """Create a plate with one well; return its id."""
    group, plate, well = queries.current_group(conn), PlateI(), WellI()
    plate.name, well.row, well.column = rstring("benchmark reading"), rint(0), rint(0)
    images = [NewImage(f"A01 {site}", noise((1, channels, 1, side, side), site)) for site in range(1, sites + 1)]
    for image in write_well_images(conn, images, "benchmark", group):
        sample = WellSampleI()
        sample.image = ImageI(image.image_id, False)
        well.addWellSample(sample)
    plate.addWell(well)
    return queries.update(conn).saveAndReturnObject(plate, queries.context(conn, group)).id.val
