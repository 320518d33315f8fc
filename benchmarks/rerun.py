"""A rerun of 384 wells that has nothing to do, compared with a Snakemake dry run on the same number of plain files."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import ROOT, BenchServer, Ratio, best, wells_of
from benchmarks.plates import delete_plates, make_plate, run_snakemake

STEPS = """
def same(image, filemanager, metadata, backend="disk"):
    return image, {"x": 1}
"""
ENDINGS = (".zip",)

# a job for each well with as many files as in the workflow, and one job that takes them all
PLAIN = """
WELLS = config["wells"]
ENDINGS = config["endings"]


rule all:
    input:
        "all.txt",


rule process:
    input:
        "wells/{well}.json",
    output:
        ["processed/{well}" + ending for ending in ENDINGS],
    params:
        steps="steps",
    shell:
        "touch {output}"


rule collect:
    input:
        expand("processed/{well}{ending}", well=WELLS, ending=ENDINGS),
    output:
        "all.txt",
    shell:
        "touch {output}"
"""


def measure(server: BenchServer, quick: bool) -> Iterator[Ratio]:
    wells = 96 if quick else 384
    with server.login() as conn:
        plate = make_plate(conn, wells, (1, 1, 1, 16, 16))
    try:
        with tempfile.TemporaryDirectory(prefix="openhcs-bench-") as folder:
            ours, plain = Path(folder, "ours"), Path(folder, "plain")
            _prepare(server, ours, plate)
            _prepare_plain(server, plain, wells)
            took = best(
                {
                    "ours": lambda: _nothing_to_do(server, ours, "--snakefile", ROOT / "Snakefile"),
                    "plain": lambda: _nothing_to_do(server, plain, "--dry-run"),
                },
                1 if quick else 3,
            )
        yield Ratio(
            f"no-op rerun of {wells} wells, against a dry run on plain files",
            took["ours"],
            took["plain"],
            "s",
            2.0,
            "less",
        )
    finally:
        with server.login() as conn:
            delete_plates(conn, [plate])


def _prepare(server: BenchServer, folder: Path, plate: int) -> None:
    """Do a complete run."""
    folder.mkdir()
    (folder / "steps.py").write_text(STEPS)
    (folder / "config.yaml").write_text(json.dumps({"plates": [plate], "steps": [{"call": "steps:same"}]}))
    run_snakemake(server, folder, "--snakefile", ROOT / "Snakefile")


def _prepare_plain(server: BenchServer, folder: Path, wells: int) -> None:
    names = wells_of(wells)
    (folder / "wells").mkdir(parents=True)
    (folder / "Snakefile").write_text(PLAIN)
    (folder / "config.yaml").write_text(json.dumps({"wells": names, "endings": ENDINGS}))
    for name in names:
        (folder / "wells" / f"{name}.json").touch()
    run_snakemake(server, folder)


def _nothing_to_do(server: BenchServer, folder: Path, *options: str | Path) -> None:
    said = run_snakemake(server, folder, *options)
    assert "Nothing to be done" in said, said
