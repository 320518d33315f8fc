"""What works around the inside of Snakemake, seen in 9.27; all of it is here.

Each has a test in tests/integration/test_snakemake_faults.py that fails when Snakemake no longer needs it.
"""

from __future__ import annotations

import inspect
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from enum import Enum
from types import FrameType
from typing import Any, NoReturn

from snakemake import cli, script
from snakemake.executors import local
from snakemake.logging import ColorizingTextHandler, logger
from snakemake_interface_executor_plugins.executors import remote
from snakemake_interface_logger_plugins.common import LogEvent


class Asked(Enum):
    """What Snakemake was asked for, as far as a Snakefile must know."""

    RUN = "jobs"
    PLAN = "what a run would do"
    RECORDS = "what runs have left"
    REPORT = "what runs have left, and no plates without a run"
    RULES = "the rules, without a plate"
    JOB = "one of the jobs of a run"


_RULES = (
    "lint",
    "list_rules",
    "list_target_rules",
    "print_compilation",
    "unlock",
    "cleanup_metadata",
    "cleanup_shadow",
    "conda_cleanup_envs",
    "conda_create_envs_only",
    "list_conda_envs",
    "container_cleanup_images",
)
_RECORDS = (
    "dag",
    "rulegraph",
    "filegraph",
    "d3dag",
    "generate_unit_tests",
    "list_changes",
    "list_input_changes",
    "list_params_changes",
    "list_untracked",
    "archive",
    "delete_all_output",
    "delete_temp_output",
)
_PLAN = ("dryrun", "touch", "summary", "detailed_summary")


def asked(workflow: Any) -> Asked:
    """What Snakemake was asked for.

    A Snakefile is read before `workflow` knows: 9.27 sets `execution_settings` and the executor afterwards, and nothing
    at all for commands such as ``--report``. So this takes the parsed command line from Snakemake's own frame. Programs
    that use `snakemake.api` have none: they ask for a run, or for a dry run by `OutputSettings.dryrun`.
    """
    if not workflow.is_main_process:
        return Asked.JOB
    for frame, _line in traceback.walk_stack(inspect.currentframe()):
        if frame.f_code is cli.args_to_api.__code__:
            return _asked_by(frame.f_locals["args"])
    return Asked.PLAN if workflow.output_settings.dryrun else Asked.RUN


def _asked_by(args: Any) -> Asked:
    if any(getattr(args, name, None) for name in _RULES) or args.containerize is not None:
        return Asked.RULES
    if args.reporter and not args.report_after_run:
        return Asked.REPORT
    if any(getattr(args, name, None) for name in _RECORDS):
        return Asked.RECORDS
    return Asked.PLAN if any(getattr(args, name, None) for name in _PLAN) else Asked.RUN


def set_default_target(workflow: Any, rule: str) -> None:
    """Set the rule that a plain `snakemake` runs, in a Snakefile that includes another one.

    9.27 forgets the `default_target` of a Snakefile that is included.
    """
    workflow.default_target = rule


def set_hooks(workflow: Any, on_success: Callable[[], None], on_error: Callable[[], None]) -> None:
    """Set what is called at the end of a run, in a Snakefile that may be used as a module.

    9.27 ignores `onsuccess` and `onerror` of modules. Those of the Snakefile that uses the module come after these.
    """
    if workflow.modifier.is_module:
        workflow._onsuccess, workflow._onerror = (lambda log: on_success()), (lambda log: on_error())


def adjust(workflow: Any) -> None:
    """Set what no option reaches. Call it from input functions: by then the settings are there, and no job has begun.

    The `run` blocks of wells wait in Snakemake's threads. Without `use_threads`, 9.27 starts a Snakemake for each of
    them, and ``--force-use-threads`` does not reach the jobs of a cluster. And jobs per second are not limited: with
    the limit that is the default, 9.27 looks through all waiting jobs again a second after each job has begun, which
    takes all of the head process's time if there are hundreds of wells.
    """
    if workflow.execution_settings is not None:  # there are none for --report and the like
        workflow.execution_settings.use_threads = True
        workflow.scheduling_settings.max_jobs_per_timespan = None


class _QuotedPython:
    """The module `sys` as a shell wants it: the path of Python is quoted."""

    executable = shlex.quote(sys.executable)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


def quote_python() -> None:
    """Let Snakemake start scripts and jobs with a Python in a folder whose name has spaces.

    9.27 puts the path of Python into shell commands as it is.
    """
    for module in (script, local, remote):
        module.sys = _QuotedPython()  # type: ignore[attr-defined]


def refuse(sentence: str) -> NoReturn:
    """End Snakemake with a sentence.

    What a Snakefile raises, 9.27 prints with the class of the exception, its place in the Snakefile and a traceback,
    which helps nobody whose configuration is wrong.
    """
    logger.error(f"Error: {sentence}", extra={"event": LogEvent.ERROR, "exception": "WorkflowError"})
    sys.exit(1)


def interrupt(_number: int, frame: FrameType | None) -> None:
    """A handler of SIGINT that raises KeyboardInterrupt; if Snakemake is printing, a moment later.

    The log handler of 9.27 catches every exception that comes while it prints, also this one.
    """
    if any(called.f_code is ColorizingTextHandler.emit.__code__ for called, _line in traceback.walk_stack(frame)):
        threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT]).start()
        return
    raise KeyboardInterrupt
