"""The installed wheel includes the workflow and runs it.

The environment is new and can't import the source tree. A .pth file gives it the dependencies of the environment that
runs the tests. Building the wheel gets setuptools from the package index.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from plate_folders import images_of, write_imagexpress

from openhcs_omero.core.plate_tables import read_rows

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

PROGRAM = """
import own
from openhcs_omero import PipelineOrchestrator
from openhcs_omero.core.orchestrator.snakefile import find_workflow

[result] = PipelineOrchestrator(["day_1"], [own.measure], {"cores": 1, "results": "by_program"}).run().values()
print(list(result.tables["wells"]["well"]))
print(find_workflow())
"""


def run(*command, cwd=None):
    """Run a command without PYTHONPATH, so that it finds only what is installed; return what it prints."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST", "OMERO"))}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The folder of an environment with the wheel installed."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "source").mkdir()
    for name in ("openhcs_omero", "snakemake_logger_plugin_openhcs_omero", "workflow", "profiles", "cluster", "config"):
        shutil.copytree(
            ROOT / name, folder / "source" / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("Snakefile", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, folder / "source")
    [wheel] = folder.glob("openhcs_omero-*.whl")
    made, borrowed = folder / "environment", folder / "borrowed"
    venv.create(made, with_pip=False, symlinks=True)
    borrowed.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.suffix != ".pth" and not entry.name.lower().replace("-", "_").startswith(("openhcs", "__editable__")):
            (borrowed / entry.name).symlink_to(entry)
    [site] = made.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(f"{borrowed}\n")
    run(made / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    return made


def test_the_installed_workflow_runs(environment, tmp_path):
    """From Python, and with the Snakefile and the profile in the package."""
    write_imagexpress(tmp_path / "day_1", images_of(["A01", "B03"], sites=1, shape=(1, 1, 1, 6, 5)))
    (tmp_path / "own.py").write_text("""
def measure(image, filemanager, metadata, backend="disk"):
    return image, {"bright": int(image.max())}
""")
    (tmp_path / "program.py").write_text(PROGRAM)
    wells, place = run(environment / "bin" / "python", "program.py", cwd=tmp_path).splitlines()
    assert wells == "['A01', 'B03']" and Path(place) == environment / "share" / "openhcs_omero"
    (tmp_path / "config.yaml").write_text('plates: [day_1]\nsteps: [{call: "own:measure"}]\n')
    said = run(
        environment / "bin" / "python",
        "-m",
        "snakemake",
        "--snakefile",
        Path(place) / "Snakefile",
        "--cores",
        "1",
        "--configfile",
        "config.yaml",
        "--logger",
        "openhcs-omero",  # Snakemake finds the plugin in the wheel
        cwd=tmp_path,
    )
    assert "profiles/default" in said and (tmp_path / "results" / "index.html").exists()
    assert len(read_rows(tmp_path / "results" / "plate_day_1_processed" / "wells.csv")) == 2
