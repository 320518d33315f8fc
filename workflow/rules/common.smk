# The plan, and where the files of a plate are. The head process checks everything here, before anything runs.
import functools
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

from openhcs_omero.core import worker_pool
from openhcs_omero.core.config import typed
from openhcs_omero.core.plan import make_plan
from openhcs_omero.core.tables import read_rows
from openhcs_omero.errors import OpenHCSError


report: "../report/workflow.rst"


# these read what was recorded and need no plate
OFFLINE = {"--report", "--unlock"} & {argument.partition("=")[0] for argument in sys.argv}

update_config(config, typed(workflow.config_settings.config))

try:
    PLAN = make_plan(
        config,
        Path(workflow.basedir) / "workflow" / "schemas" / "config.schema.yaml",
        ask=workflow.is_main_process and not OFFLINE,
    )
except OpenHCSError as error:
    raise WorkflowError(str(error)) from None


PLATES = list(PLAN.settings.plates)

# the folder of a plate: results/plate_7_processed
PLATE = f"{PLAN.settings.results}/plate_{{plate}}_{PLAN.settings.output}"


wildcard_constraints:
    plate="|".join(re.escape(plate) for plate in PLATES),
    well=r"[A-Z]{1,2}\d{2,3}",
    estimate=r"\d+_\w+_c\d+",


def on_every_plate(name):
    """A file of every plate."""
    return expand(f"{PLATE}/{name}", plate=PLATES)


def on_cluster():
    """Whether this is the head process, and jobs go elsewhere; not known before the rules are."""
    return workflow.is_main_process and not workflow.local_exec


def wells_of(plate):
    """The chosen wells of a plate, known when both checkpoints have run.

    Every function that wants one checkpoint asks here for both, in this order: Snakemake 9.27 loses jobs that come up
    with the one and are still to wait for the other, where the other turns out to have nothing to do. Nor can their
    output be `ancient` for the wells: what is behind an ancient edge is not looked at while the edge's job runs.
    On a cluster, the wells of all plates come up together: what changes the plan breaks the batches that are on their way.
    """
    adjust_snakemake()
    for other in PLATES if on_cluster() else [plate]:
        await_checkpoints(other)
    table = Path(f"{PLATE}/wells.tsv".format(plate=plate))
    return listed(table, table.stat().st_mtime_ns)


def adjust_snakemake():
    """Set what no option reaches. Input functions are called when the settings are there, and before jobs are.

    The `run` blocks of wells wait in Snakemake's threads, where it would start a Snakemake for each: --force-use-threads
    does not reach a cluster's jobs. And jobs a second are not limited: for the limit's sake Snakemake 9.27 looks through
    all jobs that wait once a second for each job that has begun, and with hundreds of wells does nothing else.
    """
    if workflow.execution_settings is not None:  # as in --report
        workflow.execution_settings.use_threads = True
        workflow.scheduling_settings.max_jobs_per_timespan = None


# Each well asks, so what is known is kept: else the head process's time grows with the square of the number of wells.
@functools.cache
def await_checkpoints(plate):
    """Return when both checkpoints of a plate have run; else Snakemake catches what they raise, and asks again."""
    checkpoints.wells.get(plate=plate)
    checkpoints.derive_plate.get(plate=plate)


@functools.cache
def listed(table, _written):
    """The wells in a plate's table, which is written again where they change."""
    return [row["well"] for row in read_rows(table, delimiter="\t")]


def fingerprint_of(wildcards):
    """A well's record; the checkpoint writes it, and only where it changed."""
    wells_of(wildcards.plate)
    return f"{PLATE}/wells/{wildcards.well}.json".format(plate=wildcards.plate)


def derived_of(wildcards):
    """The derived plate's record. The same content, written again, makes no well again."""
    wells_of(wildcards.plate)
    return checkpoints.derive_plate.get(plate=wildcards.plate).output.record


def processed(ending):
    """An input function: the files of that ending of all wells, of one plate or (in rule all) of every plate."""

    def files(wildcards):
        plates = [wildcards.plate] if "plate" in wildcards.keys() else PLATES
        return [
            path
            for plate in plates
            for path in expand(f"{PLATE}/processed/{{well}}{ending}", plate=plate, well=wells_of(plate))
        ]

    return files


def estimates_of(wildcards):
    """The estimates that the steps want of a plate."""
    names = PLAN.estimates(wildcards.plate)
    return expand(f"{PLATE}/estimates/{{name}}.npy", plate=wildcards.plate, name=names)


def records_of_batch(wildcards):
    """The records of the wells that go to a cluster in one job."""
    size, number = int(wildcards.size), int(wildcards.number)
    wells = wells_of(wildcards.plate)[size * (number - 1) : size * number]
    return expand(f"{PLATE}/processed/{{well}}.json", plate=wildcards.plate, well=wells)


def batches(wildcards):
    """The batches of every plate, where jobs go to a cluster."""
    if not on_cluster():
        return []
    return [
        f"{PLATE}/batches/{batch}".format(plate=plate)
        for plate in PLATES
        for batch in PLAN.settings.batches(len(wells_of(plate)))
    ]
