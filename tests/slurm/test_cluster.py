"""Whole plates through a real Slurm with `snakemake --profile cluster`, with and without failures.

In the end, the hashes of the derived plate's pixels are the same as after an undisturbed run.
"""

from __future__ import annotations

import os
import re
import signal
from itertools import pairwise

import psutil
import pytest
from slurm_project import processed_wells

from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.core.well_file import well_file

pytestmark = pytest.mark.slurm

WELLS = ["A01", "B03"]
SUBMITTED = r"Job (\S+) has been submitted with SLURM jobid (\d+)"


@pytest.fixture
def expected(undisturbed):
    """The derived plate with only the wells that the disturbed runs process."""
    return {well: undisturbed[well] for well in WELLS}


def jobs_of(said: str) -> list[str]:
    """The Slurm ids of the submitted jobs."""
    return [job for _, job in re.findall(SUBMITTED, said)]


def test_slurm_runs_submitted_jobs(slurm, tmp_path):
    out = tmp_path / "out"
    slurm.run("sbatch", "--wait", "--mem=100", f"--output={out}", "--wrap", "srun -n1 hostname")
    assert out.read_text().strip().partition(".")[0] == slurm.host


def test_whole_plates(slurm, project, omero, plate, make_plate, undisturbed, tmp_path):
    """Wells are grouped into jobs that request what they need; only lost wells are reprocessed; nothing is left over.

    Lost wells start from the images that other jobs have kept. Wells of one plate are processed while another plate is
    still being read; each well is processed once.
    """
    plates = [plate, make_plate()]
    kept = {"scratch": str(tmp_path / "scratch"), "steps": [{"call": "steps:invert", "keep": True}]}
    own = project("whole", per_job=4, changed={"plates": plates, **kept})
    said = own.run()
    assert [omero.derived(each, own.output) for each in plates] == [undisturbed] * 2
    assert sorted(processed_wells(said)) == sorted([*undisturbed, *undisturbed])
    shown = [show_job(slurm, job) for job in jobs_of(said)]
    assert len(shown) == 4, "8 wells a plate, 4 to a job"
    assert {(job["NumCPUs"], job["JobState"]) for job in shown} == {("1", "COMPLETED")}
    assert len({job["MinMemoryNode"] for job in shown}) == 1 and 500 <= memory_of(shown[0]) < 600
    assert {job["TimeLimit"] for job in shown} == {"01:01:00"}, "4 wells of 15 minutes, and 1 for the batch"
    lost = ["A02", "A03", "B02"]
    for well in lost:
        well_file(own.results, well).unlink()
    said = own.run()
    assert sorted(processed_wells(said)) == lost
    logs = [own.results / "logs" / f"process_well_{well}.log" for well in lost]
    assert all("starts from the images that step 1 left in" in log.read_text() for log in logs)
    assert len(jobs_of(said)) == 2, "A01 to A04 are the first four"
    assert omero.derived(plate, own.output) == undisturbed
    assert "Nothing to be done" in own.run()


@pytest.mark.slow
def test_killed_jobs_run_again(slurm, project, undisturbed):
    """Each dies in the middle of its second well: one by `scancel`, one by `kill -9`, one by its time limit.

    A fourth job exceeds its memory limit. A job processes its wells one after the other, in one process.
    """
    own = project("killed", gated=True, per_job=2, free=1, hungry=["B03", "B04"])
    head = own.start()
    own.wait(lambda: len(own.begun()) == 3, "three jobs in the middle of their second well")
    assert len(own.done()) == 3, "their first wells"
    processes = [pid for _, pid in own.begun()]
    assert all("openhcs_omero.core.worker_pool" in psutil.Process(pid).cmdline() for pid in processes)
    cancelled, killed, late = (job_of(pid) for pid in processes)
    slurm.run("scancel", cancelled)
    os.kill(processes[1], signal.SIGKILL)
    slurm.run("scontrol", "update", f"JobId={late}", "EndTime=now")
    slurm.wait(lambda: not {cancelled, killed, late} & set(slurm.states()), 180, "the killed jobs to end")
    slurm.wait(lambda: not any(map(psutil.pid_exists, processes)), 30, "their processes to end")
    assert own.finish(head) == 0, own.said()
    attempts: dict[str, list[dict[str, str]]] = {}
    for group, job in re.findall(SUBMITTED, own.said()):
        attempts.setdefault(group, []).append(show_job(slurm, job))
    tries = [[job["JobState"] for job in tried] for tried in attempts.values()]
    assert len(tries) == 4 and all(len(tried) == 2 and tried[1] == "COMPLETED" for tried in tries), tries
    ends = {job: show_job(slurm, job)["JobState"] for job in (cancelled, killed, late)}
    assert ends == {cancelled: "CANCELLED", killed: "FAILED", late: "TIMEOUT"}
    over = re.findall(r"StepId=(\d+)\S* exceeded memory limit", (slurm.folder / "slurmd.log").read_text())
    assert len(set(over)) == 1 and over[0] in jobs_of(own.said()) and over[0] not in ends
    for first_try, second_try in attempts.values():
        assert memory_of(second_try) > 1.8 * memory_of(first_try), "each attempt asks for more"
        assert second_try["TimeLimit"] == "01:01:00", "twice 2 wells of 15 minutes, and 1 for the batch"
    assert own.derived() == undisturbed


def test_a_well_that_always_fails(project, undisturbed):
    """It costs one well: the others in its job are processed, and the tables are written and give the reason."""
    wells = ["A01", "A02", "B03"]
    good = {well: undisturbed[well] for well in wells if well != "A02"}
    own = project("broken", wells, gated=True, per_job=3, broken=["A02"])
    assert own.finish(own.start("--retries", "0")) == 1, own.said()
    assert "2 of 3 wells of 1 plate are processed." in own.said() and f"A02 of plate {own.plate}" in own.said()
    assert "A02 is broken" in (own.results / "logs" / "process_well_A02.log").read_text()
    made = own.derived()
    assert {well: made[well] for well in good} == good and not made.get("A02")
    assert [row["well"] for row in read_rows(own.results / "failed.csv")] == ["A02"]
    assert [row["well"] for row in read_rows(own.results / "wells.csv") if row["taken"]] == list(good)
    (own.gate / "mended").touch()
    assert processed_wells(own.run()) == ["A02"]
    assert own.derived() == {well: undisturbed[well] for well in wells}


@pytest.mark.slow
def test_the_number_of_jobs_that_talk_to_omero_is_limited(slurm, project, undisturbed):
    """With `omero=1`, estimates and wells run one by one; the tests above see wells of several jobs at once."""
    wells = ["A01", "A02"]
    steps = [{"call": "steps:estimated"}, {"call": "steps:invert"}]
    own = project("limited", wells, per_job=1, changed={"steps": steps})
    own.change_profile("resources: [omero=50]", "resources: [omero=1]")
    shown = [show_job(slurm, job) for job in jobs_of(own.run())]
    assert len(shown) == 4, "two channels' estimates, and two wells"
    spans = sorted((job["StartTime"], job["EndTime"]) for job in shown)
    assert all(ended <= began for (_, ended), (began, _) in pairwise(spans)), spans
    assert own.derived() == {well: undisturbed[well] for well in wells}


@pytest.mark.slow
def test_a_job_processes_as_many_wells_at_once_as_it_has_cpus(slurm, project, undisturbed):
    """`cores: 2` in the profile, with Slurm confining jobs; the tests above see one at a time with `cores: 1`."""
    wells = ["A01", "A02", "A03"]
    own = project("cores", wells, gated=True)
    own.change_profile("cores: 1", "cores: 2")
    head = own.start()
    own.wait(lambda: len(own.begun()) == 2, "two wells in the middle of a step")
    (job,) = {job_of(pid) for _, pid in own.begun()}
    assert show_job(slurm, job)["NumCPUs"] == "2" and len({pid for _, pid in own.begun()}) == 2
    assert own.finish(head) == 0, own.said()
    assert own.derived() == {well: undisturbed[well] for well in wells}


@pytest.mark.slow
def test_an_interrupted_or_killed_head_is_restarted(slurm, project, expected):
    """Ctrl-C cancels its jobs and leaves no lock. After a kill, its jobs keep running beside those of the next head."""
    own = project("beheaded", WELLS, gated=True, per_job=1)
    head = own.start()
    own.wait(lambda: len(own.begun()) == 2, "two wells in the middle of a step")
    os.kill(head.pid, signal.SIGINT)
    assert head.wait(60) == 1, own.said()
    slurm.wait(lambda: not slurm.states(), 30, "the jobs to be cancelled, for their steps still wait")
    assert {show_job(slurm, job)["JobState"] for job in jobs_of(own.said())} == {"CANCELLED"}

    own.close_gate()
    head = own.start()
    own.wait(lambda: len(own.begun()) == 2, "the same in another run, which is not kept out by a lock")
    before = jobs_of(own.said())
    head.kill()
    head.wait()
    own.run_unlock()
    second = own.start()
    own.wait(lambda: len(own.begun()) == 4, "the same wells in the middle of a step in new jobs")
    assert all(slurm.states().get(job) == "RUNNING" for job in before), "the first head's jobs still run"
    assert own.finish(second) == 0, own.said()
    slurm.wait(lambda: not slurm.states(), 180, "the first head's jobs to end")
    assert own.derived() == expected


@pytest.mark.slow
def test_omero_restarts_during_a_run(slurm, project, omero, expected):
    """The server forgets the session; jobs wait for it and for the new session that the head process opens.

    If the last retry fails before the server is back, the run ends, and the same command resumes it.
    """
    own = project("restarted", WELLS, gated=True, per_job=1)
    head = own.start("--retries", "0")
    own.wait(lambda: len(own.begun()) == 2, "two wells in the middle of a step")
    omero.stop()
    try:
        assert own.finish(head) == 1, own.said()
        assert own.done() == []
    finally:
        omero.start()
    own.close_gate()
    head = own.start()
    own.wait(lambda: len(own.begun()) == 2, "two wells in the middle of a step")
    omero.stop()
    own.open_gate()
    failed = jobs_of(own.said())
    try:
        slurm.wait(lambda: not set(failed) & set(slurm.states()), 180, "the jobs to find no server")
        own.wait(lambda: len(jobs_of(own.said())) > 2, "the jobs to be tried again")
    finally:
        omero.start()
    assert own.finish(head) == 0, own.said()
    assert own.derived() == expected


def job_of(process: int) -> str:
    """The Slurm job to which a process belongs."""
    with open(f"/proc/{process}/environ", "rb") as environment:
        pairs = dict(pair.partition(b"=")[::2] for pair in environment.read().split(b"\0"))
    return pairs[b"SLURM_JOB_ID"].decode()


def show_job(slurm, job: str) -> dict[str, str]:
    """What Slurm knows about a job."""
    words = slurm.run("scontrol", "--oneliner", "show", "job", job).split()
    return dict(word.split("=", 1) for word in words if "=" in word)


def memory_of(shown: dict[str, str]) -> int:
    """The memory limit of a job in MB."""
    return int(shown["MinMemoryNode"].removesuffix("M"))
