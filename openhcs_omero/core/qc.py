"""The quality of a plate's images: measured for some wells per job, then compared over the whole plate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs_omero.core.config import Settings
from openhcs_omero.core.plate_tables import read_rows, write_rows
from openhcs_omero.core.plates import Plate
from openhcs_omero.core.records import WellRecord, recorded_listing
from openhcs_omero.errors import OpenHCSError, is_lost
from openhcs_omero.plates.arrangement import Place

if TYPE_CHECKING:
    import pandas as pd

NAME = "image_qc.csv"


def measure_wells(plate: Plate, records: Mapping[str, WellRecord], output: Path) -> None:
    """Measure the quality of the images of some wells.

    A site that can't be read gets a row with the reason. A lost server is an error of the job.

    Parameters
    ----------
    plate
        The plate.
    records
        The wells.
    output
        The table to write, one row per site.
    """
    known = replace(plate, known=recorded_listing(records, plate.path))
    dates = plate.handler.read_dates(known.listing)
    write_rows(output, [row for well in records for row in _measure_well(known, well, dates)])


def _measure_well(known: Plate, well: str, dates: Mapping[Place, float]) -> Iterator[dict[str, Any]]:
    """The rows of a well."""
    from openhcs_omero.analysis.image_qc import measure_site

    left = set(known.listing.structure.well(well).images)
    try:
        for image, pixels in known.sites(well):
            left.discard(image.site)
            measured = measure_site(pixels, sorted(known.listing.filled.get((well, image.site), ())))
            acquired = {"acquired": dates[well, image.site]} if (well, image.site) in dates else {}
            yield {"plate": known.label, "well": well, "site": image.site, **acquired, **measured, "reason": ""}
    except OpenHCSError as error:
        if is_lost(error):
            raise
        for site in sorted(left):
            yield {"plate": known.label, "well": well, "site": site, "reason": str(error)}


def compare_wells(settings: Settings, parts: Sequence[Path], channels: int, output: Path) -> None:
    """Put the measurements of all wells together, compare the sites, and mark those that are excluded.

    Parameters
    ----------
    settings
        The configuration.
    parts
        What `measure_wells` wrote.
    channels
        The number of channels of the plate.
    output
        The table to write, one row per site, with a column `excluded`: the condition that the site fulfills, if any.
    """
    import numpy as np
    import pandas as pd

    from openhcs_omero.analysis.exclusion import excluded_rows
    from openhcs_omero.analysis.image_qc import compare_sites
    from openhcs_omero.analysis.settings import read_settings
    from openhcs_omero.analysis.well_tables import write_table

    sites = pd.DataFrame([row for part in parts for row in read_rows(part)]).fillna("")
    table = compare_sites(sites, range(channels))
    excluded = np.full(len(table), None, dtype=object)
    for condition in reversed(read_settings(settings.analysis or {}).exclude_sites):
        excluded[excluded_rows(table, condition)] = condition
    table.insert(3, "excluded", excluded)
    print(f"{int(pd.notna(excluded).sum())} of {len(table)} sites are excluded")
    write_table(table, output)


def excluded_sites(folder: Path) -> dict[tuple[str, str], str]:
    """The excluded sites of a plate: (well, site) -> the condition; empty without quality control of images."""
    file = folder / NAME
    return {
        (row["well"], row["site"]): row["excluded"]
        for row in (read_rows(file) if file.exists() else ())
        if row["excluded"]
    }


def acquired_of(folder: Path) -> pd.Series | None:
    """When the wells of a plate were acquired, in seconds, by well; None where it is not known for every site."""
    import pandas as pd

    rows = read_rows(folder / NAME) if (folder / NAME).exists() else []
    if not rows or not all(row["acquired_s"] for row in rows):
        return None
    times = pd.Series([float(row["acquired_s"]) for row in rows])
    return times.groupby([row["well"] for row in rows]).min()
