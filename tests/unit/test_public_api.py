"""The public names of openhcs_omero: they exist, are documented, and cost nothing until used."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import openhcs_omero

ROOT = Path(__file__).parents[2]
NAMES = [name for name in openhcs_omero.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name(name):
    assert getattr(openhcs_omero, name).__doc__


def test_the_page_lists_the_public_names():
    page = (ROOT / "docs" / "reference" / "api.md").read_text()
    documented = re.findall(r"^::: openhcs_omero\.(\w+)$", page, re.MULTILINE)
    assert sorted(documented) == sorted({*NAMES, "errors"} - {"OpenHCSError"})  # which is one of the errors


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="'nonsense'"):
        openhcs_omero.nonsense  # noqa: B018


def test_importing_the_package_imports_nothing_else():
    code = "import sys, openhcs_omero; print(sorted(m for m in sys.modules if m.startswith(('openhcs', 'omero'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['openhcs_omero', 'openhcs_omero.version']"


def test_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == openhcs_omero.__version__
