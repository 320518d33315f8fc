"""Malicious folders that try to hang the reader, fill its memory, or make it read files elsewhere.

Each gives one sentence or a plate without the bad file, in bounded time and memory.
"""

import json
import os
import re
import resource
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from plate_folders import images_of, write_cellvoyager, write_htd, write_imagexpress, write_openhcs, write_phenix

from openhcs_omero.microscopes.opera_phenix import OperaPhenixHandler

MEMORY = 2**31  # memory limit of a reader in bytes, including its libraries
SECONDS = 60

READ = """
import sys
from openhcs_omero.errors import OpenHCSError
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.microscopes.importing import scan
try:
    handler, listing = scan(sys.argv[1])
    for well in listing.structure.wells_with_images():
        for image, pixels in handler.read_sites(listing, well, FileManager()):
            print(well, image.site, pixels.shape)
except OpenHCSError as error:
    print("refused:", error)
"""


def read(folder) -> str:
    """Read a whole plate in a separate process, in bounded time and memory; return its output."""

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", READ, str(folder)],
        timeout=SECONDS,
        preexec_fn=limit,
        text=True,
        capture_output=True,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(folder, *words):
    said = read(folder)
    assert said.startswith("refused: ") and said.count("\n") == 1 and all(word in said for word in words), said


@pytest.fixture
def plate(tmp_path):
    """An ImageXpress folder of two wells with one plane each."""
    return write_imagexpress(tmp_path / "p", images_of(["A01", "A02"], sites=1, shape=(1, 1, 1, 6, 5)), guids=False)


IMAGE = "p_A02_s1_w1.TIF"


def test_the_unmodified_plate_is_read(plate):
    assert read(plate) == "A01 1 (1, 1, 1, 6, 5)\nA02 1 (1, 1, 1, 6, 5)\n"


def test_fifos(plate):
    """Named like an image, a metadata file or an index; opening one would block forever."""
    (plate / IMAGE).unlink()
    for name in (IMAGE, "q.HTD", "Index.idx.xml", "openhcs_metadata.json", "a.mlf", "b.xdce"):
        os.mkfifo(plate / name)
    assert read(plate) == "A01 1 (1, 1, 1, 6, 5)\n"


def test_devices(plate):
    (plate / IMAGE).unlink()
    (plate / IMAGE).symlink_to("/dev/zero")
    assert read(plate) == "A01 1 (1, 1, 1, 6, 5)\n"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"YWells", 8', '"YWells", 999999999999'),
        lambda text: text.replace('"TimePoints", 1', '"TimePoints", 999999999999'),
        lambda text: text.replace('"NWavelengths", 1', '"NWavelengths", -1'),
        lambda text: text.replace("made for a test", "x" * 1_000_000),
        lambda text: text.replace('"XWells", 12', '"XWells", ' + "9" * 5000),
    ],
)
def test_absurd_htd_files(plate, change):
    text = (plate / "p.HTD").read_bytes().decode("latin-1")
    assert change(text) != text
    (plate / "p.HTD").write_bytes(change(text).encode("latin-1"))
    refused(plate, "p.HTD can't be read as an HTD file")


def test_a_huge_htd_file(plate):
    with (plate / "p.HTD").open("r+b") as file:
        file.truncate(2**40)
    refused(plate, "p.HTD is too large")


@pytest.mark.parametrize("length", [4, 8, 9, 20, 100, 150])
def test_truncated_tiffs(plate, length):
    (plate / IMAGE).write_bytes((plate / IMAGE).read_bytes()[:length])
    refused(plate, IMAGE)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiffs_that_declare_terabytes(plate, compression):
    """The size in the header and the size of its only strip are changed."""
    path = plate / IMAGE
    tifffile.imwrite(path, np.zeros((6, 5), "uint16"), compression=compression)
    with tifffile.TiffFile(path) as tiff:
        tags = tiff.pages[0].tags
        places = {
            name: (tags[name].valueoffset, tags[name].dtype) for name in ("ImageWidth", "ImageLength", "RowsPerStrip")
        }
    data = bytearray(path.read_bytes())
    for offset, kind in places.values():
        form = "<H" if kind == 3 else "<I"
        struct.pack_into(form, data, offset, 2**16 - 1 if kind == 3 else 2**20)
    path.write_bytes(data)
    refused(plate, IMAGE)


def test_zarr_arrays_that_declare_terabytes(tmp_path):
    images = images_of(["A01"], sites=1, shape=(1, 1, 1, 6, 5))
    for number, shape in enumerate([(10**6, 10**6, 1, 6, 5), (1, 1, 1, 10**7, 10**7)]):
        folder = write_openhcs(tmp_path / str(number), images, "zarr")
        [document] = folder.glob("zarr/plate.zarr/A/1/0/0/zarr.json")
        described = json.loads(document.read_text())
        described["shape"] = list(shape)
        described["chunk_grid"]["configuration"]["chunk_shape"] = [1, 1, 1, *shape[3:]]
        document.write_text(json.dumps(described))
        assert zarr.open_array(document.parent, mode="r").shape == shape
        refused(folder, "declares an image of shape", "too large to be read")


def test_zarr_metadata_that_name_arrays_elsewhere(tmp_path):
    folder = write_openhcs(tmp_path / "p", images_of(["A01"], sites=1, shape=(1, 1, 1, 6, 5)), "zarr")
    [image] = folder.glob("zarr/plate.zarr/A/1/0/zarr.json")
    text = image.read_text()
    (image.parent / "0").rename(tmp_path / "secret")
    for path in ("../../../../../../secret", str(tmp_path / "secret")):
        assert '"path": "0"' in text
        image.write_text(text.replace('"path": "0"', f'"path": "{path}"'))
        refused(folder, path, "which is outside of the image")


def test_an_index_that_names_files_elsewhere(tmp_path):
    """The index has paths that lead out of the folder; only files in the folder are read."""
    folder = write_phenix(tmp_path / "p", images_of(["A01"], sites=1, shape=(1, 1, 1, 6, 5)))
    secret = tmp_path / "secret.tiff"
    tifffile.imwrite(secret, np.zeros((6, 5), "uint16"))
    index = folder / "Images" / "Index.idx.xml"
    name = "r01c01f01p01-ch1sk1fk1fl1.tiff"
    for url in (str(secret), "../../secret.tiff", "..\\..\\secret.tiff"):
        index.write_text(index.read_text().replace(f"<URL>{name}<", f"<URL>{url}<"))
        refused(folder, "there is no image of a plate")
        index.write_text(index.read_text().replace(f"<URL>{url}<", f"<URL>{name}<"))
    assert read(folder) == "A01 1 (1, 1, 1, 6, 5)\n"


@pytest.mark.parametrize("backend", ["disk", "virtual_workspace"])
@pytest.mark.parametrize("path", ["../secret.tif", "/secret.tif", "a/../../secret.tif"])
def test_metadata_that_name_files_elsewhere(tmp_path, backend, path):
    folder = write_openhcs(tmp_path / "p", images_of(["A01"], sites=1, shape=(1, 1, 1, 6, 5)), backend)
    tifffile.imwrite(tmp_path / "secret.tif", np.zeros((6, 5), "uint16"))
    metadata = folder / "openhcs_metadata.json"
    document = json.loads(metadata.read_text())
    main = next(entry for entry in document["subdirectories"].values() if entry["main"])
    if backend == "disk":
        main["image_files"] = [path]
    else:
        main["workspace_mapping"] = dict.fromkeys(main["workspace_mapping"], path)
    metadata.write_text(json.dumps(document))
    refused(folder, path, "outside of the plate's folder")


@pytest.mark.parametrize(
    ("key", "value"),
    [("image_files", 7), ("image_files", [7]), ("workspace_mapping", ["a.tif"]), ("channels", "DAPI")],
)
def test_openhcs_metadata_of_other_types(tmp_path, key, value):
    folder = write_openhcs(tmp_path / "p", images_of(["A01"], sites=1, shape=(1, 1, 1, 6, 5)), "disk")
    metadata = folder / "openhcs_metadata.json"
    document = json.loads(metadata.read_text())
    for entry in document["subdirectories"].values():
        entry[key] = value
    metadata.write_text(json.dumps(document))
    refused(folder, "openhcs_metadata.json")


def test_xml_in_an_unknown_encoding(tmp_path):
    folder = write_phenix(tmp_path / "p", images_of(["A01"], sites=1, shape=(1, 1, 1, 6, 5)))
    index = folder / "Images" / "Index.idx.xml"
    index.write_text('<?xml version="1.0" encoding="none"?>' + index.read_text().partition("?>")[2])
    refused(folder, "Index.idx.xml can't be read as an index of an Opera Phenix plate: unknown encoding")


@pytest.mark.parametrize("size", ["nan", "-inf", "1e999", "0"])
def test_absurd_pixel_sizes(tmp_path, size):
    """They are left out, with a note; OMERO would take them for lengths."""
    folder = write_phenix(tmp_path / "p", images_of(["A01"], sites=1, shape=(1, 1, 1, 6, 5)))
    index = folder / "Images" / "Index.idx.xml"
    index.write_text(re.sub(r"(<ImageResolution[XY][^>]*>)[^<]*", rf"\g<1>{size}", index.read_text()))
    listing = OperaPhenixHandler().listing(folder)
    assert listing.pixel_size[1:] == (None, None)
    assert len(listing.notes) == 1 and "which is ignored" in listing.notes[0]


def test_channels_with_absurd_numbers(tmp_path):
    """The settings of a measurement only name channels; a number that no channel has is ignored."""
    folder = write_cellvoyager(tmp_path / "p", images_of(["A01"], sites=1, shape=(1, 1, 1, 6, 5)))
    [settings] = folder.glob("*.mes")
    text = settings.read_text()
    assert 'Ch="1"' in text
    settings.write_text(text.replace('Ch="1"', f'Ch="{"9" * 5000}"'))
    assert read(folder) == "A01 1 (1, 1, 1, 6, 5)\n"


def test_links_that_lead_out_of_the_folder(plate, tmp_path):
    (plate / "kept").mkdir()
    (plate / IMAGE).rename(plate / "kept" / "image")
    (plate / IMAGE).symlink_to("kept/image")
    assert read(plate).count("\n") == 2  # the link stays within the folder
    (plate / "kept" / "image").rename(tmp_path / "elsewhere")
    (plate / IMAGE).unlink()
    (plate / IMAGE).symlink_to(tmp_path / "elsewhere")
    refused(plate, IMAGE, "follow_links: true")


def test_folders_that_are_links(tmp_path):
    """A TimePoint_ folder elsewhere is refused; the plate's own folder may be a link."""
    plate = write_imagexpress(tmp_path / "p", images_of(["A01"], sites=1, shape=(2, 1, 1, 6, 5)), guids=False)
    (tmp_path / "link").symlink_to(plate)
    assert read(tmp_path / "link") == "A01 1 (2, 1, 1, 6, 5)\n"
    (plate / "TimePoint_2").rename(tmp_path / "elsewhere")
    (plate / "TimePoint_2").symlink_to(tmp_path / "elsewhere")
    refused(plate, "leads out of the plate's folder")


def test_too_many_announced_planes(tmp_path):
    """The HTD file has the largest numbers it may have, but the files don't exist."""
    plate = write_imagexpress(tmp_path / "p", images_of(["A01"], sites=1, shape=(1, 1, 1, 6, 5)), guids=False)
    write_htd(Path(plate, "p.HTD"), ["A01"], 1, (100_000, 4, 1))
    text = Path(plate, "p.HTD").read_text("latin-1").replace('"NWavelengths", 4', '"NWavelengths", 1000')
    Path(plate, "p.HTD").write_text(text, "latin-1")
    refused(plate, "HTD file announces 100000 timepoints", "only 1 files")
