"""Where the server's address comes from, and the messages if it can't be reached."""

import contextlib
import socket
import ssl
import threading
import time

import pytest

from openhcs_omero.errors import ConfigError, ConnectError
from openhcs_omero.omero.connection import connect
from openhcs_omero.omero.server import Server
from openhcs_omero.omero.stored_login import server_from


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    for name in ("OMERO_HOST", "OMERO_PORT", "OMERO_USER", "OMERO_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMERO_SESSIONDIR", str(tmp_path / "sessions"))
    monkeypatch.setattr("sys.stdin", None)


def test_the_configuration_overrides_the_environment(monkeypatch):
    assert Server.from_config(None) == Server("localhost", 4064, "")
    monkeypatch.setenv("OMERO_HOST", "omero.example.org")
    monkeypatch.setenv("OMERO_PORT", "14064")
    monkeypatch.setenv("OMERO_USER", "ada")
    assert Server.from_config({}) == Server("omero.example.org", 14064, "ada")
    given = {"host": "h", "port": 1, "user": "bob", "secure": False, "data_dir": "/OMERO"}
    assert Server.from_config(given) == Server("h", 1, "bob", False, "/OMERO")
    assert Server.from_config({"host": None}).host == "omero.example.org"


@pytest.mark.parametrize("config", [{"port": "x"}, {"port": 0}, {"port": 70000}, {"hots": "h"}, {"host": ""}])
def test_bad_settings(config):
    with pytest.raises(ConfigError, match=r"^omero: .*"):
        Server.from_config(config)


def refusal(port, host="127.0.0.1"):
    """The message of a failed connection, and the seconds it took."""
    start = time.monotonic()
    with pytest.raises(ConnectError) as error:
        connect(Server(host, port, "user"))
    assert "\n" not in str(error.value)
    return str(error.value), time.monotonic() - start


def test_nothing_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        message, seconds = refusal(port)
    assert message.startswith(f"nothing listens at 127.0.0.1:{port}") and seconds < 2


def test_no_such_host():
    message, _ = refusal(4064, "no-such-host.invalid")
    assert message.startswith("there is no host 'no-such-host.invalid'")


@contextlib.contextmanager
def listener(serve):
    """A TCP server that calls `serve` with each connection; yields its port."""
    server = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def accept():
        while not stop.is_set():
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                threading.Thread(target=serve, args=(connection, stop), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        stop.set()
        server.close()


def silent(connection, stop):
    with connection:
        stop.wait(30)


def http(connection, stop):
    with connection:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def closing(connection, stop):
    connection.close()


@pytest.mark.parametrize("serve", [silent, http, closing])
def test_something_else_listens(serve):
    with listener(serve) as port:
        message, seconds = refusal(port)
    assert message.startswith(f"what listens at 127.0.0.1:{port} is not an OMERO server")
    assert seconds < 3


def test_a_silent_server_behind_tls(tmp_path):
    import subprocess

    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=x",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def serve(connection, stop):
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True):
            stop.wait(30)

    with listener(serve) as port:
        message, seconds = refusal(port)
    assert "is not an OMERO server" in message and seconds < 3


@pytest.mark.parametrize(
    ("text", "host", "port", "user"),
    [
        (None, "usual", 14064, "ada"),
        ("omero.example.org", "omero.example.org", 14064, "ada"),
        ("bob@omero.example.org", "omero.example.org", 14064, "bob"),
        ("bob@example.org@omero.example.org:4065", "omero.example.org", 4065, "bob@example.org"),
        ("wss://omero.example.org/omero-ws", "wss://omero.example.org/omero-ws", 14064, "ada"),
        ("bob@wss://omero.example.org:8443/ws", "wss://omero.example.org:8443/ws", 14064, "bob"),
    ],
)
def test_parsing_the_server_argument_of_a_command(text, host, port, user):
    found = server_from(text, Server("usual", 14064, "ada"))
    assert (found.host, found.port, found.user) == (host, port, user)


@pytest.mark.parametrize("text", ["bob@omero.example.org:", "omero.example.org:port", "bob@", ":4064"])
def test_an_invalid_server_argument(text):
    with pytest.raises(ConfigError):
        server_from(text, Server("usual"))


@pytest.mark.parametrize(
    ("server", "endpoint", "who"),
    [
        (Server("h"), "ssl -h h -p 4064", "<user>@h"),
        (Server("h", 14064, "ada"), "ssl -h h -p 14064", "ada@h:14064"),
        (Server("wss://h/omero-ws"), "wss -h h -p 443 -r /omero-ws", "<user>@wss://h/omero-ws"),
        (Server("wss://h:8443"), "wss -h h -p 8443", "<user>@wss://h:8443"),
    ],
)
def test_the_address_of_a_server(server, endpoint, who):
    assert (server.endpoint, server.who) == (endpoint, who)
