"""Reading pixels from the server's disk: the same as over Ice, and over Ice wherever that can't be verified."""

import dataclasses
import errno
import hashlib
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from omero.model import FilesetEntryI, FilesetI, OriginalFileI
from omero.rtypes import rint, rlong, rstring
from test_cli import Shell
from wire import SHAPE, block, make_plate, wire

from openhcs_omero.errors import PlateError
from openhcs_omero.omero import connection, near, queries
from openhcs_omero.omero.near import pixels_file, ways
from openhcs_omero.omero.pixels import close_store, read_plane, read_site, read_sites
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.server import Server
from openhcs_omero.plates.pixeltypes import OMERO_NAMES

__all__ = ["wire"]


@pytest.fixture
def see(conn, monkeypatch):
    """`see(folder)` makes this process find the server's data there, as if it had just started; None means nowhere."""

    def begin(folder):
        close_store()
        monkeypatch.setitem(connection.POOL._servers, conn, Server(data_dir=folder and str(folder)))
        monkeypatch.setattr(near, "_warned", False)
        monkeypatch.setattr(near, "_right", set())
        monkeypatch.setattr(near, "_filesets", {})
        monkeypatch.setattr(near, "_places", {})

    return begin


@pytest.fixture
def data(omero_server):
    if omero_server.data is None:
        pytest.skip("a real server's data folder is not at hand")
    return omero_server.data


def image_of(conn, **options):
    return load_plate(conn, make_plate(conn, {"A01": 1}, **options)).image("A01", 1)


@pytest.mark.parametrize("dtype", OMERO_NAMES)
def test_all_pixel_types_are_the_same_as_over_ice(conn, wire, see, data, dtype):
    image = image_of(conn, dtype=dtype)
    see(None)
    expected = read_site(conn, image)
    see(data)
    wire.start()
    site = read_site(conn, image)
    assert wire.stop() == []
    assert site.dtype == expected.dtype == np.dtype(dtype) and np.array_equal(site, expected)
    assert site.flags.writeable and np.array_equal(site, block(1, dtype=dtype))


def test_planes_are_read_from_the_disk_from_the_second_one_on(conn, wire, see, data):
    image = image_of(conn)
    see(data)
    wire.start()
    planes = [read_plane(conn, image, z, 1, 0) for z in range(3)]
    assert wire.stop() == ["createRawPixelsStore", "setPixelsId", "getPlane"]
    assert np.array_equal(planes, block(1)[0, 1])
    alone = image_of(conn, shape=(1, 1, 1, 4, 6))
    wire.start()
    assert np.array_equal(read_plane(conn, alone, 0, 0, 0), block(1, (1, 1, 1, 4, 6))[0, 0, 0])
    assert "getPlane" not in wire.stop()


@pytest.mark.parametrize("dtype", ["bit", "complex", "double-complex"])
def test_other_types_are_refused(conn, see, data, dtype):
    image = dataclasses.replace(image_of(conn), pixel_type=dtype)
    see(data)
    with pytest.raises(PlateError, match=f"pixels of type '{dtype}'"):
        read_site(conn, image)
    assert list(ways(conn, [image])) == [f"over the network: pixels of type {dtype} can't be processed"]


@pytest.mark.parametrize(
    "what, says",
    [
        ("no folder", "no data folder of an OMERO server"),
        ("nothing", "no file under Pixels/"),
        ("truncated", "another size"),
        ("zeros", "not the server's"),
        ("one byte", "not the server's"),
    ],
)
def test_a_wrong_mount_falls_back_with_one_warning(conn, see, data, tmp_path, caplog, what, says):
    plate = load_plate(conn, make_plate(conn, {"A01": 2}))
    images = [plate.image("A01", site) for site in (1, 2)]
    for image in images if what != "no folder" else []:
        file, real = pixels_file(tmp_path, image.pixels_id), pixels_file(data, image.pixels_id).read_bytes()
        file.parent.mkdir(parents=True, exist_ok=True)
        wrong = {"truncated": real[:-1], "zeros": bytes(len(real)), "one byte": real[:-1] + b"\x7e"}
        if what in wrong:
            file.write_bytes(wrong[what])
    see(tmp_path)
    with caplog.at_level(logging.WARNING):
        for site, image in enumerate(images, 1):
            assert np.array_equal(read_site(conn, image), block(site))
            for z in range(3):
                assert np.array_equal(read_plane(conn, image, z, 0, 0), block(site)[0, 0, z])
    (said,) = [record.getMessage() for record in caplog.records]
    assert says in said and str(tmp_path) in said and f"image {images[0].image_id} " in said
    (way,) = ways(conn, images)
    assert says in way and "over the network" in way


def failing(real, folder, error):
    """`real`, but failing for paths below `folder`."""

    def call(path, *args, **kwargs):
        if str(path).startswith(str(folder)):
            raise OSError(error, os.strerror(error), str(path))
        return real(path, *args, **kwargs)

    return call


@pytest.mark.parametrize("error", [errno.ESTALE, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("where", ["stat", "stat of a file", "open", "open a TIFF"])
def test_a_mount_that_fails_falls_back_with_one_warning(conn, see, data, tmp_path, caplog, monkeypatch, where, error):
    if where == "open a TIFF":
        images, blocks = imported(conn, tmp_path, write_planes)
    else:
        plate = load_plate(conn, make_plate(conn, {"A01": 2}))
        images, blocks = [image for _, image in plate.images()], [block(1), block(2)]
        for image in images:
            pixels_file(tmp_path, image.pixels_id).parent.mkdir(parents=True, exist_ok=True)
            pixels_file(tmp_path, image.pixels_id).write_bytes(pixels_file(data, image.pixels_id).read_bytes())
    see(tmp_path)
    assert list(ways(conn, images)) == [f"from {tmp_path / ('ManagedRepository' if 'TIFF' in where else 'Pixels')}"]
    see(tmp_path)
    if where == "open":
        monkeypatch.setattr(Path, "open", failing(Path.open, tmp_path, error))
    elif where == "open a TIFF":
        monkeypatch.setattr(tifffile, "TiffFile", failing(tifffile.TiffFile, tmp_path, error))
    else:
        folder = tmp_path if where == "stat" else f"{tmp_path}/Pixels/"
        monkeypatch.setattr(os, "stat", failing(os.stat, folder, error))
    with caplog.at_level(logging.WARNING):
        for image, pixels in zip(images, blocks):
            assert np.array_equal(read_site(conn, image), pixels)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "can't be read" in said and os.strerror(error) in said
    (way,) = ways(conn, images)
    assert os.strerror(error) in way and "over the network" in way


def test_errors_of_the_server_are_not_blamed_on_the_mount(conn, see, data, tmp_path, monkeypatch):
    (tmp_path / "Pixels").mkdir()
    image = image_of(conn)
    see(tmp_path)
    monkeypatch.setattr(queries, "rows", failing(queries.rows, "", errno.EIO))
    with pytest.raises(OSError):
        read_site(conn, image)


def copied(image, data, folder):
    """Copy the image's file into another data folder; return the copy."""
    file = pixels_file(folder, image.pixels_id)
    file.parent.mkdir(parents=True)
    file.write_bytes(pixels_file(data, image.pixels_id).read_bytes())
    return file


def test_a_file_that_changes_after_its_check_is_checked_again(conn, see, data, tmp_path):
    image = image_of(conn)
    file = copied(image, data, tmp_path)
    see(tmp_path)
    assert np.array_equal(read_site(conn, image), block(1))
    other = file.with_name("other")
    other.write_bytes(bytes(file.stat().st_size))
    other.replace(file)
    assert np.array_equal(read_site(conn, image), block(1))


def write_zeros(file):
    with file.open("r+b") as opened:
        opened.write(bytes(file.stat().st_size))


def cut_to_nothing(file):
    os.truncate(file, 0)


@pytest.mark.parametrize("change", [write_zeros, cut_to_nothing])
def test_planes_stay_right_whatever_happens_to_the_file(conn, wire, see, data, tmp_path, change):
    """Runs in a child process, since reading a truncated memory-mapped file would kill the process."""
    image = image_of(conn, shape=(1, 1, 3, 64, 64))  # more than a page of memory
    file = copied(image, data, tmp_path)
    see(tmp_path)
    expected = block(1, (1, 1, 3, 64, 64))[0, 0]
    assert np.array_equal([read_plane(conn, image, z, 0, 0) for z in range(2)], expected[:2])
    change(file)
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(read_plane(conn, image, 2, 0, 0), expected[2]) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_file_is_checked_again_although_its_times_did_not_change(conn, see, data, tmp_path):
    """The file system may report the file as unchanged since its last check."""
    image = image_of(conn)
    file = copied(image, data, tmp_path)
    see(tmp_path)
    assert np.array_equal(read_site(conn, image), block(1))
    before = file.stat()
    write_zeros(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert np.array_equal([read_plane(conn, image, z, 0, 0) for z in range(3)], block(1)[0, 0])


# ---- images that were imported with their original files

REPOSITORY_PATH = "user_2/2026-11/23/08-00-00.123/"


def as_imported(conn, images, folder: Path, files, order="<"):
    """Create what an import leaves in OMERO: a fileset for `images`, whose files are below `folder`."""
    place = folder / "ManagedRepository" / REPOSITORY_PATH
    fileset = FilesetI()
    fileset.templatePrefix = rstring(REPOSITORY_PATH)
    for name in files:
        entry, file = FilesetEntryI(), OriginalFileI()
        file.path, file.name = rstring(REPOSITORY_PATH), rstring(name)
        file.size = rlong((place / name).stat().st_size)
        entry.clientPath, entry.originalFile = rstring(f"home/{name}"), file
        fileset.addFilesetEntry(entry)
    save, group = queries.update(conn), queries.context(conn, queries.current_group(conn))
    fileset = save.saveAndReturnObject(fileset, group)
    for series, image in enumerate(images):
        row = queries.query(conn).get("Image", image.image_id, group)
        row.fileset, row.series = FilesetI(fileset.id.val, False), rint(series)
        save.saveObject(row, group)
        stored = read_site(conn, image).astype(np.dtype(image.pixel_type).newbyteorder(order))
        pixels = queries.query(conn).get("Pixels", image.pixels_id, group)
        pixels.sha1 = rstring(hashlib.sha1(stored.tobytes()).hexdigest())
        save.saveObject(pixels, group)


def write_ome(place, blocks, order, **options):
    with tifffile.TiffWriter(place / "plate.ome.tif", byteorder=order, ome=True) as tiff:
        for pixels in blocks:
            tiff.write(pixels, photometric="minisblack", metadata={"axes": "TCZYX"}, **options)
    return ["plate.ome.tif"]


def write_planes(place, blocks, order, **options):
    (place / "plate.HTD").write_text("an index")
    names = ["plate.HTD"]
    for n, pixels in enumerate(blocks):
        for t, c, z in np.ndindex(*pixels.shape[:3]):
            well, site = ("A01", "B03")[n // 2], n % 2 + 1
            names.append(f"{well}_s{site:03d}_z{z:03d}_c{c:03d}.tif")
            tifffile.imwrite(place / names[-1], pixels[t, c, z], byteorder=order, **options)
    return names


def write_stack(place, blocks, order, **options):
    (pixels,) = blocks
    tifffile.imwrite(
        place / "stack.tif",
        pixels.reshape(-1, *pixels.shape[3:]),
        byteorder=order,
        metadata=None,
        photometric="minisblack",
        **options,
    )
    return ["stack.tif"]


def imported(conn, folder, write, order="<", shape=SHAPE, sites=2, dtype="uint16", **options):
    """The images of a plate and their pixels, as after importing the files that `write` writes."""
    wells = {"A01": sites, "B03": sites} if sites > 1 else {"A01": 1}
    plate = load_plate(conn, make_plate(conn, wells, shape=shape, dtype=dtype))
    images = [image for _, image in plate.images()]
    blocks = [block(10 * n + site, shape, dtype) for n in range(len(wells)) for site in range(1, sites + 1)]
    place = folder / "ManagedRepository" / REPOSITORY_PATH
    place.mkdir(parents=True)
    as_imported(conn, images, folder, write(place, blocks, order, **options), order)
    return [image for _, image in load_plate(conn, plate.plate_id).images()], blocks


@pytest.mark.parametrize(
    "write, order, options",
    [
        (write_ome, "<", {}),
        (write_ome, ">", {"compression": "zlib", "dtype": "float32"}),
        (write_planes, "<", {"compression": "lzw", "dtype": "uint8"}),
        (write_planes, ">", {}),
        (write_stack, "<", {"shape": (1, 1, 3, 4, 6), "sites": 1}),
        (write_stack, ">", {"shape": (1, 1, 1, 4, 6), "sites": 1, "dtype": "int32"}),
    ],
)
def test_original_tiffs_are_read(conn, wire, see, data, tmp_path, write, order, options):
    images, blocks = imported(conn, tmp_path, write, order, **options)
    see(tmp_path)
    for image, pixels in zip(images, blocks):
        wire.start()
        site = read_site(conn, image)
        assert set(wire.stop()) <= {"projection"}, "only where the files are is asked for"
        assert site.dtype == pixels.dtype and np.array_equal(site, pixels)
        assert np.array_equal(read_plane(conn, image, 0, 0, 0), pixels[0, 0, 0])
    assert ways(conn, images) == {f"from {tmp_path / 'ManagedRepository'}": len(images)}


def test_the_files_of_a_plate_are_queried_once(conn, wire, see, data, tmp_path):
    images, _ = imported(conn, tmp_path, write_planes)
    see(tmp_path)
    wire.start()
    for image in images[:2]:
        read_site(conn, image)
    assert wire.stop() == ["projection"] * 2, "a well's images by one call, their files by another"
    wire.start()
    assert len(list(read_sites(conn, images[2:]))) == 2
    assert wire.stop() == ["projection"], "of the other well; the files are those of the same fileset"


def test_images_without_files_are_queried_once(conn, wire, see, data, tmp_path):
    (tmp_path / "Pixels").mkdir()
    plate = load_plate(conn, make_plate(conn, {"A01": 3}))
    see(tmp_path)
    wire.start()
    for _ in read_sites(conn, [image for _, image in plate.images()]):
        pass
    assert wire.stop().count("projection") == 1


def change_a_byte(place):
    file = max(place.glob("*.tif"))
    with file.open("r+b") as opened:
        tiff = tifffile.TiffFile(opened)
        opened.seek(tiff.pages[0].dataoffsets[0])
        opened.write(b"\x7e")


def swap_two(place):
    """Swap two channels: all files exist, have the right size and are undamaged."""
    one, other = place / "B03_s002_z000_c000.tif", place / "B03_s002_z000_c001.tif"
    first = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(first)


def cut(place):
    file = max(place.glob("*.tif"))
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    "write, damage, says",
    [
        (write_ome, change_a_byte, "don't have the SHA-1"),
        (write_planes, change_a_byte, "don't have the SHA-1"),
        (write_planes, swap_two, "don't have the SHA-1"),
        (write_planes, cut, "another size"),
        (write_planes, lambda place: max(place.glob("*.tif")).unlink(), "are not under ManagedRepository/"),
    ],
)
def test_damaged_originals_are_not_read(conn, see, data, tmp_path, caplog, write, damage, says):
    images, blocks = imported(conn, tmp_path, write)
    damage(tmp_path / "ManagedRepository" / REPOSITORY_PATH)
    see(tmp_path)
    with caplog.at_level(logging.WARNING):
        for image, pixels in zip(images, blocks):
            assert np.array_equal(read_site(conn, image), pixels)
    (said,) = [record.getMessage() for record in caplog.records]
    assert says in said


def write_other(name):
    def write(place, blocks, order):
        (place / name).write_bytes(b"not a TIFF")
        return [name]

    return write


def write_tiled(place, blocks, order):
    return write_ome(place, blocks, order, tile=(16, 16))


def write_color(place, blocks, order):
    tifffile.imwrite(place / "rgb.tif", np.zeros((4, 6, 3), np.uint8), photometric="rgb")
    return ["rgb.tif"]


def write_one_too_few(place, blocks, order):
    return write_planes(place, [pixels[:, :, :2] for pixels in blocks], order)


@pytest.mark.parametrize(
    "write, says",
    [
        (write_other("plate.czi"), "not TIFFs"),
        (write_other("plate.tif"), "can't be read"),
        (write_tiled, "tiled"),
        (write_color, "in color"),
        (write_one_too_few, "don't have one file per plane"),
    ],
)
def test_uncertain_files_are_silently_read_over_ice(conn, see, data, tmp_path, caplog, write, says):
    images, blocks = imported(conn, tmp_path, write)
    see(tmp_path)
    with caplog.at_level(logging.WARNING):
        for image, pixels in zip(images, blocks):
            assert np.array_equal(read_site(conn, image), pixels)
    assert not caplog.records
    (way,) = ways(conn, images)
    assert says in way and "over the network" in way


def test_a_path_can_not_lead_out_of_the_repository(tmp_path):
    (tmp_path / "secret.tif").write_bytes(b"x")
    with pytest.raises(near.NotNear, match="outside the repository"):
        near._tiffs([("../secret.tif", 1)], tmp_path)


def test_info_says_how_images_are_read(conn, omero_server, data, tmp_path):
    images, _ = imported(conn, tmp_path, write_planes)
    ((plate, _),) = queries.rows(
        conn,
        "select distinct p.id, p.name from WellSample ws join ws.well w join w.plate p where ws.image.id in (:ids)",
        ids=[image.image_id for image in images],
    )
    own = pixels_file(tmp_path, images[3].pixels_id)
    own.parent.mkdir(parents=True)
    own.write_bytes(b"truncated")
    shell = Shell(
        {
            "OMERO_HOST": omero_server.host,
            "OMERO_PORT": str(omero_server.port),
            "OMERO_PASSWORD": "pw",
            "OMERO_USER": conn.getUser().getName(),
            "OMERO_SESSIONDIR": str(tmp_path / "sessions"),
        }
    )
    assert shell("trust", f"{omero_server.host}:{omero_server.port}")[0] == 0
    assert "read            4 images over the network" in shell.lines("info", plate)
    assert [line for line in shell.lines("info", plate, "--data-dir", tmp_path) if line.startswith("read ")] == [
        f"read            3 images from {tmp_path / 'ManagedRepository'}",
        "read            1 image over the network: its file under Pixels/ has another size than the server's",
    ]
