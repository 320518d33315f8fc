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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import ome_zarr_plates
import pytest
import tifffile
import zarr
from plate_folders import (
    images_of,
    write_cellvoyager,
    write_htd,
    write_imagexpress,
    write_incell,
    write_openhcs,
    write_phenix,
)

from openhcs_omero.errors import OpenHCSError
from openhcs_omero.io.disk import DiskBackend
from openhcs_omero.microscopes.opera_phenix import OperaPhenixHandler
from openhcs_omero.microscopes.tiffs import read_parts

MEMORY = 2**31  # memory limit of a reader in bytes, including its libraries
SECONDS = 60

READ = """
import sys
from openhcs_omero.errors import OpenHCSError
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.microscopes.importing import scan
for folder in sys.argv[1:]:
    try:
        handler, listing = scan(folder)
        for well in listing.structure.wells_with_images():
            for image, pixels in handler.read_sites(listing, well, FileManager()):
                print(well, image.site, pixels.shape)
        for note in listing.notes:
            print("note:", note)
    except OpenHCSError as error:
        print("refused:", error)
    print(end="\\0")
"""


def read(folder) -> str:
    """Read a whole plate in a separate process, in bounded time and memory; return its output."""
    return read_all([folder])[0]


def read_all(folders) -> list[str]:
    """Read several plates in one such process."""

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", READ, *map(str, folders)],
        timeout=SECONDS,
        preexec_fn=limit,
        text=True,
        capture_output=True,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\0")[: len(folders)]


def refused(folder, *words):
    refused_all({folder: words})


def refused_all(folders):
    """Check that each folder is refused with one sentence, which has the given words."""
    for (folder, words), said in zip(folders.items(), read_all(folders), strict=True):
        right = said.startswith("refused: ") and said.count("\n") == 1 and all(word in said for word in words)
        assert right, (folder, words, said)


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
    assert read(plate) == f"A01 1 (1, 1, 1, 6, 5)\nnote: {plate / IMAGE} is no regular file, and is left out\n"


def test_devices(plate):
    (plate / IMAGE).unlink()
    (plate / IMAGE).symlink_to("/dev/zero")
    assert read(plate) == f"A01 1 (1, 1, 1, 6, 5)\nnote: {plate / IMAGE} is no regular file, and is left out\n"


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


BOMB = '<!DOCTYPE x [<!ENTITY a0 "lol">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 20}">' for i in range(1, 9)) + "]>"


@pytest.mark.parametrize("kind", ["Phenix", "CellVoyager", "InCell"])
def test_malicious_xml(tmp_path, kind):
    """Entities that expand to gigabytes, entities of other files, and elements without end."""
    folders = {}
    for encoding in ("utf-8", "utf-16"):
        for head, more, words in (
            (BOMB, "<a>&a8;</a>", "amplification"),
            ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>', "<a>&a;</a>", "undefined entity"),
            ("", "<a>" * 10_000 + "</a>" * 10_000, "nested"),
            ("", "<a/>" * 1_100_000 if (kind, encoding) == ("Phenix", "utf-8") else "<", ""),
        ):
            folder = WRITERS[kind](tmp_path / str(len(folders)), images_of(["A01"], sites=1, shape=(1, 1, 1, 6, 5)))
            [file] = [path for path in folder.rglob("*") if path.suffix.lower() in (".xml", ".mlf", ".xdce")]
            text = file.read_text().rpartition("?>")[2].strip()
            end = text.rindex("</")
            text = f'<?xml version="1.0" encoding="{encoding}"?>{head}{text[:end]}{more}{text[end:]}'
            file.write_text(text, encoding)
            folders[folder] = (str(file), words)
    refused_all(folders)


def test_paths_that_lead_out_of_the_folder(tmp_path):
    folders = {}
    tifffile.imwrite(tmp_path / "secret.tif", np.zeros((6, 5), "uint16"))
    for path in ("../secret.tif", "..\\secret.tif", "x/../../secret.tif", str(tmp_path / "secret.tif")):
        for kind, metadata in (("CellVoyager", "*.mlf"), ("InCell", "*.XDCE")):
            folder = WRITERS[kind](tmp_path / f"p{len(folders)}", images_of(["A01"], sites=1, shape=(1, 1, 1, 6, 5)))
            [file], [image] = folder.glob(metadata), folder.glob("A*.tif")
            assert image.name in file.read_text()
            file.write_text(file.read_text().replace(image.name, path))
            folders[folder] = ("there is no image of a plate",)
    refused_all(folders)


def test_records_of_a_cellvoyager_without_a_type(tmp_path):
    folder = write_cellvoyager(tmp_path / "p", images_of(["A01"], sites=1, shape=(1, 1, 1, 6, 5)))
    [file] = folder.glob("*.mlf")
    file.write_text(file.read_text().replace(' bts:Type="IMG"', ""))
    refused(folder, "can't be read as a list of measurements: 'Type' is missing")


def test_sparse_files_of_a_terabyte(tmp_path):
    """As image, as part of an image in OME-Zarr, and as metadata."""
    folders = {}
    for kind, pattern in (
        ("ImageXpress", "*.TIF"),
        ("OpenHCS", "*.json"),
        ("Phenix", "*/*.xml"),
        ("CellVoyager", "*.mlf"),
        ("OME-Zarr", "A/1/0/0/c/0/0/0/0/0"),
        ("OME-Zarr", "A/1/zarr.json"),
    ):
        folder = WRITERS[kind](tmp_path / f"p{len(folders)}", images_of(["A01"], sites=1, shape=(1, 1, 1, 6, 5)))
        [file] = folder.glob(pattern)
        with file.open("r+b") as opened:
            opened.truncate(2**40)
        folders[folder] = (str(file),)
    refused_all(folders)


def test_a_tiff_that_names_other_files(tmp_path):
    """The OME-XML of an image with two pages names a pipe, and an image elsewhere, as further parts."""
    os.mkfifo(tmp_path / "pipe.ome.tif")
    folders = {}
    for other in ("../pipe.ome.tif", str(tmp_path / "pipe.ome.tif")):
        folder = write_imagexpress(tmp_path / f"p{len(folders)}", images_of(["A01"], 1, (1, 1, 1, 6, 5)), guids=False)
        parts = "".join(
            f'<TiffData IFD="{t}" FirstT="{t}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:0-{t}</UUID></TiffData>'
            for t, name in enumerate(["", other])
        )
        description = (
            '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            'UUID="urn:uuid:0-0"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
            f'SizeX="5" SizeY="6" SizeZ="1" SizeC="1" SizeT="2">{parts}</Pixels></Image></OME>'
        )
        [image] = folder.glob("*.TIF")
        pixels = np.zeros((2, 6, 5), "uint16")
        tifffile.imwrite(image, pixels, description=description, metadata=None, photometric="minisblack")
        folders[folder] = ()
    assert len(read_all(folders)) == 2


def test_images_without_pixels(plate):
    data = bytearray((plate / IMAGE).read_bytes())
    with tifffile.TiffFile(plate / IMAGE) as tiff:
        tag = tiff.pages[0].tags["ImageWidth"]
    struct.pack_into("<H" if tag.dtype == 3 else "<I", data, tag.valueoffset, 0)
    (plate / IMAGE).write_bytes(data)
    refused(plate, IMAGE, "which is empty")


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


WRITERS = {
    "ImageXpress": lambda folder, images: write_imagexpress(folder, images, guids=False),
    "Phenix": write_phenix,
    "CellVoyager": write_cellvoyager,
    "InCell": write_incell,
    "OpenHCS": lambda folder, images: write_openhcs(folder, images, "disk"),
    "workspace": lambda folder, images: write_openhcs(folder, images, "virtual_workspace"),
    "OME-Zarr": lambda folder, images: ome_zarr_plates.write_plate(folder, images, ome_zarr_plates.Style(levels=1)),
}


def with_links(tmp_path, target):
    """Folders of every microscope, each with a link in place of another one of its files; and the links."""
    folders = {}
    for write in WRITERS.values():
        names = [None]
        while names:
            folder = write(tmp_path / str(len(folders)) / "p", images_of(["A01"], sites=1, shape=(1, 1, 1, 6, 5)))
            if names == [None]:
                names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
                names = [name for name in names if "DC_" not in str(name) and str(name) != "A/zarr.json"]  # not read
            link = folder / names.pop()
            link.rename(folder.parent / "secret")
            link.symlink_to(target or link.name)
            folders[folder] = link
    return folders


def test_links_out_of_the_folder_in_place_of_any_file(tmp_path):
    folders = with_links(tmp_path, "../secret")
    assert len(folders) > 15
    for folder, link in folders.items():
        link.unlink()
        link.symlink_to(folder.parent / "secret")
    refused_all({folder: (str(link), "follow_links: true") for folder, link in folders.items()})


def test_links_to_themselves_in_place_of_any_file(tmp_path):
    """They are refused, or count as missing."""
    refused_all(dict.fromkeys(with_links(tmp_path, None), ()))


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


@pytest.mark.parametrize(
    "read", [lambda path: DiskBackend().load(path), lambda path: read_parts([f"{path}?page=0of2"])]
)
def test_a_pipe_that_took_the_place_of_an_image_after_the_plate_was_listed(tmp_path, read):
    """As in a job, which knows the files from the listing."""
    os.mkfifo(tmp_path / "a.tif")
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read, tmp_path / "a.tif")
        try:
            said = reading.exception(SECONDS)
        finally:
            if not reading.done():  # it waits for a writer
                os.close(os.open(tmp_path / "a.tif", os.O_RDWR | os.O_NONBLOCK))
    assert isinstance(said, OpenHCSError) and "no regular file" in str(said)
