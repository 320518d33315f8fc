"""Programs as steps in whole runs: a Python of another environment, and the examples in R and for ImageJ."""

import os
import shlex
import shutil
import venv
from pathlib import Path

import numpy as np
import pytest
import yaml
from plate_folders import images_of, write_imagexpress
from scipy import ndimage
from snake import SCHEMA, Workflow, kill, wait_for, workflow
from wire import make_plate, wire

from openhcs_omero.core.command import check_shell
from openhcs_omero.core.command_versions import resolve_commands
from openhcs_omero.core.config import read_config
from openhcs_omero.core.config_check import check_config
from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.core.state import LIBRARIES_MB
from openhcs_omero.core.steps.command_step import Place
from openhcs_omero.core.steps.loading import load_step
from openhcs_omero.core.steps.running import SiteResult
from openhcs_omero.omero.derived import find_derived
from openhcs_omero.omero.pixels import read_site
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.plates.image import ImageMetadata

__all__ = ["wire", "workflow"]

EXAMPLES = Path(__file__).parents[2] / "examples" / "commands"

# Runs in a Python without any package: it adds 1 to the first pixel of each image, and says what it was called with
TOOL = """
import csv, os, shutil, sys, time

images, out, well, lock = sys.argv[1:]
os.mkdir(lock)  # fails if another well has the GPU
time.sleep(0.3)
try:
    import numpy
    sys.exit("this is not another Python")
except ImportError:
    print("in", sys.prefix)
print("environment:", sorted(name for name in os.environ if "OMERO" in name or "PYTHON" in name))
rows = []
for number, name in enumerate(sorted(os.listdir(images)), 1):
    shutil.copy(os.path.join(images, name), os.path.join(out, name))
    rows.append((number, os.path.getsize(os.path.join(images, name))))
with open(os.path.join(out, "Image.csv"), "w") as file:
    csv.writer(file).writerows([("ImageNumber", "bytes"), *reversed(rows)])
os.rmdir(lock)
if well == "A02":
    sys.exit(3)
"""
PLUS = """
def plus(image, filemanager, metadata, backend="disk", by=1):
    return image + by, {"mean": float(image.mean())}
"""


@pytest.fixture
def tool(workflow, conn):
    """The workflow with a command between two functions; its plate, the folder of the command, and the options."""
    plate = make_plate(conn, {"A01": 2, "A02": 2, "B01": 1}, shape=(1, 2, 1, 16, 16))
    inside = workflow.folder / "it's $HOME"  # the shell must not see what is in there
    venv.create(inside / "python", symlinks=True)
    (inside / "tool.py").write_text(TOOL)
    (workflow.folder / "plus.py").write_text(PLUS)
    command = {
        "command": "{config_dir}/python/bin/python {config_dir}/tool.py {images} {out} {well} {config_dir}/lock",
        "per": "well",
        "read": {"image": "*.tif", "tables": ["Image.csv"], "key": "ImageNumber"},
        "resources": {"gpu": 1, "runtime": 5},
        "files": ["tool.py"],
    }
    functions = [{"call": "plus:plus", "name": name, "params": {"by": 10}} for name in ("first", "last")]
    scratch = workflow.folder / "scratch"
    config = {
        "plates": [plate],
        "steps": [functions[0], command, functions[1]],
        "scratch": str(scratch),
        "heatmaps": [],
    }
    (inside / "own.yaml").write_text(yaml.safe_dump(config))
    options = ("--configfile", str(inside / "own.yaml"))
    workflow.configure(plate)
    return workflow, plate, inside, options


def test_a_python_of_another_environment(tool, conn):
    """It runs between two functions, once per well; one well fails alone."""
    workflow, plate, inside, options = tool
    run = workflow(*options)
    results = workflow.results(plate)
    assert run.status != 0 and "1 well failed" in run.output
    [failed] = read_rows(results / "failed.csv")
    assert (failed["well"], failed["reason"]) == ("A02", "ended with exit code 3; the log has its output")
    assert failed["step"] == "step 2 (python)" and failed["log"].endswith("process_well_A02.log")
    log = (results / "logs" / "process_well_A01.log").read_text()
    assert log.startswith(shlex.quote(str(inside)) + "/python/bin/python ")
    assert f"in {inside / 'python'}" in log
    assert "environment: ['OPENHCS_OMERO_BEGUN', 'OPENHCS_OMERO_RUN'" in log and "OMERO_SESSIONDIR" not in log
    assert list((workflow.folder / "scratch").iterdir()) == []

    source, derived = load_plate(conn, plate), load_plate(conn, find_derived(conn, plate, "processed"))
    for well, image in derived.images():
        before = read_site(conn, source.image(well, image.site))
        np.testing.assert_array_equal(read_site(conn, image), before + 20)
    rows = read_rows(results / "features.csv")
    assert [(row["well"], row["site"]) for row in rows] == [("A01", "1"), ("A01", "2"), ("B01", "1")]
    for row in rows:
        assert int(row["bytes"]) > 1024 and float(row["last_mean"]) == float(row["first_mean"]) + 10


@pytest.mark.slow
def test_wells_depend_on_the_files_of_a_command(tool):
    workflow, _, inside, options = tool
    assert workflow(*options).wells == ["A01", "A02", "B01"]
    assert workflow(*options).wells == ["A02"]  # it has failed
    (inside / "tool.py").write_text(TOOL.replace('"A02"', '"H12"'))
    assert workflow.succeed(*options).wells == ["A01", "A02", "B01"]
    assert workflow.succeed(*options).nothing_done


@pytest.mark.slow
def test_resources_reach_slurm(tmp_path):
    """Steps of both kinds add to what the job of a well asks for; the job has two wells."""
    offline = Workflow(None, None, tmp_path / "work")
    write_imagexpress(offline.folder / "day_1", images_of(["A01", "B03"], sites=1, shape=(1, 1, 1, 8, 8)))
    (offline.folder / "plus.py").write_text(PLUS)
    commands = tmp_path / "bin"
    commands.mkdir()
    asked = tmp_path / "asked"
    for name in ("sbatch", "sacct", "sacctmgr", "sinfo", "scontrol", "squeue", "scancel"):
        said = f'echo "$@" > {asked}.part; mv {asked}.part {asked}; echo 1' if name == "sbatch" else ""
        (commands / name).write_text(f"#!/bin/sh\n{said}\n")
        (commands / name).chmod(0o755)
    offline.environment["PATH"] = f"{commands}{os.pathsep}{os.environ['PATH']}"
    function = {"call": "plus:plus", "resources": {"mem_mb": 300, "runtime": 7, "threads": 2}}
    command = {"command": "true", "read": {"image": "*"}, "resources": {"mem_mb": 250, "runtime": 3, "gpu": 1}}
    offline.configure("day_1", steps=[function, command])
    run = offline.start(
        "--executor", "slurm", "--jobs", "9", "--slurm-no-account", "--default-resources", "slurm_partition=p"
    )
    try:
        wait_for(lambda: asked.exists() or run.poll() is not None, 120)
    finally:
        kill(run)
    words = asked.read_text().split()
    assert "--gres=gpu:1" in words and "--cpus-per-task=2" in words
    assert words[words.index("--mem") + 1] == str(LIBRARIES_MB + 300)
    assert words[words.index("-t") + 1] == str(2 * (15 + 7 + 3) + 1)


def run_example(name, images, folder):
    """Run the command of an example on sites; returns its results and their images."""
    config = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
    resolve_commands(config, str(EXAMPLES))
    check_config(config, SCHEMA)
    [step] = read_config(config).steps
    sites = [(site, SiteResult.of(image), ImageMetadata()) for site, image in images.items()]
    return dict(load_step(step).run(sites, Place("7", "A01", folder, 1)))


def noise(shape):
    return np.random.default_rng(3).integers(0, 60000, shape).astype(np.uint16)


def particles(count):
    """Bright rectangles on a dark background, in the first channel."""
    rng = np.random.default_rng(count)
    image = rng.normal(200, 20, (1, 2, 1, 60, 50))
    for number in range(count):
        image[0, 0, 0, 5 + 15 * number : 12 + 15 * number, 8 : 20 + 5 * number] += 3000
    return image.astype(np.uint16)


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="R is not installed (Debian: r-base-core)")
def test_the_example_in_r(tmp_path):
    images = {1: noise((1, 2, 2, 30, 41)), 4: noise((1, 2, 2, 30, 41))[:, :, :, ::-1]}
    kernel = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]]) / 4
    for site, done in run_example("texture", images, tmp_path).items():
        image = images[site].astype(float)
        rough = np.abs(image - ndimage.convolve(image, kernel[None, None, None]))
        rough[..., [0, -1], :] = rough[..., :, [0, -1]] = 0
        for c in (0, 1):
            assert done.results[f"roughness_c{c}"] == pytest.approx(rough[:, c].mean())
        np.testing.assert_array_equal(done.image, np.round(rough))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    not (Path("/usr/share/java/ij.jar").exists() and shutil.which("xvfb-run")),
    reason="ImageJ, or the screen that it wants, is not installed (Debian: imagej, xvfb, xauth)",
)
def test_the_example_for_imagej(tmp_path):
    images = {1: particles(3), 2: particles(1)}
    for site, done in run_example("particles", images, tmp_path).items():
        labels, plane = done.labels["particles"][0, 0, 0], images[site][0, 0, 0]
        assert len(done.objects) == labels.max() == {1: 3, 2: 1}[site]
        assert (plane[labels > 0] > 1000).all() and (plane[labels == 0] > 1000).sum() <= 1  # Otsu's threshold
        for row in done.objects:
            inside = plane[labels == row["label"]]
            assert (row["area"], row["mean"], row["labels"]) == (
                inside.size,
                pytest.approx(inside.mean(), abs=0.001),
                "particles",
            )


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.yaml")))
def test_the_examples_are_valid(name):
    config = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
    check_config(config, SCHEMA)
    assert check_shell(read_config(config).steps[0].command) == ""
    own = [file for file in config["steps"][0]["files"] if not file.startswith("models/")]
    assert own and all((EXAMPLES / file).exists() for file in own)
    for file in own:
        if file.endswith(".py"):
            compile((EXAMPLES / file).read_text(), file, "exec")
