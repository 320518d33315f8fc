"""Whole plates through a real Slurm, `snakemake --profile cluster`: as it should be, and with what goes wrong.

However it went, the derived plate is in the end that of a run in which nothing did, by the hashes of its pixels.
"""
from __future__ import annotations

import os
import re
import signal

import pytest
from slurm_project import processed_wells

pytestmark = pytest.mark.slurm

WELLS = ["A01", "A02", "B03", "B04"]
PAIR = WELLS[:2]


@pytest.fixture
def expected(undisturbed):
    """The derived plate of the four wells."""
    return {well: undisturbed[well] for well in WELLS}


def jobs_of(said: str) -> list[str]:
    """Slurm's ids of the jobs that were submitted."""
    return re.findall(r"has been submitted with SLURM jobid (\d+)", said)


def test_slurm_runs_what_sbatch_hands_in(slurm, tmp_path):
    out = tmp_path / "out"
    slurm.run("sbatch", "--wait", "--mem=100", f"--output={out}", "--wrap", "srun -n1 hostname")
    assert out.read_text().strip().partition(".")[0] == slurm.host


def test_a_whole_plate(slurm, project, undisturbed):
    """Wells go several to a job; lost wells are made again alone; then nothing is left to do."""
    own = project("whole")
    said = own.run()
    assert own.derived() == undisturbed
    assert sorted(processed_wells(said)) == sorted(undisturbed)
    assert len(jobs_of(said)) == 2, "12 wells, 8 to a job"
    lost = ["A02", "A05", "B05"]
    for well in lost:
        (own.results / "processed" / f"{well}.json").unlink()
    said = own.run()
    assert sorted(processed_wells(said)) == lost
    assert len(jobs_of(said)) == 2, "A01 to B02 are the first eight"
    assert own.derived() == undisturbed
    assert "Nothing to be done" in own.run()


def test_several_plates(slurm, project, omero, plate, make_plate, expected):
    """The wells of one plate are on their way while another one's become known; each is processed once."""
    plates = [plate, make_plate(), make_plate()]
    own = project("several", WELLS, per_job=2, changed={"plates": plates})
    said = own.run()
    assert sorted(processed_wells(said)) == sorted(WELLS * 3)
    assert len(jobs_of(said)) == 6
    assert [omero.derived(each, own.output) for each in plates] == [expected] * 3
    assert "Nothing to be done" in own.run()


def test_jobs_that_are_killed_run_again(slurm, project, expected):
    """One by `scancel`, the process of the other by `kill -9`, both in the middle of a step."""
    own = project("killed", PAIR, gated=True, per_job=1)
    head = own.start()
    own.wait(lambda: len(own.begun()) == 2, "two wells in the middle of a step")
    first, second = jobs_of(own.said())
    process = next(pid for _, pid in own.begun() if job_of(pid) == second)
    slurm.run("scancel", first)
    os.kill(process, signal.SIGKILL)
    slurm.wait(lambda: not {first, second} & set(slurm.states()), 60, "the killed jobs to end")
    assert own.finish(head) == 0, own.said()
    assert len(jobs_of(own.said())) == 4
    assert own.derived() == {well: expected[well] for well in PAIR}
    assert "Nothing to be done" in own.run()


def test_a_head_that_was_killed_is_started_again_while_its_jobs_run(slurm, project, expected):
    own = project("beheaded", PAIR, gated=True, per_job=1)
    head = own.start()
    own.wait(lambda: len(own.begun()) == 2, "two wells in the middle of a step")
    before = jobs_of(own.said())
    head.kill()
    head.wait()
    own.run_unlock()
    second = own.start()
    own.wait(lambda: len(own.begun()) == 4, "the same wells in the middle of a step in new jobs")
    assert all(slurm.states().get(job) == "RUNNING" for job in before), "the first head's jobs still run"
    assert own.finish(second) == 0, own.said()
    slurm.wait(lambda: not slurm.states(), 60, "the first head's jobs to end")
    assert own.derived() == {well: expected[well] for well in PAIR}
    assert "Nothing to be done" in own.run()


def test_omero_restarts_in_the_middle(slurm, project, omero, expected):
    """The server forgets the session; jobs wait for it, and for the new session that the head process opens."""
    own = project("restarted", PAIR, gated=True, per_job=1)
    head = own.start()
    own.wait(lambda: len(own.begun()) == 2, "two wells in the middle of a step")
    omero.stop()
    own.open_gate()
    failed = jobs_of(own.said())
    try:
        slurm.wait(lambda: not set(failed) & set(slurm.states()), 60, "the jobs to find no server")
        own.wait(lambda: len(jobs_of(own.said())) > 2, "the jobs to be tried again")
    finally:
        omero.start()
    assert own.finish(head) == 0, own.said()
    assert own.derived() == {well: expected[well] for well in PAIR}


def test_a_job_over_its_memory_limit_gets_more(slurm, project, expected):
    own = project("hungry", PAIR, megabytes=700)
    said = own.run()
    shown = [slurm.run("scontrol", "--oneliner", "show", "job", job) for job in jobs_of(said)]
    memory = [int(re.search(r"MinMemoryNode=(\d+)M", job)[1]) for job in shown]
    states = [re.search(r"JobState=(\w+)", job)[1] for job in shown]
    assert len(memory) > 1 and memory == sorted(set(memory)), "each attempt asks for more"
    assert states[-1] == "COMPLETED" and "COMPLETED" not in states[:-1]
    assert own.derived() == {well: expected[well] for well in PAIR}


def job_of(process: int) -> str:
    """The Slurm job that a process belongs to."""
    with open(f"/proc/{process}/environ", "rb") as environment:
        pairs = dict(pair.partition(b"=")[::2] for pair in environment.read().split(b"\0"))
    return pairs[b"SLURM_JOB_ID"].decode()
