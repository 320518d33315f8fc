"""Exporting a plate as OME-Zarr, beside omero-cli-zarr's export of the same plate, both as commands.

Both commands start their own processes and log in by themselves. omero-cli-zarr writes what its defaults are.
"""

import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import zarr

from benchmarks.common import BenchServer, Ratio, best
from benchmarks.plates import delete_plates, make_plate

WELLS, CHANNELS = 96, 4
PEER = "import sys, omero.cli; sys.exit(omero.cli.argv(['omero', *sys.argv[1:]]))"  # `omero` does not run as root


def measure(server: BenchServer, quick: bool) -> Iterator[Ratio]:
    side = 64 if quick else 1080
    with tempfile.TemporaryDirectory(prefix="openhcs-bench-") as name, server.login() as conn:
        plate, folder, number = make_plate(conn, WELLS, (1, CHANNELS, 1, side, side)), Path(name), itertools.count()

        def run(*command: str | Path) -> None:
            subprocess.run(command, check=True, env=server.environment(), stdout=subprocess.DEVNULL)

        def ours() -> None:
            target = folder / f"ours_{next(number)}.zarr"
            run(sys.executable, "-m", "openhcs_omero.cli", "export", str(plate), target)

        def peer() -> None:
            target = folder / f"theirs_{next(number)}"
            target.mkdir()
            login = ("-s", server.host, "-p", str(server.port), "-u", server.user)  # the password is in OMERO_PASSWORD
            run(sys.executable, "-c", PEER, "zarr", *login, "export", f"Plate:{plate}", "--output", target)

        took = best({"ours": ours, "omero-cli-zarr": peer}, 1 if quick else 2)
        _check(folder)
        delete_plates(conn, [plate])
    what = f"export {WELLS} wells of {CHANNELS} x {side}², against omero-cli-zarr"
    planes = WELLS * CHANNELS
    yield Ratio(what, planes / took["ours"], planes / took["omero-cli-zarr"], "planes/s", 10.0)


def _check(folder: Path) -> None:
    """Check that both exported the same pixels."""
    ours, theirs = next(folder.glob("ours_*")), next(folder.glob("theirs_*/*.zarr"))
    places = [path.parent.relative_to(ours) for path in ours.glob("*/*/*/zarr.json")]
    assert len(places) == WELLS
    for place in places:
        mine = zarr.open_array(ours / place / "0", mode="r")[0, :, 0]
        assert (mine == zarr.open_array(theirs / place / "0", mode="r")[...]).all()
