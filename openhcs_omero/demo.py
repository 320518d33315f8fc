"""The demo: imports a synthetic screen into an embedded OMERO server, runs the workflow, and compares with the truth.

Everything is in the folder `.demo/` in the working directory: the server's data, its password, the images, the results.
A second run finds the plate and has nothing left to do. Delete the folder to start over.
"""

from __future__ import annotations

import csv
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openhcs_omero.core.orchestrator.snakefile import find_workflow
from openhcs_omero.core.tables import read_rows, write_rows
from openhcs_omero.errors import OpenHCSError
from openhcs_omero.runtime.embedded import certificate_of, start_embedded

PORT = 4064
CORES = 2


def run() -> int:
    """Run the demo.

    Returns
    -------
    int
        0

    Raises
    ------
    OpenHCSError
        If something went wrong; the message says what, and where to read more.
    """
    home = Path(".demo")
    home.mkdir(mode=0o700, exist_ok=True)
    began = time.monotonic()
    with _server(home) as environment:
        plate = _plate(home, environment)
        _say(f"run the workflow on plate {plate} with {CORES} jobs at a time")
        (home / "config.yaml").write_text(json.dumps({"plates": [plate], "results": str(home / "results")}))
        _workflow(home, environment)
        results = home / "results" / f"plate_{plate}_processed"
        _compare(home / "truth.csv", results / "wells.csv")
        _say("write the report")
        _workflow(home, environment, "--report", str(home / "report.html"))
        _say("run the workflow a second time")
        print(f"    {_workflow(home, environment)}")
        _tell(home, results, plate)
    _say(f"done in {time.monotonic() - began:.0f} seconds, and the server is stopped")
    return 0


def _say(text: str) -> None:
    print(f"[demo] {text}", flush=True)


@contextmanager
def _server(home: Path) -> Iterator[dict[str, str]]:
    """Run the embedded server, and yield the environment that lets commands find it and log in."""
    secret = home / "root-password"
    if not secret.exists():
        with open(os.open(secret, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(12) + "\n")
    with start_embedded(home / "server", _free_port(), secret) as server:
        _say(f"an embedded OMERO server runs on port {server.port}, its data are in {server.data}")
        (home / "sessions").mkdir(mode=0o700, exist_ok=True)
        yield {
            **os.environ,
            "OMERO_HOST": server.host,
            "OMERO_PORT": str(server.port),
            "OMERO_USER": "root",
            "OMERO_PASSWORD": str(server.password),
            "OMERO_SESSIONDIR": str((home / "sessions").resolve()),
            "OMERO_CA": certificate_of(home / "server") or "",
        }


def _free_port() -> int:
    """OMERO's usual port, or any free port if that one is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            return 0
    return PORT


def _plate(home: Path, environment: dict[str, str]) -> int:
    """Return the id of the demo's plate; create and import the plate first if it does not exist."""
    note = home / "plate.json"
    if note.exists():
        plate = int(json.loads(note.read_text())["plate"])
        if _command("info", f"plate_{plate}", environment=environment).returncode == 0:
            _say(f"the synthetic screen exists already, as plate {plate}")
            return plate
    from openhcs_omero.processing.synthetic import Screen, write_metadata, write_plate

    screen = Screen()
    _say(f"make a synthetic screen: {screen.rows * screen.columns} wells with {screen.sites} sites, 2 channels, 16 bit")
    truths = write_plate(home / "images", screen)
    write_metadata(home / "images")
    write_rows(home / "truth.csv", [vars(truth) for truth in truths])
    _say(f"openhcs-omero import {home / 'images'}")
    done = _command("import", str(home / "images"), "--name", "Demo screen", environment=environment)
    if done.returncode:
        raise OpenHCSError(f"the import failed: {done.stderr.strip()}")
    plate = int(done.stdout.split()[-1])
    note.write_text(json.dumps({"plate": plate}))
    return plate


def _command(*words: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "openhcs_omero.cli", *words], env=environment, capture_output=True, text=True
    )


def _workflow(home: Path, environment: dict[str, str], *options: str) -> str:
    """Run Snakemake, show its progress, and return the last line that it prints; all of its output goes to a log."""
    workflow = find_workflow()
    command = [
        "snakemake",
        "--snakefile",
        str(workflow / "Snakefile"),
        "--cores",
        str(CORES),
        "--workflow-profile",
        str(workflow / "profiles" / "default"),
        "--configfile",
        str(workflow / "config" / "config.yaml"),
        str(home / "config.yaml"),
        *options,
    ]
    log = home / "snakemake.log"
    said: list[str] = []
    with log.open("a") as out:
        out.write(f"$ {' '.join(command)}\n")
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            out.write(line)
            said += [line.strip()] if line.strip() else []
            _progress(line)
        if process.wait():
            raise OpenHCSError(f"the workflow failed (its full output is in {log}): {' | '.join(said[-5:])}")
    return next((line for line in reversed(said) if "Nothing to be done" in line), said[-1] if said else "")


def _progress(line: str) -> None:
    found = re.match(r"(\d+) of (\d+) steps \(.*\) done", line)
    if not found:
        return
    done, of = int(found[1]), int(found[2])
    if sys.stdout.isatty():
        print(f"\r    {done} of {of} jobs done", end="\n" if done == of else "", flush=True)
    elif done % 10 == 0 or done == of:
        print(f"    {done} of {of} jobs done", flush=True)


def _compare(truth: Path, wells: Path) -> None:
    """Print measurements and truth side by side: one line per column of the plate, whose wells share one dose."""
    with truth.open() as file:
        true = list(csv.DictReader(file))
    measured = {row["well"]: row for row in read_rows(wells)}
    print("\n    dose (uM)   cells measured / true    spots measured / true    spots a cell")
    for column in sorted({row["well"][-2:] for row in true}):
        own = [row for row in true if row["well"].endswith(column)]
        names = {row["well"] for row in own}
        counted = {key: sum(int(measured[name][f"{key}_sum"]) for name in names) for key in ("cells_c1", "spots_c0")}
        cells, spots = (sum(int(row[key]) for row in own) for key in ("cells", "spots"))
        print(
            f"    {float(own[0]['dose']):9.3f}   {counted['cells_c1']:14d} / {cells:<6d}   "
            f"{counted['spots_c0']:14d} / {spots:<6d}   {counted['spots_c0'] / max(1, counted['cells_c1']):12.2f}"
        )
    print()


def _tell(home: Path, results: Path, plate: int) -> None:
    derived = json.loads((results / "derived.json").read_text())["derived_plate"]
    print(f"""
    derived plate     {derived}, /omero/plate_{plate}_processed
    CSV annotations   features.csv, wells.csv, objects.csv on plates {plate} and {derived} (copies in {results}/)
    report            {home}/report.html
    pictures          {results}/figures/

    To look at them in OMERO, start the server again and log in to it as root:
        openhcs-omero serve --data {home}/server --root-password-file {home}/root-password
        export OMERO_USER=root OMERO_PASSWORD="$(cat {home}/root-password)"
        openhcs-omero info plate_{plate}_processed
        openhcs-omero get /omero/plate_{plate}_processed/wells.csv wells.csv
""")
