"""What the tests of both products share: users of the server that the plugin of omero-embedded starts."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import pytest


def pytest_configure(config):
    # a shell's background processes ignore Ctrl-C; what the tests start must not
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each of a thousand processes compiles the package
    with contextlib.suppress(ImportError):  # the environments of other clients do not have it
        from hypothesis import HealthCheck, settings

        # the time that an example takes depends on how busy the machine is
        settings.register_profile(
            "any machine",
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
        )
        settings.load_profile("any machine")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--omero-host", None):  # the environment of OMERO.web does not have the plugin
        for item in items:
            if item.get_closest_marker("embedded_only"):
                item.add_marker(pytest.mark.skip(reason="a real OMERO.server does this in another way"))


@pytest.fixture(scope="session")
def root(omero_server) -> Iterator:
    """A BlitzGateway of the administrator."""
    conn = omero_server.login()  # not `omero_server.admin`: tests change its group
    conn.c.enableKeepAlive(60)  # OMERO ends a session after ten idle minutes, and other files' tests may take longer
    yield conn
    conn.close()


@pytest.fixture
def make_user(omero_server) -> Iterator[Callable]:
    """`make_user(permissions="rw----", group=None)`: the BlitzGateway of a new user, whose password is "pw".

    The user joins a new group with these permissions, or the existing group whose id is given. Everything that the
    users own is deleted at the end of the test.
    """
    made = []

    def make(permissions: str = "rw----", group: int | None = None):
        user = omero_server.make_user(permissions, group, password="pw")
        made.append((user, omero_server.login(user.name, user.password)))
        return made[-1][1]

    yield make
    for user, conn in made:
        conn.close()
        omero_server.delete_data_of(user)


@pytest.fixture
def conn(make_user):
    """A BlitzGateway of an ordinary user, alone in a private group."""
    return make_user()
