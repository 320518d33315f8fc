"""The workflow's own files about a plate: what they hold, and which of them are no longer borne out by what is there.

    state.json             what the head process learned of the plate
    wells.tsv              the chosen wells, a row each (Snakemake's checkpoint)
    wells/<WELL>.json      a well's images, ids and hashes, and files: what its job depends on
    derived.json           where the results go (outputs.py)
    processed/<WELL>.json  the derived images that the well's job wrote, ids and hashes, or files
    annotations.json       the files that are attached to the plates, names and hashes
"""
from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs_omero.io.atomic import write
from openhcs_omero.microscopes.base import Backend, PlateListing
from openhcs_omero.plates.structure import ImageStructure, PlateStructure, WellStructure

if TYPE_CHECKING:
    from openhcs_omero.core.outputs.base import Output


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
                        tuple(record.get("channel_names", ())), tuple(record.get("pixel_size", (None, None, None))))


def _inside(plate_path: str, path: str) -> str:
    return str(Path(path).relative_to(plate_path)) if Path(path).is_relative_to(plate_path) else path


def forget_stale(output: Output, plate: PlateStructure, folder: Path) -> None:
    """Remove the records of what is no longer there as it was written, so that Snakemake has it made again.

    Where the derived plate itself is gone, its record goes too. Where it lacks a well that it should have,
    `derive.token`, on which the rule that brings the plate up to date depends, gets a new content.
    """
    paths = {path.stem: path for path in (folder / "processed").glob("*.json")}
    records = {well: read_record(path) or {} for well, path in paths.items()}
    derived, published = (read_record(folder / name) for name in ("derived.json", "annotations.json"))
    if not (records or derived or published):
        return
    standing = output.standing(plate, records)
    if derived is None or derived != standing.derived:
        (folder / "derived.json").unlink(missing_ok=True)
    elif not standing.complete:
        write(folder / "derive.token", f"{os.urandom(8).hex()}\n")
    for well in set(records) - set(standing.intact):
        paths[well].unlink()
    if published is None or not output.is_published(published):
        (folder / "annotations.json").unlink(missing_ok=True)


def read_record(path: Path) -> dict[str, Any] | None:
    """A JSON record; None where there is none or it is damaged."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None
