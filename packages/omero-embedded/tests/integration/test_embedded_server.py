"""The embedded server as a process: starting, stopping, being killed, and who gets in."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import Ice
import numpy as np
import omero
import omero.clients
import pytest
from models import new, save
from omero.gateway import BlitzGateway
from omero.rtypes import rstring
from omero_embedded.process import EmbeddedServer, start

Glacier2 = omero.clients.Glacier2  # omero-py takes its exceptions for others' where Glacier2 is imported before it
COMMAND = [sys.executable, "-m", "omero_embedded.cli", "serve"]


@pytest.fixture
def launch():
    """`launch(data, password_file=None, *options)` starts a server, which ends with the test; it and its port."""
    servers = []

    def launch(data: Path, password_file: Path | None = None, *options: str) -> tuple[EmbeddedServer, int]:
        servers.append(start(data, password_file=password_file, options=options))
        return servers[-1], servers[-1].port

    yield launch
    for server in servers:
        server.stop()


def password_of(data: Path) -> str:
    return (data / "root-password").read_text().strip()


def login(port: int, password: str, user: str = "root") -> BlitzGateway:
    conn = BlitzGateway(user, password, host="127.0.0.1", port=port, secure=True)
    assert conn.connect(), conn.getLastError()
    return conn


def wait_until(question, seconds: float = 20) -> None:
    """Ask until the answer is yes."""
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def refused(*options: str) -> str:
    """What a server says that can't start: one sentence on stderr."""
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


# -- starting and stopping ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_though_clients_are_connected(launch, tmp_path, number):
    server, port = launch(tmp_path)
    conn = login(port, password_of(tmp_path))
    store = conn.c.sf.createRawFileStore()
    began = time.monotonic()
    server.process.send_signal(number)
    assert server.process.wait(10) == 0
    assert time.monotonic() - began < 4
    with pytest.raises(Ice.Exception):
        store.size()
    assert server.errors() == ""


def test_a_stop_waits_a_few_seconds_for_a_call_and_no_longer(launch, tmp_path):
    server, port = launch(tmp_path)
    _, slow = start_hashing(login(port, password_of(tmp_path)), planes=1500)  # 27 GB of zeros
    began = time.monotonic()
    server.process.terminate()
    assert server.process.wait(20) == 0, server.errors()
    assert time.monotonic() - began < 8
    slow.join()


def test_a_restart_keeps_users_rows_and_pixels(launch, tmp_path):
    server, port = launch(tmp_path)
    conn = login(port, password_of(tmp_path))
    admin = conn.c.sf.getAdminService()
    group = admin.createGroup(new("ExperimenterGroup", name="a group", ldap=omero.rtypes.rbool(False)))
    user = new("Experimenter", omeName="someone", firstName="Some", lastName="One", ldap=omero.rtypes.rbool(False))
    admin.createExperimenterWithPassword(user, rstring("öffne dich"), omero.model.ExperimenterGroupI(group, False), [])
    plane = np.arange(12, dtype="uint16").reshape(3, 4)
    mine = login(port, "öffne dich", "someone")
    image = mine.createImageFromNumpySeq(iter([plane]), "kept").getId()
    assert server.stop() == 0

    _, port = launch(tmp_path)
    conn = login(port, "öffne dich", "someone")
    assert conn.getGroupFromContext().getId() == group
    assert (conn.getObject("Image", image).getPrimaryPixels().getPlane() == plane).all()


def test_what_was_acknowledged_outlives_a_kill(launch, tmp_path):
    server, port = launch(tmp_path)
    conn = login(port, password_of(tmp_path))
    planes = {}
    killer = threading.Thread(target=lambda: (wait_until(lambda: len(planes) >= 8), server.process.kill()))
    killer.start()
    with pytest.raises(Ice.Exception):
        while True:
            plane = np.full((64, 64), len(planes) + 1, "uint16")
            image = conn.createImageFromNumpySeq(iter([plane]), f"image {len(planes)}")
            planes[image.getId()] = plane
            save(conn, new("Plate", name=f"plate {len(planes)}"))
    killer.join()
    server.process.wait(10)

    _, port = launch(tmp_path)
    conn = login(port, password_of(tmp_path))
    assert {image.getId() for image in conn.getObjects("Image")} >= set(planes)
    names = {plate.getName() for plate in conn.getObjects("Plate")}
    assert names >= {f"plate {number}" for number in range(1, len(planes))}
    for image, plane in planes.items():
        pixels = conn.getObject("Image", image).getPrimaryPixels()
        assert (pixels.getPlane() == plane).all()
        assert len(pixels.sha1) == 40


def test_a_second_server_on_the_folder_is_refused(launch, tmp_path):
    launch(tmp_path)
    said = refused("--data", str(tmp_path), "--port", "0")
    assert str(tmp_path) in said and "another server" in said


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert port in refused("--data", str(tmp_path), "--port", port)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refused("--data", str(tmp_path / "file" / "data"), "--port", "0")


def test_a_password_file_that_is_missing_or_empty_is_named(tmp_path):
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for file in (empty, tmp_path / "missing"):
        assert str(file) in refused("--data", str(tmp_path / "data"), "--port", "0", "--root-password-file", str(file))


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_secrets_are_for_the_owner_alone_and_in_no_log(launch, tmp_path):
    server, port = launch(tmp_path)
    secret = password_of(tmp_path)
    conn = login(port, secret)
    session = conn.c.getSessionId()
    BlitzGateway("root", "wrong" + secret, host="127.0.0.1", port=port, secure=True).connect()
    for name in ("root-password", "server.pem", "omero.db"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) & 0o077 == 0, name
    assert secret not in Path(f"/proc/{server.process.pid}/cmdline").read_text()
    log = (tmp_path / "server.log").read_text()
    assert secret not in log and session not in log
    assert secret.encode() not in b"".join(path.read_bytes() for path in tmp_path.glob("omero.db*"))


def test_a_password_file_sets_roots_password_now_and_later(launch, tmp_path):
    file, data = tmp_path / "password", tmp_path / "data"
    for password in ("first", "second"):
        file.write_text(password + "\n")
        server, port = launch(data, file)
        login(port, password).close()
        server.stop()
    assert not (data / "root-password").exists()
    _, port = launch(data)
    login(port, "second").close()


def test_a_wrong_password_costs_as_much_for_nobody_as_for_somebody(omero_server):
    if omero_server.data is None:
        pytest.skip("of the embedded server")

    def seconds(name: str) -> float:
        client = omero.client(omero_server.host, omero_server.port)
        best = 9.0
        for _ in range(4):  # the fifth would make the next ones wait
            began = time.perf_counter()
            with pytest.raises(Glacier2.PermissionDeniedException):
                client.createSession(name, "wrong")
            best = min(best, time.perf_counter() - began)
        client.closeSession()
        return best

    somebody, nobody = seconds("root"), seconds("nobody")
    assert 0.3 < somebody / nobody < 3
    assert min(somebody, nobody) > 0.01


@pytest.mark.parametrize("name", ["", "x" * 100_000, "root\0", "'; drop table password; --", "ünïcode", "-1"])
def test_odd_names_are_refused(omero_server, name):
    client = omero.client(omero_server.host, omero_server.port)
    with pytest.raises((Glacier2.PermissionDeniedException, omero.ClientError)):
        client.createSession(name, "wrong")
    client.closeSession()
    omero_server.login().close()


# -- the wire ----------------------------------------------------------------------------------------------------------


def log_of(server) -> str:
    return (server.data / "server.log").read_text()


def test_garbage_on_the_port_harms_nobody(omero_server):
    endpoint = (omero_server.host, omero_server.port)
    silent = socket.create_connection(endpoint)
    addresses = []
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), b"\x16\x03\x01\xff\xff" + bytes(100), b"IceP" * 100):
        with socket.create_connection(endpoint) as noisy:
            addresses.append("{}:{}".format(*noisy.getsockname()))
            noisy.sendall(garbage)
    conn = omero_server.login()
    assert conn.keepAlive()
    conn.close()
    silent.close()
    if omero_server.data is not None:
        wait_until(lambda: all(f"refused a connection from {address}" in log_of(omero_server) for address in addresses))


def test_a_message_that_is_too_large_is_refused_unread(launch, tmp_path):
    """Its header is enough: a message of two gigabytes to the port without TLS."""
    server, port = launch(tmp_path, None, "--insecure-port", "0")
    root = login(port, server.password)
    port = int(re.search(r"-p (\d+)", root.getConfigService().getConfigValue("omero.router.insecure"))[1])
    with socket.create_connection((server.host, port), 20) as client:
        assert client.recv(14).startswith(b"IceP")  # the server is ready for messages
        client.sendall(b"IceP" + bytes((1, 0, 1, 0, 0, 0)) + (2**31 - 1).to_bytes(4, "little"))
        assert client.recv(1) == b""
    wait_until(lambda: "requested 2147483647 bytes" in log_of(server))
    assert root.keepAlive()


@pytest.mark.slow
def test_ten_thousand_open_stores_and_not_one_more(launch, tmp_path):
    server, port = launch(tmp_path)
    conn, other = login(port, server.password), login(port, server.password)
    pixels = conn.createImageFromNumpySeq(iter([np.zeros((2, 2), "uint8")]), "image").getPixelsId()
    with pytest.raises(omero.OverUsageException):
        for _ in range(10_000):
            store = conn.c.sf.createRawPixelsStore()
            store.setPixelsId(pixels, False)
            store.getPlane(0, 0, 0)
    assert other.getQueryService().get("Pixels", pixels).sizeX.val == 2
    assert "refused a service to user root" in log_of(server)
    conn.close()
    assert other.c.sf.createRawPixelsStore() is not None
    folder = Path(f"/proc/{server.process.pid}/fd")
    if folder.exists():
        wait_until(lambda: len(list(folder.iterdir())) < 200)
    other.close()


def test_a_client_that_is_killed_leaves_nothing_open(omero_server, root):
    script = """
import sys, omero.clients
client = omero.client(sys.argv[1], int(sys.argv[2]))
session = client.createSession(sys.argv[3], sys.stdin.readline().strip())
session.createRawFileStore()
print(client.getSessionId(), flush=True)
sys.stdin.readline()
"""
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script, omero_server.host, str(omero_server.port), omero_server.user],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    child.stdin.write(omero_server.password + "\n")
    child.stdin.flush()
    uuid = child.stdout.readline().strip()
    sessions = root.c.sf.getSessionService()
    assert sessions.getReferenceCount(uuid) == 1
    child.kill()
    child.communicate()

    def is_gone() -> bool:
        try:
            return sessions.getReferenceCount(uuid) == 0
        except omero.RemovedSessionException:
            return True

    wait_until(is_gone)


@pytest.mark.embedded_only  # a real server looks only every minute or so
def test_a_session_that_is_idle_for_too_long_ends(omero_server, root):
    principal = omero.sys.Principal(omero_server.user, "", "User", None)
    made = root.c.sf.getSessionService().createSessionWithTimeouts(principal, 0, 500)
    client = omero.client(omero_server.host, omero_server.port)
    session = client.joinSession(made.uuid.val)
    client.stopKeepAlive()

    def is_over() -> bool:
        try:
            root.c.sf.getSessionService().getReferenceCount(made.uuid.val)
        except omero.RemovedSessionException:
            return True
        return False

    wait_until(is_over, 30)
    with pytest.raises((Ice.ObjectNotExistException, omero.RemovedSessionException)):
        session.getQueryService()
    client.closeSession()


def start_hashing(conn, planes: int):
    """A store of so many planes of 18 MB, and a thread in which its hash is asked for."""
    pixels_type = conn.getQueryService().findByString("PixelsType", "value", "uint16")
    image = conn.getPixelsService().createImage(3000, 3000, planes, 1, [0], pixels_type, "large", None).val
    store = conn.c.sf.createRawPixelsStore()
    store.setPixelsId(conn.getObject("Image", image).getPixelsId(), False)

    def ask():
        try:
            store.calculateMessageDigest()
        except Ice.Exception:
            pass  # the server was stopped

    slow = threading.Thread(target=ask)
    slow.start()
    return store, slow


def test_a_slow_call_does_not_hold_up_others(omero_server, conn):
    """The hash of two gigabytes takes a second at least; twenty other calls go through meanwhile."""
    store, slow = start_hashing(conn, planes=120)
    for _ in range(20):
        conn.c.sf.keepAlive(None)
    assert slow.is_alive()
    slow.join()
    store.close()


def test_a_plain_connection_after_login_works_if_it_is_asked_for(launch, tmp_path):
    server, port = launch(tmp_path, None, "--insecure-port", "0")
    conn = BlitzGateway("root", server.password, host=server.host, port=port, secure=False)
    assert conn.connect() and not conn.isSecure()
    router = str(conn.c.getCommunicator().getDefaultRouter())
    assert ":tcp" in router and "ssl" not in router
    assert conn.getUser().getName() == "root"
    conn.close()


def test_clients_publish_no_endpoint_of_the_server(conn):
    """Ice for Java takes proxies with an endpoint that its own adapter publishes for objects of its own process."""
    router = conn.c.ic.getDefaultRouter()
    public = {endpoint.getInfo().port for endpoint in conn.c.sf.ice_getEndpoints()}
    published = {endpoint.getInfo().port for endpoint in router.getServerProxy().ice_getEndpoints()}
    assert published and not published & public
