# The plan, and where the files of a plate are. The head process checks everything here, before anything runs.
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from openhcs_omero.core.plan import make_plan
from openhcs_omero.core.tables import read_rows
from openhcs_omero.errors import OpenHCSError


report: "../report/workflow.rst"


# these read what was recorded and need no OMERO
OFFLINE = {"--report", "--unlock"} & {argument.partition("=")[0] for argument in sys.argv}

try:
    PLAN = make_plan(
        config,
        Path(workflow.basedir) / "workflow" / "schemas" / "config.schema.yaml",
        ask=workflow.is_main_process and not OFFLINE,
    )
except OpenHCSError as error:
    raise WorkflowError(str(error)) from None


# the folder of a plate: results/plate_7_processed
PLATE = f"{PLAN.settings.results}/plate_{{plate}}_{PLAN.settings.output}"


wildcard_constraints:
    plate=r"\d+",
    well=r"[A-Z]{1,2}\d{2,3}",
    estimate=r"\d+_\w+_c\d+",


def on_every_plate(name):
    """A file of every plate."""
    return expand(f"{PLATE}/{name}", plate=PLAN.settings.plates)


def wells_of(wildcards):
    """The chosen wells of a plate, known when the checkpoint has run."""
    return [row["well"] for row in read_rows(Path(checkpoints.wells.get(**wildcards).output.table), delimiter="\t")]


def fingerprint_of(wildcards):
    """A well's record; the checkpoint writes it, and only where it changed."""
    checkpoints.wells.get(plate=wildcards.plate)
    return f"{PLATE}/wells/{wildcards.well}.json".format(plate=wildcards.plate)


def processed(ending):
    """An input function: the files of that ending of all wells of a plate."""

    def files(wildcards):
        return expand(f"{PLATE}/processed/{{well}}{ending}", plate=wildcards.plate, well=wells_of(wildcards))

    return files


def estimates_of(wildcards):
    """The estimates that the steps want of a plate. Ancient: a well that changed does not change all others."""
    names = PLAN.estimates(int(wildcards.plate))
    return [ancient(path) for path in expand(f"{PLATE}/estimates/{{name}}.npy", plate=wildcards.plate, name=names)]
