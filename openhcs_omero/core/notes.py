"""What people see on the wells of a derived plate: what the plate map says, and tags for hits and excluded sites."""

from __future__ import annotations

from dataclasses import replace

from openhcs_omero.core.config import Settings
from openhcs_omero.core.outputs.base import WellNote
from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.core.treatments import as_text, recorded_treatments

HIT = "hit"
EXCLUDED = "excluded by qc"


def well_notes(settings: Settings, label: str) -> dict[str, WellNote]:
    """Make the notes of a plate's wells from the files in its folder, by well."""
    folder = settings.folder(label)
    notes = {
        well: WellNote({column: as_text(value) for column, value in values.items() if value is not None})
        for well, values in recorded_treatments(folder).items()
    }
    if "hits.csv" in settings.plate_answers:
        for row in read_rows(folder / "hits.csv"):
            _tag(notes, row["well"], HIT, None)
    if settings.has_qc:
        excluded: dict[str, list[int]] = {}
        for row in read_rows(folder / "image_qc.csv"):
            if row.get("excluded"):
                excluded.setdefault(row["well"], []).append(int(row["site"]))
        for well, sites in excluded.items():
            _tag(notes, well, EXCLUDED, sites)
    return notes


def _tag(notes: dict[str, WellNote], well: str, tag: str, sites: list[int] | None) -> None:
    note = notes.get(well, WellNote())
    notes[well] = replace(note, tags={**note.tags, tag: sites})
