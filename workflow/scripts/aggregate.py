from pathlib import Path

from openhcs_omero.core.joblog import logged
from openhcs_omero.core.tables import aggregate

with logged(snakemake.log[0]):
    folder = Path(snakemake.input.wells).parent / "processed"
    aggregate(Path(snakemake.input.wells), folder, *(Path(path) for path in snakemake.output))
