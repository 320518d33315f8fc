from pathlib import Path

from openhcs_omero.core.figures import choose_features, heatmap
from openhcs_omero.core.joblog import logged
from openhcs_omero.core.tables import read_columns, read_places, read_rows

with logged(snakemake.log[0]):
    folder = Path(snakemake.output[0])
    folder.mkdir(parents=True, exist_ok=True)
    places = read_places(Path(snakemake.input.table))
    wells = read_rows(Path(snakemake.input.wells))
    for feature in choose_features(read_columns(Path(snakemake.input.columns)), snakemake.params.features):
        values = {row["well"]: row[feature] for row in wells}
        heatmap(places, values, f"{feature}, plate {snakemake.wildcards.plate}", folder / f"{feature}.png")
