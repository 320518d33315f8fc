from pathlib import Path

from openhcs_omero.core.joblog import logged
from openhcs_omero.core.state import list_wells
from openhcs_omero.errors import PlateError

with logged(snakemake.log[0]):
    if snakemake.params.problem:
        raise PlateError(snakemake.params.problem)
    list_wells(Path(snakemake.output.table))
