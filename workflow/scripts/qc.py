from pathlib import Path

from openhcs_omero.core.config import read_config
from openhcs_omero.core.joblog import logged
from openhcs_omero.core.qc import compare_wells

with logged(snakemake.log[0]):
    parts = [Path(path) for path in snakemake.input]
    compare_wells(read_config(snakemake.config), parts, snakemake.params.channels, Path(snakemake.output[0]))
