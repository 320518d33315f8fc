from pathlib import Path

from openhcs_omero.core.config import read_config
from openhcs_omero.core.joblog import logged
from openhcs_omero.core.screen_wells import attach_wells

with logged(snakemake.log[0]):
    attach_wells(
        read_config(snakemake.config),
        [Path(path) for path in snakemake.input.derived],
        Path(snakemake.input.table),
        Path(snakemake.output.record),
    )
