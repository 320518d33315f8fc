"""Calls that OMERO has and this server has not."""

import omero
import omero.cmd
import pytest
from models import run
from omero.rtypes import rlong
from omero_embedded.ice.missing import calls, markdown, requests

pytestmark = pytest.mark.embedded_only  # a real server has them


@pytest.mark.parametrize(
    ("service", "call", "arguments"),
    [
        ("omero.api.ILdap", "setDN", (rlong(1), "dn")),
        ("omero.api.IScript", "runScript", (1, {}, None)),
        ("omero.api.IShare", "createShare", ("s", None, [], [], [], True)),
        ("omero.api.JobHandle", "jobStatus", ()),
    ],
)
def test_a_missing_call_is_named(conn, service, call, arguments):
    assert call in calls()[service]
    kind = service.rpartition(".")[2]
    make = conn.c.sf.createByName if kind == "JobHandle" else conn.c.sf.getByName
    proxy = getattr(omero.api, kind + "Prx").uncheckedCast(make(service))
    with pytest.raises(omero.ApiUsageException) as refused:
        getattr(proxy, call)(*arguments)
    assert refused.value.message == f"{service}.{call} is unsupported by the embedded server."


def test_a_missing_request_is_named(conn):
    assert "omero.cmd.ManageImageBinaries" in requests()
    answer = run(conn, omero.cmd.ManageImageBinaries(1))
    assert isinstance(answer, omero.cmd.ERR) and answer.name == "ApiUsageException"
    assert answer.parameters["message"] == "omero.cmd.ManageImageBinaries is unsupported by the embedded server."


def test_the_list_omits_what_is_implemented():
    listed = markdown()
    assert "`omero.api.IScript`" in listed and "`IShare.getAllShares`" in listed
    assert "omero.api.IQuery`" not in listed and "omero.cmd.Chown2`" not in listed
