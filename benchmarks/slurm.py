"""The overhead per well on Slurm, compared with a plain `sbatch` array that does the same work without Snakemake.

The benchmark starts a Slurm with one node, like the tests, and needs root. The node claims to have four CPUs.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from benchmarks.common import ROOT, BenchServer, Ratio, wells_of
from benchmarks.plates import WITHOUT_SNAKEMAKE, delete_plates, make_plate, run, run_snakemake
from openhcs_omero.omero.connection import connect, disconnect
from openhcs_omero.omero.server import Server

sys.path.append(str(ROOT / "tests" / "slurm"))
from slurm_cluster import SlurmCluster, Unavailable

STEPS = """
def same(image, filemanager, metadata, backend="disk"):
    return image, {"x": 1}
"""
SUBMITTED = r"has been submitted with SLURM jobid (\d+)"


def measure(server: BenchServer, quick: bool) -> Iterator[Ratio]:
    wells = 8 if quick else 24
    with tempfile.TemporaryDirectory(prefix="openhcs-bench-") as folder:
        slurm = SlurmCluster(Path(folder, "slurm"))
        try:
            slurm.start()
        except Unavailable as reason:
            print(f"slurm is left out: {reason}")
            return
        with server.login() as conn:
            plate = make_plate(conn, 96, (1, 2, 1, 64, 64))
        try:
            bare = _bare(server, slurm, _folder(Path(folder, "bare"), plate, wells, 1), plate, wells)
            for per_job in (1, 8):
                ours = _workflow(server, slurm, _folder(Path(folder, f"per{per_job}"), plate, wells, per_job))
                what = f"node time a well, {per_job} to a job, against tasks of an array"
                yield Ratio(what, ours / wells, bare / wells, "s")
        finally:
            slurm.stop()
            with server.login() as conn:
                delete_plates(conn, [plate])


def _folder(folder: Path, plate: int, wells: int, per_job: int) -> Path:
    """Create a folder for running the workflow."""
    folder.mkdir()
    (folder / "steps.py").write_text(STEPS)
    names = wells_of(96)[:wells]
    (folder / "config.yaml").write_text(
        json.dumps({"plates": [plate], "wells": names, "wells_per_job": per_job, "steps": [{"call": "steps:same"}]})
    )
    return folder


def _workflow(server: BenchServer, slurm: SlurmCluster, folder: Path) -> float:
    """Run the workflow; return the seconds of node time of the jobs that process wells."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--configfile",
        "config.yaml",
        "--snakefile",
        ROOT / "Snakefile",
        "--profile",
        ROOT / "cluster",
    ]
    said = run(command, folder, server.environment())
    return _node_time(slurm, re.findall(SUBMITTED, said))


def _bare(server: BenchServer, slurm: SlurmCluster, folder: Path, plate: int, wells: int) -> float:
    """Run the plain array; return the seconds of node time of its tasks."""
    run_snakemake(server, folder, f"results/plate_{plate}_processed/derived.json", "--snakefile", ROOT / "Snakefile")
    (folder / "well.py").write_text(WITHOUT_SNAKEMAKE)
    omero = Server(server.host, server.port, server.user)
    os.environ["OMERO_PASSWORD"] = server.password
    connect(omero)  # the tasks join this session
    try:
        task = f"{sys.executable} well.py $SLURM_ARRAY_TASK_ID {wells}"
        environment = {key: value for key, value in server.environment().items() if key != "OMERO_PASSWORD"}
        said = run(
            ["sbatch", "--wait", "--parsable", "--mem=500", f"--array=0-{wells - 1}", "--wrap", task],
            folder,
            {**environment, "PYTHONPATH": str(folder)},
        )
        return _node_time(slurm, [f"{said.split()[0]}_{index}" for index in range(wells)])
    finally:
        disconnect(omero)


def _node_time(slurm: SlurmCluster, jobs: list[str]) -> float:
    total = 0.0
    for job in jobs:
        shown = dict(re.findall(r"(\w+Time)=(\S+)", slurm.run("scontrol", "--oneliner", "show", "job", job)))
        began, ended = (datetime.fromisoformat(shown[what]) for what in ("StartTime", "EndTime"))
        total += (ended - began).total_seconds()
    return total
