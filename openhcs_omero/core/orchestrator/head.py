"""Snakemake's head process, `python -m openhcs_omero.core.orchestrator.head EVENTS [snakemake's arguments]`.

Snakemake runs in a separate process because it needs the main thread, no running event loop and its own working
directory, which a notebook or a server can't provide. EVENTS is the file descriptor for writing events. The run is
cancelled when stdin reaches its end: the process that started it is gone, or has closed stdin to cancel the run.
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

JOB_PATIENCE = 10  # seconds for jobs on this machine to end after an interrupt
CANCEL_PATIENCE = 60  # seconds for the executor to end its jobs, which takes a while on a cluster


def main(descriptor: int, arguments: list[str]) -> int:
    os.set_inheritable(descriptor, False)
    # A shell's background processes ignore SIGINT. asyncio would replace Python's default handler by one that loses an
    # interrupt in a coroutine that no longer waits for anything.
    signal.signal(signal.SIGINT, interrupt)
    ended = threading.Event()
    threading.Thread(target=_cancel_at_end_of_input, args=(ended,), name="cancel", daemon=True).start()
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        events.LogHandler.stream = stream
        LoggerPluginRegistry().register_plugin(events.NAME, events)
        # turn a profile into calls of snakemake.api the same way as the snakemake command does
        parser, args = cli.parse_args([*arguments, "--logger", events.NAME])
        try:
            return 0 if cli.args_to_api(args, parser) else 1
        except KeyboardInterrupt:
            return 130
        finally:
            ended.set()  # before the events end, because the parent closes stdin after that


def _cancel_at_end_of_input(ended: threading.Event) -> None:
    while os.read(0, 1024):
        pass
    if ended.is_set():
        return
    os.killpg(0, signal.SIGINT)  # interrupts the jobs too, like Ctrl-C in a terminal
    threading.Event().wait(JOB_PATIENCE)  # this thread ends with the process
    # jobs that ignored the interrupt or were just starting must not keep the head from shutting down in order and
    # removing its lock
    for job in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            job.kill()
    threading.Event().wait(CANCEL_PATIENCE - JOB_PATIENCE)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
