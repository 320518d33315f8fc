from pathlib import Path

from openhcs_omero.core.joblog import logged
from openhcs_omero.core.rules import draw_pictures

with logged(snakemake.log[0]):
    draw_pictures(
        Path(snakemake.input.table).parent,
        snakemake.wildcards.plate,
        Path(snakemake.output.montage),
        Path(snakemake.output.outlines),
    )
