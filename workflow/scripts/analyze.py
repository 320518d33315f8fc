from pathlib import Path

from openhcs_omero.core.config import read_config
from openhcs_omero.core.joblog import logged
from openhcs_omero.core.screen_analysis import analyze_screen

with logged(snakemake.log[0]):
    tables = [Path(path) for path in snakemake.input.wells]
    folder = Path(snakemake.output.report).parent
    analyze_screen(read_config(snakemake.config), tables, folder, snakemake.params.problems)
