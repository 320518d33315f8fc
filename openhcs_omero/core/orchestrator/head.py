"""Snakemake's head process, `python -m openhcs_omero.core.orchestrator.head EVENTS [snakemake's arguments]`.

A process of its own, since Snakemake wants the main thread, an event loop that is not running and the working directory
for itself, which a notebook or a server can't give. EVENTS is the file descriptor that events are written to. When
stdin ends, the run is cancelled: whoever started it is gone, or wants it so.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading

import psutil
from snakemake import cli
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

from openhcs_omero.core.orchestrator import events
from openhcs_omero.core.orchestrator.snakemake_faults import interrupt

JOB_PATIENCE = 10  # seconds for this machine's jobs to end when they are interrupted
CANCEL_PATIENCE = 60  # seconds for the executor to end its jobs, which on a cluster takes a while


def main(descriptor: int, arguments: list[str]) -> int:
    os.set_inheritable(descriptor, False)
    # a shell's background processes ignore it; with Python's own handler asyncio would put one in its place that loses
    # an interrupt which comes in a coroutine that doesn't wait for anything any more
    signal.signal(signal.SIGINT, interrupt)
    ended = threading.Event()
    threading.Thread(target=_cancel_at_end_of_input, args=(ended,), name="cancel", daemon=True).start()
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        events.LogHandler.stream = stream
        LoggerPluginRegistry().register_plugin(events.NAME, events)
        # a profile is turned into calls of snakemake.api as Snakemake's own command does it
        parser, args = cli.parse_args([*arguments, "--logger", events.NAME])
        try:
            return 0 if cli.args_to_api(args, parser) else 1
        except KeyboardInterrupt:
            return 130
        finally:
            ended.set()  # before the events end, upon which stdin does too


def _cancel_at_end_of_input(ended: threading.Event) -> None:
    while os.read(0, 1024):
        pass
    if ended.is_set():
        return
    os.killpg(0, signal.SIGINT)  # the jobs too, as Ctrl-C in a terminal
    threading.Event().wait(JOB_PATIENCE)  # this thread ends with the process
    # jobs that ignore it, or that were just being started, don't keep the head from ending in order: that takes its
    # lock away
    for job in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            job.kill()
    threading.Event().wait(CANCEL_PATIENCE - JOB_PATIENCE)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
