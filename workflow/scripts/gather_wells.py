from pathlib import Path

from openhcs_omero.core.joblog import logged
from openhcs_omero.core.screen_wells import gather_wells

with logged(snakemake.log[0]):
    gather_wells([Path(path) for path in snakemake.input], Path(snakemake.output.table))
