"""Pictures and links of the report are of the acquisition that is analyzed."""

from types import SimpleNamespace

import imagecodecs
import numpy as np
import pandas as pd
import pytest

from openhcs_omero.core import screen_analysis
from openhcs_omero.core.config import read_config
from openhcs_omero.core.figures import Thumbnail, pack_thumbnails
from openhcs_omero.core.outputs.omero import OMEROWell
from openhcs_omero.core.records import WellRecord, to_json
from openhcs_omero.core.well_file import well_file, write_well_file
from openhcs_omero.io.atomic import write
from openhcs_omero.plates.structure import ImageStructure

RUNS = [(3, "before"), (8, "after")]


@pytest.mark.parametrize(
    ("acquisition", "image", "dark"), [("after", 102, "right"), ("before", 101, "left"), (None, 101, "left")]
)
def test_the_analyzed_acquisition_is_shown(tmp_path, acquisition, image, dark):
    settings = read_config({"plates": [7], "steps": [], "results": str(tmp_path)})
    folder = settings.folder("7")
    sites = tuple(
        ImageStructure(number, number, 1, 1, 1, 4, 4, "uint16", "", "", acquisition=run)
        for number, run in enumerate(RUNS, 1)
    )
    write(
        folder / "wells.json", to_json({"A01": WellRecord("A01", 0, 0, 7, "omero_local", sites)}, dict[str, WellRecord])
    )
    pictures = {run: np.zeros((1, 4, 4), "uint16") for run in RUNS}
    pictures[RUNS[0]][..., 2:], pictures[RUNS[1]][..., :2] = 99, 99
    thumbnails = pack_thumbnails([Thumbnail(picture, acquisition=run) for run, picture in pictures.items()])
    record = OMEROWell(9, ((101, "a"), (102, "b")))
    write_well_file(well_file(folder, "A01"), to_json(record), thumbnail=thumbnails)
    chosen = SimpleNamespace(web="https://omero.example.org", acquisition=acquisition)
    assert screen_analysis._links(settings, chosen).images == {("7", "A01"): image}
    answers = SimpleNamespace(hits=pd.DataFrame({"plate": ["7"], "well": ["A01"]}))
    [png] = screen_analysis._thumbnails(settings, answers, acquisition).values()
    left, right = np.hsplit(imagecodecs.png_decode(png), 2)
    assert bool(left.mean() < right.mean()) is (dark == "left")
