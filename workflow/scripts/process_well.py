from pathlib import Path

from openhcs_omero.core.config import read_config
from openhcs_omero.core.files import logged
from openhcs_omero.core.jobs import process_well

with logged(snakemake.log[0]):
    process_well(read_config(snakemake.config), snakemake.wildcards.plate, Path(snakemake.input.fingerprint),
                 Path(snakemake.input.derived), [Path(path) for path in snakemake.input.estimates],
                 {name: Path(path) for name, path in snakemake.output.items()})
