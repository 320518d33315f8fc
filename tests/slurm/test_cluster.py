"""Whole plates through a real Slurm: `snakemake --profile cluster`."""
from __future__ import annotations

import pytest
from slurm_project import processed_wells

pytestmark = pytest.mark.slurm


def test_slurm_runs_what_sbatch_hands_in(slurm, tmp_path):
    out = tmp_path / "out"
    slurm.run("sbatch", "--wait", "--mem=100", f"--output={out}", "--wrap", "srun -n1 hostname")
    assert out.read_text().strip().partition(".")[0] == slurm.host


def test_a_whole_plate(slurm, project, undisturbed):
    """Wells go several to a job; the derived plate is that of a local run; nothing is left to do."""
    own = project("whole")
    said = own.run()
    assert own.derived() == undisturbed
    assert sorted(processed_wells(said)) == sorted(undisturbed)
    jobs = said.count("has been submitted with SLURM jobid")
    assert jobs == 2, "12 wells, 8 to a job"
    assert "Nothing to be done" in own.run()
