"""Finding and removing records of a plate's results that are no longer true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs_omero.core.failures import FailedWell
from openhcs_omero.core.records import DerivedPlate, read_record, to_json
from openhcs_omero.core.well_file import read_well_record, well_file, well_files, wells_in_tables
from openhcs_omero.io.atomic import write_if_changed
from openhcs_omero.plates.structure import PlateStructure

if TYPE_CHECKING:
    from openhcs_omero.core.outputs.base import Output


@dataclass(frozen=True)
class Stale:
    """The records of a plate's results that are no longer true.

    Parameters
    ----------
    wells
        The reason for each well whose record is no longer true.
    derived
        The correct record of the derived plate; None if the derived plate is gone.
    damaged
        Whether the derived plate is gone or lacks wells.
    unpublished
        Whether tables that were published are gone or have changed.
    """

    wells: Mapping[str, str] = field(default_factory=dict)
    derived: DerivedPlate | None = None
    damaged: bool = False
    unpublished: bool = False


def find_stale(output: Output, plate: PlateStructure, folder: Path) -> Stale:
    """Compare the records in a plate's folder with the results that exist; nothing is changed."""
    paths = well_files(folder)
    derived = read_record(folder / "derived.json", DerivedPlate)
    published = read_record(folder / "annotations.json", output.published_type)
    missing = [well for well in wells_in_tables(folder) if well in plate.wells and well not in paths]
    if not (paths or missing or derived or published):
        return Stale()
    records = {well: record for well, path in paths.items() if (record := read_well_record(path, output.well_type))}
    standing = output.standing(plate, records)
    lost = {well: _why_lost(paths[well]) for well in sorted(set(paths) - set(standing.intact))}
    lost |= dict.fromkeys(missing, "the file of its results is gone")
    damaged = standing.derived is None or not standing.complete
    moved = derived is not None and derived != standing.derived
    return Stale(
        lost,
        None if moved else standing.derived,
        damaged or moved,
        published is not None and not output.is_published(published),
    )


def _why_lost(path: Path) -> str:
    failed = read_well_record(path, FailedWell)
    return f"it failed in the last run: {failed.failed.reason}" if failed else "its derived images are gone or changed"


def forget(stale: Stale, folder: Path) -> None:
    """Remove records that are no longer true, so that Snakemake recreates them, and restore a lost `derived.json`."""
    for well in stale.wells:
        well_file(folder, well).unlink(missing_ok=True)
    if stale.derived is not None:
        write_if_changed(folder / "derived.json", to_json(stale.derived))
    elif stale.damaged:
        (folder / "derived.json").unlink(missing_ok=True)
    if stale.unpublished:
        (folder / "annotations.json").unlink(missing_ok=True)
