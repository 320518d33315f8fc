from pathlib import Path

from openhcs_omero.core.config import read_config
from openhcs_omero.core.joblog import logged
from openhcs_omero.core.rules import list_wells

with logged(snakemake.log[0]):
    list_wells(read_config(snakemake.config), snakemake.wildcards.plate, Path(snakemake.output.table))
