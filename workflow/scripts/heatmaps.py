from pathlib import Path

from openhcs_omero.core.joblog import logged
from openhcs_omero.core.rules import draw_heatmaps

with logged(snakemake.log[0]):
    draw_heatmaps(
        Path(snakemake.input.wells).parent,
        snakemake.wildcards.plate,
        snakemake.params.features,
        Path(snakemake.output[0]),
    )
