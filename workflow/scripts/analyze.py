from pathlib import Path

from openhcs_omero.core.config import read_config
from openhcs_omero.core.joblog import logged
from openhcs_omero.core.screen_analysis import analyze_screen

with logged(snakemake.log[0]):
    analyze_screen(
        read_config(snakemake.config),
        snakemake.params.plates,
        [Path(path) for path in snakemake.input.wells],
        Path(snakemake.output.report).parent,
        snakemake.params.left_out,
    )
