"""Treatments: what the plate map says about the wells of each plate, in a file that jobs read.

The head process reads the plate maps before anything runs, and writes `treatments.json` to the folder of each plate:
well -> column -> text, number, or None if the map has no value.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs_omero.core.config import IN_OMERO, Settings
from openhcs_omero.core.records import read_record
from openhcs_omero.io.atomic import write_if_changed

if TYPE_CHECKING:
    from openhcs_omero.analysis.plate_maps import MappedPlate, PlateMap
    from openhcs_omero.omero.plate_map import WellTexts

NAME = "treatments.json"
Treatments = Mapping[str, Mapping[str, Any]]
"""Of one plate: well -> column -> value."""


def read_treatments(
    settings: Settings, plates: Mapping[str, MappedPlate], in_omero: Mapping[str, Sequence[WellTexts]]
) -> dict[str, Treatments]:
    """Read the treatments of each plate, by label; empty without a plate map. Notes about the maps are printed.

    Parameters
    ----------
    settings
        The configuration.
    plates
        The plates that the maps may speak of.
    in_omero
        What OMERO says about the wells of each plate, if the plate map is there.

    Raises
    ------
    OpenHCSError
        If the plate map is wrong.
    """
    found: dict[str, Treatments] = {label: {} for label in plates} if settings.has_map else {}
    for source in dict.fromkeys(filter(None, (settings.options[label].plate_map for label in plates))):
        chosen = {label: plate for label, plate in plates.items() if settings.options[label].plate_map == source}
        found |= _of_one_map(source, chosen, in_omero)
    return found


def _of_one_map(
    source: str, plates: Mapping[str, MappedPlate], in_omero: Mapping[str, Sequence[WellTexts]]
) -> dict[str, Treatments]:
    """The treatments of the plates that share a plate map."""
    from openhcs_omero.analysis.plate_maps import KEYS, join_sheets, read_plate_map  # slow to import
    from openhcs_omero.analysis.sheets import Sheet

    if source == IN_OMERO:
        sheets = [Sheet(text.place, (label,), text.cells) for label in plates for text in in_omero[label]]
        found = join_sheets(sheets, {label: replace(plate, names=(label,)) for label, plate in plates.items()})
    else:
        found = read_plate_map(Path(source), plates)
    for note in found.notes:
        print(note, file=sys.stderr)  # stdout may carry the graph of `snakemake --dag`
    table = found.table.astype(object).where(found.table.notna(), None)
    treatments: dict[str, dict[str, dict[str, Any]]] = {label: {} for label in plates}
    for row in table.to_dict("records"):
        treatments[row["plate"]][row["well"]] = {str(key): value for key, value in row.items() if key not in KEYS}
    return dict(treatments)


def write_treatments(settings: Settings, treatments: Mapping[str, Treatments]) -> None:
    """Write the treatments of all plates for the jobs; without a plate map, remove what an earlier run wrote."""
    for label in settings.plates:
        file = settings.folder(label) / NAME
        if label in treatments:
            write_if_changed(file, json.dumps(treatments[label]))
        else:
            file.unlink(missing_ok=True)


def recorded_treatments(folder: Path) -> Treatments:
    """Read the treatments from the folder of a plate; empty if there is no plate map."""
    return read_record(folder / NAME, dict[str, dict[str, Any]]) or {}


class RecordedTreatments(Mapping[str, Treatments]):
    """The treatments that the last run wrote, by label; each plate's file is read on demand."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._read = settings, dict[str, Treatments]()

    def __getitem__(self, label: str) -> Treatments:
        if label not in self._read:
            self._read[label] = recorded_treatments(self._settings.folder(label))
        return self._read[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings.plates)

    def __len__(self) -> int:
        return len(self._settings.plates)


def digest(treatments: object) -> str:
    """A text that changes when the treatments do; empty without treatments."""
    return hashlib.sha256(json.dumps(treatments, sort_keys=True).encode()).hexdigest()[:16] if treatments else ""


def columns_of(treatments: Treatments) -> list[str]:
    """The columns of the plate map."""
    return list(dict.fromkeys(column for well in treatments.values() for column in well))


def as_text(value: Any) -> str:
    """Format a value as in the tables."""
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


def as_plate_map(treatments: Mapping[str, Treatments]) -> PlateMap:
    """Convert the treatments of several plates to the form that the analysis takes."""
    import pandas as pd

    from openhcs_omero.analysis.plate_maps import KEYS, PlateMap

    rows = [
        {"plate": label, "well": well, **values}
        for label, wells in treatments.items()
        for well, values in wells.items()
    ]
    columns = list(dict.fromkeys(column for wells in treatments.values() for column in columns_of(wells)))
    return PlateMap(pd.DataFrame(rows, columns=[*KEYS, *columns]))
