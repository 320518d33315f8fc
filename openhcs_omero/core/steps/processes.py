"""Run the shell command of a step in a folder of its own: what it starts ends with it, and its folder is removed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from openhcs_omero.core.command import SHELL, environment
from openhcs_omero.errors import StepError

PREFIX = "openhcs_omero_"
LOCK = ".lock"
ABANDONED = 3600  # seconds; until then, a folder without a lock may be new
GRACE = 5  # seconds between the request to end and the end
PIPE_BYTES = 2**16  # what a pipe holds

# Reads the process group of the command that runs, and removes the folder when its input ends, at the latest with the
# process that started it. An empty line says that no command runs. Daemons have left the group, and are known by TMPDIR
_WATCH = """
group=
while read -r line; do group=$line; done
[ -z "$group" ] || kill -s KILL -- "-$group"
for file in $(grep -lsxzF -- "TMPDIR=$1/tmp" /proc/[0-9]*/environ); do
    file=${file%/environ}
    kill -s KILL "${file#/proc/}"
done
rm -rf -- "$1" || { chmod -R u+rwx -- "$1"; rm -rf -- "$1"; }
"""
# Begins when a line arrives: by then, the process above knows the group
_GATE = 'read -r _ || exit 1; exec "$@" </dev/null'


class Scratch:
    """A folder for a command. Even if this process is killed, the command is ended and the folder removed.

    Where all processes of a job are killed at once, as on a cluster, the folder stays, without the lock that this
    process holds. The next command with the same `inside` removes it.

    Parameters
    ----------
    inside
        The folder to create it in; None for the system's.
    """

    def __init__(self, inside: Path | None) -> None:
        if inside is not None:
            inside.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=None if inside is None else inside.absolute()))
        self._lock = os.open(self.folder / LOCK, os.O_CREAT | os.O_RDWR)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        _remove_abandoned(self.folder.parent)
        self._watch = subprocess.Popen(
            ["sh", "-c", _WATCH, "sh", str(self.folder)],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        _tell(self._watch)
        self._watch.wait()
        os.close(self._lock)

    def run(self, text: str, seconds: float | None = None) -> None:
        """Run a shell command with the folder as its working directory, and print the command and its output.

        Parameters
        ----------
        text
            The command.
        seconds
            The time that it may take; None for any.

        Raises
        ------
        StepError
            If its exit code is not 0, or it takes too long.
        """
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        if shutil.which(SHELL[0]) is None:
            raise StepError(f"can't be run: there is no {SHELL[0]} on this machine")
        print(text, flush=True)
        process = subprocess.Popen(
            ["sh", "-c", _GATE, "sh", *SHELL, "-c", text],
            cwd=self.folder,
            env=environment({"TMPDIR": str(temporary)}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,  # the log itself would be emptied by a command with `tee /dev/stderr`
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        late = threading.Event()
        timer = threading.Timer(
            threading.TIMEOUT_MAX if seconds is None else max(0.0, seconds), _end_late, (process.pid, late)
        )
        timer.daemon = True
        ended = threading.Event()
        copying = threading.Thread(target=_print_output, args=(process, ended), daemon=True)
        copying.start()
        try:
            _tell(self._watch, f"{process.pid}\n")
            _tell(process, "begin\n", last=True)
            timer.start()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        finally:
            timer.cancel()
            _end_group(process)
            _tell(self._watch, "\n")
            ended.set()
            copying.join()
        if late.is_set():
            raise StepError(
                f"took longer than the {_minutes(seconds or 0)} of `runtime` in its resources, and was ended"
            )
        _check(process.returncode)


def _print_output(process: subprocess.Popen[bytes], ended: threading.Event) -> None:
    """Copy what a command prints to our own output, until it has ended.

    What it printed last is still in the pipe then. A daemon that it started may print on, which nobody waits for.
    """
    assert process.stdout is not None
    with process.stdout as pipe:
        while printed := _available(pipe.fileno(), ended):
            with contextlib.suppress(OSError):  # the disk of the log is full; the command goes on
                os.write(1, printed)
        os.set_blocking(pipe.fileno(), False)
        with contextlib.suppress(OSError):  # nothing is left
            os.write(1, os.read(pipe.fileno(), PIPE_BYTES))


def _available(pipe: int, ended: threading.Event) -> bytes:
    """What can be read from a pipe, at once or soon; b"" if there is nothing more, or if the event has come."""
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    while not ended.is_set():
        if waiting.poll(100):
            return os.read(pipe, PIPE_BYTES)
    return b""


def _remove_abandoned(inside: Path) -> None:
    """Remove the folders of this user whose processes were killed."""
    for folder in inside.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # of another user, or removed in the meantime
            if time.time() - folder.stat().st_mtime < ABANDONED:
                continue
            lock = os.open(folder / LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _check(status: int) -> None:
    if status in (-signal.SIGKILL, 128 + signal.SIGKILL):
        raise StepError("was killed, perhaps for lack of memory: give it more `mem_mb` in its resources")
    if status:
        how = f"was ended by signal {-status}" if status < 0 else f"ended with exit code {status}"
        raise StepError(f"{how}; the log has its output")


def _tell(process: subprocess.Popen[bytes], text: str = "", last: bool = False) -> None:
    """Write a line to the input of a process, or end it."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):  # the process has ended
        process.stdin.write(text.encode())
        process.stdin.flush()
    if last or not text:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process group: ask it, then kill it. The process is reaped last, so that its id stays its own."""
    if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        _signal_group(process.pid, signal.SIGTERM)
        end = time.monotonic() + GRACE
        while time.monotonic() < end:
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
                break
            time.sleep(0.05)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def _end_late(group: int, late: threading.Event) -> None:
    late.set()
    _signal_group(group, signal.SIGKILL)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        os.killpg(group, number)


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60, 2)
    return f"{minutes:g} minute{'' if minutes == 1 else 's'}"
