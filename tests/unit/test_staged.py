"""What a step may save about its well before anything is in OMERO."""

import pytest

from openhcs_omero.io.base import BadData
from openhcs_omero.io.memory import MemoryBackend
from openhcs_omero.io.staged import StagedFiles

WELL = "/omero/plate_7_processed/A01"


@pytest.fixture
def files():
    return StagedFiles(MemoryBackend(), "/omero/plate_7_processed", "A01", [1, 2])


def test_files_of_the_well_and_its_sites_are_accepted(files):
    for path in (f"{WELL}/A01_s002_results.json", f"{WELL}/summary.json"):
        files.save({"cells": 3}, path)
        assert files.load(path) == {"cells": 3} and files.exists(path)


@pytest.mark.parametrize(
    "path",
    [
        "/omero/plate_7/A01/A01_s001_results.json",
        "/omero/plate_7_processed/B02/B02_s001_results.json",
        f"{WELL}/A01_s003_results.json",
        "/omero/plate_8_processed/A01/A01_s001_results.json",
        "/omero/plate_7_processed/results.json",
    ],
)
def test_files_of_anything_else_are_refused(files, path):
    with pytest.raises(BadData, match="it works on /omero/plate_7_processed/A01, which has the sites 1, 2"):
        files.save({}, path)


@pytest.mark.parametrize("path", [f"{WELL}/A01_s001_z000_c000.tif", "results.json"])
def test_images_and_other_paths_are_refused(files, path):
    with pytest.raises(BadData):
        files.save({}, path)
