"""The pytest plugin as another project has it: its own folder, its own conftest, pytest in a process of its own."""
from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2]
TESTS = '''
import sys

import pytest


def test_pytest_has_imported_nothing_of_omero():
    assert not {"omero", "Ice", "snakemake", "sqlalchemy"} & set(sys.modules)


@pytest.fixture(scope="module")
def plate(omero_server):
    import omero

    conn = omero_server.login()
    made = omero.model.PlateI()
    made.name = omero.rtypes.rstring("plate")
    yield conn.getUpdateService().saveAndReturnObject(made).id.val
    conn.close()


def test_a_client_finds_what_another_made(omero_server, plate):
    import omero

    client = omero.client(omero_server.host, omero_server.port)
    session = client.createSession(omero_server.user, omero_server.password)
    assert session.getQueryService().get("Plate", plate).name.val == "plate"
    client.closeSession()
    assert (omero_server.data / "server.log").exists()


def test_the_server_serves_all_tests(omero_server, plate):
    with pytest.raises(ConnectionError):
        omero_server.login("root", "wrong")
    print("it was on port", omero_server.port)
'''


def test_another_projects_tests(tmp_path):
    (tmp_path / "test_own.py").write_text(TESTS)
    example = re.search(r"```python\n(.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)
    (tmp_path / "test_the_example.py").write_text(example[1])
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "OMERO_"))}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # what else is installed here imports what it likes
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "omero_embedded.pytest_plugin", "-s", f"--basetemp={tmp_path / 'own'}"],
        cwd=tmp_path, env={**environment, "PYTHONPATH": str(PACKAGE / "src")}, capture_output=True, text=True)
    assert done.returncode == 0 and "4 passed" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("it was on port") == 1


def test_pytest_finds_it_where_it_is_installed():
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"omero_embedded": "omero_embedded.pytest_plugin"}
