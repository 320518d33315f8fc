"""An OMERO server for the tests: the embedded one, started for the run, or a real one that the command line names."""
from __future__ import annotations

import contextlib
import os
import signal
import uuid
from collections.abc import Callable, Iterator

import pytest
from omero_embedded.pytest_plugin import OmeroServer, embedded_server


def pytest_addoption(parser):
    group = parser.getgroup("omero", "a real OMERO.server instead of the embedded one (password in OMERO_PASSWORD)")
    group.addoption("--omero-host", help="its host")
    group.addoption("--omero-port", type=int, default=4064, help="its port")
    group.addoption("--omero-user", default="root", help="an administrator")


def pytest_configure(config):
    # Ctrl-C is to mean what it says to what the tests start; a shell's background processes ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(ImportError):  # the environments of clients have none
        from hypothesis import HealthCheck, settings

        # how long an example takes says how busy the machine is, and nothing else
        settings.register_profile("any machine", deadline=None,
                                  suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
        settings.load_profile("any machine")


@pytest.fixture(scope="session")
def omero_server(request, tmp_path_factory) -> Iterator[OmeroServer]:
    """A server to work on: root's name and password, host and port."""
    pytest.importorskip("omero")
    host = request.config.getoption("--omero-host")
    if host:
        yield OmeroServer(host, request.config.getoption("--omero-port"), request.config.getoption("--omero-user"),
                          os.environ["OMERO_PASSWORD"], None)
        return
    with embedded_server(tmp_path_factory.mktemp("omero")) as server:
        yield server


@pytest.fixture(scope="session")
def root(omero_server) -> Iterator:
    """A BlitzGateway of the administrator."""
    conn = omero_server.login()
    yield conn
    conn.close()


@pytest.fixture
def make_user(omero_server, root) -> Iterator[Callable]:
    """`make_user(permissions="rw----", group=None)`: the BlitzGateway of a fresh user.

    The user is in a fresh group with these permissions, or in the group with an id. What the users own is deleted at
    the end of the test.
    """
    import omero
    from omero.rtypes import rbool, rstring

    admin = root.c.sf.getAdminService()
    made = []

    def make(permissions: str = "rw----", group: int | None = None):
        if group is None:
            new = omero.model.ExperimenterGroupI()
            new.name, new.ldap = rstring("group_" + uuid.uuid4().hex[:12]), rbool(False)
            new.details.permissions = omero.model.PermissionsI(permissions)
            group = admin.createGroup(new)
        user = omero.model.ExperimenterI()
        user.omeName, user.ldap = rstring("user_" + uuid.uuid4().hex[:12]), rbool(False)
        user.firstName, user.lastName = rstring("First"), rstring("Last")
        admin.createExperimenterWithPassword(
            user, rstring("pw"), omero.model.ExperimenterGroupI(group, False),
            [omero.model.ExperimenterGroupI(1, False)])
        conn = omero_server.login(user.omeName.val, "pw")
        made.append(conn)
        return conn

    yield make
    for conn in made:
        try:
            _delete_all(conn)
        finally:
            conn.close()


def _delete_all(conn) -> None:
    """Delete what a user owns: containers, images, annotations and files."""
    conn.SERVICE_OPTS.setOmeroGroup("-1")
    mine = {"owner": conn.getUserId()}
    for kind in ("Screen", "Plate", "Project", "Dataset", "Image", "Annotation", "OriginalFile"):
        ids = [found.getId() for found in conn.getObjects(kind, opts=mine)]
        if ids:  # `wait=True` waits for five seconds, and then goes on as if it were done
            handle = conn.deleteObjects(kind, ids, deleteAnns=True, deleteChildren=True)
            conn.c.waitOnCmd(handle, loops=600, ms=500, failontimeout=True, closehandle=True).close(True)


@pytest.fixture
def conn(make_user):
    """A BlitzGateway of an ordinary user, alone in a private group."""
    return make_user()
