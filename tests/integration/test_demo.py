"""The demo as a user starts it: what it prints about its screen, compared with the truth that it planted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.processing.synthetic_screen import EC50, TwoPlates

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder of the demo's files, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OMERO_")}
    path = f"{ROOT}{os.pathsep}{ROOT / 'packages' / 'omero-embedded' / 'src'}"
    done = subprocess.run(
        [sys.executable, "-c", "from openhcs_omero.cli import main; main()", "demo"],
        cwd=folder,
        env={**environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / ".demo", done.stdout


@pytest.mark.slow
def test_the_figures_that_the_demo_prints(demo):
    home, printed = demo
    assert (
        f"hits: {TwoPlates().hits + len(EC50)} of {TwoPlates().hits + len(EC50)} active compounds found, 0 false"
        in printed
    )
    for compound, true in EC50.items():
        low, high = re.search(rf"EC50 of {compound}: [\d.]+ uM \(([\d.]+) to ([\d.]+)\), true {true}", printed).groups()
        assert float(low) < true < float(high)
    assert printed.count("4 / 4") == 2 and "others" not in printed  # the bad wells, and no others, are excluded
    for measured, true in re.findall(r"(\d+) / (\d{4,})", printed):  # cells and spots
        assert int(measured) == pytest.approx(int(true), rel=0.02)
    assert "Nothing to be done" in printed
    assert "Demo screen 1" in (home / "results" / "index.html").read_text()
    report = (home / "results" / "screen_processed" / "report.html").read_text()
    for plate in (1, 2):
        assert f'"{plate}": "data:image/jpeg;base64,' in report.replace("\\", "")  # outlines of objects
        assert (home / "results" / f"plate_{plate}_processed" / "figures" / "outlines" / "outlines.png").exists()
    for plate in (1, 2):
        folder = home / "results" / f"plate_{plate}_processed"
        wells = read_rows(folder / "wells.csv")
        p, n = (
            np.array([float(row["spots_c0"]) for row in wells if row["control"] == kind])
            for kind in ("positive", "negative")
        )
        expected = 1 - 3 * (p.std(ddof=1) + n.std(ddof=1)) / abs(p.mean() - n.mean())
        [quality] = [row for row in read_rows(folder / "quality.csv") if row["feature"] == "spots_c0"]
        assert float(quality["z_prime"]) == pytest.approx(expected) and quality["gate"] == "passed"
        assert re.search(rf"^ +{plate} +{expected:.2f} ", printed, re.MULTILINE)
