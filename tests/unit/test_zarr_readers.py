"""Our plates open in ome-zarr-py, ngio and napari's reader without warnings, and the plates of others open here.

The tests run the programs themselves.

They don't work with this project's pinned packages (ome-zarr wants s3 clients that want python-dateutil < 3), so they
have a separate environment, which is created once per machine from envs/readers.txt.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.io.ngff import STORE
from openhcs_omero.io.zarr import ZarrBackend
from openhcs_omero.microscopes.detect import handler_of
from openhcs_omero.plates.image import NewImage

ROOT = Path(__file__).parents[2]
PINS = ROOT / "envs" / "readers.txt"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def reader_python():
    """The Python of the environment with the readers."""
    state = hashlib.sha256(PINS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    base = os.environ.get("OPENHCS_OMERO_CACHE") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(base).expanduser() / "openhcs_omero" / f"readers-{state}"
    if not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", "--only-binary", ":all:", "-r", PINS], check=True)
        (folder / "installed").touch()
    return folder / "bin" / "python"


def test_a_plate_opens_without_warnings(reader_python, tmp_path):
    """A sparse plate with several sites, timepoints, channels and planes, large enough to have smaller levels."""
    plate, backend = tmp_path / "plate_7", ZarrBackend()
    rng = np.random.default_rng(3)
    images = {}
    for well in ("B02", "A01", "A12"):
        for number in (1, 2):
            images[well, number] = rng.integers(0, 60000, (2, 2, 3, 300, 520)).astype("uint16")
            path = f"{plate}/{well}/{well}_s{number:03d}.tif"
            backend.save(images[well, number], path)
            backend.describe(path, ("DAPI", None), ((0, 0, 255), None), (2, 0.5, 0.5))
    backend.save({"n": 1}, f"{plate}/A01/A01_s001_results.json")
    nuclei = np.zeros((2, 1, 3, 300, 520), "uint16")
    nuclei[:, :, :, 10:20, 30:50], nuclei[0, :, :, 100:110, 30:40] = 1, 2
    pixels = images["A01", 2]
    backend.save_labels(NewImage("A01", pixels, labels={"nuclei": nuclei}), f"{plate}/A01/A01_s002.tif")
    script = [reader_python, ROOT / "tests" / "readers" / "open_plate.py", plate / STORE, plate / STORE / "A/1/0"]
    run = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    opened = json.loads(run.stdout)
    assert opened["complaints"] == []
    # a grid of 2 rows and 3 columns, each well by its first site
    first = {well: int(images[well, 1].sum(dtype=np.int64)) for well in ("A01", "A12", "B02")}
    assert opened["ome_zarr"] == {
        "levels": [[2, 2, 3, 600, 1560], [2, 2, 3, 300, 780], [2, 2, 3, 150, 390]],
        "axes": ["t", "c", "z", "y", "x"],
        "sum": sum(first.values()),
        "corner": images["A01", 1][0, 0, 0, :2, :2].tolist(),
    }
    assert opened["image"]["levels"] == [[2, 2, 3, 300, 520], [2, 2, 3, 150, 260], [2, 2, 3, 75, 130]]
    assert opened["image"]["sum"] == first["A01"]
    assert opened["napari"] == {
        "levels": [[[2, 3, 600, 1560], [2, 3, 300, 780], [2, 3, 150, 390]]] * 2,
        "sum": sum(first.values()),
    }
    assert opened["ngio"] == {
        f"{'B/2' if well == 'B02' else f'A/{int(well[1:])}'}/{number - 1}": [
            ["DAPI", "channel 1"],
            [2, 0.5, 0.5],
            int(image.sum(dtype=np.int64)),
            {"nuclei": ["uint16", *map(int, np.bincount(nuclei.ravel()))]} if (well, number) == ("A01", 2) else {},
        ]
        for (well, number), image in images.items()
    }


def test_plates_that_other_programs_make(reader_python, tmp_path):
    script = [reader_python, "-W", "ignore", ROOT / "tests" / "readers" / "make_plates.py", tmp_path]
    run = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    names = run.stdout.split()
    assert len(names) == 6
    for name in names:
        images, path = np.load(tmp_path / f"{name}.npy"), tmp_path / name
        handler = handler_of(path)
        listing = handler.listing(path)
        listing.check_complete()
        assert listing.structure.wells_with_images() == ["A01", "B03"], name
        assert (listing.pixel_size, listing.notes) == ((2.0, 0.65, 0.65), ()), name
        assert listing.channel_names == (("DAPI", "GFP") if "ngio" in name else (None, None))
        assert name.endswith(listing.structure.microscope_type.replace("OME-Zarr ", "_") + ".zarr")
        for well, sites in zip(("A01", "B03"), images):
            for site, image in enumerate(sites, 1):
                np.testing.assert_array_equal(handler.load_site(path, well, site, FileManager()), image[None])
