from pathlib import Path

from openhcs_omero.core.config import read_config
from openhcs_omero.core.joblog import logged
from openhcs_omero.core.rules import estimate

with logged(snakemake.log[0]):
    wildcards = snakemake.wildcards
    estimate(
        read_config(snakemake.config),
        wildcards.plate,
        int(wildcards.position),
        int(wildcards.channel),
        [Path(path) for path in snakemake.input],
        Path(snakemake.output[0]),
    )
