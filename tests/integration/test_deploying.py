"""The workflow as Snakemake users adopt it: deployed with snakedeploy, or used as a module."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from plate_folders import images_of, write_imagexpress

from openhcs_omero.core.plate_tables import read_rows

ROOT = Path(__file__).parents[2]
STEPS = """
import os


def measure(image, filemanager, metadata, backend="disk"):
    if os.path.exists("broken"):
        raise ValueError("no cells here")
    return image, {"bright": int(image.max())}
"""
CONFIG = {"plates": ["day_1"], "steps": [{"call": "own_steps:measure"}]}


def run(folder, *command, status=0):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OMERO_")}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=kept,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A repository with this repository's current workflow."""
    folder = tmp_path_factory.mktemp("there") / "openhcs_omero"
    for name in ("workflow", "config", "profiles", "cluster"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "LICENSE", folder)
    for words in (
        ["init", "-q", "-b", "main"],
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"],
    ):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


@pytest.fixture
def project(tmp_path):
    """A folder with a plate and a step."""
    write_imagexpress(tmp_path / "day_1", images_of(["A01", "B03"], shape=(1, 1, 1, 6, 5)))
    (tmp_path / "own_steps.py").write_text(STEPS)
    return tmp_path


def results(project):
    return [row["well"] for row in read_rows(project / "results" / "plate_day_1_processed" / "wells.csv")]


@pytest.mark.slow
def test_snakedeploy(clone, project):
    run(project, "snakedeploy.client", "deploy-workflow", str(clone), ".", "--branch", "main")
    snakefile = project / "workflow" / "Snakefile"
    written = snakefile.read_text()
    declared = 'snakefile: \n        "workflow/Snakefile"'  # snakedeploy names no location for a local clone
    assert declared in written
    # Snakemake's `gitfile` is no option either: 9.27 joins the path of a script to it as if both were text
    snakefile.write_text(written.replace(declared, f'snakefile: "{clone}/workflow/Snakefile"'))
    assert (project / "profiles" / "cluster" / "config.yaml").read_text() == (ROOT / "cluster/config.yaml").read_text()
    example = yaml.safe_load((project / "config" / "config.yaml").read_text())
    (project / "config" / "config.yaml").write_text(yaml.safe_dump({**example, **CONFIG}))
    said = run(project, "snakemake", "--cores", "1")
    assert "profile profiles/default" in said and results(project) == ["A01", "B03"]
    assert "2 of 2 wells" in (project / "results" / "index.html").read_text()
    assert "Nothing to be done" in run(project, "snakemake", "--cores", "1")
    run(project, "snakemake", "--report", "report.html")
    assert "own_steps:measure" in (project / "report.html").read_text()


@pytest.mark.slow
def test_a_module_among_other_rules(project):
    """With part of the configuration, a prefix for its rules, and a rule that uses its results."""
    (project / "config.yaml").write_text(yaml.safe_dump({"screen": CONFIG, "other": 1}))
    (project / "Snakefile").write_text(f"""
configfile: "config.yaml"

module screen:
    snakefile: "{ROOT}/workflow/Snakefile"
    config: config["screen"]

use rule * from screen as screen_*

rule count:
    default_target: True
    input: "results/plate_day_1_processed/wells.csv"
    output: "count.txt"
    shell: "wc -l < {{input}} > {{output}}"
""")
    (project / "broken").touch()
    said = run(project, "snakemake", "--cores", "1", status=1)
    assert "0 of 2 wells of 1 plate are processed.\n" in said and "B03 of plate day_1" in said
    assert "0 of 2 wells are processed, 2 failed" in (project / "results" / "index.html").read_text()
    (project / "broken").unlink()
    assert "2 of 2 wells of 1 plate are processed.\n" in run(project, "snakemake", "--cores", "1")
    assert (project / "count.txt").read_text().strip() == "3"
