# The plan and the paths of a plate's files. The head process checks everything here before any job runs.
import re
from pathlib import Path

from openhcs_omero.core import worker_pool
from openhcs_omero.core.left_out import LeftOut
from openhcs_omero.core.orchestrator.hooks import Hooks
from openhcs_omero.core.orchestrator.planning import plan_of
from openhcs_omero.core.orchestrator.snakemake_faults import (
    adjust,
    go_on_without_failed,
    look_behind_ancient,
    schedule_in_order,
    quote_python,
    runs_everything,
    set_hooks,
    share_guards,
    show_plainly,
    suppose_exists,
)
from openhcs_omero.core.pace import FIRST
from openhcs_omero.core.batches import Pacing
from openhcs_omero.errors import OpenHCSError


report: "../report/workflow.rst"


quote_python()
show_plainly(OpenHCSError)
share_guards()
look_behind_ancient()
schedule_in_order()

PLAN = plan_of(workflow, config, workflow.source_path("../schemas/config.schema.yaml"))
PACING = Pacing(PLAN)
LEFT_OUT = LeftOut(PLAN, head=workflow.is_main_process)
RUN = Hooks(workflow, PLAN, LEFT_OUT)
PLATES = list(PLAN.settings.plates)
PROCESSED = [plate for plate in PLATES if plate not in PLAN.problems]
PRIORITIES = {plate: len(PLATES) - number for number, plate in enumerate(PLATES)}

# the folder of a plate: results/plate_7_processed
PLATE = f"{PLAN.settings.results}/plate_{{plate}}_{PLAN.settings.output}"
# the folder of all plates together: results/screen_processed
SCREEN = str(PLAN.settings.screen_folder)


def with_parquet(names):
    """The names of files, and of the Parquet file beside each CSV file."""
    return [*names, *(name.removesuffix(".csv") + ".parquet" for name in names if name.endswith(".csv"))]


# the files that a run creates for a plate
PRODUCTS = [
    *with_parquet(["features.csv", "wells.csv", "objects.csv"]),
    "annotations.json",
    "figures/heatmaps",
    "figures/montage.png",
    "figures/outlines",
    *(with_parquet(["image_qc.csv"]) if PLAN.settings.has_qc else []),
]
QC_WELLS = 384  # a job measures the images of so many wells


wildcard_constraints:
    plate="|".join(re.escape(plate) for plate in PLATES),
    well=r"[A-Z]{1,2}\d{2,3}",
    estimate=r"\d+_\w+_c\d+",


def targets(wildcards):
    """All files that a run creates; if a plate can't be processed, the file of a job that fails and gives the reason."""
    adjust(workflow)
    batches = workflow.is_main_process and not workflow.local_exec  # they are only for clusters
    if batches and PACING.measures and runs_everything(workflow):
        checkpoints.pace.get()
        PACING.look()
    files = []
    for plate in PLATES:
        names = ["wells.tsv"]
        if plate not in PLAN.problems:
            # Only lost files are listed: they would not be made again as long as the tables exist. To list all wells
            # takes memory
            names = [f"processed/{well}.zip" for well in PLAN.lost_wells(plate)] + PRODUCTS
            if batches:
                names += [f"batches/{batch}" for batch in PACING.batches(plate)]
        files += [f"{PLATE}/{name}".format(plate=plate) for name in names]
    if PLAN.settings.analysis is not None:
        files.append(rules.analyze.output.report)
    if len(PLATES) > 1:
        files.append(rules.gather_wells.output.table)
    if len(PLATES) > 1 and PLAN.settings.in_omero:
        files.append(rules.annotate_screen.output.record)
    return files


def first_plates_first(wildcards):
    """The priority of a plate's jobs: plates are finished one after the other, in the order of the configuration."""
    return PRIORITIES[wildcards.plate]


def processed_wells(wildcards):
    """The files of all wells of a plate."""
    return well_files_of(wildcards.plate, PLAN.wells(wildcards.plate))


def estimates_of(wildcards):
    """The estimates of a plate that the steps need."""
    adjust(workflow)
    if PLAN.restores_derived(wildcards.plate):
        folder = PLATE.format(plate=wildcards.plate)
        suppose_exists(workflow, f"{folder}/derived.json", like=f"{folder}/wells.tsv")
    return expand(
        f"{PLATE}/estimates/{{name}}.npz",
        plate=wildcards.plate,
        name=PLAN.estimates(wildcards.plate),
    )


def earlier_estimates(wildcards):
    """The estimates of the steps before the one that an estimate is for."""
    return expand(
        f"{PLATE}/estimates/{{name}}.npz",
        plate=wildcards.plate,
        name=PLAN.estimates(wildcards.plate, before=int(wildcards.position)),
    )


def wells_of_batch(wildcards):
    """The files of the wells that one cluster job processes."""
    size, number = int(wildcards.size), int(wildcards.number)
    wells = PLAN.wells(wildcards.plate)[size * (number - 1) : size * number]
    return well_files_of(wildcards.plate, wells)


def of_plates(name):
    """An input function: a file of each plate that the results of the screen are made of."""
    return lambda wildcards: expand(f"{PLATE}/{name}", plate=LEFT_OUT.plates)


def well_files_of(plate, wells):
    return expand(f"{PLATE}/processed/{{well}}.zip", plate=plate, well=wells)


def qc_wells(wildcards):
    """The wells whose images one job measures."""
    size, number = int(wildcards.size), int(wildcards.number)
    return PLAN.wells(wildcards.plate)[size * (number - 1) : size * number]


def qc_parts(wildcards):
    """The measurements of the images of a plate."""
    count = -(-len(PLAN.wells(wildcards.plate)) // QC_WELLS)
    return expand(
        f"{PLATE}/qc/{QC_WELLS}_{{number}}.csv",
        plate=wildcards.plate,
        number=range(1, count + 1),
    )


def local_gpus(wildcards):
    """The GPUs of a well's job on this machine, which `adjust` takes to have one."""
    return (PLAN.needs.gpu or None) if workflow.local_exec else None


def cluster_gpus(wildcards):
    """The GPUs of a well's job on a cluster, as Slurm's option `--gres`."""
    return f"gpu:{PLAN.needs.gpu}" if PLAN.needs.gpu and not workflow.local_exec else None
