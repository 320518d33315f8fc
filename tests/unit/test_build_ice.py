"""How the set-up gets Ice, with a small package in its place: folders with spaces, prebuilt wheels, and the build."""

import os
import re
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "envs" / "build_ice.py"
FILES = 4
SETUP = """
import glob
from setuptools import Extension, setup
setup(name="zeroc-ice", version="3.6.5", py_modules=["Ice"], package_dir={"": "lib"},
      ext_modules=[Extension("IcePy", glob.glob("src/*.cpp"))])
"""
# like Ice's: it needs the header that is forced in front of every file, and the one in front of Python's own
FIRST = """
#include <eval.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "IcePy", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_IcePy(void) { return PyModule_Create(&module); }
"""


@pytest.fixture
def place(tmp_path):
    """A folder with a space in its name, with an environment in it and the source of a package that is called as Ice."""
    folder = tmp_path / "my files"
    source = folder / "zeroc-ice-3.6.5"
    (source / "src").mkdir(parents=True)
    (source / "lib").mkdir()
    (source / "setup.py").write_text(SETUP)
    (source / "lib" / "Ice.py").write_text("import IcePy\n\ndef stringVersion():\n    return '3.6.5'\n")
    (source / "src" / "f0.cpp").write_text(FIRST)
    for number in range(1, FILES):
        (source / "src" / f"f{number}.cpp").write_text(f"int f{number}() {{ return {number}; }}\n")
    with tarfile.open(folder / "zeroc-ice-3.6.5.tar.gz", "w:gz") as archive:
        archive.add(source, source.name)
    venv.create(folder / "env", with_pip=True, symlinks=True)
    return folder


def install(place, **environment):
    # -S: the Ice of the Python that runs the tests is not the one that is asked for
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-I", "-S", SCRIPT, "--python", place / "env" / "bin" / "python"], text=True,
        capture_output=True, env={**kept, "OPENHCS_OMERO_CACHE": str(place / "cache"), **environment})


def imports_ice(place):
    return subprocess.run([place / "env" / "bin" / "python", "-c", "import Ice"]).returncode == 0


def test_it_is_built_once_and_kept(place):
    links = f"{place.as_uri()} {os.environ.get('PIP_FIND_LINKS', '')}"
    built = install(place, PIP_FIND_LINKS=links)
    assert built.returncode == 0, built.stdout + built.stderr
    assert imports_ice(place)
    progress = [int(done) for done in re.findall(rf"Ice: (\d+) of {FILES} files compiled", built.stdout)]
    assert progress == sorted(progress) and progress[-1] == FILES
    [wheel] = (place / "cache").rglob("*.whl")
    (place / "zeroc-ice-3.6.5.tar.gz").unlink()
    subprocess.run([place / "env" / "bin" / "python", "-m", "pip", "uninstall", "-qy", "zeroc-ice"], check=True)
    again = install(place, PIP_NO_INDEX="1")
    assert again.returncode == 0 and again.stdout == "" and imports_ice(place)
    assert install(place, PIP_NO_INDEX="1", OPENHCS_OMERO_CACHE="/nonexistent").stdout == ""  # it is there: nothing to do
    assert wheel.exists()


def test_a_build_that_fails_is_explained(place):
    with tarfile.open(place / "zeroc-ice-3.6.5.tar.gz", "w:gz") as archive:
        (place / "zeroc-ice-3.6.5" / "src" / "f2.cpp").write_text("this is no C++\n")
        archive.add(place / "zeroc-ice-3.6.5", "zeroc-ice-3.6.5")
    failed = install(place, PIP_FIND_LINKS=f"{place.as_uri()} {os.environ.get('PIP_FIND_LINKS', '')}")
    assert failed.returncode == 1
    assert "f2.cpp" in failed.stderr and "Ice did not build; the whole log is" in failed.stderr
    assert not list((place / "cache").rglob("*.whl"))
