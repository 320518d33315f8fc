"""Planes a second that are read: over Ice, and near the data where the server's data folder is seen.

A well of sites of four channels. The peers over Ice are polystore's load, BlitzGateway's getPlane and a loop over
getPlane of one raw pixels store; near the data it is numpy, which reads the same bytes from the same files without
asking whether they are right.
"""

import contextlib
import os
from collections.abc import Iterator

import numpy as np
from omero.gateway import BlitzGateway
from omero.model import ImageI, PlateI, WellI, WellSampleI
from omero.rtypes import rint, rstring
from polystore.omero_local import OMEROLocalBackend as Polystore

from benchmarks.common import BenchServer, Ratio, best, noise
from openhcs_omero.omero import near, services
from openhcs_omero.omero.connection import Server, connect, disconnect
from openhcs_omero.omero.near import pixels_file
from openhcs_omero.omero.pixels import NewImage, read_sites, write_well_images
from openhcs_omero.omero.plate import ImageStructure, load_plate

CHANNELS, SIDE = 4, 1080


def measure(server: BenchServer, quick: bool) -> Iterator[Ratio]:
    sites, rounds = (2, 2) if quick else (9, 7)
    planes = sites * CHANNELS
    with server.login() as conn:
        plate = _make(conn, sites)
        try:
            with _connected(server, secure=True) as ours, _connected(server, secure=False) as unencrypted:
                images = [image for _, image in load_plate(ours, plate).images()]
                took = best({
                    "ours": lambda: _ours(ours, images), "without TLS": lambda: _ours(unencrypted, images),
                    "store": lambda: _store(conn, images)}, rounds)
                took |= best({  # a hundred times the calls: a few rounds must do
                    "polystore": lambda: _polystore(conn, plate, sites),
                    "BlitzGateway": lambda: _gateway(conn, images)}, 2)
            for peer, named, target in (("polystore", "polystore's load", 10.0), ("BlitzGateway", "getPlane", None),
                                        ("store", "a bare getPlane loop", 1.5)):
                yield Ratio(f"read over Ice, against {named}", planes / took["ours"], planes / took[peer], "planes/s",
                            target)
            yield Ratio("read over Ice without TLS, against a bare getPlane loop", planes / took["without TLS"],
                        planes / took["store"], "planes/s")
            if server.data is not None:
                yield from _near(server, plate, planes, rounds)
        finally:
            services.delete(conn, services.current_group(conn), Plate=[plate])


def _near(server: BenchServer, plate: int, planes: int, rounds: int) -> Iterator[Ratio]:
    """Files that the disk has to be asked for, such as the system has in memory, such as were found right before."""
    assert server.data is not None
    with _connected(server, data_dir=str(server.data)) as conn:
        images = [image for _, image in load_plate(conn, plate).images()]
        files = [pixels_file(server.data, image.pixels_id) for image in images]

        def first(cold: bool) -> None:
            near._right.clear()
            _ours(conn, images)

        def numpy() -> None:
            for file, image in zip(files, images):
                np.fromfile(file, np.dtype(image.pixel_type).newbyteorder(">")).astype(image.pixel_type)

        cold: dict[str, float] = {}
        for _ in range(rounds):
            for name, run in (("ours", lambda: first(True)), ("numpy", numpy)):
                for file in files:
                    _forget(file)
                took = best({name: run}, 1)[name]
                cold[name] = min(took, cold.get(name, took))
        warm = best({"ours": lambda: first(False), "numpy": numpy}, rounds)
        again = best({"ours": lambda: _ours(conn, images), "numpy": numpy}, rounds)
    for what, took, target in (("from disk", cold, 0.7), ("from the system's memory", warm, None),
                               ("once they were found right", again, None)):
        yield Ratio(f"read near the data {what}, against numpy", planes / took["ours"], planes / took["numpy"],
                    "planes/s", target)


def _forget(file: os.PathLike[str]) -> None:
    """Have the system drop a file from its memory."""
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def _connected(server: BenchServer, **options: object) -> Iterator[BlitzGateway]:
    """A connection of this package."""
    where = Server(server.host, server.port, server.user, **options)  # type: ignore[arg-type]
    os.environ["OMERO_PASSWORD"] = server.password
    try:
        yield connect(where)
    finally:
        disconnect(where)


def _ours(conn: BlitzGateway, images: list[ImageStructure]) -> None:
    for _ in read_sites(conn, images):
        pass


def _polystore(conn: BlitzGateway, plate: int, sites: int) -> None:
    backend = Polystore(omero_conn=conn)
    for site in range(1, sites + 1):
        for channel in range(1, CHANNELS + 1):
            backend.load(f"/omero/plate_{plate}/A01_s{site:03d}_w{channel}_z001_t001.tif")


def _gateway(conn: BlitzGateway, images: list[ImageStructure]) -> None:
    for image in images:
        pixels = conn.getObject("Image", image.image_id).getPrimaryPixels()
        for channel in range(CHANNELS):
            pixels.getPlane(0, channel, 0)


def _store(conn: BlitzGateway, images: list[ImageStructure]) -> None:
    store = conn.c.sf.createRawPixelsStore()
    try:
        for image in images:
            store.setPixelsId(image.pixels_id, False)
            for channel in range(CHANNELS):
                np.frombuffer(store.getPlane(0, channel, 0), ">u2").reshape(SIDE, SIDE).astype("u2")
    finally:
        store.close()


def _make(conn: BlitzGateway, sites: int) -> int:
    """A plate of one well; its id."""
    group, plate, well = services.current_group(conn), PlateI(), WellI()
    plate.name, well.row, well.column = rstring("benchmark reading"), rint(0), rint(0)
    images = [NewImage(f"A01 {site}", noise((1, CHANNELS, 1, SIDE, SIDE), site)) for site in range(1, sites + 1)]
    for image in write_well_images(conn, images, "benchmark", group):
        sample = WellSampleI()
        sample.image = ImageI(image.image_id, False)
        well.addWellSample(sample)
    plate.addWell(well)
    return services.update(conn).saveAndReturnObject(plate, services.context(conn, group)).id.val
