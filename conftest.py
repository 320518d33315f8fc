"""What the tests of both products share: users of the server that the plugin of omero-embedded starts."""
from __future__ import annotations

import contextlib
import signal
import uuid
from collections.abc import Callable, Iterator

import pytest


def pytest_configure(config):
    # a shell's background processes ignore Ctrl-C; what the tests start must not
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(ImportError):  # the environments of other clients do not have it
        from hypothesis import HealthCheck, settings

        # the time that an example takes depends on how busy the machine is
        settings.register_profile("any machine", deadline=None,
                                  suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
        settings.load_profile("any machine")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--omero-host"):
        for item in items:
            if item.get_closest_marker("embedded_only"):
                item.add_marker(pytest.mark.skip(reason="a real OMERO.server does this in another way"))


@pytest.fixture(scope="session")
def root(omero_server) -> Iterator:
    """A BlitzGateway of the administrator."""
    conn = omero_server.login()
    yield conn
    conn.close()


@pytest.fixture
def make_user(omero_server, root) -> Iterator[Callable]:
    """`make_user(permissions="rw----", group=None)`: the BlitzGateway of a new user.

    The user joins a new group with these permissions, or the existing group whose id is given. Everything that the
    users own is deleted at the end of the test.
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
    """Delete everything that a user owns: containers, images, annotations and files."""
    conn.SERVICE_OPTS.setOmeroGroup("-1")
    mine = {"owner": conn.getUserId()}
    for kind in ("Screen", "Plate", "Project", "Dataset", "Image", "Annotation", "OriginalFile"):
        ids = [found.getId() for found in conn.getObjects(kind, opts=mine)]
        if ids:  # `wait=True` gives up silently after five seconds
            handle = conn.deleteObjects(kind, ids, deleteAnns=True, deleteChildren=True)
            conn.c.waitOnCmd(handle, loops=600, ms=500, failontimeout=True, closehandle=True).close(True)


@pytest.fixture
def conn(make_user):
    """A BlitzGateway of an ordinary user, alone in a private group."""
    return make_user()
