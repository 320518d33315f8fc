"""The examples run unchanged on a small synthetic plate, and find what is in it."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from openhcs_omero.microscopes.importing import import_folder
from openhcs_omero.omero.derived import find_derived
from openhcs_omero.processing.synthetic import Screen, write_plate

EXAMPLES = Path(__file__).parents[2] / "examples"
SCREEN = Screen(rows=1, columns=2, sites=1)


@pytest.fixture
def plate(conn, tmp_path):
    """The OMERO id of a synthetic plate, and the truth about its wells."""
    truths = write_plate(tmp_path / "images", SCREEN)
    return import_folder(conn, tmp_path / "images"), {truth.well: truth for truth in truths}


@pytest.fixture
def environment(omero_server, conn, tmp_path):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OMERO_")}
    return {
        **kept,
        "OMERO_HOST": omero_server.host,
        "OMERO_PORT": str(omero_server.port),
        "OMERO_PASSWORD": "pw",
        "OMERO_USER": conn.getUser().getName(),
        "OMERO_SESSIONDIR": str(tmp_path / "sessions"),
        "PYTHONWARNINGS": "ignore",
    }


@pytest.mark.slow
def test_the_script(plate, environment, conn, tmp_path):
    number, truths = plate
    command = [sys.executable, EXAMPLES / "script.py", str(number)]
    first, second = (
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        for _ in range(2)
    )
    assert first.returncode == 0, first.stderr
    derived = find_derived(conn, number, "spots")
    printed = first.stdout.splitlines()
    assert printed[0] == f"plate {number} has channels [0, 1]"
    assert printed[1].startswith(f"images: plate {derived} in OMERO; tables: ")
    counted = {row.split()[0]: float(row.split()[1]) for row in printed[2:]}
    assert counted == pytest.approx({well: truth.spots for well, truth in truths.items()}, rel=0.1, abs=2)
    assert second.stdout == first.stdout


@pytest.mark.slow
def test_the_notebook(plate, environment, conn, tmp_path, monkeypatch):
    number, truths = plate
    for key, value in {**environment, "PLATE": str(number)}.items():
        monkeypatch.setenv(key, value)
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "the notebook is committed without outputs"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    text = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert f"derived plate: {find_derived(conn, number, 'notebook')}\n" in text
    per_cell = {int(truth.well[1:]): truth.spots / truth.cells for truth in truths.values()}
    rows = [line.split() for line in text.strip().splitlines()[-len(per_cell) :] if line[0].isdigit()]
    found = {int(column): float(value) for column, value in rows}
    assert found == pytest.approx(per_cell, rel=0.15, abs=0.1)
