"""Workarounds for faults of Snakemake: each test fails once Snakemake no longer needs the workaround."""

import inspect
import io
import json
import logging
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from snakemake import api, cli, spawn_jobs
from snakemake.executors import local
from snakemake.logging import ColorizingTextHandler
from snakemake.scheduling import job_scheduler

from openhcs_omero.core.orchestrator.snakemake_faults import Asked, _asked_by, schedule_in_order, show_plainly
from openhcs_omero.errors import OpenHCSError


@pytest.fixture
def snakemake(tmp_path):
    """Run Snakemake on a Snakefile in an empty folder."""

    def run(snakefile, *options):
        (tmp_path / "Snakefile").write_text(textwrap.dedent(snakefile))
        return subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", "1", *options],
            cwd=tmp_path,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    return run


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ([], Asked.RUN),
        (["-n"], Asked.PLAN),
        (["--dry-run"], Asked.PLAN),
        (["--summary"], Asked.PLAN),
        (["--touch"], Asked.PLAN),
        (["--report", "x.html"], Asked.REPORT),
        (["--report"], Asked.REPORT),
        (["--report-after-run", "--report", "x.html"], Asked.RUN),
        (["--rulegraph"], Asked.RECORDS),
        (["--dag", "mermaid-js"], Asked.RECORDS),
        (["--list-params-changes"], Asked.RECORDS),
        (["--lint"], Asked.RULES),
        (["--list-rules"], Asked.RULES),
        (["--unlock"], Asked.RULES),
        (["--containerize"], Asked.RULES),
    ],
)
def test_every_command_is_recognized(command, expected, monkeypatch):
    def reached(settings):
        raise EOFError

    monkeypatch.setattr(cli, "SnakemakeApi", reached)
    parser, args = cli.parse_args([*command, "--cores", "1", "--workflow-profile", "none"])
    with pytest.raises(EOFError):  # from here on, the arguments are what a Snakefile sees
        cli.args_to_api(args, parser)
    assert _asked_by(args) is expected


def test_workflow_does_not_know_the_requested_targets(snakemake):
    """When it does, `asked` can rely on `workflow` alone."""
    snakefile = """
        import json

        print("SEEN", json.dumps([str(workflow.execution_settings), str(workflow.dag_settings), workflow.dryrun]))

        rule all:
            output: touch("done")
    """
    seen = {
        line
        for options in (["-n"], [], ["--unlock"], ["--rulegraph"])
        for line in snakemake(snakefile, *options).stdout.splitlines()
        if line.startswith("SEEN")
    }
    assert seen == {"SEEN " + json.dumps(["None", "None", False])}


def test_an_included_snakefile_has_no_default_target(snakemake, tmp_path):
    """When it does, set_default_target can go."""
    (tmp_path / "other.smk").write_text('rule a:\n    default_target: True\n    output: touch("a")\n')
    assert "Nothing to be done" in snakemake('include: "other.smk"\n').stdout


def test_hooks_of_modules_are_ignored(snakemake, tmp_path):
    """When they aren't, set_hooks can go."""
    (tmp_path / "other.smk").write_text('rule a:\n    output: touch("a")\n\nonsuccess:\n    print("THE END")\n')
    assert "THE END" in snakemake('include: "other.smk"\n', "a").stdout
    said = snakemake('module other:\n    snakefile: "other.smk"\n\nuse rule * from other\n', "a", "--forceall").stdout
    assert "Finished jobid" in said and "THE END" not in said


def test_threads_are_not_passed_to_the_jobs_of_a_cluster():
    """When they are, `force-use-threads: true` in the profiles replaces `use_threads` in `adjust`."""
    assert "use_threads" in inspect.getsource(api) and "use_threads" not in inspect.getsource(spawn_jobs)
    assert "use-threads" not in inspect.getsource(spawn_jobs)


def test_the_limit_of_jobs_per_second_searches_all_jobs_again():
    """When it doesn't, `max_jobs_per_timespan` in `adjust` can go."""
    source = inspect.getsource(job_scheduler.JobScheduler)
    assert "self._schedule_reevalutation(self.job_rate_limiter.timespan)" in source
    assert cli.get_argument_parser().get_default("max_jobs_per_timespan") == "100/1s"


def test_an_error_in_a_snakefile_names_the_snakefile(snakemake):
    """When it doesn't, `refuse` can raise a WorkflowError."""
    said = snakemake("""
        from snakemake.exceptions import WorkflowError

        raise WorkflowError("the plate is missing")
    """).stdout
    assert "the plate is missing" in said and "WorkflowError in file" in said


def test_errors_of_run_blocks_are_shown_with_lines_of_code(monkeypatch):
    """When they aren't, `show_plainly` can go."""
    monkeypatch.setattr(local, "format_error", local.format_error)

    def shown(error):
        try:
            raise error
        except Exception as raised:
            return local.format_error(raised, 3, linemaps={}, snakefile="x.smk", show_traceback=True)

    assert 'KeyError in file "x.smk", line 3' in shown(KeyError("well")) and "  File " in shown(KeyError("well"))
    show_plainly(OpenHCSError)
    assert shown(OpenHCSError("well A01 was not processed")) == "well A01 was not processed"
    assert "  File " in shown(KeyError("well"))


def test_the_log_handler_catches_an_interrupt():
    """When it doesn't, Python's own handler of SIGINT replaces `interrupt`."""

    class Interrupting(io.StringIO):
        def flush(self):
            raise KeyboardInterrupt

    ColorizingTextHandler(stream=Interrupting()).emit(logging.makeLogRecord({"msg": "Execute 1 jobs..."}))


@pytest.mark.parametrize("quoted", [False, True])
def test_the_path_of_python_is_not_quoted(tmp_path, quoted):
    """When the first run succeeds too, quote_python can go."""
    folder = tmp_path / "my files"
    folder.mkdir()
    (folder / "environment").symlink_to(sys.prefix)
    (folder / "hello.py").write_text('open(snakemake.output[0], "w").close()\n')
    head = "from openhcs_omero.core.orchestrator.snakemake_faults import quote_python\nquote_python()\n"
    (folder / "Snakefile").write_text((head if quoted else "") + 'rule a:\n    output: "a"\n    script: "hello.py"\n')
    python = folder / "environment" / "bin" / "python"
    done = subprocess.run(
        [python, "-m", "snakemake", "--cores", "1"],
        cwd=folder,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert (done.returncode == 0) is quoted, done.stdout
    assert (folder / "a").exists() is quoted


def test_each_list_of_files_has_guards_of_its_own(snakemake):
    """When lists share them, `share_guards` can go. Until then it makes them, and they still guard."""
    snakefile = """
        from snakemake.iocontainers import Namedlist
        from openhcs_omero.core.orchestrator.snakemake_faults import share_guards

        one, other = Namedlist(), Namedlist()
        print("SEEN", one.sort is other.sort)
        share_guards()
        one, other = Namedlist(), Namedlist()
        print("SEEN", one.sort is other.sort, one.sort is one.index)
        try:
            one.sort()
        except AttributeError as error:
            print("SEEN", error)

        rule all:
    """
    seen = [line for line in snakemake(snakefile, "-n").stdout.splitlines() if line.startswith("SEEN")]
    assert seen[:2] == ["SEEN False", "SEEN True False"] and seen[2].startswith("SEEN sort() cannot be used")


def test_a_dry_run_knows_no_input_that_is_restored_before_a_run(snakemake, tmp_path):
    """When it does, or leaves out jobs whose input is both lost and ancient, `suppose_exists` can go."""
    snakefile = """
        rule all:
            input: "b1", "b2"

        rule a:
            output: "a"
            shell: "touch {output}"

        rule b:
            input: ancient("a")
            output: "b{number}"
            shell: "touch {output}"
    """
    assert snakemake(snakefile).returncode == 0
    for name in ("a", "b1"):
        (tmp_path / name).unlink()
    assert re.search(r"^b +2$", snakemake(snakefile, "-n").stdout, re.MULTILINE)


def test_jobs_behind_ancient_files_are_not_looked_at(snakemake, tmp_path):
    """When `b` runs because its parameter has changed, though `a` runs too, `look_behind_ancient` can go."""
    snakefile = """
        rule b:
            input: ancient("a")
            output: "b"
            params: config["second"]
            shell: "touch {output}"

        rule a:
            output: "a"
            params: config["first"]
            shell: "touch {output}"
    """
    assert snakemake(snakefile, "--config", "first=1", "second=1").returncode == 0
    planned = snakemake(snakefile, "-n", "--config", "first=2", "second=2").stdout
    assert re.search(r"^a +1$", planned, re.MULTILINE) and not re.search(r"^b +1$", planned, re.MULTILINE)


def test_snakemake_limits_local_jobs_and_waits_at_its_end():
    """When it counts only submitted jobs and its timers are daemons, schedule_in_order can go."""
    source = inspect.getsource(job_scheduler)
    assert "Timer(" in source and "daemon" not in source
    assert "is_local" not in source.partition("n_free_jobs = ")[2].partition("def ")[0]


def test_jobs_wait_for_ever_for_one_that_failed(snakemake, tmp_path):
    """When Snakemake can start `other` with what is there, `go_on_without_failed` can go."""
    snakefile = """
        from openhcs_omero.core.orchestrator.snakemake_faults import go_on_without_failed

        plates = ["good", "bad"]

        def leave_out(failed, jobs):
            plates.remove(*failed)
            return True

        rule all:
            input: "gathered", "other"

        rule table:
            output: "{plate}.csv"
            shell: "[ {wildcards.plate} = good ] && touch {output}"

        rule gather:
            input: tables=lambda wildcards: expand("{plate}.csv", plate=plates)
            output: "gathered"
            shell: "echo {input.tables} > {output}"

        rule other:
            input: expand("{plate}.csv", plate=plates)
            output: touch("other")

        go_on_without_failed([rules.gather.rule], leave_out)
    """
    assert snakemake(snakefile, "--keep-going").returncode == 1
    assert (tmp_path / "gathered").read_text() == "good.csv\n" and not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_resource_without_a_limit_does_not_limit_jobs(snakemake):
    """When it does, `adjust` need not say that a machine has one GPU."""
    snakefile = """
        rule all:
            input: "1.done", "2.done"

        rule one:
            output: touch("{n}.done")
            resources: gpu=1
            shell:
                "touch began_{wildcards.n}; "
                "for i in $(seq 300); do [ -e began_1 -a -e began_2 ] && exit; sleep .1; done; exit 1"
    """
    run = snakemake(snakefile, "--cores", "2")
    assert run.returncode == 0, run.stdout  # each job has seen the other


def test_jobs_are_chosen_by_priority_and_few_wait_next_to_snakemake(monkeypatch):
    @dataclass(frozen=True)
    class Job:
        priority: int
        is_local: bool
        rule: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(name="any"), compare=False)

        def is_group(self):
            return False

    asked = []

    def select(self, jobs):
        asked.append((self.job_rate_limiter, {job.priority for job in jobs}))
        return set(jobs)

    monkeypatch.setattr(job_scheduler.JobScheduler, "job_selector", select)
    monkeypatch.setattr(job_scheduler.JobScheduler, "_schedule_reevalutation", None)
    schedule_in_order()
    running = {Job(number, True) for number in range(3)} | {Job(number, False) for number in range(20)}
    scheduler = SimpleNamespace(job_rate_limiter="limiter", running=running, resources={})
    ready = {Job(number, local) for number in range(1000) for local in (True, False)}
    chosen = job_scheduler.JobScheduler.job_selector(scheduler, ready)
    # five of the jobs that run next to Snakemake, which the limit of submissions does not count, and 500 others
    assert asked == [(None, set(range(995, 1000))), ("limiter", set(range(500, 1000)))] and len(chosen) == 505
    scheduler.running = {Job(number, True) for number in range(8)}
    assert not any(job.is_local for job in job_scheduler.JobScheduler.job_selector(scheduler, ready))
    # on this machine, four jobs per core of each rule
    scheduler.job_rate_limiter, scheduler.global_resources = None, {"_cores": 2}
    other = Job(-1, False, SimpleNamespace(name="other"))
    assert {other.priority, *range(996, 1000)} == {
        job.priority for job in job_scheduler.JobScheduler.job_selector(scheduler, {*ready, other})
    }
