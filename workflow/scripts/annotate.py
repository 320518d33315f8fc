from pathlib import Path

from openhcs_omero.core.config import read_config
from openhcs_omero.core.joblog import logged
from openhcs_omero.core.rules import annotate

with logged(snakemake.log[0]):
    annotate(read_config(snakemake.config), snakemake.wildcards.plate, Path(snakemake.input.derived),
             [Path(path) for path in snakemake.input.tables], [Path(path) for path in snakemake.input.about],
             Path(snakemake.output[0]))
