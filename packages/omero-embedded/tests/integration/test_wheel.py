"""The wheel, installed on its own, runs the tests of the README.

The environment is new, and neither the source tree nor openhcs_omero can be imported there. Its dependencies are those
of the environment that runs the tests, found through a .pth file, so that Ice is not built again. Whether the wheel
requires all of them is checked by comparing its metadata with its imports. Building the wheel gets setuptools from the
package index.
"""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2]
DISTRIBUTIONS = {
    "omero": "omero-py",
    "Ice": "omero-py",
    "IcePy": "omero-py",
    "Glacier2": "omero-py",
    "PIL": "pillow",
}  # modules that are not named as their distribution; omero-py requires Ice
pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path | None = None) -> str:
    """What a command prints; without the environment's PYTHONPATH, so that only what is installed is found."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST", "OMERO"))}
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(PACKAGE, folder / "source", ignore=shutil.ignore_patterns("tests", "*.egg-info", "build"))
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, source)
    [made] = folder.glob("omero_embedded-*.whl")
    return made


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """The folder of an environment with the wheel."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    [site] = folder.glob("lib/python*/site-packages")
    shared = Path(sysconfig.get_path("purelib"))
    borrowed = tmp_path_factory.mktemp("borrowed")
    for entry in shared.iterdir():  # all but these products, and the .pth files that lead to their source
        if (
            not entry.name.lower().replace("-", "_").startswith(("omero_embedded", "openhcs_omero", "__editable__"))
            and entry.suffix != ".pth"
        ):
            (borrowed / entry.name).symlink_to(entry)
    (site / "borrowed.pth").write_text(f"{borrowed}\n")
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    return folder


def test_the_readmes_example(environment, tmp_path):
    """pytest finds the plugin by the wheel's entry point."""
    example = re.search(r"```python\n(.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)
    (tmp_path / "test_example.py").write_text(example[1])
    assert "1 passed" in run(environment / "bin" / "python", "-m", "pytest", "-p", "no:cacheprovider", cwd=tmp_path)


def test_the_readmes_server(environment, tmp_path):
    code = re.findall(r"```python\n(.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)[1]
    said = run(environment / "bin" / "python", "-c", code, cwd=tmp_path)
    assert re.fullmatch(r"127\.0\.0\.1 \d+ \S+\n", said)


def test_the_command(environment, tmp_path):
    assert "--root-password-file" in run(environment / "bin" / "omero-embedded", "serve", "--help", cwd=tmp_path)


def test_only_the_wheel_is_there(environment, tmp_path):
    python = environment / "bin" / "python"
    where = run(python, "-c", "import omero_embedded as it; print(it.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(environment)
    code = "from importlib.util import find_spec; print(find_spec('openhcs_omero'))"
    assert run(python, "-c", code, cwd=tmp_path) == "None\n"


def test_what_is_imported_is_required(wheel):
    """All of the wheel's imports are the standard library's or those of a distribution that it requires."""
    with zipfile.ZipFile(wheel) as files:
        trees = [ast.parse(files.read(name)) for name in files.namelist() if name.endswith(".py")]
        [metadata] = [files.read(name).decode() for name in files.namelist() if name.endswith("METADATA")]
    required = set(re.findall(r"^Requires-Dist: ([\w-]+)", metadata, re.MULTILINE))
    nodes = [node for tree in trees for node in ast.walk(tree)]
    imported = {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module).split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    outside = imported - sys.stdlib_module_names - {"omero_embedded", "pytest"}  # pytest itself imports the plugin
    assert {DISTRIBUTIONS.get(name, name) for name in outside} == required
    assert importlib.metadata.version("omero-py")
