"""All workarounds for the internals of Snakemake, as seen in version 9.27.

Each workaround has a test in tests/integration/test_snakemake_faults.py that fails when Snakemake no longer needs it.
"""

from __future__ import annotations

import heapq
import inspect
import os
import shlex
import signal
import sys
import threading
import traceback
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from enum import Enum
from types import FrameType
from typing import Any, NoReturn

from snakemake import cli, script
from snakemake.dag import DAG
from snakemake.executors import local
from snakemake.iocontainers import AttributeGuard
from snakemake.logging import ColorizingTextHandler, logger
from snakemake.scheduling.job_scheduler import JobScheduler
from snakemake_interface_executor_plugins.executors import remote
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_storage_plugins.io import Mtime

QUEUED = 8  # jobs that run next to Snakemake, or wait for their turn
CONSIDERED = 500  # ready jobs among which Snakemake chooses
CONSIDERED_PER_CORE = 4  # jobs of each rule, whose jobs need the same
REEVALUATION = 20  # seconds after which a full queue of submissions is looked at again


class Asked(Enum):
    """What Snakemake was asked to do, as far as a Snakefile needs to know."""

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
    """Find out what Snakemake was asked to do.

    `workflow` does not know this yet when the Snakefile is read: 9.27 sets `execution_settings` and the executor later,
    and never sets them for commands such as ``--report``. This function therefore takes the parsed command line from
    Snakemake's own stack frame. Programs that use `snakemake.api` have no command line: they ask for a run, or for a
    dry run with `OutputSettings.dryrun`.
    """
    if not workflow.is_main_process:
        return Asked.JOB
    args = _arguments()
    if args is not None:
        return _asked_by(args)
    return Asked.PLAN if workflow.output_settings.dryrun else Asked.RUN


def ignores_locks() -> bool:
    """Whether Snakemake was asked to ignore the locks of other runs (``--nolock``)."""
    args = _arguments()
    return args is not None and args.nolock


def _arguments() -> Any:
    """The parsed command line; None for programs that use `snakemake.api`."""
    for frame, _line in traceback.walk_stack(inspect.currentframe()):
        if frame.f_code is cli.args_to_api.__code__:
            return frame.f_locals["args"]
    return None


def _asked_by(args: Any) -> Asked:
    if any(getattr(args, name, None) for name in _RULES) or args.containerize is not None:
        return Asked.RULES
    if args.reporter and not args.report_after_run:
        return Asked.REPORT
    if any(getattr(args, name, None) for name in _RECORDS):
        return Asked.RECORDS
    return Asked.PLAN if any(getattr(args, name, None) for name in _PLAN) else Asked.RUN


def set_default_target(workflow: Any, rule: str) -> None:
    """Set the rule that `snakemake` runs by default, in a Snakefile that includes another one.

    9.27 forgets the `default_target` of an included Snakefile.
    """
    workflow.default_target = rule


def set_hooks(
    workflow: Any, on_start: Callable[[], None], on_success: Callable[[], None], on_error: Callable[[], None]
) -> None:
    """Set the functions to call at the start and the end of a run, in a Snakefile that may be used as a module.

    9.27 ignores the `onstart`, `onsuccess` and `onerror` of modules. Those set later in the Snakefile that uses the
    module replace these.
    """
    if workflow.modifier.is_module:
        workflow._onstart = lambda log: on_start()
        workflow._onsuccess, workflow._onerror = (lambda log: on_success()), (lambda log: on_error())


def adjust(workflow: Any) -> None:
    """Change settings that no option reaches.

    Call this from input functions: by then the settings exist, and no job has started.

    The `run` blocks of wells wait in Snakemake's threads. Without `use_threads`, 9.27 starts one Snakemake process for
    each of them, and ``--force-use-threads`` does not reach the jobs of a cluster. The number of jobs per second is not
    limited: with the default limit, 9.27 searches all waiting jobs again one second after each job starts, which takes
    up all of the head process's time when there are hundreds of wells. Another limit than the default is kept.

    A machine has one GPU, unless ``--resources gpu=2`` says more. 9.27 starts any number of jobs that need a resource
    without a limit, and a limit in the default profile would replace the limits of a profile for a cluster.
    """
    if workflow.execution_settings is not None and workflow.local_exec and "gpu" not in workflow.global_resources:
        workflow.global_resources["gpu"] = 1
    if workflow.execution_settings is not None:  # None for --report and similar commands
        workflow.execution_settings.use_threads = True
        limit = workflow.scheduling_settings.max_jobs_per_timespan
        if limit is not None and (limit.max_jobs, limit.timespan) == (100, 1):
            workflow.scheduling_settings.max_jobs_per_timespan = None


def schedule_in_order() -> None:
    """Choose among the first jobs by priority, and let ``--max-jobs-per-timespan`` limit only submissions to a cluster.

    9.27 puts all jobs that are ready and run next to it into a queue, in any order, where they hold their
    resources: of 300 plates, no well was submitted until the small jobs of all plates were in the queue. It weighs
    all ready jobs each time that one ends, which took a sixth of the time of wells with small images. It counts
    jobs that run next to it as submissions, looks for free slots only once per timespan, and waits for a timespan
    at its end: with 200 jobs per hour, a run would end an hour after its last job.
    """
    select = JobScheduler.job_selector
    pending: list[threading.Timer] = []

    def first(jobs: Iterable[Any], count: int) -> set[Any]:
        return set(heapq.nlargest(count, jobs, key=lambda job: job.priority))

    def of_each_rule(jobs: Iterable[Any], count: int) -> Iterator[Any]:
        by_rule = defaultdict[str, list[Any]](list)
        for job in jobs:
            by_rule["" if job.is_group() else job.rule.name].append(job)
        return (job for some in by_rule.values() for job in first(some, count))

    def job_selector(self: Any, jobs: Any) -> Any:
        limiter = self.job_rate_limiter
        if limiter is None:
            return select(
                self, first(of_each_rule(jobs, CONSIDERED_PER_CORE * self.global_resources["_cores"]), CONSIDERED)
            )
        local = {job for job in jobs if job.is_local}
        next_local = first(local, QUEUED - sum(job.is_local for job in self.running))
        others, selected = first(set(jobs) - local, CONSIDERED), set()
        if next_local:
            try:
                self.job_rate_limiter, self.resources["_job_count"] = None, sys.maxsize
                selected = select(self, next_local)
            finally:
                self.job_rate_limiter = limiter
        return {*selected, *(select(self, others) if others else ())}

    def reevaluate(self: Any, delay: float) -> None:
        if not any(timer.is_alive() for timer in pending):
            timer = threading.Timer(min(delay, REEVALUATION), self._open_jobs.release)
            timer.daemon = True
            pending[:] = [timer]
            timer.start()

    JobScheduler.job_selector = job_selector
    JobScheduler._schedule_reevalutation = reevaluate


def go_on_without_failed(rules: Collection[Any], leave_out: Callable[[set[str], Sequence[Any]], bool]) -> None:
    """Let the jobs of these rules, which are about all plates, go on without plates whose jobs failed.

    9.27 never starts a job that depends on one that failed, even with ``--keep-going``.

    Parameters
    ----------
    rules
        The rules. Their input functions say which plates are left.
    leave_out
        Called with the plates that can't be finished, and the jobs that failed together in the last attempt. Returns
        whether to go on without these plates.
    """
    handle_error = JobScheduler._handle_error

    def _handle_error(self: Any, failed: Any, *args: Any, **options: Any) -> None:
        handle_error(self, failed, *args, **options)
        if failed in self.failed and self.keepgoing:
            _leave_out(self.workflow.dag, list(failed) if failed.is_group() else [failed], rules, leave_out)

    JobScheduler._handle_error = _handle_error


def _leave_out(
    dag: Any,
    failed: Sequence[Any],
    rules: Collection[Any],
    leave_out: Callable[[set[str], Sequence[Any]], bool],
) -> None:
    lost = set(dag.bfs(dag.depending, *failed, stop=lambda job: job.rule in rules))
    waiting = {job for one in lost for job in dag.depending[one] if job.rule in rules}
    plates = {one.wildcards_dict["plate"] for job in waiting for one in dag.dependencies[job] if one in lost}
    if not plates or not leave_out(plates, failed):
        return
    for job in [job for job in dag.needrun_jobs() if job.rule in rules]:
        job.input = job.rule.expand_input(job.wildcards_dict)[0]
        for one in [one for one in dag.dependencies[job] if one.wildcards_dict.get("plate") in plates]:
            del dag.dependencies[job][one], dag.depending[one][job]
        dag._n_until_ready[job] = sum(dag.needrun(one) and not dag.finished(one) for one in dag.dependencies[job])
        dag.update_ready([job])


def look_behind_ancient() -> None:
    """Ask of each job behind an `ancient` file whether it has to run.

    9.27 does not ask this of jobs behind a job that runs, as these run anyway; but those behind its `ancient` files do
    not, even if their parameters have changed. A run that added a well to a plate left all other wells as they were,
    though the steps or their images had changed too.
    """
    update_needrun, bfs = DAG.update_needrun, DAG.bfs
    deciding: list[Any] = []

    async def decide(self: Any, *args: Any, **options: Any) -> Any:
        deciding.append(self)
        try:
            return await update_needrun(self, *args, **options)
        finally:
            deciding.remove(self)

    def behind(self: Any, direction: Any, *jobs: Any, **options: Any) -> Iterator[Any]:
        if direction is not self.depending or self not in deciding:
            yield from bfs(self, direction, *jobs, **options)
            return
        waiting, seen = list(jobs), set(jobs)
        while waiting:
            yield (job := waiting.pop())
            new = {one for one, files in direction[job].items() if not all(file.is_ancient for file in files)} - seen
            seen |= new
            waiting += new

    DAG.update_needrun, DAG.bfs = decide, behind


def runs_everything(workflow: Any) -> bool:
    """Whether Snakemake was asked for a whole run, without ``--until``, ``--omit-from`` or ``--batch``."""
    settings = workflow.dag_settings
    return not (settings.until or settings.omit_from or settings.batch)


def suppose_exists(workflow: Any, path: str, like: str) -> None:
    """Plan as if a file existed that is as old as another one, because a run will restore it before its first job.

    Call this from input functions. 9.27 knows no input that is made before a run: a dry run would announce every job
    that depends on the lost file.
    """
    if workflow.dryrun and os.path.exists(like):
        workflow.iocache.exists_local[path] = True
        workflow.iocache.mtime[path] = Mtime(local=os.path.getmtime(like))


def share_guards() -> None:
    """Let the lists of files of all jobs share the guards of their attributes.

    9.27 gives each list two guards of its own, which take a tenth of the memory of a plan with many jobs.
    """
    guards: dict[str, AttributeGuard] = {}

    def shared(cls: type[AttributeGuard], name: str = "") -> AttributeGuard:  # unpickled guards have no name yet
        return guards.setdefault(name, object.__new__(cls)) if name else object.__new__(cls)

    AttributeGuard.__new__ = shared  # type: ignore[method-assign]


class _QuotedPython:
    """A stand-in for the module `sys` with the path of Python quoted for a shell."""

    executable = shlex.quote(sys.executable)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


def quote_python() -> None:
    """Let Snakemake start scripts and jobs with a Python in a folder whose name contains spaces.

    9.27 does not quote the path of Python in shell commands.
    """
    for module in (script, local, remote):
        module.sys = _QuotedPython()  # type: ignore[attr-defined]


def show_plainly(kind: type[BaseException]) -> None:
    """Let Snakemake show errors of this class in `run` blocks as their message alone.

    9.27 prints their class, and the lines of code that they went through.
    """
    format_error = local.format_error

    def message(error: BaseException, *args: Any, **options: Any) -> str:
        return str(error) if isinstance(error, kind) else format_error(error, *args, **options)

    local.format_error = message


def refuse(sentence: str) -> NoReturn:
    """End Snakemake with one sentence about the error.

    9.27 prints exceptions of a Snakefile with their class, their place in the Snakefile and a traceback, which does not
    help a user whose configuration is wrong.
    """
    logger.error(f"Error: {sentence}", extra={"event": LogEvent.ERROR, "exception": "WorkflowError"})
    sys.exit(1)


def interrupt(_number: int, frame: FrameType | None) -> None:
    """Handle SIGINT by raising KeyboardInterrupt, a moment later if Snakemake is printing.

    The log handler of 9.27 catches every exception raised while it prints, including this one.
    """
    if any(called.f_code is ColorizingTextHandler.emit.__code__ for called, _line in traceback.walk_stack(frame)):
        threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT]).start()
        return
    raise KeyboardInterrupt
