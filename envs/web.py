#!/usr/bin/env python3
"""Show the demo's plates in OMERO.web: an embedded server on the demo's data, and OMERO.web, both on loopback.

    .venv-web/bin/python envs/web.py start | stop      (make demo-web, make stop-web)

`start` leaves both running and prints the address; if they are running already, it only prints the address. `stop` ends
them. Their files are in .demo/: the server's data, and OMERO.web's settings, logs, sessions and static files in web/.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "packages" / "omero-embedded" / "src"))
from omero_embedded import process  # noqa: E402
from omero_embedded.process import EmbeddedServer  # noqa: E402

HOME = ROOT / ".demo"
WEB_PORT = 4080
OPEN_WITH_IVIEWER = [
    "omero_iviewer",
    "omero_iviewer_index",
    {
        "label": "OMERO.iviewer",
        "script_url": "omero_iviewer/openwith.js",
        "supported_objects": ["images", "dataset", "well"],
    },
]
PATIENCE = 90  # seconds to wait for each of them


def say(text: str) -> None:
    print(f"[web] {text}", flush=True)


def configure(home: Path, omero_port: int) -> dict[str, str]:
    """Write OMERO.web's settings and static files into a folder; returns its environment variables."""
    from omero.config import ConfigXml

    for part in ("etc/grid", "var/log", "var/sessions", "var/cache"):
        (home / part).mkdir(parents=True, exist_ok=True, mode=0o700)
    config = ConfigXml(str(home / "etc" / "grid" / "config.xml"))
    for key, value in {
        "omero.web.server_list": [["127.0.0.1", omero_port, "embedded"]],
        "omero.web.middleware": [
            *(
                {"index": index, "class": name}
                for index, name in enumerate(
                    (
                        "whitenoise.middleware.WhiteNoiseMiddleware",
                        "django.middleware.common.CommonMiddleware",
                        "django.contrib.sessions.middleware.SessionMiddleware",
                        "django.middleware.csrf.CsrfViewMiddleware",
                        "django.contrib.messages.middleware.MessageMiddleware",
                        "django.middleware.clickjacking.XFrameOptionsMiddleware",
                    )
                )
            )
        ],
        "omero.web.check_version": False,
        "omero.web.apps": ["omero_iviewer"],
        "omero.web.open_with": [OPEN_WITH_IVIEWER],
        "omero.web.session_cookie_name": f"web{omero_port}",
        "omero.web.static_root": str(home / "var" / "static"),
    }.items():
        config[key] = value if isinstance(value, str) else json.dumps(value)
    config.close()
    environment = {
        **os.environ,
        "OMERODIR": str(home),
        "DJANGO_SETTINGS_MODULE": "omeroweb.settings",
        "TMPDIR": str(home / "var" / "sessions"),
        "PYTHONWARNINGS": "ignore",
    }
    environment.pop("OMERO_PASSWORD", None)
    done = subprocess.run(
        [sys.executable, "-m", "django", "collectstatic", "--noinput", "--verbosity=0"],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"[web] OMERO.web's static files could not be collected:\n{done.stderr[-2000:]}")
    return environment


def start_web(home: Path, omero_port: int, port: int) -> subprocess.Popen:
    """Start OMERO.web on a port of this machine, and wait until it answers.

    Parameters
    ----------
    home : folder for its settings, logs, sessions and static files
    omero_port : port of the OMERO server
    port : port that OMERO.web listens on, on loopback
    """
    environment = configure(home, omero_port)
    with (home / "var" / "log" / "gunicorn.log").open("a") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gunicorn",
                "omeroweb.wsgi:application",
                "--bind",
                f"127.0.0.1:{port}",
                "--workers",
                "2",
                "--timeout",
                "120",
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home,
            start_new_session=True,
        )
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/webclient/login/", timeout=PATIENCE) as answer:
                if answer.status == 200:
                    return process
        except OSError:
            time.sleep(0.3)  # not listening yet
    process.terminate()
    sys.exit(f"[web] OMERO.web did not start; {home}/var/log/gunicorn.log says why")


def start_server(home: Path) -> EmbeddedServer:
    """Start the embedded server on the demo's data, in the project's own environment."""
    return process.start(
        home / "server", free_port(4064), home / "root-password", ROOT / ".venv" / "bin" / "python", detached=True
    )


def free_port(wanted: int) -> int:
    """The wanted port of loopback if it is free, otherwise another one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise OSError("no port is free")


def start() -> None:
    if not (HOME / "plates.json").exists():
        sys.exit("[web] there is no demo yet: run `make demo` first")
    note = HOME / "web" / "running.json"
    note.parent.mkdir(mode=0o700, exist_ok=True)
    if note.exists() and all(alive(pid) for pid in json.loads(note.read_text())["processes"]):
        address = json.loads(note.read_text())["address"]
    else:
        server = start_server(HOME)
        port = free_port(WEB_PORT)
        try:
            web = start_web(HOME / "web", server.port, port)
        except BaseException:
            server.stop()
            raise
        address = f"http://127.0.0.1:{port}/webclient/"
        note.write_text(
            json.dumps({"address": address, "processes": [web.pid, server.process.pid], "omero_port": server.port})
        )
    say(f"OMERO.web is on {address}")
    say("log in as root with the password in .demo/root-password; `make stop-web` ends it")


def stop() -> None:
    note = HOME / "web" / "running.json"
    if not note.exists():
        say("nothing is running")
        return
    processes = json.loads(note.read_text())["processes"]
    for pid in processes:
        if alive(pid):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in processes) and time.monotonic() < deadline:
        time.sleep(0.1)
    note.unlink()
    say("stopped")


def alive(pid: int) -> bool:
    """Whether a process of `start` is still running, and its number is not in use by another process."""
    try:
        command = Path("/proc", str(pid), "cmdline").read_bytes()
    except OSError:
        return False
    return b"gunicorn" in command or b"openhcs_omero" in command


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("start", "stop"))
    {"start": start, "stop": stop}[parser.parse_args().what]()
