"""A chain of the steps in the box through `snakemake`: estimates after earlier steps, and one row per object."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from snake import workflow

from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.microscopes.importing import import_folder
from openhcs_omero.omero.derived import NAMESPACE, find_derived
from openhcs_omero.omero.omero_tables import list_tables

__all__ = ["workflow"]

SIDE = 96
NUCLEI = {"A01": [(25, 25), (25, 70), (70, 40)], "A02": [(50, 50)], "B01": []}
BOX = "openhcs_omero.processing"
STEPS = [
    {"call": f"{BOX}.projection:project_z"},
    {"call": f"{BOX}.background:subtract_background", "channels": ["DAPI"], "params": {"radius": 20}},
    {"call": f"{BOX}.cells:segment_cells", "channels": ["DAPI"], "params": {"diameter": 14, "threshold": "plate"}},
    {"call": f"{BOX}.whole_cells:segment_whole_cells", "channels": ["GFP"], "params": {"distance": 12}},
    {"call": f"{BOX}.spots:count_spots_per_cell", "channels": ["GFP"], "params": {"threshold": 100}},
    {
        "call": f"{BOX}.objects:measure_objects",
        "params": {"labels": ["nuclei", "cells"], "parents": {"nuclei": "cells"}},
    },
]


def write_plate(folder):
    """Cells with one spot each in the first of two z planes; nothing is in the second one, the middle of the stack."""
    folder.mkdir()
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    rng = np.random.default_rng(0)
    for well, places in NUCLEI.items():
        planes = rng.normal(200, 3, (2, 2, SIDE, SIDE))  # (Z, C, Y, X)
        planes[:, 1] += 2 * x
        for v, u in places:
            square = (y - v) ** 2 + (x - u) ** 2
            planes[0, 0] += np.where(square <= 144, 100, 0) + 600 * np.exp(-((y - v + 9) ** 2 + (x - u) ** 2) / 4.5)
            planes[0, 1][square <= 49] += 400
        for z, c in np.ndindex(2, 2):
            tifffile.imwrite(folder / f"{well}_s001_z{z:03d}_c{c:03d}.tif", np.rint(planes[z, c]).astype(np.uint16))
    files = sorted(path.name for path in folder.glob("*.tif"))
    about = {
        "source_filename_parser_name": "OpenHCSFilenameParser",
        "pixel_size": 0.65,
        "channels": {"0": "GFP", "1": "DAPI"},
        "image_files": files,
        "available_backends": {"disk": True},
        "main": True,
    }
    (folder / "openhcs_metadata.json").write_text(json.dumps({"subdirectories": {".": about}}))


@pytest.mark.slow
def test_a_chain_of_steps(workflow, conn, tmp_path):
    write_plate(tmp_path / "cells")
    plate = import_folder(conn, tmp_path / "cells", "cells")
    workflow.configure(plate, steps=STEPS, heatmaps=["cells_count"])
    run = workflow.succeed()
    assert run.jobs["estimate"] == 1 and run.jobs["process_well"] == 3
    results = workflow.results(plate)
    with np.load(results / "estimates" / "3_segment_cells_c1.npz") as file:
        [threshold] = file.values()  # of the projected planes without their background, where nuclei are 400 high
    assert 100 < threshold < 350

    sites = {row["well"]: row for row in read_rows(results / "features.csv")}
    for well, places in NUCLEI.items():
        row, count = sites[well], str(len(places))
        assert [row[name] for name in ("cells_c1", "whole_cells_c0", "nuclei_count", "cells_count")] == [count] * 4
        assert row["spots_inside_c0"] == count and row["spots_per_cell_c0"] == ("1.0" if places else "")
        if places:
            assert float(row["cells_area"]) == pytest.approx(441, rel=0.1)
            assert float(row["nuclei_area"]) == pytest.approx(149, rel=0.1)
        else:
            assert row["cells_area"] == row["nuclei_mean_intensity_c1"] == ""

    objects = read_rows(results / "objects.csv")
    assert len(objects) == 2 * sum(map(len, NUCLEI.values()))
    assert len({(row["well"], row["labels"], row["label"]) for row in objects}) == len(objects)
    for row in objects:
        assert row["parent"] == row["label"] and row["spots_GFP"] == ("1" if row["labels"] == "cells" else "")
        assert float(row["mean_intensity_DAPI"]) > 0
    derived = find_derived(conn, plate, "processed")
    assert list(list_tables(conn, derived, NAMESPACE)) == ["features.csv", "wells.csv", "objects.csv"]

    assert Image.open(results / "figures" / "outlines" / "outlines.png").width > 500
