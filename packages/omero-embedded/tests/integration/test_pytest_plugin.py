"""The pytest plugin as another project has it: its own folder, its own conftest, pytest in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from omero_embedded import site_pixels

PACKAGE = Path(__file__).resolve().parents[2]
TESTS = """
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


USERS = []


@pytest.mark.parametrize("attempt", [1, 2])
def test_each_test_is_a_user_of_its_own(omero_server, omero_user, omero_gateway, attempt):
    assert omero_gateway.getUser().getName() == omero_user.name
    assert omero_gateway.getGroupFromContext().getId() == omero_user.group
    assert str(omero_gateway.getGroupFromContext().getDetails().getPermissions()) == "rw----"
    assert {omero_user.name, omero_user.group}.isdisjoint(USERS)
    USERS.extend([omero_user.name, omero_user.group])
    assert not list(omero_gateway.getObjects("Plate"))
    omero_server.make_plate(omero_gateway)


def test_what_a_user_owned_is_deleted_after_the_test(omero_server):
    with omero_server.login() as conn:
        conn.SERVICE_OPTS.setOmeroGroup("-1")
        plates = [plate.getDetails().getOwner().omeName for plate in conn.getObjects("Plate")]
        assert not set(plates) & set(USERS) and len(USERS) == 4


def test_the_server_serves_all_tests(omero_server, plate):
    with pytest.raises(ConnectionError):
        omero_server.login("root", "wrong")
    print("it was on port", omero_server.port)
"""


KEPT = """
def test_the_plates_of_earlier_runs(omero_server):
    found = len(list(omero_server.admin.getObjects("Plate")))
    omero_server.make_plate()
    print("found", found)

"""


def pytest_elsewhere(tmp_path, *options):
    """Run the tests in a folder as another project does."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "OMERO_"))}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # what else is installed here imports what it likes
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "omero_embedded.pytest_plugin",
            "-s",
            f"--basetemp={tmp_path / 'own'}",
            *options,
        ],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(PACKAGE / "src")},
        capture_output=True,
        text=True,
    )


def test_another_projects_tests(tmp_path):
    (tmp_path / "test_own.py").write_text(TESTS)
    example = re.search(r"```python\n(.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)
    (tmp_path / "test_the_example.py").write_text(example[1])
    done = pytest_elsewhere(tmp_path)
    assert done.returncode == 0 and "7 passed" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("it was on port") == 1


def test_data_are_kept_between_runs(tmp_path):
    (tmp_path / "test_kept.py").write_text(KEPT)
    options = "--omero-data", str(tmp_path / "data")
    first, second = pytest_elsewhere(tmp_path, *options), pytest_elsewhere(tmp_path, *options)
    assert "found 0" in first.stdout, first.stdout + first.stderr
    assert "found 1" in second.stdout, second.stdout + second.stderr
    assert (tmp_path / "data" / "omero.db").exists()


def test_a_server_for_each_test(tmp_path):
    (tmp_path / "test_scope.py").write_text(
        "".join(f"def test_{name}(omero_server):\n    print('folder', omero_server.data)\n\n\n" for name in "abc")
    )
    folders = {
        scope: set(re.findall(r"folder (.*)", pytest_elsewhere(tmp_path, "--omero-scope", scope).stdout))
        for scope in ("module", "function")
    }
    assert {scope: len(found) for scope, found in folders.items()} == {"module": 1, "function": 3}


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_a_plate_in_one_line(omero_server, conn, dtype):
    shape = (2, 2, 3, 4, 5)
    plate = conn.getObject(
        "Plate", omero_server.make_plate(conn, rows=2, columns=3, sites=2, shape=shape, dtype=dtype, name="mine")
    )
    assert plate.getName() == "mine" and (plate.getRows(), plate.getColumns()) == (2, 3)
    wells = {(well.row, well.column): well for well in plate.listChildren()}
    assert sorted(wells) == [(row, column) for row in range(2) for column in range(3)]
    seen = set()
    for (row, column), well in wells.items():
        for site, image in enumerate(sample.getImage() for sample in well.listChildren()):
            planes = list(image.getPrimaryPixels().getPlanes([(z, c, t) for t, c, z in np.ndindex(shape[:3])]))
            got = np.array(planes).reshape(shape)
            want = site_pixels(row, column, site, shape, dtype)
            assert got.dtype == want.dtype and (got == want).all()
            seen.add(got.tobytes())
            assert image.getPrimaryPixels().getSha1() != "Pending..."
            assert image.getChannelLabels() == ["channel 0", "channel 1"]
    assert len(seen) == 12


def test_a_large_plate_keeps_the_order_of_its_sites(omero_server, conn):
    """Wells are saved in several calls."""
    plate = conn.getObject("Plate", omero_server.make_plate(conn, rows=8, columns=13, sites=2, shape=(1, 1, 1, 1, 1)))
    wells = list(plate.listChildren())
    assert len(wells) == 104
    for well in wells[::25]:
        for site, sample in enumerate(well.listChildren()):
            [[value]] = sample.getImage().getPrimaryPixels().getPlane()
            assert value == site_pixels(well.row, well.column, site, (1, 1, 1, 1, 1)).item()


@pytest.mark.parametrize(
    "wrong",
    [{"rows": 0}, {"sites": -1}, {"shape": (1, 1, 0, 4, 4)}, {"shape": (4, 4)}, {"dtype": "int64"}, {"dtype": "U4"}],
)
def test_a_plate_that_omero_can_not_hold_is_refused(omero_server, wrong):
    with pytest.raises(ValueError, match=r"at least one row|no pixel type"):
        omero_server.make_plate(**wrong)


def test_pytest_finds_it_where_it_is_installed():
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"omero_embedded": "omero_embedded.pytest_plugin"}
