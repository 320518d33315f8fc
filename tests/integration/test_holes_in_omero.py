"""A folder with random holes and the plate that is imported from it give the same tables."""

import random

import numpy as np
import pytest
import tifffile
from plate_folders import images_of
from snake import workflow

from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.errors import PlateError
from openhcs_omero.microscopes.importing import import_folder

__all__ = ["workflow"]

WELLS, SHAPE = ["A01", "B02", "C03"], (2, 2, 2, 3, 4)
LOOK = """
def look(image, filemanager, metadata, backend="disk"):
    return image, {f"mean_c{c}": [float(part[c].mean()) for part in image] for c in range(image.shape[1])}
"""


def holed(folder, seed):
    """A folder of TIFFs that lacks a few planes, and the wells that lack them."""
    folder.mkdir()
    images = images_of(WELLS, sites=3, shape=SHAPE, seed=seed)
    planes = [(place, plane) for place in images for plane in np.ndindex(*SHAPE[:3])]
    lost = set(random.Random(seed).sample(planes, 4))
    for place, (t, c, z) in set(planes) - lost:
        name = f"{place[0]}_s{place[1]:03d}_z{z:03d}_c{c:03d}_t{t:03d}.tif"
        tifffile.imwrite(folder / name, images[place][t, c, z])
    return folder, {place[0] for place, _ in lost}


def rows(results, name):
    """The rows of a table without what differs: the plate's name, and the sites' numbers after a site was left out."""
    found = read_rows(results / name)
    numbers = {}
    for row in found:
        for key in ("plate", "skipped_sites"):
            row.pop(key, None)
        if "site" in row:
            sites = numbers.setdefault(row["well"], {})
            row["site"] = sites.setdefault(row["site"], len(sites) + 1)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("incomplete", ["skip", "fill"])
def test_the_same_tables_from_omero(workflow, conn, tmp_path, seed, incomplete):
    folder, wells = holed(tmp_path / "holed", seed)
    with pytest.raises(PlateError, match=f"well {min(wells)} lacks files of site"):
        import_folder(conn, folder)
    plate = import_folder(conn, folder, incomplete=incomplete)
    (workflow.folder / "looking.py").write_text(LOOK)
    workflow.configure({"path": str(folder), "incomplete": incomplete}, plate, steps=[{"call": "looking:look"}])
    workflow.succeed()
    for name in ("features.csv", "wells.csv"):
        found = rows(workflow.results("holed"), name)
        assert found and found == rows(workflow.results(plate), name)
