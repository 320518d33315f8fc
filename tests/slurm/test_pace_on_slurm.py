"""How many wells share a job follows from the time that the first wells took."""

from __future__ import annotations

from collections import Counter

import pytest
from slurm_project import processed_wells

from openhcs_omero.core.config import read_config
from openhcs_omero.core.pace import FIRST, Pace, batches
from openhcs_omero.core.records import read_record
from openhcs_omero.microscopes.importing import import_folder
from openhcs_omero.processing.synthetic import Screen, write_plate

pytestmark = pytest.mark.slurm

SLOW = """
import time


def wait(image, filemanager, metadata, backend="disk"):
    time.sleep(2)
    return image, {"bright": int(image.max())}
"""


@pytest.mark.slow
def test_jobs_take_as_long_as_they_should(slurm, omero, project, tmp_path):
    """A plate of 104 wells of 2 s, in jobs of a minute: a job for the first four wells, and some for all others."""
    write_plate(tmp_path / "plate", Screen(rows=8, columns=13, sites=1, size=64))
    conn = omero.login()
    try:
        plate = import_folder(conn, tmp_path / "plate", "many wells")
    finally:
        conn.close()
    config = {"plates": [plate], "steps": [{"call": "slow:wait"}], "job_minutes": 1}
    own = project("pace", per_job=None, changed=config)
    (own.folder / "slow.py").write_text(SLOW)
    before = slurm.states(of_all=True)
    said = own.run()
    settings = read_config({**config, "output": "pace", "results": str(own.folder / "results")})
    pace = read_record(settings.pace_file, Pace)
    assert pace is not None and pace.seconds is not None and pace.seconds >= 2
    jobs = set(slurm.states(of_all=True)) - set(before)
    assert len(jobs) == 1 + len(batches(settings, 104, pace)) and 104 // (len(jobs) - 1) > FIRST
    assert len(processed_wells(said)) == 104 and set(Counter(processed_wells(said)).values()) == {1}
    assert len(own.omero.derived(plate, "pace")) == 104
    assert "Nothing to be done" in own.run()
    assert set(slurm.states(of_all=True)) - set(before) == jobs
