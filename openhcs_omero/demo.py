"""The demo: imports a synthetic screen into an embedded OMERO server, runs the workflow, and compares with the truth.

Everything is in the folder `.demo/` in the working directory: the server's data, its password, the images, the results.
A second run finds the plates and has nothing left to do. Delete the folder to start over.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openhcs_omero.core.orchestrator.snakefile import find_workflow
from openhcs_omero.core.plate_tables import read_rows, write_rows
from openhcs_omero.errors import OpenHCSError
from openhcs_omero.runtime.embedded import certificate_of, start_embedded

PORT = 4064
CORES = 2
FEATURE = "spots_c0"
THRESHOLD = 6.0


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
        plates = _plates(home, environment)
        _say(f"run the workflow on plates {' and '.join(map(str, plates))} with {CORES} jobs at a time")
        (home / "config.yaml").write_text(json.dumps(configuration(home, plates)))
        _workflow(home, environment)
        print("\n".join(["", *compare(home, plates), ""]))
        _say("run the workflow a second time")
        print(f"    {_workflow(home, environment)}")
        _tell(home, plates)
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


def configuration(home: Path, plates: Sequence[int]) -> dict[str, Any]:
    """The configuration of the demo's run, besides the steps."""
    return {
        "plates": list(plates),
        "omero": {"data_dir": str((home / "server").resolve())},  # pixels are read from the server's disk
        "results": str(home / "results"),
        "plate_map": str(home / "images" / "plate_map.csv"),
        "heatmaps": [FEATURE, "cells_c1"],
        "rois": {"as": "polygons"},
        "steps": [
            {
                "call": "openhcs_omero.processing.illumination:correct_illumination",
                "channels": [0],
                "params": {"dark": 100},
            },
            {"call": "openhcs_omero.processing.spots:count_spots", "channels": [0], "params": {"sigma": 1.5}},
            {"call": "openhcs_omero.processing.cells:segment_cells", "channels": [1], "params": {"diameter": 22}},
        ],
        "analysis": {
            "features": [FEATURE, "cells_c1"],
            "normalise": ["percent_inhibition", "robust_z_score", "b_score"],
            "hits": {"feature": FEATURE, "by": "b_score", "above": THRESHOLD},
            "dose_response": {"feature": FEATURE, "by": "percent_inhibition"},
        },
        "qc": {"exclude": "empty == 1 or focus_z_c1 < -8", "stop_below": {"z_prime": 0.2}},
    }


def _plates(home: Path, environment: dict[str, str]) -> list[int]:
    """Return the ids of the demo's plates; create and import the plates first if they don't exist."""
    note = home / "plates.json"
    if note.exists():
        plates = list(json.loads(note.read_text())["plates"])
        if all(_command("info", f"plate_{plate}", environment=environment).returncode == 0 for plate in plates):
            _say(f"the synthetic screen exists already, as plates {' and '.join(map(str, plates))}")
            return plates
    from openhcs_omero.processing.synthetic_screen import TwoPlates, write_screen

    screen = TwoPlates()
    _say(f"make a synthetic screen: two plates of {screen.rows * screen.columns} wells, 2 channels, 16 bit")
    truths = write_screen(home / "images", screen)
    with ThreadPoolExecutor() as pool:
        ids = dict(zip(screen.names, pool.map(lambda name: _import(home / "images" / name, environment), screen.names)))
    plates = list(ids.values())
    write_rows(home / "truth.csv", [{**vars(truth), "plate": ids[truth.plate]} for truth in truths])
    note.write_text(json.dumps({"plates": plates}))
    return plates


def _import(folder: Path, environment: dict[str, str]) -> int:
    _say(f"openhcs-omero import '{folder}'")
    done = _command("import", str(folder), "--name", folder.name, environment=environment)
    if done.returncode:
        raise OpenHCSError(f"the import failed: {done.stderr.strip()}")
    return int(done.stdout.split()[-1])


def _command(*words: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "openhcs_omero.cli", *words], env=environment, capture_output=True, text=True
    )


def _workflow(home: Path, environment: dict[str, str]) -> str:
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


def compare(home: Path, plates: Sequence[int]) -> list[str]:
    """Lines with what was measured and what is true: wells, Z', hits and EC50s."""
    from openhcs_omero.processing.synthetic_screen import EC50

    results, truth = home / "results", read_rows(home / "truth.csv")
    lines = ["    plate   Z'     cells measured / true   spots measured / true   excluded sites / bad wells"]
    for plate in map(str, plates):
        folder = results / f"plate_{plate}_processed"
        own = [row for row in truth if row["plate"] == plate]
        blurred = {row["well"] for row in own if row["fault"] == "out of focus"}
        measured = [row for row in read_rows(folder / "wells.csv") if row["well"] not in blurred]
        cells, spots = (
            f"{sum(int(float(row[column] or 0)) for row in measured):9d} / "
            f"{sum(int(row[key]) for row in own if row['well'] not in blurred):<6d}"
            for column, key in (("cells_c1_sum", "cells"), (f"{FEATURE}_sum", "spots"))
        )
        [quality] = [row for row in read_rows(folder / "quality.csv") if row["feature"] == FEATURE]
        bad = {row["well"] for row in own if row["fault"] in ("empty", "out of focus")}
        out = {row["well"] for row in read_rows(folder / "image_qc.csv") if row["excluded"]}
        found = f"{len(out & bad)} / {len(bad)}" + (f", and {len(out - bad)} others" if out - bad else "")
        lines.append(f"    {plate:6}  {float(quality['z_prime']):4.2f}   {cells:>23} {spots:>23}   {found:>20}")
    screen = results / "screen_processed"
    hits = {row["compound"] for row in read_rows(screen / "hits.csv")}
    active = {row["compound"] for row in truth if row["active"] == "True"}
    lines += [
        "",
        f"    hits: {len(hits & active)} of {len(active)} active compounds found, {len(hits - active)} false",
    ]
    for row in read_rows(screen / "dose_response.csv"):
        if row["compound"] in EC50 and row["ec50"]:
            low, middle, high = (float(row[key]) for key in ("ec50_low", "ec50", "ec50_high"))
            true = EC50[row["compound"]]
            lines.append(f"    EC50 of {row['compound']}: {middle:.2f} uM ({low:.2f} to {high:.2f}), true {true}")
    return lines


def _tell(home: Path, plates: Sequence[int]) -> None:
    results, plate = home / "results", plates[0]
    derived = [
        json.loads((results / f"plate_{plate}_processed" / "derived.json").read_text())["derived_plate"]
        for plate in plates
    ]
    print(f"""
    report of the screen  {results}/screen_processed/report.html
    page of the run       {results}/index.html
    derived plates        {" and ".join(map(str, derived))}: processed images, the plate map, tags on hits, tables
    tables                {results}/plate_{plate}_processed/ and {results}/screen_processed/

    To look at them in OMERO, start the server again and log in to it as root:
        openhcs-omero serve --data {home}/server --root-password-file {home}/root-password
        export OMERO_USER=root OMERO_PASSWORD="$(cat {home}/root-password)"
        openhcs-omero info plate_{plate}_processed
        openhcs-omero get /omero/plate_{plate}_processed/wells.csv wells.csv
""")
