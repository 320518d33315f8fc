"""The questions of the shared conformance suite, asked of the server of this run: a real OMERO's answers are known."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
from argparse import Namespace
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("name", CASES)  # those of the command line start it 30 times, in 40 seconds
def test_case(name, omero_server, monkeypatch):
    monkeypatch.syspath_prepend(str(SUITE))
    session = run.Session(
        Namespace(
            host=omero_server.host, port=omero_server.port, user=omero_server.user, password=omero_server.password
        )
    )
    with contextlib.closing(session):
        session.conn = session.fresh_user()
        got = json.loads(json.dumps(CASES[name](session), sort_keys=True))
    expected = json.loads((SUITE / "expected" / f"{name}.json").read_text())
    assert list(run.difference(expected, got)) == []
