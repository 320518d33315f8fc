"""Finding and starting OMERO servers, including servers that hang."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import yaml
from omero_embedded.process import start
from test_orchestrator import ROOT, SEED, blocks

from openhcs_omero.errors import ConnectError, OpenHCSError
from openhcs_omero.omero.connection import close_all
from openhcs_omero.runtime.omero_instance_manager import COMPOSE_FILE, OMEROInstanceManager

PAGE = blocks((ROOT / "docs" / "how-to" / "instance.md").read_text(), "md")
HALF_STARTED = """
import sys
from pathlib import Path
from omero_embedded.ice import router
from omero_embedded.ice.server import serve
router.Router.createSession_async = lambda self, callback, *rest: None
serve(Path(sys.argv[1]), "127.0.0.1", 0, None)
"""


@pytest.fixture(autouse=True)
def own_environment(tmp_path, monkeypatch):
    for key in [key for key in os.environ if key.startswith("OMERO_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("OMERO_SESSIONDIR", str(tmp_path / "sessions"))
    monkeypatch.setenv("OMERO_PASSWORD", "")  # restores the variable that `connect` removes
    monkeypatch.setenv("OMERO_USER", "")
    yield
    close_all()


@pytest.fixture
def user(omero_server, conn, monkeypatch):
    """Set the environment variables to the server and one of its users."""
    monkeypatch.setenv("OMERO_HOST", omero_server.host)
    monkeypatch.setenv("OMERO_PORT", str(omero_server.port))
    monkeypatch.setenv("OMERO_USER", conn.getUser().getName())
    monkeypatch.setenv("OMERO_PASSWORD", "pw")
    return conn.getUser().getName()


@pytest.fixture
def silent():
    """The port of a server that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def half_started(tmp_path):
    """The port of a hanging server: its router answers but opens no session."""
    process = subprocess.Popen(
        [sys.executable, "-c", HALF_STARTED, str(tmp_path / "half")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield int(process.stdout.readline().split(" port ")[1].split(":")[0])
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.skipif(not SEED.exists(), reason="the seed is not here")
def test_the_page_has_the_seeds_examples():
    seed = [code.replace("from openhcs.", "from openhcs_omero.") for code in blocks(SEED.read_text(), "rst")]
    assert all(code in seed for code in PAGE)


def test_the_code_of_the_page(user, omero_server, capsys):
    here = {}
    for code in PAGE:
        exec(code, here)
    assert capsys.readouterr().out == (
        f"OMERO is running\nConnected to OMERO at {omero_server.host}:{omero_server.port}\n"
    )


def test_the_seeds_example_works(omero_server, user):
    manager = OMEROInstanceManager()
    assert manager.is_running()
    assert manager.connect(timeout=10)
    assert (manager.host, manager.port) == (omero_server.host, omero_server.port)
    assert manager.get_connection().getUser().getName() == user
    assert manager.wait_for_ready(timeout=10)
    assert "OMERO_PASSWORD" not in os.environ
    manager.close()


def test_two_managers_one_after_the_other(user, root, monkeypatch, tmp_path):
    """Both use the password that the first one read; nothing restores it in the environment."""
    sessions = set()
    for _ in range(2):
        with OMEROInstanceManager() as manager:
            assert manager.connect()
            sessions.add(manager.get_connection().c.getSessionId())
        assert "OMERO_PASSWORD" not in os.environ
    assert len(sessions) == 2
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\necho "$OMERO_PASSWORD" > {tmp_path}/said\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    OMEROInstanceManager().start_via_docker_compose()
    assert (tmp_path / "said").read_text() == "pw\n"


def test_the_session_ends_with_the_context(user, root):
    with OMEROInstanceManager() as manager:
        conn = manager.get_connection()
        session = conn.c.getSessionId()
        assert root.c.sf.getSessionService().getSession(session)
    with pytest.raises(Exception, match="RemovedSession"):
        root.c.sf.getSessionService().getSession(session)


def test_a_wrong_password_is_not_retried(user, monkeypatch):
    monkeypatch.setenv("OMERO_PASSWORD", "wrong")
    began = time.monotonic()
    with pytest.raises(ConnectError, match="wrong user name or password"):
        OMEROInstanceManager().connect(timeout=60)
    assert time.monotonic() - began < 10


def test_no_server():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    manager = OMEROInstanceManager("127.0.0.1", port)
    assert not manager.is_running()
    assert not manager.connect(timeout=1)
    assert not manager.wait_for_ready(timeout=1)
    with pytest.raises(ConnectError, match=r"nothing listens .* `openhcs-omero serve`"):
        manager.get_connection()


@pytest.mark.parametrize("kind", ["silent", "half_started"])
def test_a_hanging_server_ends_in_the_timeout(kind, request, monkeypatch):
    port = request.getfixturevalue(kind)
    monkeypatch.setenv("OMERO_PASSWORD", "pw")
    manager = OMEROInstanceManager("127.0.0.1", port, "root")
    assert manager.is_running() == (kind == "half_started")
    for ask in (manager.connect, manager.wait_for_ready):
        began = time.monotonic()
        assert not ask(timeout=3)
        assert time.monotonic() - began < 8


def test_a_server_that_starts_late_is_awaited(tmp_path, monkeypatch):
    """The password is kept through the failed attempts."""
    with start(tmp_path / "late") as server:
        server.process.send_signal(signal.SIGSTOP)
        try:
            monkeypatch.setenv("OMERO_PASSWORD", server.password)
            manager = OMEROInstanceManager("127.0.0.1", server.port, "root")
            assert not manager.is_running()
            subprocess.Popen(["sh", "-c", f"sleep 3; kill -CONT {server.process.pid}"])
            assert manager.connect(timeout=30)
            manager.close()
        finally:
            server.process.send_signal(signal.SIGCONT)


def test_the_embedded_server(tmp_path):
    with OMEROInstanceManager() as manager:
        manager.start_embedded(tmp_path / "data")
        assert manager.is_running()
        assert manager.get_connection().getUser().getName() == "root"
        assert "OMERO_PASSWORD" not in os.environ
    assert not manager.is_running()
    (tmp_path / "file").write_text("")
    with pytest.raises(OpenHCSError, match=r"did not start: .*file is a file: name a folder"):
        manager.start_embedded(tmp_path / "file")


def test_without_docker(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OpenHCSError, match=r"Docker.* is not installed.* embedded server") as caught:
        OMEROInstanceManager().start_via_docker_compose()
    assert "\n" not in str(caught.value)


def test_docker_compose(monkeypatch, tmp_path):
    """Docker gets the password through its environment, not through its arguments."""
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\n(echo "$@"; echo "$OMERO_PASSWORD") > {tmp_path}/said\nexit $STATUS\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    manager = OMEROInstanceManager()
    with pytest.raises(OpenHCSError, match="OMERO_PASSWORD is not set"):
        manager.start_via_docker_compose()
    monkeypatch.setenv("OMERO_PASSWORD", "chosen")
    monkeypatch.setenv("STATUS", "0")
    manager.start_via_docker_compose()
    assert (tmp_path / "said").read_text() == f"compose -f {COMPOSE_FILE} up --detach\nchosen\n"
    monkeypatch.setenv("STATUS", "1")
    with pytest.raises(OpenHCSError, match="docker compose did not start OMERO"):
        manager.start_via_docker_compose()


def test_the_compose_file():
    services = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
    images = {service["image"].partition(":")[0] for service in services.values()}
    assert images == {"postgres", "openmicroscopy/omero-server", "openmicroscopy/omero-web-standalone"}
    assert "OMERO_PASSWORD:?" in services["omero-server"]["environment"]["ROOTPASS"]
