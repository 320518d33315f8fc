"""How many jobs a cluster gets, counted by a stand-in for Slurm; the plates are in folders."""

import os
import re
import subprocess
import sys
from collections import Counter

import pytest
import yaml
from plate_folders import images_of, write_imagexpress
from snake import ROOT, Workflow, kill, wait_for
from stand_in_slurm import StandIn

from openhcs_omero.core.pace import FIRST, MOST, Pace
from openhcs_omero.core.records import read_record
from openhcs_omero.core.well_file import well_file, well_files
from openhcs_omero.plates.paths import well_name

STEP = """
import time


def wait(image, filemanager, metadata, backend="disk", seconds=0):
    time.sleep(seconds)
    return image, {"bright": int(image.max())}
"""
PROFILE = ["--profile", str(ROOT / "cluster"), "--workflow-profile", "none"]
SOON = ["--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5"]


class Cluster(Workflow):
    """A folder with a plate, in which Snakemake runs with the profile of a cluster."""

    def __init__(self, folder, wells, **config):
        super().__init__(None, None, folder / "work")
        self.slurm = StandIn(folder / "slurm")
        self.environment["PATH"] = f"{self.slurm.folder}{os.pathsep}{os.environ['PATH']}"
        self.wells = wells
        write_imagexpress(self.folder / "day_1", images_of(wells, sites=1, shape=(1, 1, 1, 6, 5)))
        (self.folder / "own.py").write_text(STEP)
        self.configure("day_1", heatmaps=[], **config)

    def start(self, *options, **environment):
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(self.snakefile), "--configfile", "config.yaml"]
        self.said = self.folder / "said.txt"
        return subprocess.Popen(
            [*command, *PROFILE, *SOON, *options],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=self.said.open("a"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@pytest.mark.slow
def test_a_plate_of_1536_wells_is_at_most_100_jobs(tmp_path):
    """The first wells run in a job of their own; the time that they took decides how many share the others."""
    wells = [well_name(row, column) for row in range(32) for column in range(48)]
    cluster = Cluster(tmp_path, wells, steps=[{"call": "own:wait", "params": {"seconds": 2}}], job_minutes=1)
    cluster.slurm.run(1)
    head = cluster.start("--jobs", "1000", "--max-jobs-per-timespan", "1000/1h", "--resources", "omero=1000")
    try:
        done = cluster.results("day_1")
        wait_for(lambda: len(well_files(done)) == FIRST or head.poll() is not None)
        assert sorted(well_files(done)) == sorted(wells[:FIRST]), cluster.said.read_text()
        measured = cluster.folder / "results" / "pace_processed.json"
        wait_for(lambda: measured.exists() or head.poll() is not None)
        pace = read_record(measured, Pace)
        per_job = max(int(60 / pace.seconds), -(-1536 // MOST))
        expected = 1 + -(-1536 // per_job)
        wait_for(lambda: len(cluster.slurm.submissions) >= expected or head.poll() is not None)
    finally:
        kill(head)
    text = cluster.said.read_text()
    announced = Counter(re.findall(r"Process well (\w+) of plate", text))
    assert set(announced) == set(wells) and set(announced.values()) == {1}
    assert 2 <= pace.seconds < 4 and len(cluster.slurm.submissions) == expected <= 100
    assert all(2 <= int(job["minutes"]) < 30 for job in cluster.slurm.submissions[1:])


@pytest.mark.slow
def test_a_whole_run(tmp_path):
    """Two jobs for a hundred wells, none for a run with nothing to do, and one for a lost well."""
    wells = [well_name(row, column) for row in range(10) for column in range(10)]
    cluster = Cluster(tmp_path, wells, steps=[{"call": "own:wait"}])
    cluster.slurm.run(100)
    assert cluster.start().wait(300) == 0, cluster.said.read_text()
    assert len(cluster.slurm.submissions) == 2 and len(well_files(cluster.results("day_1"))) == 100
    said = len(cluster.said.read_text())
    assert cluster.start().wait(300) == 0, cluster.said.read_text()
    assert "Nothing to be done" in cluster.said.read_text()[said:] and len(cluster.slurm.submissions) == 2
    well_file(cluster.results("day_1"), "C05").unlink()
    assert cluster.start().wait(300) == 0, cluster.said.read_text()
    assert len(cluster.slurm.submissions) == 3
    assert re.findall(r"Process well (\w+) of plate", cluster.said.read_text()[said:]) == ["C05"]


@pytest.mark.slow
def test_limits_of_a_site(tmp_path):
    """At most so many jobs in the queue, and so many submissions in an hour; small rules do not count."""
    wells = [f"A{column:02}" for column in range(1, 9)]
    cluster = Cluster(tmp_path, wells, steps=[{"call": "own:wait"}], wells_per_job=1)
    cluster.slurm.run(100)
    head = cluster.start("--jobs", "2", "--max-jobs-per-timespan", "5/1h")
    try:
        wait_for(lambda: len(well_files(cluster.results("day_1"))) == 5 or head.poll() is not None)
        wait_for(lambda: "Job rate limit reached" in cluster.said.read_text() or head.poll() is not None)
    finally:
        kill(head)
    assert len(cluster.slurm.submissions) == 5, cluster.said.read_text()
    assert max(job["queued"] for job in cluster.slurm.submissions) == 2
    assert cluster.start("--unlock").wait(60) == 0
    head = cluster.start("--jobs", "3", "--max-jobs-per-timespan", "50/1h")
    assert head.wait(300) == 0, cluster.said.read_text()  # and not an hour after the last job
    assert len(cluster.slurm.submissions) == 8, "what is done stays done"
    assert len(well_files(cluster.results("day_1"))) == 8


def test_the_profile_keeps_the_limits_that_sites_have():
    profile = yaml.safe_load((ROOT / "cluster" / "config.yaml").read_text())
    assert profile["jobs"] <= 100 and profile["max-jobs-per-timespan"] == "200/1h"
