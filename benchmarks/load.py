"""The throughput of a server for eight clients that read planes at once, compared with one client alone.

Each client is a separate process with its own session, image and raw pixels store. The single client and the eight
clients take turns, and the best turn of each counts.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.common import ROOT, BenchServer, Ratio, noise

CLIENTS = 8
SIDE, PLANES = 1080, 8  # a camera's plane of 2.3 MB


def measure(server: BenchServer, quick: bool) -> Iterator[Ratio]:
    seconds, rounds = (0.5, 2) if quick else (3.0, 5)
    with server.login() as conn:
        planes = [noise((SIDE, SIDE), seed) for seed in range(PLANES)]
        images = [
            conn.createImageFromNumpySeq(iter(planes), f"load {number}", sizeZ=PLANES) for number in range(CLIENTS)
        ]
        try:
            for secure in (True, False):
                yield _ratio(server, [image.getPixelsId() for image in images], secure, seconds, rounds)
        finally:
            conn.deleteObjects("Image", [image.getId() for image in images], wait=True)


def _ratio(server: BenchServer, pixels: list[int], secure: bool, seconds: float, rounds: int) -> Ratio:
    clients = [_client(server, oid, secure) for oid in pixels]
    try:
        for client in clients:
            _answer(client)  # the client has logged in and read a plane
        one = eight = 0.0
        for _ in range(rounds):
            one = max(one, _together(clients[:1], seconds))
            eight = max(eight, _together(clients, seconds))
    finally:
        for client in clients:
            client.kill()
            client.communicate()
    how = "TLS" if secure else "no TLS"
    return Ratio(f"{CLIENTS} clients reading planes at once, against one ({how})", eight / 1e6, one / 1e6, "MB/s", 0.8)


def _client(server: BenchServer, pixels: int, secure: bool) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.load", str(pixels), str(int(secure))]
    return subprocess.Popen(
        command, cwd=ROOT, env=server.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _together(clients: list[subprocess.Popen[str]], seconds: float) -> float:
    """The bytes per second of several clients that read at the same time."""
    begin = time.time() + 0.2  # all clients have received the request by then
    for client in clients:
        assert client.stdin is not None
        client.stdin.write(f"{begin} {begin + seconds}\n")
        client.stdin.flush()
    return sum(int(_answer(client)) for client in clients) / seconds


def _answer(client: subprocess.Popen[str]) -> str:
    assert client.stdout is not None
    line = client.stdout.readline()
    if not line:
        sys.exit("a client ended before its time; what it said is above")
    return line


def _read(pixels: int, secure: bool) -> None:
    """Run a client: for each line "begin end" on stdin, print how many bytes it read in that time."""
    import os

    server = BenchServer(
        os.environ["OMERO_HOST"], int(os.environ["OMERO_PORT"]), os.environ["OMERO_USER"], os.environ["OMERO_PASSWORD"]
    )
    with server.login(secure=secure) as conn:
        store = conn.c.sf.createRawPixelsStore()
        store.setPixelsId(pixels, False)
        print(len(store.getPlane(0, 0, 0)), flush=True)
        for line in sys.stdin:
            begin, end = map(float, line.split())
            time.sleep(max(0.0, begin - time.time()))
            total = z = 0
            while time.time() < end:
                size = len(store.getPlane(z % PLANES, 0, 0))
                if time.time() <= end:  # do not count what arrives later
                    total += size
                z += 1
            print(total, flush=True)


if __name__ == "__main__":
    _read(int(sys.argv[1]), bool(int(sys.argv[2])))
