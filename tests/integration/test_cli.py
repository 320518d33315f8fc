"""The command line as a user types it: its output, its exit status and its error messages."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field

import numpy as np
import omero
import pytest
from omero.clients import Glacier2
from plate_folders import images_of, write_phenix

from openhcs_omero import __version__
from openhcs_omero.io.disk import DiskBackend
from openhcs_omero.omero import queries
from openhcs_omero.omero.annotations import save_text
from openhcs_omero.omero.derived import derive_plate
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.runtime.embedded import certificate_of

rng = np.random.default_rng(5)
COMMAND = [sys.executable, "-m", "openhcs_omero.cli"]


@dataclass
class Shell:
    """Runs the command as a user of a server."""

    env: dict[str, str] = field(default_factory=dict)

    def start(self, *args, **env):
        whole = {**os.environ, "TERM": "dumb", "NO_COLOR": "1", **self.env, **env}
        whole = {key: value for key, value in whole.items() if value}
        return subprocess.Popen(
            [*COMMAND, *map(str, args)],
            env=whole,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *args, **env):
        """Run the command; return (exit status, stdout, stderr)."""
        process = self.start(*args, **env)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def lines(self, *args):
        """Run a command that must succeed; return the lines it prints."""
        status, out, err = self(*args)
        assert (status, err) == (0, "")
        return out.splitlines()

    def refusal(self, *args, **env):
        """Run a command that must fail; return the one sentence it prints, on stderr only."""
        status, out, err = self(*args, **env)
        assert (status, out) == (1, "")
        assert err.startswith("error: ") and err.count("\n") == 1, err
        return err.removeprefix("error: ").strip()


@pytest.fixture
def shell(conn, omero_server, tmp_path):
    shell = Shell(
        {
            "OMERO_HOST": omero_server.host,
            "OMERO_PORT": str(omero_server.port),
            "OMERO_USER": conn.getUser().getName(),
            "OMERO_PASSWORD": "pw",
            "OMERO_SESSIONDIR": str(tmp_path / "sessions"),
        }
    )
    assert shell("trust", f"{omero_server.host}:{omero_server.port}")[0] == 0
    return shell


@pytest.fixture
def folder(tmp_path):
    """Two wells with two sites each, and two channels per site."""
    for well in ("A01", "B02"):
        for site in (1, 2):
            for c in range(2):
                plane = rng.integers(0, 60000, (9, 7)).astype("uint16")
                DiskBackend().save(plane, tmp_path / "screen" / f"{well}_s{site:03d}_z000_c{c:03d}.tif")
    return tmp_path / "screen"


@pytest.fixture
def plate(shell, folder):
    (plate_id,) = shell("import", folder)[1].split()
    return int(plate_id)


# ---- import, ls, info, get


def test_import_prints_only_the_id(conn, shell, folder):
    status, out, err = shell("import", folder, "--name", "My plate")
    assert (status, out) == (0, f"{int(out)}\n")
    assert "4/4" in err
    structure = load_plate(conn, int(out))
    assert (structure.name, list(structure.wells), structure.max_sites) == ("My plate", ["A01", "B02"], 2)


def test_import_with_a_pattern(conn, shell, tmp_path):
    planes = {
        f"plate{c}-{column}-B.tif": np.full((4, 5), c * 10 + column, "uint8") for c in (0, 1) for column in (3, 4)
    }
    for name, plane in planes.items():
        DiskBackend().save(plane, tmp_path / "odd" / name)
    pattern = r"plate(?P<channel>\d)-(?P<column>\d)-(?P<row>[A-Z])\.tif"
    status, out, err = shell("import", tmp_path / "odd", "--pattern", pattern)
    assert status == 0, err
    assert list(load_plate(conn, int(out)).wells) == ["B03", "B04"]
    shell("get", f"/omero/plate_{int(out)}/B04/B04_s001_z000_c001.tif", tmp_path / "x.tif")
    np.testing.assert_array_equal(DiskBackend().load(tmp_path / "x.tif"), planes["plate1-4-B.tif"])


def test_import_of_a_microscope_folder(conn, shell, tmp_path):
    folder = write_phenix(tmp_path / "day_1", images_of(["A01"]))
    (plate_id,) = shell("import", folder)[1].split()
    told = {line[:16].strip(): line[16:] for line in shell.lines("info", plate_id)}
    assert (told["channel 0"], told["channel 1"], told["pixel size"]) == ("DAPI", "FITC", "0.65 µm")
    next(folder.rglob("*p02-ch1*")).unlink()
    assert "well A01 lacks files of site 1" in shell.refusal("import", folder)
    assert queries.rows(conn, "select count(p) from Plate p") == [[1]]


def test_ls(conn, shell, plate):
    save_text(conn, "Plate", plate, "x.csv", b"a\n1\n")
    save_text(conn, "Well", load_plate(conn, plate).well("A01").well_db_id, "y.csv", b"a\n1\n")
    path = f"/omero/plate_{plate}"
    assert shell.lines("ls", path) == [f"{path}/A01", f"{path}/B02", f"{path}/x.csv"]
    planes = [f"{path}/A01/A01_s{site:03d}_z000_c{c:03d}.tif" for site in (1, 2) for c in (0, 1)]
    assert shell.lines("ls", f"{path}/A01/") == [*planes, f"{path}/A01/y.csv"]


def test_info(conn, shell, plate):
    save_text(conn, "Plate", plate, "x.csv", b"a\n1\n")
    derived = derive_plate(conn, load_plate(conn, plate), "processed", {})
    lines = shell.lines("info", f"plate_{plate}")
    assert lines == shell.lines("info", plate) == shell.lines("info", f"/omero/plate_{plate}")
    said = {line[:16].strip(): line[16:].strip() for line in lines}
    assert said["plate"] == f"/omero/plate_{plate}  screen"
    assert said["wells"] == "2 with images of 8 x 12, A01 to B02"
    found = json.loads("".join(shell.lines("info", plate, "--json")))
    assert (found["plate"], found["omero_id"], found["wells"]) == (f"/omero/plate_{plate}", plate, ["A01", "B02"])
    assert found["sites"] == {"A01": [1, 2], "B02": [1, 2]} and found["images"][0]["type"] == "uint16"
    assert found["notes"] == found["problems"] == []
    assert said["sites"] == "2 per well, 4 in all"
    assert said["image size"] == "7 x 9 pixels, uint16; z 1, channels 2, timepoints 1"
    assert "channel 1" in said
    assert said["derived plate"] == f"/omero/plate_{plate}_processed  OMERO id {derived}"
    assert said["file"] == f"/omero/plate_{plate}/x.csv"
    for image in [image for _, image in load_plate(conn, plate).images()]:
        save_text(conn, "Image", image.image_id, "results.json", b"{}")
    assert shell.lines("info", plate) == [*lines, "files           results.json of 4 sites"]
    empty = shell.lines("info", f"plate_{plate}_processed")
    assert any("0 with images of 8 x 12; 2 without images" in line for line in empty)


def test_get(conn, shell, plate, folder, tmp_path):
    save_text(conn, "Plate", plate, "x.json", b'{"a" :1}')
    path, out = f"/omero/plate_{plate}", tmp_path / "out"
    out.mkdir()
    assert shell.lines("get", f"{path}/B02/B02_s002_z000_c001.tif", out) == []
    assert shell.lines("get", f"{path}/B02/B02_s002.tif", out / "site.tif") == []
    assert shell.lines("get", f"{path}/x.json", out) == []
    plane = DiskBackend().load(folder / "B02_s002_z000_c001.tif")
    np.testing.assert_array_equal(DiskBackend().load(out / "B02_s002_z000_c001.tif"), plane)
    site = DiskBackend().load(out / "site.tif")
    assert site.shape == (1, 2, 1, 9, 7)
    np.testing.assert_array_equal(site[0, 1, 0], plane)
    assert (out / "x.json").read_bytes() == b'{"a" :1}'


# ---- errors


def test_invalid_paths(shell, plate, tmp_path):
    path = f"/omero/plate_{plate}"
    assert "expected /omero/plate_<id>" in shell.refusal("ls", "/data/plate")
    assert "no plate 999999999" in shell.refusal("ls", "/omero/plate_999999999")
    assert "no plate 999999999" in shell.refusal("info", "999999999")
    assert "no derived plate 'x'" in shell.refusal("info", f"plate_{plate}_x")
    assert "no well 'H12'" in shell.refusal("ls", f"{path}/H12")
    assert "ls takes a plate or a well" in shell.refusal("ls", f"{path}/A01/A01_s001.tif")
    assert "info takes a plate" in shell.refusal("info", f"{path}/A01")
    assert "no file" in shell.refusal("get", f"{path}/x.csv", tmp_path / "x.csv")
    assert "no plane" in shell.refusal("get", f"{path}/A01/A01_s001_z000_c007.tif", tmp_path / "x.tif")
    assert "ending .tif" in shell.refusal("get", f"{path}/A01/A01_s001.tif", tmp_path / "x.png")
    (tmp_path / "file").write_text("")
    assert "there is a file with that name" in shell.refusal("get", f"{path}/A01/A01_s001.tif", tmp_path / "file/x.tif")
    assert sorted(file.name for file in tmp_path.glob("x.*")) == []


def test_refused_imports_create_nothing(conn, shell, folder, tmp_path):
    def count():
        return [queries.rows(conn, f"select count(o.id) from {kind} o") for kind in ("Plate", "Image", "Well")]

    before = count()
    assert "there is no folder" in shell.refusal("import", tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "not a plate of a known microscope" in shell.refusal("import", tmp_path / "empty")
    shell.refusal("import", folder, "--pattern", "(")
    file = folder / "B02_s001_z000_c000.tif"
    file.write_bytes(file.read_bytes()[:200])
    assert file.name in shell.refusal("import", folder)
    DiskBackend().save(np.zeros((3, 3), "uint16"), file)
    assert file.name in shell.refusal("import", folder)
    file.unlink()
    assert "B02" in shell.refusal("import", folder)
    (folder / "what is this.tif").write_bytes(b"")
    assert "what is this.tif" in shell.refusal("import", folder)
    assert count() == before


def test_unreachable_servers(shell):
    assert "wrong user name or password" in shell.refusal("ls", "1", OMERO_PASSWORD="wrong")
    assert "wrong user name or password" in shell.refusal("ls", "1", "--user", "no such user")
    assert "no session" in shell.refusal("ls", "1", OMERO_PASSWORD="")
    assert "OMERO_PASSWORD" in shell.refusal("ls", "1", OMERO_PASSWORD="")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        start = time.monotonic()
        assert "not an OMERO server" in shell.refusal("ls", "1", "--host", "127.0.0.1", "--port", port)
        assert time.monotonic() - start < 20
    assert "nothing listens at 127.0.0.1" in shell.refusal("ls", "1", "--host", "127.0.0.1", "--port", port)


def test_options_override_the_environment(shell, plate):
    given = dict(shell.env)
    host, port, user = (given.pop(f"OMERO_{name}") for name in ("HOST", "PORT", "USER"))
    wrong = {"OMERO_HOST": "no-such-host.invalid", "OMERO_PORT": "1", "OMERO_USER": "nobody"}
    elsewhere = Shell({**given, **wrong})
    assert "no-such-host.invalid" in elsewhere.refusal("info", plate)
    assert elsewhere.lines("info", plate, "--host", host, "--port", port, "--user", user) == shell.lines("info", plate)


def test_the_session_is_closed_and_removed_from_the_store(conn, shell, plate, tmp_path):
    shell.lines("info", plate)
    left = [file for file in (tmp_path / "sessions").rglob("*") if file.is_file()]
    assert [file for file in left if not file.name.startswith("._CERTIFICATE_")] == []  # the server is trusted here


def test_ctrl_c_during_an_import(conn, shell, folder):
    """Prints one line, exits with status 130, and leaves nothing in OMERO."""
    for number in range(1, 60):
        for file in list(folder.glob("A01_*")):
            os.link(file, file.with_name(f"C{number:02d}{file.name[3:]}"))
    process = shell.start("import", folder)
    deadline = time.monotonic() + 30
    begun = False
    while not begun and time.monotonic() < deadline:
        time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)  # keeps it from finishing while the test asks OMERO how far it is
        begun = bool(queries.rows(conn, "select i.id from Image i"))
        if begun:
            process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
    assert queries.rows(conn, "select i.id from Image i") == []
    assert queries.rows(conn, "select p.id from Plate p") == []


# ---- help and serve


def test_help_is_quick():
    """Showing a help text imports no heavy package."""
    code = "import sys, openhcs_omero.cli; print([m for m in ('omero', 'Ice', 'numpy', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
    status, out, _ = Shell()("--help")
    assert status == 0
    for command in ("serve", "demo", "import", "ls", "info", "get"):
        assert command in out
        assert Shell()(command, "--help")[0] == 0
    assert Shell()("nonsense")[0] == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve(tmp_path, number):
    """Prints one line when ready, serves a client, and stops cleanly."""
    (tmp_path / "password").write_text("secret\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ("--data", tmp_path / "data", "--port", port, "--root-password-file", tmp_path / "password")
    server = Shell().start("serve", *options)
    try:
        assert select.select([server.stdout], [], [], 60)[0]
        ready = server.stdout.readline()
        assert "ready" in ready and str(port) in ready
        client = Shell(
            {
                "OMERO_PASSWORD": "secret",
                "OMERO_SESSIONDIR": str(tmp_path / "sessions"),
                "OMERO_CA": certificate_of(tmp_path / "data"),
            }
        )
        where = ("--host", "127.0.0.1", "--port", port, "--user", "root")
        assert "no plate 1" in client.refusal("info", "1", *where)
        status, out, err = Shell()("serve", *options)
        assert (status, out) == (1, "") and err.count("\n") == 1
        server.send_signal(number)
        out, err = server.communicate(timeout=30)
        assert (server.returncode, out, err) == (0, "", "")
    finally:
        server.kill()


# ---- login, logout, trust, --version


def test_login_and_logout(shell, conn, omero_server, tmp_path):
    where = f"{conn.getUser().getName()}@{omero_server.host}:{omero_server.port}"
    nobody = {"OMERO_PASSWORD": "", "OMERO_USER": "", "OMERO_HOST": "", "OMERO_PORT": ""}
    (said,) = shell.lines("login", where)
    assert said.startswith(f"logged in to {omero_server.host}:{omero_server.port} as ") and where in said
    files = [path for path in (tmp_path / "sessions").rglob("*-*-*") if path.is_file()]
    assert len(files) == 1 and files[0].stat().st_mode & 0o077 == 0
    here = {**nobody, "OMERO_HOST": omero_server.host, "OMERO_PORT": str(omero_server.port)}
    assert "no plate" in shell.refusal("info", "987654321", **here)  # the session is joined even without a user name
    assert "wrong user name or password" in shell.refusal("login", where, OMERO_PASSWORD="wrong")
    assert "set OMERO_PASSWORD" in shell.refusal("login", where, OMERO_PASSWORD="")
    assert "write user@host" in shell.refusal("login", "a@b:c", **nobody)
    (said,) = shell.lines("logout", where)
    assert said == f"logged out of {omero_server.host}:{omero_server.port}: {conn.getUser().getName()}"
    assert not files[0].exists()
    client = omero.client(omero_server.host, omero_server.port)
    with pytest.raises(Glacier2.PermissionDeniedException):  # it was closed on the server, not just forgotten
        client.joinSession(files[0].name)
    client.__del__()
    assert "there is no stored session of" in shell.refusal("logout", where)
    assert "run `openhcs-omero login <user>@" in shell.refusal("info", "1", **here)


def test_trust(shell, omero_server, tmp_path):
    where = f"{omero_server.host}:{omero_server.port}"
    fingerprint, again = shell.lines("trust", where)  # a second time: the fixture has already done it once
    assert fingerprint.startswith(f"SHA-256 fingerprint of the certificate of {where}: ") and "already" in again
    other = {"OMERO_SESSIONDIR": str(tmp_path / "another")}
    assert "warning: the identity of" in shell("info", "1", **other)[2]
    assert "can't be read" in shell.refusal("info", "1", OMERO_CA="nothing.pem")


def test_a_home_folder_that_is_not_writable(shell, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (
        {"OMERO_SESSIONDIR": str(tmp_path / "file" / "sessions")},
        {"OMERO_SESSIONDIR": "", "OMERO_USERDIR": "", "HOME": "/proc/nowhere"},
    ):
        status, out, err = shell("ls", "1", **folder)
        assert status == 1 and out == "" and "Traceback" not in err
        (sentence,) = [line for line in err.splitlines() if line.startswith("error: ")]
        assert "can be stored in" in sentence and "OMERO_SESSIONDIR" in sentence


def test_the_version(shell):
    assert shell.lines("--version") == [f"openhcs-omero {__version__}"]
