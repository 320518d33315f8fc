from pathlib import Path

from openhcs_omero.core.config import read_config
from openhcs_omero.core.joblog import logged
from openhcs_omero.core.rules import derive

with logged(snakemake.log[0]):
    derive(read_config(snakemake.config), snakemake.wildcards.plate, Path(snakemake.output.record))
