"""What the software writes can't be changed by other users, whatever the umask allows."""

import os
import stat

import pytest

from openhcs_omero.errors import ConnectError
from openhcs_omero.io.atomic import write
from openhcs_omero.omero import identity, session_store
from openhcs_omero.omero.server import Server
from openhcs_omero.runtime.zmq_messages import make_keys

SERVER = Server("omero.example.org", 4064, "me")


@pytest.fixture
def umask():
    before = os.umask(0)
    yield os.umask
    os.umask(before)


def modes(folder):
    return {path: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}


def test_the_session_store_is_private(umask, tmp_path, monkeypatch):
    """Also the folders above it that are created, and files that were open to others before."""
    home = tmp_path / "home"
    home.mkdir(0o755)
    monkeypatch.setenv("OMERO_SESSIONDIR", str(home / "omero" / "sessions"))
    session_store.save(SERVER, "me", "0-1-2", current=True)
    assert [session.key for session in session_store.sessions(SERVER)] == ["0-1-2"]
    assert session_store.sessions(Server("other.example.org")) == []
    session_store.write_secret(identity.stored_certificate(SERVER), "certificate")
    for path, mode in modes(home / "omero").items():
        assert mode & 0o077 == 0, path
    store = home / "omero" / "sessions"
    (store / "._LASTHOST_").chmod(0o666)
    store.chmod(0o777)
    session_store.save(SERVER, "me", "0-1-3", current=True)
    assert stat.S_IMODE(store.stat().st_mode) == 0o700
    assert stat.S_IMODE((store / "._LASTHOST_").stat().st_mode) == 0o600


@pytest.mark.parametrize(("user", "key"), [("../../x", "0-1"), ("me", "../../authorized_keys"), (".", "0-1")])
def test_a_server_can_not_name_another_file(tmp_path, monkeypatch, user, key):
    monkeypatch.setenv("OMERO_SESSIONDIR", str(tmp_path / "a" / "b" / "sessions"))
    with pytest.raises(ConnectError, match="no session can be stored with the name"):
        session_store.save(SERVER, user, key)
    assert list(tmp_path.iterdir()) == []


def test_secret_keys_are_private(umask, tmp_path):
    make_keys(tmp_path / "keys", "client")
    for path, mode in modes(tmp_path / "keys").items():
        assert mode & 0o022 == 0, path
        assert path.suffix != ".key_secret" or mode == 0o600, path


def test_results_have_the_umask_of_the_user(umask, tmp_path):
    umask(0o027)
    write(tmp_path / "results" / "wells.csv", "a")
    assert stat.S_IMODE((tmp_path / "results").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "results" / "wells.csv").stat().st_mode) == 0o640
