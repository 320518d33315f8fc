"""The questions of the shared conformance suite, asked of the server of this run: a real OMERO's answers are known."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
from argparse import Namespace
from pathlib import Path

import forked
import pytest
from omero_embedded import start

SUITE = Path(__file__).resolve().parents[5] / "shared" / "conformance-2"
pytestmark = pytest.mark.skipif(not SUITE.is_dir(), reason="the conformance suite is not here")


def _load_suite():
    """The suite's own runner as a module, and its cases by name."""
    if not SUITE.is_dir():
        return None, {}
    sys.path.insert(0, str(SUITE))
    spec = importlib.util.spec_from_file_location("run", SUITE / "run.py")
    sys.modules["run"] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return module, dict(module.load_cases(""))
    finally:
        sys.path.remove(str(SUITE))


run, CASES = _load_suite()


@pytest.fixture(scope="module")
def server(request, tmp_path_factory):
    """The server that the cases are asked of; as on a real one, `guest` can log in to it."""
    if request.config.getoption("--omero-host"):
        real = request.getfixturevalue("omero_server")
        yield Namespace(host=real.host, port=real.port, user=real.user, password=real.password)
        return
    with start(tmp_path_factory.mktemp("omero"), options=["--guest"]) as made:
        yield Namespace(host=made.host, port=made.port, user="root", password=made.password)


@pytest.mark.parametrize("name", CASES)
def test_case(name, server, monkeypatch):
    monkeypatch.syspath_prepend(str(SUITE))
    if name.startswith("cli."):  # they start the command line 30 times
        monkeypatch.setitem(CASES[name].__globals__, "subprocess", forked)
    session = run.Session(server)
    with contextlib.closing(session):
        session.conn = session.fresh_user()
        got = json.loads(json.dumps(CASES[name](session), sort_keys=True))
    expected = json.loads((SUITE / "expected" / f"{name}.json").read_text())
    assert list(run.difference(expected, got)) == []
