"""Shared code of the benchmarks: ratios, a server to measure, interleaved timing, counted calls, plates."""

import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import omero
import omero.clients
import psutil
from omero.gateway import BlitzGateway
from omero_embedded import process

from openhcs_omero.plates.paths import well_name

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Ratio:
    """Two figures from one run, and the target for their ratio.

    Parameters
    ----------
    name
        What was measured, and against what: "open 384 x 9, against polystore".
    ours, peer
        The figures, in `unit`; peer is None if there is nothing to compare with.
    unit
        "plates/s", "s", "calls" ...
    target
        The target for ours / peer; None if there is no target.
    better
        "more": the ratio should be at least `target`; "less": at most `target`.
    """

    name: str
    ours: float
    peer: float | None
    unit: str
    target: float | None = None
    better: Literal["more", "less"] = "more"

    @property
    def value(self) -> float | None:
        """ours / peer"""
        return None if self.peer is None else self.ours / self.peer if self.peer else float("inf")

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target."""
        if self.value is None or self.target is None:
            return None
        return self.value >= self.target if self.better == "more" else self.value <= self.target


@dataclass(frozen=True)
class BenchServer:
    """The server to measure; `data` is its data folder, and `process` its id, if it is on this machine, else None."""

    host: str
    port: int
    user: str
    password: str
    data: Path | None = None
    process: int | None = None

    def cpu(self) -> float:
        """Seconds of CPU that this process has used, and the server if it is on this machine."""
        used = psutil.Process(self.process).cpu_times() if self.process else None
        return time.process_time() + (used.user + used.system if used else 0)

    @contextlib.contextmanager
    def login(self, secure: bool = True) -> Iterator[BlitzGateway]:
        """Yield a connected gateway, closed at the end; its data are not encrypted if `secure` is False."""
        conn = BlitzGateway(self.user, self.password, host=self.host, port=self.port, secure=secure)
        if not conn.connect():
            sys.exit(f"{self.user} can't log in at {self.host}:{self.port}: {conn.getLastError()}")
        conn.c.enableKeepAlive(60)  # peers that run as commands may take longer than an idle session lives
        try:
            yield conn
        finally:
            conn.close()

    def environment(self) -> dict[str, str]:
        """The environment for a process that logs in by itself."""
        return {
            **os.environ,
            "OMERO_HOST": self.host,
            "OMERO_PORT": str(self.port),
            "OMERO_USER": self.user,
            "OMERO_PASSWORD": self.password,
        }


@contextlib.contextmanager
def embedded_server() -> Iterator[BenchServer]:
    """Run an embedded server in a temporary folder, with a separate session store."""
    before = os.environ.get("OMERO_SESSIONDIR")
    with tempfile.TemporaryDirectory(prefix="openhcs-bench-") as folder:
        os.environ["OMERO_SESSIONDIR"] = str(Path(folder, "sessions"))
        try:
            with process.start(Path(folder, "omero"), options=["--insecure-port", "0"]) as server:
                yield BenchServer(
                    server.host, server.port, "root", server.password or "", server.data, server.process.pid
                )
        finally:
            os.environ.pop("OMERO_SESSIONDIR")
            if before is not None:
                os.environ["OMERO_SESSIONDIR"] = before


def best(
    runs: Mapping[str, Callable[[], object]], rounds: int = 3, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Measure the fastest of `rounds` runs of each function, in seconds of a clock.

    The functions take turns, so that a busy machine disturbs all of them equally. Every other round runs in reverse
    order, because each function finds memory and caches as the previous one left them. What one function wrote is
    flushed to disk before the next one starts.
    """
    fastest: dict[str, float] = {}
    for number in range(rounds):
        for name, run in list(runs.items())[:: -1 if number % 2 else 1]:
            os.sync()
            began = clock()
            run()
            took = clock() - began
            fastest[name] = min(took, fastest.get(name, took))
    return fastest


@contextlib.contextmanager
def counted_calls() -> Iterator[Counter[str]]:
    """Count the calls of this process to OMERO's services within the block, by name."""
    calls: Counter[str] = Counter()
    kept = count_calls(lambda name: calls.update([name]))
    try:
        yield calls
    finally:
        for prx, name, method in kept:
            setattr(prx, name, method)


def count_calls(note: Callable[[str], Any]) -> list[tuple[type, str, Any]]:
    """Have `note` called with the name of each call of this process; returns the methods that were replaced."""
    kept: list[tuple[type, str, Any]] = []

    def counting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            note(name)
            return method(*args, **kwargs)

        return call

    for module in (omero.api, omero.cmd, omero.grid):
        for prx in [value for name, value in vars(module).items() if isinstance(value, type) and name.endswith("Prx")]:
            for name, method in list(vars(prx).items()):
                if callable(method) and not name.startswith(("_", "begin_", "end_", "ice_")):
                    kept.append((prx, name, method))
                    setattr(prx, name, counting(name, method))
    return kept


def wells_of(count: int) -> list[str]:
    """The names of all wells of a plate with 96, 384 or 1536 wells, row by row."""
    rows, columns = {96: (8, 12), 384: (16, 24), 1536: (32, 48)}[count]
    return [well_name(row, column) for row in range(rows) for column in range(columns)]


def noise(shape: tuple[int, ...], seed: int = 0, dtype: str = "uint16") -> np.ndarray:
    """Make an array of noise like that of a camera.

    Parameters
    ----------
    shape
        Shape of the array.
    seed
        Seed of the random numbers.
    dtype
        A type that holds the values 0 to 4095; for 8-bit types, the values are 0 to 127.
    """
    top = 128 if np.dtype(dtype).itemsize == 1 else 4096
    return np.random.default_rng(seed).integers(0, top, shape, np.uint16).astype(dtype)
