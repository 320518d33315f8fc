from pathlib import Path

from openhcs_omero.core.joblog import logged
from openhcs_omero.core.rules import annotate

with logged(snakemake.log[0]):
    annotate(
        snakemake.config,
        snakemake.wildcards.plate,
        Path(snakemake.input.derived),
        [Path(path) for path in snakemake.input.tables],
        Path(snakemake.input.objects),
        [Path(path) for path in snakemake.input.about],
        {name: Path(path) for name, path in snakemake.output.items()},
    )
