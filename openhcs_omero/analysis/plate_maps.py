"""Plate maps: what is in each well, from files to one table with one row per well.

Some columns have a meaning: `compound`, `concentration`, `control` (positive, negative, empty, none), `replicate`,
`cell_line` and `batch`. All others are carried along. A unit in a header, as in `concentration (uM)`, stays in it.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from openhcs_omero.analysis.sheets import Sheet, SheetPart, parse_sheet, read_sheets, split_unit
from openhcs_omero.errors import PlateMapError, brief, first_of
from openhcs_omero.plates.paths import parse_well

CONTROLS = ("positive", "negative", "empty", "none")
KEYS = ["plate", "well"]
PLACE = (
    *("plate", "well", "row", "column", "acquisition", "site"),
    *("sites", "sites_excluded", "skipped_sites", "skipped_planes", "t", "time_s", "acquired_s"),
)
"""Columns of the tables that say where a row is, and measure nothing."""
ALWAYS_TEXT = ("compound", "replicate", "cell_line", "batch", "control")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_WILDCARDS = re.compile(r"[*?\[]")
LONGEST_NUMBER, MOST_PATTERNS = 100, 1000


@dataclass(frozen=True)
class MappedPlate:
    """A plate that a map may speak of.

    Attributes
    ----------
    names
        What maps may call it: its id, its name, its barcode.
    rows, columns
        Its size; 32 x 48, the largest, where it is not known.
    """

    names: tuple[str, ...]
    rows: int = 32
    columns: int = 48


@dataclass(frozen=True)
class PlateMap:
    """What the wells contain.

    Attributes
    ----------
    table
        `plate`, `well` and the properties, one row per well that a map names. Numbers are float64, all else text;
        `control` is one of `CONTROLS` or missing.
    notes
        What was not used of the maps, one sentence each.
    """

    table: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """The properties."""
        return [column for column in self.table.columns if column not in KEYS]


def find_column(columns: Iterable[str], name: str) -> str | None:
    """The column of that name, whatever its unit: `concentration (uM)` for `concentration`; None if there is none."""
    return next((column for column in columns if name in (column, split_unit(column)[0])), None)


def read_plate_map(source: Path, plates: Mapping[str, MappedPlate]) -> PlateMap:
    """Read the maps of these plates and join them.

    Parameters
    ----------
    source
        A CSV, TSV or Excel file, or a folder of them.
    plates
        The plates of the tables, by what the tables call them. A row of a map belongs to the plates that its `plate`
        names, by a name or a pattern such as ``BC00*``. A sheet without that column belongs to the plate that the sheet
        or the file is named for; where it is named for none, to all plates.

    Raises
    ------
    PlateMapError
        If the maps contradict each other or themselves, name a well that its plate doesn't have, or have a value
        that its column can't have. The message names file, row and column.
    """
    return join_sheets(read_sheets(source), plates)


def join_sheets(sheets: Iterable[Sheet], plates: Mapping[str, MappedPlate]) -> PlateMap:
    """Join sheets to one plate map, as `read_plate_map` does for those of files."""
    parts, unused = _parts(sheets)
    for part in parts:
        _check_values(part)
    placed, notes = _place(parts, plates)
    for part, table in placed:
        _check_wells(part, table, plates)
    table = _join(placed)
    order = {plate: number for number, plate in enumerate(plates)}
    places = {well: parse_well(well) for well in table["well"].unique()}
    keys = [(order[plate], *places[well]) for plate, well in zip(table["plate"], table["well"])]
    rows = sorted(range(len(table)), key=keys.__getitem__)
    return PlateMap(_typed(table.iloc[rows].reset_index(drop=True)), unused + notes)


def _parts(sheets: Iterable[Sheet]) -> tuple[list[SheetPart], list[str]]:
    """The parts of all sheets, and sentences on sheets without any, such as notes beside the map in an Excel file."""
    found = [(sheet, parse_sheet(sheet)) for sheet in sheets]
    files = {sheet.file for sheet, parts in found if parts}
    unused = [sheet for sheet, parts in found if not parts]
    for sheet in unused:
        if sheet.file not in files:
            raise PlateMapError(
                f"{sheet.place} is not a plate map: expected a column `well`, or `row` and `column`, "
                "or a grid with 1, 2, 3, ... above rows A, B, C, ..."
            )
    return [part for _, parts in found for part in parts], [
        f"{sheet.place} is not used: it is no plate map" for sheet in unused
    ]


def _is_number(value: str) -> bool:
    return len(value) <= LONGEST_NUMBER and _NUMBER.fullmatch(value) is not None and math.isfinite(float(value))


def _check_values(part: SheetPart) -> None:
    """Check what the columns with a meaning hold, with pandera, and that none holds an error; say the first fault."""
    import pandera.pandas as pa
    from openpyxl.cell.cell import ERROR_CODES

    for name in part.table.columns:
        wrong = part.table.index[part.table[name].isin(ERROR_CODES)]
        if len(wrong):
            raise PlateMapError(
                f"{part.where(int(wrong[0]), name)}: {part.table.loc[wrong[0], name]} is an error of the spreadsheet: "
                "mend the formula, or empty the cell"
            )

    def column(message: str, check: Callable[[str], bool]) -> pa.Column:
        return pa.Column(object, pa.Check(check, element_wise=True, error=message, ignore_na=True), nullable=True)

    columns = {}
    for name in part.table.columns:
        base = split_unit(name)[0]
        if base == "concentration":
            columns[name] = column("is not a number from 0 up", lambda value: _is_number(value) and float(value) >= 0)
        elif base == "control":
            columns[name] = column(f"is not one of {', '.join(CONTROLS)}", lambda value: value.lower() in CONTROLS)
    try:
        pa.DataFrameSchema(columns).validate(part.table, lazy=True)
    except pa.errors.SchemaErrors as error:
        first = error.failure_cases.iloc[0]
        raise PlateMapError(
            f"{part.where(int(first['index']), first['column'])}: {brief(first['failure_case'])} {first['check']}"
        ) from None


def _place(
    parts: list[SheetPart], plates: Mapping[str, MappedPlate]
) -> tuple[list[tuple[SheetPart, pd.DataFrame]], list[str]]:
    """Say of each row which plates it belongs to: `_line` is the number of its row in the part's table."""
    placed: list[tuple[SheetPart, pd.DataFrame]] = []
    general: list[tuple[SheetPart, pd.DataFrame]] = []
    notes = []
    for part in parts:
        table = part.table.assign(_line=range(len(part.table)))
        if "plate" in table.columns:
            named = table["plate"].dropna().unique()
            if sum(_WILDCARDS.search(name) is not None for name in named) > MOST_PATTERNS:
                raise PlateMapError(f"{part.sheet.place} has more than {MOST_PATTERNS} patterns for names of plates")
            targets = {name: _plates_called(name, plates) for name in named}
            unknown = [name for name, found in targets.items() if not found]
            if unknown:
                count = int(table["plate"].isin(unknown).sum())
                rows = "1 row is" if count == 1 else f"{count} rows are"
                notes.append(f"{part.sheet.place}: {rows} of plates that are not in this run ({first_of(unknown)})")
            table["plate"] = [targets[name] if isinstance(name, str) else list(plates) for name in table["plate"]]
            placed.append((part, table.explode("plate").dropna(subset="plate").reset_index(drop=True)))
            continue
        own = [
            plate
            for plate, about in plates.items()
            if {*about.names, *(f"plate_{name}" for name in about.names)} & set(part.sheet.names)
        ]
        table["plate"] = [own or list(plates)] * len(table)
        (placed if own else general).append((part, table.explode("plate").reset_index(drop=True)))
    taken = {column for part, _ in placed if "plate" not in part.table.columns for column in part.table.columns}
    for part, table in general:
        shared = taken & set(part.table.columns) - {"well"}
        if shared:  # in a folder with a file for each plate
            notes.append(f"{part.sheet.place} is not used: its name matches no plate of this run")
        else:
            placed.append((part, table))
    return placed, notes


def _plates_called(name: str, plates: Mapping[str, MappedPlate]) -> list[str]:
    exact = [plate for plate, about in plates.items() if name in about.names]
    if exact or not _WILDCARDS.search(name):
        return exact
    return [plate for plate, about in plates.items() if any(fnmatch.fnmatchcase(known, name) for known in about.names)]


def _check_wells(part: SheetPart, table: pd.DataFrame, plates: Mapping[str, MappedPlate]) -> None:
    places = {well: parse_well(well) for well in table["well"].unique()}
    for shape in {(plate.rows, plate.columns) for plate in plates.values()}:
        outside = [well for well, (row, column) in places.items() if row >= shape[0] or column >= shape[1]]
        mine = [plate for plate, about in plates.items() if (about.rows, about.columns) == shape]
        wrong = table[table["well"].isin(outside) & table["plate"].isin(mine)]
        # a grid of a larger plate may be empty where this plate ends
        wrong = wrong[wrong.drop(columns=[*KEYS, "_line"]).notna().any(axis=1)] if part.letters else wrong
        if len(wrong):
            first = wrong.iloc[0]
            raise PlateMapError(
                f"{part.where(first['_line'], 'well')}: plate {first['plate']} has no well "
                f"{first['well']}, it has {shape[0]} rows and {shape[1]} columns"
            )
    again = table[table.duplicated(KEYS)]
    if len(again):
        second = again.iloc[0]
        first = table[(table["plate"] == second["plate"]) & (table["well"] == second["well"])].iloc[0]
        raise PlateMapError(
            f"{part.where(second['_line'], 'well')}: well {second['well']} of plate {second['plate']} "
            f"appears twice; the first time in row {part.lines[first['_line']]}"
        )


def _join(placed: list[tuple[SheetPart, pd.DataFrame]]) -> pd.DataFrame:
    """One row per well of a plate, with the columns of all parts; two values for one cell are an error."""
    if not placed:
        return pd.DataFrame(columns=KEYS, dtype=object)
    names = list(dict.fromkeys(name for _, table in placed for name in table.columns if name not in (*KEYS, "_line")))
    _check_units(names)
    joined = []
    for name in names:
        pieces = [
            table[[*KEYS, "_line", name]].assign(_part=number).dropna(subset=name)
            for number, (_, table) in enumerate(placed)
            if name in table.columns
        ]
        values = pd.concat(pieces, ignore_index=True)
        first = values.drop_duplicates(KEYS)
        again = values.merge(first, on=KEYS, suffixes=("", " before"))
        clash = again[again[name] != again[f"{name} before"]]
        if len(clash):
            bad = clash.iloc[0]
            where, before = (placed[bad[f"_part{end}"]][0].where(bad[f"_line{end}"], name) for end in ("", " before"))
            raise PlateMapError(
                f"{where}: {name} of well {bad['well']} of plate {bad['plate']} is {bad[name]!r} here "
                f"and {bad[f'{name} before']!r} in {before}"
            )
        joined.append(first.set_index(KEYS)[name])
    wells = pd.concat([table[KEYS] for _, table in placed]).drop_duplicates()
    return wells.join(pd.concat(joined, axis=1), on=KEYS) if joined else wells


def _check_units(names: list[str]) -> None:
    found = [name for name in names if split_unit(name)[0] == "concentration"]
    if len(found) > 1:
        raise PlateMapError(f"the plate maps give {' and '.join(found)}: write all concentrations in one unit")


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers where a column has only numbers; numbers that begin with 0, as barcodes do, are text."""
    for name in table.columns.difference(KEYS):
        values = table[name].dropna()
        base = split_unit(name)[0]
        if base == "control":
            table[name] = table[name].str.lower()
        elif base == "concentration" or (
            base not in ALWAYS_TEXT and len(values) and all(_is_number(v) and not re.match(r"0\d", v) for v in values)
        ):
            table[name] = pd.to_numeric(table[name]).astype("float64")
    return table


def join_plate_map(table: pd.DataFrame, plate_map: PlateMap) -> pd.DataFrame:
    """Put the map's columns after `plate`, `well` and the other columns that say where a row is.

    Every row of `table` stays. A well that the map doesn't name has missing values.

    Raises
    ------
    PlateMapError
        If a column of the map has the name of one in the table.
    """
    clash = [name for name in plate_map.columns if name in table.columns]
    if clash:
        raise PlateMapError(f"the plate map's column {clash[0]} has the name of a column of measurements: rename it")
    joined = table.merge(plate_map.table, on=KEYS, how="left", validate="many_to_one")
    first = [name for name in PLACE if name in table.columns]
    rest = [name for name in table.columns if name not in first]
    return joined[[*first, *plate_map.columns, *rest]]
