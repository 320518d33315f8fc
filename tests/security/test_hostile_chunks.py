"""Damaged and malicious chunks of OME-Zarr and of TIFFs: a sentence, where the decoders would end the process."""

import bz2
import gzip
import json
import lzma
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
from ome_zarr_plates import Style, images_of, write_plate

from openhcs_omero.errors import OpenHCSError, PlateError
from openhcs_omero.io.disk import DiskBackend
from openhcs_omero.io.zarr_chunks import expand
from openhcs_omero.microscopes.detect import handler_of

MUTATED = """
import ctypes, mmap, sys
import numpy as np, numcodecs
from numcodecs import Blosc, BZ2, GZip, LZ4, LZMA, Zlib, Zstd
from openhcs_omero.io.zarr_chunks import expand

page, pages = mmap.PAGESIZE, 8
memory = mmap.mmap(-1, page * (pages + 1))
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
protect = ctypes.CDLL(None).mprotect
protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
assert protect(address + page * pages, page, 0) == 0  # who reads beyond a chunk ends with a segmentation fault
room = np.frombuffer(memory, np.uint8)[: page * pages]
rng = np.random.default_rng(5)
pixels = rng.integers(0, 250, (32, 32)).astype("uint16")
codecs = [Blosc(name, shuffle=shuffle) for name in ("lz4", "zstd", "blosclz", "zlib") for shuffle in (0, 1, 2)]
undamaged = 0
for codec in [*codecs, LZ4(), Zstd(), GZip(), Zlib(), BZ2(), LZMA()]:
    whole = np.frombuffer(codec.encode(pixels), np.uint8)
    assert expand(codec.codec_id, whole, pixels.nbytes) == pixels.tobytes()
    for _ in range(300):
        chunk = whole[: rng.integers(len(whole) + 1)].copy() if rng.random() < 0.5 else whole.copy()
        for _ in range(rng.integers(1, 4) if len(chunk) else 0):
            chunk[rng.integers(min(len(chunk), 40 if rng.random() < 0.7 else 10**6))] = rng.integers(256)
        at_the_end = room[len(room) - len(chunk) :]
        at_the_end[:] = chunk
        try:
            assert len(expand(codec.codec_id, at_the_end, pixels.nbytes)) <= pixels.nbytes
            undamaged += 1
        except Exception:
            pass
print(undamaged)
"""

READ = """
import json, sys
from openhcs_omero.errors import OpenHCSError
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.microscopes.detect import handler_of

said = {}
for path in sys.argv[1:]:
    handler = handler_of(path)
    for well in handler.listing(path).structure.wells:
        try:
            said[f"{path} {well}"] = int(handler.load_site(path, well, 1, FileManager()).sum())
        except OpenHCSError as error:
            said[f"{path} {well}"] = str(error)
print(json.dumps(said))
"""


def in_a_process(script, *arguments):
    done = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return json.loads(done.stdout)


def test_damaged_chunks_do_not_end_the_process():
    assert in_a_process(MUTATED) > 0


def test_a_damaged_chunk_costs_its_well(tmp_path):
    """A chunk of Blosc that says that it goes on for 2 GB, in Zarr v2, v3, and in a shard."""
    images = images_of(Style(), ["A01", "B03"], 1, shape=(1, 1, 1, 16, 16))
    plates = {
        tmp_path / "v2.zarr": Style(version="0.4", levels=1, compressor=numcodecs.Blosc("lz4")),
        tmp_path / "v3.zarr": Style(levels=1, compressor=zarr.codecs.BloscCodec(cname="lz4")),
        tmp_path / "shards.zarr": Style(
            levels=1,
            chunks=(1, 1, 1, 16, 16),
            shards=(1, 1, 1, 16, 16),
            compressor=zarr.codecs.BloscCodec(cname="lz4"),
        ),
    }
    for path, style in plates.items():
        write_plate(path, images, style)
        [chunk] = [one for one in (path / "B/3/0/0").rglob("0/0/0/0/0") if one.is_file()]
        content = bytearray(chunk.read_bytes())
        content[12:16] = (2**31 - 1).to_bytes(4, "little")
        chunk.write_bytes(content)
    said = in_a_process(READ, *plates)
    for path in plates:
        assert said[f"{path} A01"] == images["A01", 1].sum()
        assert "B/3/0 can't be read as OME-Zarr: a chunk is damaged or cut: it has" in said[f"{path} B03"]


BOMBS = {
    "blosc": lambda raw: numcodecs.Blosc("zstd", clevel=9).encode(raw),
    "lz4": lambda raw: numcodecs.LZ4().encode(raw),
    "zstd": lambda raw: numcodecs.Zstd().encode(raw),
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "bz2": bz2.compress,
    "lzma": lzma.compress,
}


@pytest.mark.parametrize("codec", BOMBS)
def test_a_chunk_becomes_no_larger_than_its_array_says(codec):
    bomb = BOMBS[codec](bytes(30_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(Exception, match=r"more than the array can have|Destination buffer is too small"):
            expand(codec, bomb, 1000)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert expand(codec, BOMBS[codec](bytes(1000)), 1000) == bytes(1000)


TEXTS = {"dtype": "|O", "filters": [{"id": "vlen-utf8"}], "compressor": {"id": "pickle"}, "fill_value": ""}
STRANGE = {
    "a codec that is not known": (
        {"compressor": {"id": "base64"}},
        "is stored with the codec base64, which is not read",
    ),
    "a codec that runs code": (TEXTS, "has pixels of type .*, which are no numbers"),
}


@pytest.mark.parametrize("case", STRANGE)
def test_arrays_that_are_not_decoded(tmp_path, case):
    changes, words = STRANGE[case]
    images = images_of(Style(), ["A01", "B03"], 1, shape=(1, 1, 1, 16, 16))
    path = write_plate(tmp_path / "p.zarr", images, Style(version="0.4", levels=1))
    document = path / "B/3/0/0/.zarray"
    document.write_text(json.dumps({**json.loads(document.read_text()), **changes}))
    handler = handler_of(path)
    handler.check_complete(path, ["A01"])
    with pytest.raises(PlateError, match=rf"well B03 lacks site 1 .*{words}"):
        handler.check_complete(path, ["B03"])


def test_an_image_in_chunks_of_a_pixel(tmp_path):
    path = write_plate(tmp_path / "p.zarr", images_of(Style(), ["A01"], 1, shape=(1, 1, 1, 4, 4)), Style(levels=1))
    document = path / "A/1/0/0/zarr.json"
    described = json.loads(document.read_text())
    described["shape"][3:], described["chunk_grid"]["configuration"]["chunk_shape"][3:] = [2000, 2000], [1, 1]
    document.write_text(json.dumps(described))
    with pytest.raises(PlateError, match="has 4000000 chunks in each plane, too many to be read"):
        handler_of(path).listing(path)


@pytest.mark.parametrize(("compression", "settings"), [("png", {}), ("jpeg", {"lossless": True})])
def test_tiffs_whose_decoders_read_beyond_damaged_data(tmp_path, compression, settings):
    file = Path(tmp_path / "A01_s1_w1.tif")
    tifffile.imwrite(file, np.zeros((16, 16), np.uint8), compression=compression, compressionargs=settings)
    words = "PNG" if compression == "png" else "lossless JPEG"
    with pytest.raises(OpenHCSError, match=f"is compressed as {words}, which is not read"):
        DiskBackend().load(file)
    tifffile.imwrite(file, np.ones((16, 16), np.uint8), compression="jpeg")
    assert DiskBackend().load(file).all()
