# So that a plain `snakemake` works in a clone: the workflow is in workflow/Snakefile.
from openhcs_omero.core.orchestrator.snakemake_faults import set_default_target


include: "workflow/Snakefile"


set_default_target(workflow, "all")
