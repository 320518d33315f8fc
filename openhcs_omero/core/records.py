"""The workflow's own files about a plate: what they hold, and which of them are no longer true.

    state.json             what the head process learned about the plate (state.py)
    wells.json             by well: its images, their ids and hashes, and its files; this is what its job reads
    wells.tsv              the chosen wells, one row per well
    derived.json           where the results go (outputs.py)
    processed/<WELL>.json  the derived images that the well's job wrote, ids and hashes, or files
    annotations.json       the files that are attached to the plates, names and hashes
"""
from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs_omero.io.atomic import write_if_changed
from openhcs_omero.microscopes.base import Backend
from openhcs_omero.plates.listing import PlateListing
from openhcs_omero.plates.structure import ImageStructure, PlateStructure, WellStructure

if TYPE_CHECKING:
    from openhcs_omero.core.outputs.base import Output

TABLES = ("features.csv", "wells.csv", "objects.csv")


def well_record(plate_path: str, listing: PlateListing, well: str) -> dict[str, Any]:
    """All that a well's job needs to read it; it changes when the well's images do.

    What is beside the files of a folder (channel names, pixel size) is in it; what is beside images in OMERO the job
    asks for. Paths are relative to the plate's folder, which may be moved.
    """
    structure = listing.structure.wells[well]
    record: dict[str, Any] = {
        "well": well, "place": [structure.row, structure.col], "plate_id": listing.structure.plate_id,
        "backend": str(listing.backend),
        "images": [asdict(structure.images[site]) for site in sorted(structure.images)]}
    if listing.files:
        record["files"] = {site: [[*place, _inside(plate_path, path)]
                                  for place, path in listing.files[well, site].items()] for site in structure.images}
        record["channel_names"], record["pixel_size"] = listing.channel_names, listing.pixel_size
        record["filled"] = {site: sorted(listing.filled.get((well, site), ())) for site in structure.images}
    return record


def listing_of_well(plate_path: str, record: Mapping[str, Any]) -> PlateListing:
    """The listing of a plate, as far as the record of one of its wells goes."""
    images = {image["site"]: ImageStructure(**image) for image in record["images"]}
    name, (row, column) = record["well"], record["place"]
    first = images[min(images)]
    structure = PlateStructure(
        record["plate_id"], "", "", {name: WellStructure(name, row, column, images)}, {name}, len(images),
        first.size_z, first.size_c, first.size_t, name=Path(plate_path).name)
    files = {(name, int(site)): {(t, c, z): os.path.join(plate_path, path) for t, c, z, path in planes}
             for site, planes in record.get("files", {}).items()}
    return PlateListing(structure, Backend(record["backend"]), files,
                        tuple(record.get("channel_names", ())), tuple(record.get("pixel_size", (None, None, None))),
                        {(name, int(site)): frozenset((t, c, z) for t, c, z in planes)
                         for site, planes in record.get("filled", {}).items()})


def _inside(plate_path: str, path: str) -> str:
    return str(Path(path).relative_to(plate_path)) if Path(path).is_relative_to(plate_path) else path


@dataclass(frozen=True)
class Stale:
    """Which records of a plate's results are no longer true.

    Parameters
    ----------
    wells
        Why, by well.
    derived
        The record of the derived plate as it should be; None if the plate is gone.
    damaged
        Whether the derived plate is gone or lacks wells.
    unpublished
        Whether tables that were published are gone or have changed.
    """

    wells: Mapping[str, str] = field(default_factory=dict)
    derived: Mapping[str, Any] | None = None
    damaged: bool = False
    unpublished: bool = False


def find_stale(output: Output, plate: PlateStructure, folder: Path) -> Stale:
    """Compare the records in a plate's folder with what is there; nothing is changed."""
    records = {path.stem: read_record(path) or {} for path in (folder / "processed").glob("*.json")}
    derived, published = (read_record(folder / name) for name in ("derived.json", "annotations.json"))
    if not (records or derived or published):
        return Stale()
    standing = output.standing(plate, records)
    lost = {well: _why_lost(records[well]) for well in sorted(set(records) - set(standing.intact))}
    damaged = standing.derived is None or not standing.complete
    moved = derived is not None and derived != standing.derived
    return Stale(lost, None if moved else standing.derived, damaged or moved,
                 published is not None and not output.is_published(published))


def _why_lost(record: Mapping[str, Any]) -> str:
    failure = record.get("failed")
    return f"it failed in the last run: {failure['reason']}" if failure else "its derived images are gone or changed"


def forget(stale: Stale, folder: Path) -> None:
    """Remove the records that are no longer true, so that Snakemake makes them again, and restore a lost one."""
    for well in stale.wells:
        (folder / "processed" / f"{well}.json").unlink(missing_ok=True)
    for name in TABLES if stale.wells else ():  # also whoever wants a table alone gets the wells processed
        (folder / name).unlink(missing_ok=True)
    if stale.derived is not None:
        write_if_changed(folder / "derived.json", json.dumps(stale.derived))
    elif stale.damaged:
        (folder / "derived.json").unlink(missing_ok=True)
    if stale.unpublished:
        (folder / "annotations.json").unlink(missing_ok=True)


def read_record(path: Path) -> dict[str, Any] | None:
    """A JSON record; None where there is none or it is damaged."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None
