"""Planes above 3192 x 3192 pixels, which OMERO stores as pyramids, and images of bits."""

import numpy as np
import omero.clients
import pytest
import tifffile
from omero.rtypes import rstring
from test_near import data, see
from wire import make_plate, wire

from openhcs_omero.omero import near, queries
from openhcs_omero.omero.derived import derive_plate
from openhcs_omero.omero.derived_well import write_well
from openhcs_omero.omero.pixels import read_plane, read_site
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.plates.image import NewImage

__all__ = ["data", "see", "wire"]

SHAPE = (1, 1, 1, 3300, 3200)


def test_planes_that_omero_stores_as_pyramids(conn, wire, see, data):
    """They are written tile by tile, and read in stripes or from the server's disk; the server confirms the SHA-1."""
    plate_id = make_plate(conn, {"A01": 1}, shape=(1, 1, 1, 4, 6))
    pixels = np.random.default_rng(1).integers(0, 60_000, SHAPE, "uint16")
    source = load_plate(conn, plate_id)
    derived = derive_plate(conn, source, "processed", {})
    wire.start()
    written = write_well(conn, derived, "A01", {1: NewImage("large", pixels)}, {})
    calls = wire.stop()
    assert calls.count("setTile") == 13 * 13 and not {"setPlane", "setStack", "setTimepoint"} & set(calls)
    image = load_plate(conn, derived).image("A01", 1)
    load_plate(conn, derived).check_types()
    assert image.shape == SHAPE and image.sha1 == written[1].sha1
    see(None)
    wire.start()
    np.testing.assert_array_equal(read_site(conn, image), pixels)
    np.testing.assert_array_equal(read_plane(conn, image, 0, 0, 0), pixels[0, 0, 0])
    assert set(wire.stop()) == {"createRawPixelsStore", "setPixelsId", "getTile"}
    see(data)
    wire.start()
    np.testing.assert_array_equal(read_site(conn, image), pixels)
    assert wire.stop() == []


def test_a_pyramid_on_the_disk_of_a_real_server(conn, see, data, tmp_path, caplog):
    """There it is a tiled TIFF. It is read if it has the SHA-1 of the server, and over the network otherwise."""
    pixels = np.random.default_rng(2).integers(0, 99, SHAPE, "uint8")
    plate_id = make_plate(conn, {"A01": 1}, shape=(1, 1, 1, 4, 6))
    derived = derive_plate(conn, load_plate(conn, plate_id), "processed", {})
    write_well(conn, derived, "A01", {1: NewImage("large", pixels)}, {})
    image = load_plate(conn, derived).image("A01", 1)
    file = near.own_file(tmp_path, image)
    file.parent.mkdir(parents=True)
    see(tmp_path)
    for number, wrong in enumerate((False, True)):
        with tifffile.TiffWriter(file, byteorder=">") as tiff:
            tiff.write(pixels[0, 0, 0] + wrong, tile=(256, 256), compression="zlib", subifds=1)
            tiff.write(pixels[0, 0, 0, ::2, ::2], tile=(256, 256), subfiletype=1)
        np.testing.assert_array_equal(read_site(conn, image), pixels)
        assert sum("read over the network" in record.message for record in caplog.records) == number


@pytest.mark.parametrize("whole", [True, False])
def test_bits_are_read_as_0_and_1(conn, whole):
    plate_id = make_plate(conn, {"A01": 1}, shape=(1, 1, 1, 4, 6), dtype="uint8")
    image = load_plate(conn, plate_id).image("A01", 1)
    before = read_site(conn, image)
    before[...] = before > 0
    pixels = queries.query(conn).get("Pixels", image.pixels_id)
    pixels.pixelsType = omero.model.PixelsTypeI()
    pixels.pixelsType.value = rstring("bit")
    queries.update(conn).saveObject(pixels)
    plate = load_plate(conn, plate_id)
    plate.check_types()
    bits = plate.image("A01", 1)
    found = read_site(conn, bits) if whole else read_plane(conn, bits, 0, 0, 0)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, before if whole else before[0, 0, 0])
