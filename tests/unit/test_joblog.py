"""What a job writes to its log, however it ends."""

import re
import resource
import signal
import subprocess
import sys

import pytest

from openhcs_omero.core.log_size import KEPT
from openhcs_omero.errors import is_full

SCRIPT = """
import os, signal, sys, time
from openhcs_omero.core.joblog import logged

with logged(sys.argv[1]):
    print("begun", flush=True)
    {body}
"""


def start(folder, body, *options):
    """Start a job with these lines of code; return its process and its log."""
    log = folder / "logs" / "job.log"
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(body=body), str(log)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ), log


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("print('done')", 0, "done"),
        ("raise KeyError('x')", 1, "KeyError: 'x'"),
        ("sys.exit(3)", 1, "SystemExit: 3"),
        ("sys.exit('no licence')", 1, "SystemExit: no licence"),
        ("signal.raise_signal(signal.SIGTERM); time.sleep(60)", 1, "the process received SIGTERM"),
    ],
)
def test_the_reason_is_in_the_log(tmp_path, body, status, reason):
    process, log = start(tmp_path, body)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status and out == ""
    assert log.read_text().startswith("begun\n") and reason in log.read_text().splitlines()[-1]
    assert err == "" if status == 0 else len(err.splitlines()) == 1 and str(log) in err


def test_of_a_log_that_is_too_large_the_beginning_and_the_end_are_kept(tmp_path):
    """It is shortened while the job prints, and once more at the end."""
    body = (
        "from openhcs_omero.core import log_size; lines = ''.join(f'line {n}\\n' for n in range(100_000))\n"
        "    print(lines * 4, end='', flush=True)\n"
        "    log_size.LARGEST_YET = log_size.LARGEST\n"
        "    while os.fstat(1).st_size > log_size.LARGEST: time.sleep(0.01)\n"
        "    log_size.LARGEST_YET = 2**30\n"
        "    print(lines * 4, end='')\n"
        "    raise KeyError('x')"
    )
    process, log = start(tmp_path, body)
    assert process.wait(60) == 1
    whole = "begun\n" + 8 * "".join(f"line {number}\n" for number in range(100_000))
    head, left_out, tail = re.split(r"\n\[(\d+) bytes of output are left out here\]\n\n", log.read_text())
    tail, *_ = tail.partition("Traceback")
    assert whole.startswith(head) and whole.endswith(tail) and int(left_out) == len(whole) - len(head) - len(tail)
    assert KEPT - 100 < len(tail) <= KEPT and KEPT - 100 < len(head) <= KEPT
    assert log.read_text().splitlines()[-1] == "KeyError: 'x'"


def test_an_interrupt_is_not_a_failure(tmp_path):
    process, log = start(tmp_path, "signal.raise_signal(signal.SIGINT); time.sleep(60)")
    process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130) and log.read_text() == "begun\ninterrupted\n"


def test_a_process_that_a_step_forks_ends_by_the_signal(tmp_path):
    """Without a traceback in the log; pools of processes end their workers so."""
    body = (
        "import multiprocessing; fork = multiprocessing.get_context('fork'); begun = fork.Event(); "
        "child = fork.Process(target=lambda: (begun.set(), time.sleep(60))); child.start(); begun.wait(); "
        "child.terminate(); child.join(); print(child.exitcode)"
    )
    process, log = start(tmp_path, body)
    assert process.wait(60) == 0
    assert log.read_text().splitlines() == ["begun", str(-signal.SIGTERM)]


@pytest.mark.parametrize("body", ["print('x' * 100)", "open(sys.argv[1] + '.csv', 'w', 1).write('x' * 100 + chr(10))"])
def test_a_full_disk(tmp_path, body):
    """A limit on the size of files stands for a full disk: the log has no room for the traceback either."""
    process, _ = start(tmp_path, f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9, 9)); {body}")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and out == "" and len(err.splitlines()) == 1, err
    assert err.startswith("error: ") and "can't be written (File too large): make room" in err


def test_a_folder_for_logs_that_cannot_be_created(tmp_path):
    (tmp_path / "logs").write_text("a file")
    process, _ = start(tmp_path, "pass")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and len(err.splitlines()) == 1 and "can't be written" in err and "logs" in err


def test_whether_nothing_more_can_be_written(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert not is_full(tmp_path) and not is_full(tmp_path / "missing")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))  # as a full disk, with another error number
        assert is_full(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
