from pathlib import Path

from openhcs_omero.core.joblog import logged
from openhcs_omero.core.left_out import list_left_out
from openhcs_omero.core.screen_wells import gather_wells

with logged(snakemake.log[0]):
    list_left_out(snakemake.params.left_out, Path(snakemake.output.left_out))
    gather_wells([Path(path) for path in snakemake.params.tables], Path(snakemake.output.table))
