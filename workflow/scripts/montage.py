from pathlib import Path

import numpy as np

from openhcs_omero.core.figures import montage
from openhcs_omero.core.joblog import logged
from openhcs_omero.core.tables import read_places

with logged(snakemake.log[0]):
    thumbnails = {Path(path).stem: np.load(path) for path in snakemake.input.thumbnails}
    thumbnails = {well: picture for well, picture in thumbnails.items() if picture.size}  # those that didn't fail
    montage(read_places(Path(snakemake.input.table)), thumbnails, f"Plate {snakemake.wildcards.plate}",
            Path(snakemake.output[0]))
