"""Starting the embedded server if it is not installed or can't start gives one sentence that names the extra."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from openhcs_omero.cli import app
from openhcs_omero.errors import OpenHCSError
from openhcs_omero.runtime.embedded import start_embedded


@pytest.fixture
def not_installed(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("omero_embedded.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "omero_embedded", None)  # importing it fails


def test_the_command_names_the_extra(not_installed, tmp_path):
    done = CliRunner().invoke(app, ["serve", "--data", str(tmp_path)])
    assert done.exit_code == 1
    assert done.output == 'error: the embedded server is not installed: pip install "openhcs-omero[embedded]"\n'


def test_python_names_the_extra(not_installed, tmp_path):
    with pytest.raises(OpenHCSError, match=r"not installed: .*openhcs-omero\[embedded\]"):
        start_embedded(tmp_path)


def test_a_server_that_does_not_start_raises_our_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OpenHCSError, match=r"did not start: .*file is a file: name a folder with --data\."):
        start_embedded(tmp_path / "file")
