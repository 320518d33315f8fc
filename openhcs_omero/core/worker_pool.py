"""Worker processes for wells: each one uses its imports and its connection for many wells.

Importing omero-py and a pipeline takes most of a second, which is as long as many wells take, and Snakemake starts a
new process for every script. Therefore the rule `process_well` is a `run` block: its thread hands the well to an idle
worker, or starts a new one, and waits. Snakemake alone decides which wells run, when they run, and whether they are
retried after a failure. There are as many workers as wells running at the same time; their parent is the process that
runs the wells (the head process or a cluster job).
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import functools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from openhcs_omero.errors import OpenHCSError
from openhcs_omero.password import child_environment

CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
"""How a process ends because of its own code. Others send it other signals."""

_idle: list[subprocess.Popen[str]] = []


def process_well(
    config: Mapping[str, Any], wildcards: Any, inputs: Any, output: str, log: str, threads: int = 1
) -> None:
    """Call `rules.process_well` in a worker process; a worker ends when the call raises an error.

    A failing step does not raise an error: the well's record says that it failed. If the code of a step crashes,
    another worker writes this record.

    Parameters
    ----------
    config
        The configuration.
    wildcards, inputs
        The objects that Snakemake provides to the rule's `run` block.
    output
        Path of the well's file.
    log
        Path of the job's log.
    threads
        Number of CPUs of the job.

    Raises
    ------
    OpenHCSError
        If the call raised an error, which is in the log, or the worker was killed.
    """
    plate, well = wildcards.plate, wildcards.well
    request = {
        "config": config,
        "plate": plate,
        "well": well,
        "derived": inputs[0],
        "estimates": list(inputs[1:]),
        "output": output,
        "log": log,
        "threads": threads,
    }
    status = _worked(request)
    if -status in CRASHES:
        status = _worked({**request, "crashed": signal.Signals(-status).name})
    if not status:
        return
    how = f"its process was ended by signal {-status}" if status < 0 else f"the reason is in {log}"
    raise OpenHCSError(f"well {well} of plate {plate} was not processed: {how}")


def _worked(request: Mapping[str, Any]) -> int:
    """Have a worker do a request; returns 0 if it did, else the exit status of the worker."""
    worker = _free_worker()
    if _ask(worker, json.dumps(request)):
        _idle.append(worker)
        return 0
    return worker.wait() or 1


def _free_worker() -> subprocess.Popen[str]:
    while _idle:
        with contextlib.suppress(IndexError):  # another thread took the last one
            worker = _idle.pop()
            if worker.poll() is None:
                return worker
    # -P: a user's module in the working directory must not hide one of Python's with the same name
    return subprocess.Popen(
        [sys.executable, "-P", "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )


def _ask(worker: subprocess.Popen[str], request: str) -> bool:
    """Whether the worker did the request; if not, it has ended or is about to end."""
    assert worker.stdin is not None and worker.stdout is not None
    try:
        worker.stdin.write(f"{request}\n")
        worker.stdin.flush()
    except OSError:
        return False
    return bool(worker.stdout.readline())


@atexit.register
def _end() -> None:
    for worker in _idle:
        assert worker.stdin is not None
        worker.stdin.close()
    for worker in _idle:
        worker.wait()


# ---- in the worker


def main() -> None:
    """Process the wells requested on stdin, one per line, and answer each with a line; end with stdin or on an error.

    Only this process holds the two pipes: steps and their child processes get an empty stdin and print to stderr. If a
    forked child held a pipe, the pipe would seem open after this process has ended.
    """
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    for pipe in (requests.fileno(), answers.fileno()):
        os.register_at_fork(after_in_child=functools.partial(os.dup2, nothing, pipe))
    faulthandler.enable()  # prints the lines of code to the log if the code of a step crashes
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore SIGINT
    wells: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, wells), name="listen", daemon=True).start()
    try:
        while True:
            _process(**json.loads(wells.get()))
            print("done", file=answers, flush=True)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(128 + signal.SIGINT)


def _listen(requests: TextIO, wells: queue.SimpleQueue[str]) -> None:
    for line in requests:
        wells.put(line)
    # nobody waits for the well any more: stop as if interrupted, so that nothing half-written remains
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _process(
    config: Mapping[str, Any],
    plate: str,
    well: str,
    derived: str,
    estimates: Sequence[str],
    output: str,
    log: str,
    threads: int,
    crashed: str = "",
) -> None:
    from openhcs_omero.core import rules
    from openhcs_omero.core.config import read_config
    from openhcs_omero.core.joblog import logged
    from openhcs_omero.core.pace import took

    if crashed:  # what was printed before is in the log
        how = rules.well_crashed(read_config(config), plate, well, Path(derived), Path(output), Path(log), crashed)
        print(f"failed: {how}", file=sys.stderr)
        return
    with logged(log):
        began = time.monotonic()
        failure = rules.process_well(
            read_config(config),
            plate,
            well,
            Path(derived),
            [Path(path) for path in estimates],
            Path(output),
            Path(log),
            threads,
        )
        if failure is None:
            print(took(time.monotonic() - began))
    if failure is not None:
        print(f"failed: {failure}", file=sys.stderr)


if __name__ == "__main__":
    main()
