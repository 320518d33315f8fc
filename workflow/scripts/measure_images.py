from pathlib import Path

from openhcs_omero.core.config import read_config
from openhcs_omero.core.joblog import logged
from openhcs_omero.core.rules import measure_images

with logged(snakemake.log[0]):
    measure_images(
        read_config(snakemake.config), snakemake.wildcards.plate, snakemake.params.wells, Path(snakemake.output[0])
    )
