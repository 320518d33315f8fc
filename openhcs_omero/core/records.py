"""The workflow's own files about a plate: what they hold, and which of them OMERO no longer bears out.

    state.json             what the head process learned of the plate
    wells.tsv              the chosen wells, a row each (Snakemake's checkpoint)
    wells/<WELL>.json      a well's images, ids and hashes: what its job depends on
    derived.json           the derived plate's id
    processed/<WELL>.json  the derived images that the well's job wrote, ids and hashes
    annotations.json       the files that are attached to the plates, names and hashes
"""
from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs_omero.core.files import read_record, write
from openhcs_omero.core.tables import read_rows

if TYPE_CHECKING:
    from openhcs_omero.omero.connection import BlitzGateway


def attached_files(conn: BlitzGateway, places: Mapping[str, str]) -> dict[str, dict[str, str | None]]:
    """The files that OMERO has on the plates, by plate id and namespace: name -> SHA-1."""
    from openhcs_omero.omero.annotations import list_texts

    return {plate: {file.name: file.sha1 for file in list_texts(conn, "Plate", int(plate), ns)}
            for plate, ns in places.items()}


def attached_tables(conn: BlitzGateway, places: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The OMERO.tables of these files: the file's name -> what is noted of the table."""
    from openhcs_omero.omero.tables import list_tables

    return {plate: list_tables(conn, int(plate), ns) for plate, ns in places.items()}


def forget_stale(conn: BlitzGateway, folder: Path, plate_id: int, output: str) -> None:
    """Remove the records of what is no longer in OMERO as it was written, so that Snakemake has it made again.

    Where the derived plate itself is gone, its record goes too. Where it lacks a well that it had, `derive.token`, on
    which the rule that brings the plate up to date depends, gets a new content.
    """
    from openhcs_omero.omero.derived import derived_state, find_derived

    records = {path: read_record(path) for path in sorted((folder / "processed").glob("*.json"))}
    derived, attached = (read_record(folder / name) for name in ("derived.json", "annotations.json"))
    if not (records or derived or attached):
        return
    derived_id = find_derived(conn, plate_id, output)
    wells = {} if derived_id is None else derived_state(conn, derived_id)
    if derived is None or derived.get("derived_plate") != derived_id:
        (folder / "derived.json").unlink(missing_ok=True)
    elif not set(_listed(folder / "wells.tsv")) <= set(wells):
        write(folder / "derive.token", f"{os.urandom(8).hex()}\n")
    for path, record in records.items():
        images = [tuple(image) for image in (record or {}).get("images", [])]
        if not record or record.get("derived_plate") != derived_id or images != wells.get(path.stem):
            path.unlink()
    if attached is None or attached_files(conn, attached["namespaces"]) != attached["files"] \
            or attached_tables(conn, attached["namespaces"]) != attached.get("tables"):
        (folder / "annotations.json").unlink(missing_ok=True)


def _listed(table: Path) -> list[str]:
    return [row["well"] for row in read_rows(table, "\t")] if table.exists() else []
