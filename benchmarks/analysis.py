"""The cost of analyzing a large screen: time and memory of `openhcs-omero analyse`, and the size of the report.

The screen is generated as tables: 300 plates of 384 wells with 200 features, two columns of controls, and three
replicate plates per layout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.common import ROOT, BenchServer, Ratio
from openhcs_omero.plates.paths import well_name

CONFIG = """
plate_map: {folder}/map.csv
analysis:
  normalise: [percent_of_control, robust_z_score]
  hits: {{feature: f0, by: robust_z_score, above: 3}}
  dose_response: {{feature: f0, by: percent_of_control}}
qc: {{stop_below: {{z_prime: 0}}}}
"""
SECONDS, GB, MB = 60.0, 2.0, 30.0


def measure(server: BenchServer, quick: bool) -> Iterator[Ratio]:
    plates, features = (6, 20) if quick else (300, 200)
    with tempfile.TemporaryDirectory(prefix="openhcs-bench-") as name:
        folder = Path(name)
        tables = _write_screen(folder, plates, features)
        seconds, cpu, memory = _analyse(folder, tables)
        size = (folder / "out" / "report.html").stat().st_size / 1e6
    what = f"analyse {plates} plates of 384 wells with {features} features"
    yield Ratio(f"{what}: time, against 60 s", seconds, SECONDS, "s", 1, "less")
    yield Ratio(f"{what}: CPU time", cpu, None, "s")
    yield Ratio(f"{what}: memory, against 2 GB", memory, GB, "GB", 1, "less")
    yield Ratio(f"{what}: the report, against 30 MB", size, MB, "MB", 1, "less")


def _write_screen(folder: Path, plates: int, features: int) -> list[Path]:
    rng = np.random.default_rng(0)
    wells = [well_name(row, column) for row in range(16) for column in range(24)]
    column = np.tile(np.arange(24), 16)
    control = np.select([column == 0, column == 23], ["negative", "positive"], "")
    maps, tables = [], []
    for plate in range(plates):
        label = f"P{plate:03}"
        values = rng.normal(100, 10, (384, features)).round(5)
        values[column == 23] += 150
        table = pd.DataFrame(values, columns=[f"f{number}" for number in range(features)])
        table.insert(0, "plate", label)
        table.insert(1, "well", wells)
        tables.append(folder / f"{label}.csv")
        table.to_csv(tables[-1], index=False)
        compound = [f"C{plate // 3}-{number}" for number in range(384)]
        maps.append(
            pd.DataFrame(
                {"plate": label, "well": wells, "compound": compound, "concentration (uM)": 10, "control": control}
            )
        )
    pd.concat(maps).to_csv(folder / "map.csv", index=False)
    (folder / "analysis.yaml").write_text(CONFIG.format(folder=folder))
    return tables


def _analyse(folder: Path, tables: list[Path]) -> tuple[float, float, float]:
    """Run the command, and return its seconds, CPU seconds and GB of memory."""
    command = [
        sys.executable,
        "-c",
        "from openhcs_omero.cli import main; main()",
        "analyse",
        *map(str, tables),
        "--config",
        str(folder / "analysis.yaml"),
        "--out",
        str(folder / "out"),
    ]
    start = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, "openhcs-omero analyse")
    return time.monotonic() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6
