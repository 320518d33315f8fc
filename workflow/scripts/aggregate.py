from pathlib import Path

from openhcs_omero.core.config import read_config
from openhcs_omero.core.joblog import logged
from openhcs_omero.core.rules import put_together

with logged(snakemake.log[0]):
    tables = {name: Path(path) for name, path in snakemake.output.items()}
    put_together(read_config(snakemake.config), snakemake.wildcards.plate, Path(snakemake.input.wells), tables)
