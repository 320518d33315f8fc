"""The workflow from Python, with the executor named in its profile: run to its end, and cancelled."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

PROGRAM = """
import json, signal, sys, threading
from openhcs_omero.core.orchestrator.orchestrator import FunctionStep, PipelineOrchestrator
import steps
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
config = json.load(open("own.yaml"))
plates, (step,) = config.pop("plates"), config.pop("steps")
events = []
pipeline = PipelineOrchestrator(plates, [FunctionStep(steps.invert, **step["params"])], {**config, "profile": "mine"},
                                events.append)

def cancel():
    if sys.stdin.readline():
        pipeline.cancel()

threading.Thread(target=cancel, daemon=True).start()
result = pipeline.run()
wells = [e["counts"] for e in events if e["event"] == "well"]
lines = "".join(e["line"] for e in events if e["event"] == "log")
print(json.dumps([list(result), wells[-1], lines.count("has been submitted with SLURM jobid")]))
"""


def test_a_profile_names_slurm(slurm, project, undisturbed):
    """`cancel()` and Ctrl-C end the run's jobs and leave no lock: the next run continues without any other command."""
    wells = ["A01", "A02"]
    own = project("from_python", wells, gated=True, per_job=2)
    # check sooner whether jobs have ended
    own.change_profile("slurm-init-seconds-before-status-checks: 15", "slurm-init-seconds-before-status-checks: 3")
    environment = {**own.environment, "OMERO_PASSWORD": own.omero.password}

    def start() -> subprocess.Popen[str]:
        own.close_gate()
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=own.folder,
            stdin=subprocess.PIPE,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )

    def said() -> str:
        log = own.folder / "results" / "pipeline.log"
        return log.read_text() if log.exists() else "nothing"

    for cancelled in (True, False):
        program = start()
        own.wait(lambda ended=program: own.begun() or ended.poll() is not None, "a well in the middle of a step")
        assert program.poll() is None, program.communicate()[1] + said()
        (_, worker), (job, state), began = own.begun()[0], *slurm.states().items(), time.monotonic()
        assert state == "RUNNING"
        if not cancelled:
            program.send_signal(signal.SIGINT)
        _, error = program.communicate("cancel\n" if cancelled else None, timeout=120)
        assert ("the run was cancelled" if cancelled else "KeyboardInterrupt") in error, error
        assert time.monotonic() - began < 30
        slurm.wait(lambda: not slurm.states(), 30, "its jobs to end")
        assert slurm.states(of_all=True)[job] == "CANCELLED"
        slurm.wait(lambda pid=worker: not psutil.pid_exists(pid), 30, "the worker to end")
        assert not [*own.folder.glob(".snakemake/locks/*")]
        assert own.done() == []

    program = start()
    own.open_gate()
    out, error = program.communicate(timeout=600)
    assert program.returncode == 0, error + said()
    assert json.loads(out) == [[own.plate], {"done": 2}, 1]
    assert own.derived() == {well: undisturbed[well] for well in wells}
