"""Processes that wells are handed to: what one of them has imported, and its connection, serve many wells.

A process takes most of a second to import omero-py and a pipeline, which is as long as many a well takes, and a script
of Snakemake's is always a process of its own. So `process_well` is a `run` block whose thread hands its well to an idle
process, or starts one, and waits. Which wells run, when, and once more after a failure, is Snakemake's business alone:
there are as many processes as it has wells running, below the process that runs them (the head, or a cluster's job).
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from openhcs_omero.errors import OpenHCSError
from openhcs_omero.password import child_environment

_idle: list[subprocess.Popen[str]] = []


def process_well(config: Mapping[str, Any], wildcards: Any, inputs: Any, outputs: Any, log: str) -> None:
    """Call `rules.process_well` in another process; a process in which it raises an error ends.

    A step that fails raises none: the well's record says so.

    Parameters
    ----------
    wildcards, inputs, outputs
        Those of the rule, as Snakemake has them in a `run` block.

    Raises
    ------
    OpenHCSError
        If it raised an error, which is in the log, or its process was killed.
    """
    plate, well = wildcards.plate, wildcards.well
    request = {
        "config": config,
        "plate": plate,
        "well": well,
        "derived": inputs.derived,
        "estimates": list(inputs.estimates),
        "outputs": dict(outputs.items()),
        "log": log,
    }
    worker = _free_worker()
    if _ask(worker, json.dumps(request)):
        _idle.append(worker)
        return
    status = worker.wait()
    how = f"its process was ended by signal {-status}" if status < 0 else f"the reason is in {log}"
    raise OpenHCSError(f"well {well} of plate {plate} was not processed: {how}")


def _free_worker() -> subprocess.Popen[str]:
    while _idle:
        with contextlib.suppress(IndexError):  # another thread took the last one
            worker = _idle.pop()
            if worker.poll() is None:
                return worker
    # -P: a module of the user's in the working directory is found after Python's own of that name
    return subprocess.Popen(
        [sys.executable, "-P", "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )


def _ask(worker: subprocess.Popen[str], request: str) -> bool:
    """Whether the worker did it; else it has ended, or is about to."""
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
    """Process the wells that stdin names, a line each, and answer each with a line; end with stdin, or an error.

    The two pipes are this process's alone: steps, and what they start, have nothing to read, and print to stderr. A
    forked child that held a pipe would let it seem open when this process has ended.
    """
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    for pipe in (requests.fileno(), answers.fileno()):
        os.register_at_fork(after_in_child=functools.partial(os.dup2, nothing, pipe))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
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
    # nobody waits for the well any more: leave it as if interrupted, so that nothing half-written stays
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _process(
    config: Mapping[str, Any],
    plate: str,
    well: str,
    derived: str,
    estimates: Sequence[str],
    outputs: Mapping[str, str],
    log: str,
) -> None:
    from openhcs_omero.core import rules
    from openhcs_omero.core.config import read_config
    from openhcs_omero.core.joblog import logged

    with logged(log):
        failure = rules.process_well(
            read_config(config),
            plate,
            well,
            Path(derived),
            [Path(path) for path in estimates],
            {name: Path(path) for name, path in outputs.items()},
            Path(log),
        )
    if failure is not None:
        print(f"failed: {failure}", file=sys.stderr)


if __name__ == "__main__":
    main()
