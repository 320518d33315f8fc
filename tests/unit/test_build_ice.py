"""How the set-up installs Ice, tested with a small package: folders with spaces, prebuilt wheels, and the build."""

import os
import re
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest

ENVS = Path(__file__).parents[2] / "envs"
VERSION = "3.6.99"  # this Ice version is not on the package index
FILES = 4
INSTALL = f"""
import hashlib
import sys
from pathlib import Path
sys.path.insert(0, {str(ENVS)!r})
import build_ice
build_ice.ICE = "zeroc-ice=={VERSION}"
source = Path(sys.argv[1]).parents[2] / "zeroc-ice-{VERSION}.tar.gz"
if source.exists() and len(sys.argv) == 2:
    build_ice.SOURCE_SHA256 = hashlib.sha256(source.read_bytes()).hexdigest()
build_ice.install_ice(Path(sys.argv[1]))
"""
pytestmark = pytest.mark.slow
SETUP = f"""
import glob
from setuptools import Extension, setup
setup(name="zeroc-ice", version="{VERSION}", py_modules=["Ice"], package_dir={{"": "lib"}},
      ext_modules=[Extension("IcePy", glob.glob("src/*.cpp"))])
"""
# like Ice, it needs the header included before every file, and the one included before Python's own headers
FIRST = """
#include <eval.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "IcePy", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_IcePy(void) { return PyModule_Create(&module); }
"""


@pytest.fixture
def place(tmp_path):
    """A folder with a space in its name, with an environment and the source of a small package in place of Ice."""
    folder = tmp_path / "my files"
    source = folder / f"zeroc-ice-{VERSION}"
    (source / "src").mkdir(parents=True)
    (source / "lib").mkdir()
    (source / "setup.py").write_text(SETUP)
    (source / "lib" / "Ice.py").write_text("import IcePy\n\ndef stringVersion():\n    return '3.6.99'\n")
    (source / "src" / "f0.cpp").write_text(FIRST)
    for number in range(1, FILES):
        (source / "src" / f"f{number}.cpp").write_text(f"int f{number}() {{ return {number}; }}\n")
    with tarfile.open(folder / f"zeroc-ice-{VERSION}.tar.gz", "w:gz") as archive:
        archive.add(source, source.name)
    venv.create(folder / "env", with_pip=True, symlinks=True)
    return folder


def install(place, *options, **environment):
    # -S hides the Ice of the Python that runs the tests
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", INSTALL, place / "env" / "bin" / "python", *options],
        text=True,
        capture_output=True,
        env={**kept, "OPENHCS_OMERO_CACHE": str(place / "cache"), **environment},
    )


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
    (place / f"zeroc-ice-{VERSION}.tar.gz").unlink()
    subprocess.run([place / "env" / "bin" / "python", "-m", "pip", "uninstall", "-qy", "zeroc-ice"], check=True)
    again = install(place, PIP_NO_INDEX="1")
    assert again.returncode == 0 and again.stdout == "" and imports_ice(place)
    assert install(place, PIP_NO_INDEX="1", OPENHCS_OMERO_CACHE="/nonexistent").stdout == ""  # nothing to do
    assert wheel.exists()


def test_another_source_is_refused(place):
    links = f"{place.as_uri()} {os.environ.get('PIP_FIND_LINKS', '')}"
    failed = install(place, "--as-it-is", PIP_FIND_LINKS=links)
    assert failed.returncode == 1 and "is not the source of Ice that was tested" in failed.stderr
    assert not list((place / "cache").rglob("*.whl"))


def test_a_failed_build_is_explained(place):
    with tarfile.open(place / f"zeroc-ice-{VERSION}.tar.gz", "w:gz") as archive:
        (place / f"zeroc-ice-{VERSION}" / "src" / "f2.cpp").write_text("this is no C++\n")
        archive.add(place / f"zeroc-ice-{VERSION}", f"zeroc-ice-{VERSION}")
    failed = install(place, PIP_FIND_LINKS=f"{place.as_uri()} {os.environ.get('PIP_FIND_LINKS', '')}")
    assert failed.returncode == 1
    assert "f2.cpp" in failed.stderr and "Ice did not build; the whole log is" in failed.stderr
    assert not list((place / "cache").rglob("*.whl"))
