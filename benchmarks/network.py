"""A simulated network to a server on this machine: every request arrives some milliseconds later.

A separate process forwards a port. Answers pass through the kernel without delay, so that each call takes longer by
exactly this time and nothing else changes.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from queue import SimpleQueue
from threading import Thread

from benchmarks.common import ROOT, BenchServer

CHUNK = 2**16


@contextlib.contextmanager
def distant(server: BenchServer, milliseconds: float) -> Iterator[BenchServer]:
    """The same server with every call delayed by some milliseconds; TLS only, as the other port is not forwarded."""
    command = [sys.executable, "-m", "benchmarks.network", server.host, str(server.port), str(milliseconds)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as forwarder:
        assert forwarder.stdout is not None
        try:
            yield replace(server, host="127.0.0.1", port=int(forwarder.stdout.readline()))
        finally:
            forwarder.terminate()


def _forward(host: str, port: int, seconds: float) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            client, server = listening.accept()[0], socket.create_connection((host, port))
            late: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Thread(target=_take, args=(client, late, seconds), daemon=True).start()
            Thread(target=_send, args=(late, server), daemon=True).start()
            Thread(target=_splice, args=(server, client), daemon=True).start()


def _take(client: socket.socket, late: SimpleQueue[tuple[float, bytes]], seconds: float) -> None:
    data = b"first"
    while data:
        try:
            data = client.recv(CHUNK)
        except OSError:
            data = b""
        late.put((time.monotonic() + seconds, data))


def _send(late: SimpleQueue[tuple[float, bytes]], server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            due, data = late.get()
            time.sleep(max(0.0, due - time.monotonic()))
            if not data:
                return server.shutdown(socket.SHUT_WR)
            server.sendall(data)


def _splice(server: socket.socket, client: socket.socket) -> None:
    """Forward the answers without copying them into this process."""
    out, into = os.pipe()
    with contextlib.suppress(OSError), open(out, "rb"), open(into, "wb"):
        while size := os.splice(server.fileno(), into, CHUNK):
            while size:
                size -= os.splice(out, client.fileno(), size)
        client.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        _forward(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) / 1000)
