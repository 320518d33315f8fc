"""A server that goes away during a run, and the message about it."""

import os

import Ice
import pytest
from omero_embedded import process
from snake import Workflow
from typer.testing import CliRunner
from wire import make_plate

from openhcs_omero import cli
from openhcs_omero.omero.connection import close_all, connect
from openhcs_omero.omero.lost import went_away
from openhcs_omero.omero.server import Server

KILLING = """
import os
import signal


def kill_the_server(image, filemanager, metadata, backend="disk", pid=0):
    os.kill(pid, signal.SIGKILL)
    return image, {"sum": int(image.sum())}
"""


@pytest.fixture
def own_server(tmp_path):
    """A server that the test may kill."""
    with process.start(tmp_path / "data") as server:
        yield server


def test_the_run_ends_with_one_sentence(own_server, tmp_path, monkeypatch):
    monkeypatch.setenv("OMERO_SESSIONDIR", str(tmp_path / "sessions"))
    conn = connect(Server(own_server.host, own_server.port, "root"), given=own_server.password)
    workflow = Workflow(own_server, conn, tmp_path / "work")
    workflow.environment["OMERO_PASSWORD"] = own_server.password
    (workflow.folder / "killing.py").write_text(KILLING)
    plate = make_plate(conn, {"A01": 1})
    close_all()
    step = {"call": "killing:kill_the_server", "params": {"pid": own_server.process.pid}}
    workflow.configure(plate, steps=[step], heatmaps=[])
    run = workflow()
    where = f"{own_server.host}:{own_server.port}"
    assert run.status == 1 and "Traceback" not in run.output, run.output
    assert f"OMERO at {where} went away during 1 well; run the same command again" in run.output
    assert "Ice." not in run.output.split("Process well", 1)[1]
    log = workflow.results(plate) / "logs" / "process_well_A01.log"
    assert log.read_text().splitlines()[-1] == f"OMERO at {where} went away; run the same command again"


def test_which_errors_count_as_a_lost_server(own_server, tmp_path, monkeypatch):
    monkeypatch.setenv("OMERO_SESSIONDIR", str(tmp_path / "sessions"))
    server = Server(own_server.host, own_server.port, "root")
    conn = connect(server, given=own_server.password)
    with pytest.raises(Exception, match="Nothing is not mapped") as mistake:  # the server's answer to an invalid query
        conn.c.sf.getQueryService().projection("select x from Nothing x", None)
    os.kill(own_server.process.pid, 9)
    own_server.process.wait()
    with pytest.raises(Exception, match="Ice") as lost:
        conn.c.sf.getQueryService().projection("select p.id from Plate p", None)
    assert went_away(lost.value) == f"OMERO at {server.address} went away; run the same command again"
    assert went_away(mistake.value) == went_away(ValueError("Ice")) == went_away(Ice.MarshalException()) == ""
    assert went_away(Ice.ProtocolException("SSL error: unexpected eof"))
    monkeypatch.setattr(cli, "_connect", lambda *_: conn)
    for command in (["derived"], ["verify", "plate_1_processed"], ["delete", "plate_1_processed", "--yes"]):
        done = CliRunner().invoke(cli.app, command)
        assert done.exit_code == 1 and done.stderr == f"error: {went_away(lost.value)}\n"
    try:
        raise ValueError("a step") from lost.value
    except ValueError as error:
        assert went_away(error)
    close_all()
