"""The workflow from Python, with the executor that its profile names."""
from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

PROGRAM = """
import json, sys
from openhcs_omero.core.orchestrator.orchestrator import PipelineError, PipelineOrchestrator
import steps
config = json.load(open("own.yaml"))
plates, _ = config.pop("plates"), config.pop("steps")
events = []
result = PipelineOrchestrator(plates, [steps.invert], {**config, "profile": "sooner"}, events.append).run()
wells = [e["counts"] for e in events if e["event"] == "well"]
lines = "".join(e["line"] for e in events if e["event"] == "log")
print(json.dumps([list(result), wells[-1], lines.count("has been submitted with SLURM jobid")]))
"""


def test_a_profile_names_slurm(slurm, project, undisturbed):
    wells = ["A01", "A02"]
    own = project("from_python", wells, per_job=2)
    (own.folder / "sooner").mkdir()  # the cluster's profile, but that it looks sooner whether jobs have ended
    profile = (own.folder / "cluster" / "config.yaml").read_text()
    (own.folder / "sooner" / "config.yaml").write_text(profile.replace("status-checks: 15", "status-checks: 3"))
    environment = {**own.environment, "OMERO_PASSWORD": own.omero.password}
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=own.folder, stdin=subprocess.DEVNULL, text=True,
                          capture_output=True, env=environment, timeout=600)
    said = own.folder / "results" / "pipeline.log"
    assert done.returncode == 0, done.stderr + (said.read_text() if said.exists() else "")
    assert json.loads(done.stdout) == [[own.plate], {"done": 2}, 1]
    assert own.derived() == {well: undisturbed[well] for well in wells}
