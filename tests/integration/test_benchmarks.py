"""The benchmarks that need no extra environment run to their end. Their results are not judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_benchmarks_write_their_results(tmp_path):
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "benchmarks",
        "rerun",
        "growth",
        "--quick",
        "--json",
        str(tmp_path / "found.json"),
    ]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert said.returncode == 0, said.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["quick"] and {row["benchmark"] for row in found["ratios"]} == {"rerun", "growth"}
    for row in found["ratios"]:
        assert row["ours"] > 0 and row["name"] in " ".join(said.stdout.split())
        assert (row["ratio"] is None) == (row["peer"] is None) and (row["met"] is None) == (row["target"] is None)
