"""What OMERO says about the contents of a plate's wells: key-value pairs, and tables of bulk annotations.

Key-value pairs are map annotations of the wells, as OMERO.web shows and edits them. Bulk annotations are the
OMERO.tables that omero-metadata's `populate` attaches to plates and screens. Annotations that this software writes as
results are left out. The number of calls does not depend on the number of wells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import omero
from omero.gateway import BlitzGateway

from openhcs_omero.errors import PlateMapError
from openhcs_omero.omero import queries
from openhcs_omero.omero.omero_tables import BULK_ANNOTATIONS
from openhcs_omero.omero.table_columns import CELLS
from openhcs_omero.plates.paths import parse_well
from openhcs_omero.plates.structure import PlateStructure

OWN = "openhcs_omero"  # start of this software's namespaces
_OWN_TABLE = re.compile(rf".* of plate \d+ \({OWN}/.*\)")  # named by tables.py
_PLACE = re.compile(r"(plate|well|image)( name| id)?|row|column|sites?|t|time_s", re.IGNORECASE)
"""Names that say where a row belongs."""


@dataclass(frozen=True)
class WellTexts:
    """One source of what is in the wells of a plate.

    Parameters
    ----------
    place
        What messages call the source.
    cells
        Rows of text: a header that starts with `well`, then one row per well.
    """

    place: str
    cells: list[list[str]]


def read_plate_map(conn: BlitzGateway, plate: PlateStructure) -> tuple[list[WellTexts], list[str]]:
    """Read what OMERO says about the wells of a plate.

    Parameters
    ----------
    plate
        The plate with all of its wells.

    Returns
    -------
    list of WellTexts, list of str
        The sources that say something, and sentences about tables that can't be used.

    Raises
    ------
    PlateMapError
        If a table can't be read.
    """
    sources, notes = [], []
    pairs = _read_pairs(conn, plate)
    if pairs is not None:
        sources.append(pairs)
    wells = {well.well_db_id: name for name, well in plate.wells.items()}
    for file_id, name in _tables(conn, plate.plate_id):
        place = f"the table {name} of plate {plate.plate_id} in OMERO"
        found = _read_table(conn, file_id, plate.plate_id, wells, place)
        if isinstance(found, str):
            notes.append(f"{place} is not used as a plate map: {found}")
        elif len(found) > 1:
            sources.append(WellTexts(place, found))
    return sources, notes


def _read_pairs(conn: BlitzGateway, plate: PlateStructure) -> WellTexts | None:
    """The key-value pairs of all wells; several values for one key are joined by a semicolon."""
    rows = queries.rows(
        conn,
        "select w.row, w.column, mv.name, mv.value, a.ns from MapAnnotation a join a.mapValue mv, "
        "WellAnnotationLink l join l.parent w where l.child.id = a.id and w.plate.id = :id order by a.id",
        id=plate.plate_id,
    )
    wells: dict[str, dict[str, list[str]]] = {}
    places = {(well.row, well.col): known for known, well in plate.wells.items()}
    for row, column, name, value, namespace in rows:
        if (
            (row, column) in places
            and name
            and value
            and not (namespace or "").startswith(f"{OWN}/")
            and not _PLACE.fullmatch(name.strip())
        ):
            values = wells.setdefault(places[row, column], {}).setdefault(name.strip(), [])
            if value.strip() not in values:
                values.append(value.strip())
    if not wells:
        return None
    names = sorted({name for pairs in wells.values() for name in pairs})
    cells = [
        [well, *("; ".join(sorted(wells[well].get(name, []))) for name in names)]
        for well in sorted(wells, key=parse_well)
    ]
    return WellTexts(f"the key-value pairs of plate {plate.plate_id} in OMERO", [["well", *names], *cells])


def _tables(conn: BlitzGateway, plate_id: int) -> list[tuple[int, str]]:
    """File id and name of the bulk annotations of the plate and its screens, the plate's first."""
    found: dict[int, str] = {}
    for link, where in (
        ("Plate", "l.parent.id = :id"),
        ("Screen", "l.parent.id in (select s.parent.id from ScreenPlateLink s where s.child.id = :id)"),
    ):
        rows = queries.rows(
            conn,
            f"select f.id, f.name from FileAnnotation a join a.file f, {link}AnnotationLink l "
            f"where l.child.id = a.id and a.ns = :ns and {where} order by a.id",
            id=plate_id,
            ns=BULK_ANNOTATIONS,
        )
        found |= {file: name for file, name in rows if not _OWN_TABLE.fullmatch(name)}
    return list(found.items())


def _read_table(
    conn: BlitzGateway, file_id: int, plate_id: int, wells: Mapping[int, str], place: str
) -> list[list[str]] | str:
    """The rows of a table about these wells, with a header; or why the table has none."""
    options = queries.context(conn, queries.ALL_GROUPS)
    try:
        table = conn.c.sf.sharedResources().openTable(omero.model.OriginalFileI(file_id, False), options)
        if table is None:
            raise PlateMapError(f"{place} can't be read: the server does not open it")
        try:
            return _content(table, plate_id, wells, options)
        finally:
            table.close(options)
    except omero.ServerError as error:
        raise PlateMapError(f"{place} can't be read: {(error.message or '').strip() or type(error).__name__}") from None


def _content(table: Any, plate_id: int, wells: Mapping[int, str], options: Any) -> list[list[str]] | str:
    headers = table.getHeaders(options)
    numbers = {type(column): number for number, column in reversed(list(enumerate(headers)))}
    if numbers.keys() & {omero.grid.ImageColumn, omero.grid.RoiColumn}:
        return "its rows are about images, not wells"
    if omero.grid.WellColumn not in numbers:
        return "it has no column of wells"
    rows = _rows_of(table, numbers.get(omero.grid.PlateColumn), plate_id, options)
    kept = [n for n, column in enumerate(headers) if not _PLACE.fullmatch(column.name.strip())]
    values = _slices(table, [numbers[omero.grid.WellColumn], *kept], rows, options)
    made = [["well", *(headers[n].name.strip().replace("\\", "/") for n in kept)]]
    for well, *texts in zip(*values):
        if well in wells:  # a table of a screen has the wells of other plates, too
            made.append([wells[well], *map(_text, texts)])
    return made


def _rows_of(table: Any, plates: int | None, plate_id: int, options: Any) -> list[int]:
    """The numbers of the rows that are about a plate; all rows if there is no column of plates."""
    count = table.getNumberOfRows(options)
    if plates is None or count == 0:
        return list(range(count))
    found = table.read([plates], 0, count, options).columns[0].values
    return [row for row, plate in enumerate(found) if plate == plate_id]


def _slices(table: Any, columns: list[int], rows: list[int], options: Any) -> list[list[Any]]:
    values: list[list[Any]] = [[] for _ in columns]
    step = max(1, CELLS // len(columns))
    for start in range(0, len(rows), step):
        part = table.slice(columns, rows[start : start + step], options)
        for known, column in zip(values, part.columns):
            known.extend(column.values)
    return values


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.10g}"
    return str(value).strip()
