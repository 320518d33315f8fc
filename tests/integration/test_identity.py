"""The server's identity: what a relay between client and server hears, with and without certificate checks."""

import os
from dataclasses import replace

import Ice
import pytest
from omero.clients import Glacier2
from relay import Certificate, Relay

from openhcs_omero.errors import ConfigError, ConnectError
from openhcs_omero.omero import identity
from openhcs_omero.omero.connection import close_all, connect
from openhcs_omero.omero.identity import WrongIdentity
from openhcs_omero.omero.probe import is_up
from openhcs_omero.omero.server import Server
from openhcs_omero.runtime.omero_instance_manager import OMEROInstanceManager

SECRET = "pw"
SPOKEN = b"\x02pw"  # a string in Ice's encoding: its length, then its bytes


@pytest.fixture(autouse=True)
def own_environment(tmp_path, monkeypatch):
    for key in [key for key in os.environ if key.startswith("OMERO_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("OMERO_SESSIONDIR", str(tmp_path / "sessions"))
    monkeypatch.setenv("OMERO_PASSWORD", SECRET)
    monkeypatch.setattr(identity, "_warned", identity.threading.Event())
    yield
    close_all()


@pytest.fixture
def relay(omero_server, tmp_path):
    relay = Relay(omero_server.port, Certificate(tmp_path, "relay", ["127.0.0.1"]))
    yield relay
    relay.close()


@pytest.fixture
def through(conn, relay):
    """The server as seen through the relay."""
    return Server("127.0.0.1", relay.port, conn.getUser().getName())


def refused(server, relay, sentence):
    """Connect, which must fail before the relay hears the password; return the error message."""
    before = len(relay.heard)
    with pytest.raises(WrongIdentity, match=sentence) as caught:
        connect(server)
    assert SPOKEN not in relay.heard[before:] and "\n" not in str(caught.value)
    return str(caught.value)


def test_without_a_check_a_relay_reads_the_password_and_one_warning_says_so(through, relay, conn, capfd):
    for _ in range(2):
        assert connect(through).getUser().getName() == conn.getUser().getName()
        close_all()
        os.environ["OMERO_PASSWORD"] = SECRET
    assert SPOKEN in relay.heard
    said = capfd.readouterr().err
    assert said.count("warning: the identity of the OMERO server at") == 1
    assert f"`openhcs-omero trust 127.0.0.1:{relay.port}`" in said


def test_the_certificate_of_the_server_itself(omero_server, through, relay, conn, tmp_path, capfd, monkeypatch):
    """Any name in it is accepted; the configuration or OMERO_CA names the file."""
    direct = Server(omero_server.host, omero_server.port, through.user)
    identity.trust(direct)
    own = tmp_path / "own.pem"
    identity.stored_certificate(direct).rename(own)
    assert connect(replace(direct, ca=str(own))).getUser().getName() == through.user
    said = refused(replace(through, ca=str(own)), relay, "neither in .*own.pem nor signed by an authority there")
    assert relay.certificate.fingerprint in said and "no password was sent" in said
    monkeypatch.setenv("OMERO_CA", os.path.relpath(own))
    manager = OMEROInstanceManager(through.host, through.port, through.user)
    assert manager.server.ca == str(own) and not manager.is_running()
    with pytest.raises(WrongIdentity):  # waiting does not help
        manager.connect(timeout=600)
    assert SPOKEN not in relay.heard
    assert "warning" not in capfd.readouterr().err


def test_a_certificate_authority(through, relay, tmp_path):
    authority = Certificate(tmp_path, "authority")
    server = replace(through, ca=str(authority.file))
    refused(server, relay, "nor signed by an authority there")
    relay.certificate = Certificate(tmp_path, "other", ["omero.example.org"], authority)
    refused(server, relay, "is for another host name")
    relay.certificate = Certificate(tmp_path, "right", ["omero.example.org", "127.0.0.1"], authority)
    assert connect(server).getUser().getName() == through.user
    with pytest.raises(ConnectError, match=r"an authority signed the certificate .* OMERO_CA"):
        identity.trust(through)


def test_the_certificate_of_first_use_is_kept(through, relay, tmp_path, capfd):
    first = relay.certificate
    assert identity.trust(through) == (first.fingerprint, True)
    assert identity.trust(through) == (first.fingerprint, False)
    assert identity.stored_certificate(through).stat().st_mode & 0o077 == 0
    assert connect(through).getUser().getName() == through.user
    close_all()
    os.environ["OMERO_PASSWORD"] = SECRET
    (tmp_path / "new").mkdir()
    relay.certificate = changed = Certificate(tmp_path / "new", "relay", ["127.0.0.1"])  # with the same name
    said = refused(through, relay, "is not the one that was trusted")
    assert changed.fingerprint in said and str(identity.stored_certificate(through)) in said
    with pytest.raises(WrongIdentity, match="is not the one that was trusted"):
        identity.trust(through)
    relay.certificate = first
    assert connect(through).getUser().getName() == through.user
    assert "warning" not in capfd.readouterr().err


def test_expired_certificates(through, relay, tmp_path):
    """Whatever the certificate is checked against, the sentence says that it has expired."""
    authority = Certificate(tmp_path, "authority")
    relay.certificate = Certificate(tmp_path, "expired", ["127.0.0.1"], authority, valid=(-3, -1))
    refused(replace(through, ca=str(authority.file)), relay, "has expired")
    relay.certificate = own = Certificate(tmp_path, "own", ["127.0.0.1"], valid=(-3, -1))
    refused(replace(through, ca=str(own.file)), relay, "has expired")
    with pytest.raises(WrongIdentity, match="has expired"):
        identity.trust(through)
    identity.session_store.write_secret(identity.stored_certificate(through), own.file.read_text())
    refused(through, relay, "has expired")


def test_a_chain_of_authorities(through, relay, tmp_path):
    root = Certificate(tmp_path, "root")
    between = Certificate(tmp_path, "between", authority=root, signs=True)
    relay.certificate = Certificate(tmp_path, "server", ["127.0.0.1"], between)
    assert connect(replace(through, ca=str(root.file))).getUser().getName() == through.user
    close_all()
    os.environ["OMERO_PASSWORD"] = SECRET
    false = Certificate(tmp_path, "false", ["127.0.0.1"], authority=root)  # it may not sign others
    relay.certificate = Certificate(tmp_path, "forged", ["127.0.0.1"], false)
    refused(replace(through, ca=str(root.file)), relay, "nor signed by an authority there")


def test_trust_needs_a_server():
    with pytest.raises(ConnectError, match=r"nothing with a certificate answers at 127.0.0.1:1"):
        identity.trust(Server("127.0.0.1", 1))


@pytest.mark.parametrize(
    ("content", "sentence"), [(None, "can't be read"), ("no certificate\n", "no certificate in PEM form")]
)
def test_a_file_without_a_certificate(through, tmp_path, content, sentence):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=rf"OMERO_CA names .*ca.pem, which .*{sentence}"):
        connect(replace(through, ca=str(file)))


def test_a_pipe_a_folder_or_a_huge_file_in_place_of_a_certificate(through, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**40)
    for name in ("pipe", "folder", "huge"):
        with pytest.raises(ConfigError, match=f"OMERO_CA names .*{name}, which is no file of certificates"):
            connect(replace(through, ca=str(tmp_path / name)))


class Router(Glacier2.Router):
    """The parts of OMERO's router that are needed to receive a password."""

    def __init__(self):
        self.heard = []

    def getClientProxy(self, current=None):
        return None

    def createSession_async(self, callback, user, password, current=None):
        self.heard.append(password)
        callback.ice_exception(Glacier2.PermissionDeniedException(""))


@pytest.fixture
def websocket(tmp_path):
    """A router behind wss, with its certificate and URL."""
    certificate = Certificate(tmp_path, "web", ["127.0.0.1"])
    options = Ice.InitializationData()
    options.properties = Ice.createProperties()
    for key, value in {
        "Ice.Plugin.IceSSL": "IceSSL:createIceSSL",
        "IceSSL.VerifyPeer": "0",
        "IceSSL.CertFile": str(certificate.with_key),
    }.items():
        options.properties.setProperty(key, value)
    communicator = Ice.initialize(options)
    adapter = communicator.createObjectAdapterWithEndpoints("router", "wss -h 127.0.0.1 -p 0 -r /omero-ws")
    router = Router()
    adapter.add(router, communicator.stringToIdentity("OMERO.Glacier2/router"))
    adapter.activate()
    port = adapter.getEndpoints()[0].getInfo().port
    yield router, certificate, Server(f"wss://127.0.0.1:{port}/omero-ws", user="ada")
    communicator.destroy()


def test_a_websocket(websocket, tmp_path):
    router, certificate, server = websocket
    other = Certificate(tmp_path, "another", ["127.0.0.1"])
    with pytest.raises(WrongIdentity, match="nor signed by an authority there"):
        connect(replace(server, ca=str(other.file)))
    assert router.heard == [] and not is_up(replace(server, ca=str(other.file)))
    relay = Relay(server.socket_address[1], other)
    through = replace(server, host=f"wss://127.0.0.1:{relay.port}/omero-ws")
    with pytest.raises(WrongIdentity, match="nor signed by an authority there"):
        connect(replace(through, ca=str(certificate.file)))
    relay.certificate = Certificate(tmp_path, "elsewhere", ["omero.example.org"], other)
    with pytest.raises(WrongIdentity, match="is for another host name"):
        connect(replace(through, ca=str(other.file)))
    relay.certificate = Certificate(tmp_path, "old", ["127.0.0.1"], other, valid=(-3, -1))
    with pytest.raises(WrongIdentity, match="has expired"):
        connect(replace(through, ca=str(other.file)))
    identity.session_store.write_secret(identity.stored_certificate(through), certificate.file.read_text())
    with pytest.raises(WrongIdentity, match="is not the one that was trusted"):
        connect(through)
    relay.close()
    assert router.heard == []
    for checked in (replace(server, ca=str(certificate.file)), server):
        with pytest.raises(ConnectError, match="wrong user name or password"):
            connect(checked)
    assert router.heard == [SECRET] * 2
    with pytest.raises(ConfigError, match="is not encrypted"):
        connect(replace(server, host="ws://127.0.0.1/omero-ws", ca=str(other.file)))
