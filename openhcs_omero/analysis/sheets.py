"""Read the sheets of a plate map: CSV, TSV and Excel files, as lists of wells or as grids.

Two forms are told apart by what is in the sheet:

* a list has a header with `well`, or with `row` and `column`, and one row per well;
* a grid has the column numbers 1, 2, 3, ... above rows A, B, C, ..., and one such block per property. The property's
  name stands in the block's corner or above it; where there is none, it is the name of the sheet or the file.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from openhcs_omero.errors import PlateMapError, brief
from openhcs_omero.plates.paths import parse_well, well_name
from openhcs_omero.spreadsheets import dialect_of, unescape

if TYPE_CHECKING:
    from openpyxl import Workbook

KNOWN = ("plate", "well", "row", "column", "compound", "concentration", "control", "replicate", "cell_line", "batch")
TEXT = (".csv", ".tsv", ".txt")
EXCEL = (".xlsx", ".xlsm")
LARGEST_FILE = 100_000_000  # bytes, unpacked
MOST_COLUMNS, MOST_GRIDS, LONGEST_NAME = 1000, 100, 1000
MOST_ROWS = 32  # of a plate
LARGEST_MERGED = 20_000_000  # bytes of the sheets: merged cells are read with all of the sheet in memory
MOST_CELLS = 5_000_000  # 300 plates of 1536 wells with 10 columns
Cell = TypeVar("Cell")
_COMMA = re.compile(r"[+-]?\d*,?\d+([eE][+-]?\d+)?")
_UNIT = re.compile(r"(.*?)\s*[(\[]\s*([^()\[\]]*?)\s*[)\]]")


@dataclass(frozen=True)
class Sheet:
    """The cells of a text file, or of one sheet of an Excel file.

    Attributes
    ----------
    file
        The file, as messages call it.
    names
        The names of the sheet and of the file: a plate's name, or the property of a grid without a title.
    decimal
        The decimal point of numbers: a comma in some countries.
    """

    file: str
    names: tuple[str, ...]
    cells: list[list[str]]
    decimal: str = "."

    @property
    def place(self) -> str:
        """What messages call it: the file, and the sheet of an Excel file."""
        return self.file if len(self.names) == 1 else f"{self.file}, sheet {self.names[0]}"


@dataclass(frozen=True)
class SheetPart:
    """A list of wells, or one block of a grid.

    Attributes
    ----------
    table
        One row per well, all values text: `well`, `plate` if the sheet has it, and the properties. Empty cells
        are None.
    lines
        For each row of the table, the row of the sheet that it came from, from 1.
    letters
        For each row of the table the letter of the cell's column, in a grid; None in a list.
    """

    sheet: Sheet
    table: pd.DataFrame
    lines: list[int]
    letters: list[str] | None = None

    def where(self, index: int, column: str | None = None) -> str:
        """File, row and column of a value, as messages say it."""
        place = f"{self.sheet.place}, row {self.lines[index]}"
        if self.letters:
            return f"{place}, column {self.letters[index]}"
        return f"{place}, column {column}" if column else place


def split_unit(header: str) -> tuple[str, str]:
    """A header's name and unit: ``concentration (uM)`` is ``("concentration", "uM")``; no unit is an empty text."""
    match = _UNIT.fullmatch(header) if len(header) <= LONGEST_NAME else None
    return (match[1], match[2]) if match else (header, "")


def read_sheets(source: Path) -> list[Sheet]:
    """Read a file, or all maps in a folder in the order of their names.

    Raises
    ------
    PlateMapError
        If there is no map, or a file can't be read.
    """
    if source.is_dir():
        files = sorted(
            file for file in source.iterdir() if file.suffix.lower() in TEXT + EXCEL and file.name[0] not in ".~"
        )
        if not files:
            raise PlateMapError(f"the folder {source} contains no plate map: expected CSV, TSV or Excel (.xlsx) files")
    else:
        files = [source]
    return [sheet for file in files for sheet in _read_file(file)]


def _read_file(file: Path) -> Iterator[Sheet]:
    if not file.exists():
        raise PlateMapError(f"the plate map {file} can't be read: there is no such file or folder")
    ending = file.suffix.lower()
    if not file.is_file() or file.stat().st_size > LARGEST_FILE:
        raise PlateMapError(f"the plate map {file} is no regular file, or larger than {LARGEST_FILE // 10**6} MB")
    if ending not in TEXT + EXCEL:
        raise PlateMapError(f"{file} is not a plate map: expected a file that ends in .csv, .tsv, .txt or .xlsx")
    try:
        if ending in TEXT:
            yield Sheet(str(file), (file.stem,), *_read_text(file))
        else:
            for title, cells in _read_excel(file):
                yield Sheet(str(file), (title, file.stem), cells)
    except OSError as error:
        raise PlateMapError(f"the plate map {file} can't be read: {error.strerror or error}") from None
    except (csv.Error, _TooLarge) as error:  # a quotation mark that is not closed makes the rest of the file one cell
        raise PlateMapError(f"the plate map {file} can't be read: {error}") from None


def _read_text(file: Path) -> tuple[list[list[str]], str]:
    """The cells, and the decimal point of their numbers."""
    dialect = dialect_of(file)
    with file.open(encoding=dialect.encoding, errors="replace", newline="") as text:
        rows = csv.reader(text, delimiter=dialect.delimiter)
        return [[unescape(cell.strip()) for cell in row] for row in _counted(rows)], dialect.decimal


def _counted(rows: Iterable[Sequence[Cell]]) -> Iterator[Sequence[Cell]]:
    """Yield rows until there are too many cells for a plate map."""
    count = 0
    for row in rows:
        count += 1 + len(row)
        if count > MOST_CELLS:
            raise _TooLarge(f"it has more than {MOST_CELLS} cells")
        yield row


class _TooLarge(Exception):
    """There are too many cells."""


def _read_excel(file: Path) -> list[tuple[str, list[list[str]]]]:
    from zipfile import ZipFile

    import openpyxl

    try:
        with ZipFile(file) as archive:
            if sum(part.file_size for part in archive.infolist()) > LARGEST_FILE:
                raise _TooLarge(f"it unpacks to more than {LARGEST_FILE // 10**6} MB")
            parts = [archive.read(part) for part in archive.infolist() if "worksheets/" in part.filename]
        merged = any(b"<mergeCell " in part for part in parts)
        if merged and sum(map(len, parts)) > LARGEST_MERGED:
            raise _TooLarge(f"it has merged cells, and more than {LARGEST_MERGED // 10**6} MB: merge no cells")
        sheets = _cells(openpyxl.load_workbook(file, read_only=not merged, data_only=True))
        if any(b"<f>" in part or b"<f " in part for part in parts):
            _check_formulas(file, sheets, _cells(openpyxl.load_workbook(file, read_only=not merged)))
    except PlateMapError:
        raise
    except Exception as error:  # openpyxl lets all kinds of errors of its parsers through
        raise PlateMapError(f"{file} can't be read as an Excel file: {error or type(error).__name__}") from None
    filled = [(title, cells) for title, cells in sheets if any(cell for row in cells for cell in row)]
    if not filled:
        raise PlateMapError(f"the plate map {file} has no sheet with anything in it")
    return filled


def _cells(book: Workbook) -> list[tuple[str, list[list[str]]]]:
    """The title and cells of each sheet. Each of merged cells has the value that is shown in them."""
    try:
        sheets = []
        for sheet in book.worksheets:
            rows = [[_as_text(value) for value in row] for row in _counted(sheet.iter_rows(values_only=True))]
            for area in sheet.merged_cells.ranges if hasattr(sheet, "merged_cells") else ():
                for row, column in itertools.chain.from_iterable(area.rows):
                    rows[row - 1][column - 1] = rows[area.min_row - 1][area.min_col - 1]
            sheets.append((sheet.title, rows))
        return sheets
    finally:
        book.close()


def _check_formulas(file: Path, sheets: Sequence[tuple[str, list[list[str]]]], formulas: Sequence[Any]) -> None:
    """Refuse a formula without a value: programs that write Excel files often leave it to Excel to compute it."""
    for (title, cells), (_, texts) in zip(sheets, formulas):
        for line, (values, row) in enumerate(zip(cells, texts), 1):
            for column, (value, text) in enumerate(zip(values, row), 1):
                if text and not value and text != '=""':
                    raise PlateMapError(
                        f"{file}, sheet {title}, row {line}, column {column}: the formula {brief(text)} has no value: "
                        "open the file in Excel or LibreOffice and save it"
                    )


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def parse_sheet(sheet: Sheet) -> list[SheetPart]:
    """The list of wells, or the blocks of the grid, in a sheet; nothing if it has neither form.

    Raises
    ------
    PlateMapError
        If a header stands twice, a grid lacks a row or a column, or what should be a well is none.
    """
    blocks = list(itertools.islice(_find_blocks(sheet.cells), MOST_GRIDS + 1))
    if len(blocks) > MOST_GRIDS:
        raise PlateMapError(f"{sheet.place} has more than {MOST_GRIDS} grids")
    for block in blocks:
        _check_end(sheet, *block)
    if blocks:
        _check_no_list(sheet, blocks)
        return [_with_points(_parse_block(sheet, *block, alone=len(blocks) == 1)) for block in blocks]
    for number, row in enumerate(sheet.cells):
        headers = [_header(cell) for cell in row]
        if "well" in headers or {"row", "column"} <= set(headers):
            return [_with_points(_parse_list(sheet, number, headers))]
    return []


def _check_no_list(sheet: Sheet, blocks: Sequence[tuple[int, int, int, int]]) -> None:
    """Refuse a list of wells in a sheet with grids, of which only the grids would be read."""
    for number, row in enumerate(sheet.cells):
        inside = [(left, left + columns) for top, left, rows, columns in blocks if top <= number <= top + rows]
        headers = {_header(cell) for n, cell in enumerate(row) if not any(low <= n <= high for low, high in inside)}
        if "well" in headers or {"row", "column"} <= headers:
            raise PlateMapError(
                f"{sheet.place}, row {number + 1}: a list of wells is beside a grid: give each its own sheet or file"
            )


def _with_points(part: SheetPart) -> SheetPart:
    """Write numbers with a decimal point, in columns that have nothing but numbers and in concentrations."""
    if part.sheet.decimal == ",":
        for name, column in part.table.items():
            commas = column.dropna().str.fullmatch(_COMMA)
            if split_unit(str(name))[0] == "concentration" or commas.all():
                part.table[name] = column.str.replace(",", ".")
    return part


def _header(cell: str) -> str:
    """The header as tables have it: names with a meaning are written as this package writes them."""
    name, unit = split_unit(cell)
    known = re.sub(r"[\s-]+", "_", name.lower())
    if known not in KNOWN:
        return cell
    return f"{known} ({unit})" if unit else known


def _parse_list(sheet: Sheet, start: int, headers: list[str]) -> SheetPart:
    filled = [header for header in headers if header]
    if len(filled) > MOST_COLUMNS:
        raise PlateMapError(
            f"{sheet.place}, row {start + 1}: there are {len(filled)} columns, more than {MOST_COLUMNS}"
        )
    for header in filled:
        if filled.count(header) > 1:
            raise PlateMapError(f"{sheet.place}, row {start + 1}: the column {header} appears twice")
        if len(header) > LONGEST_NAME:
            raise PlateMapError(f"{sheet.place}, row {start + 1}: a column has a name of {len(header)} characters")
    rows, lines = [], []
    for line, texts in enumerate(sheet.cells[start + 1 :], start + 2):
        cells = [cell or None for cell in texts]
        if any(cells[len(headers) :]) or any(cell for header, cell in zip(headers, cells) if not header):
            raise PlateMapError(f"{sheet.place}, row {line}: there is a value in a column without a header")
        if any(cells):
            row = {header: cell for header, cell in zip(headers, cells + [None] * len(headers)) if header}
            row["well"] = _well_of(row, f"{sheet.place}, row {line}")
            rows.append({key: value for key, value in row.items() if key not in ("row", "column")})
            lines.append(line)
    columns = [header for header in dict.fromkeys([*filled, "well"]) if header not in ("row", "column")]
    return SheetPart(sheet, pd.DataFrame(rows, columns=columns, dtype=object), lines)


def _well_of(row: dict[str, str | None], place: str) -> str:
    """The well's name in the form A01, from `well` or from `row` (a letter or a number from 1) and `column`."""
    names = []
    if row.get("well"):
        names.append(str(row["well"]))
    letter, column = row.get("row"), row.get("column")
    if letter and column:
        if letter.isdecimal() and 1 <= int(letter) <= 702:
            letter = _row_letters(int(letter) - 1)
        names.append(f"{letter}{column}")
    if not names:
        raise PlateMapError(f"{place}: no well is named")
    try:
        wells = [well_name(*parse_well(name)) for name in names]
    except ValueError as error:
        raise PlateMapError(f"{place}: {error}") from None
    if len(set(wells)) > 1:
        raise PlateMapError(f"{place}: the well is {wells[0]}, but its row and column are those of {wells[1]}")
    return wells[0]


def _find_blocks(cells: list[list[str]]) -> Iterator[tuple[int, int, int, int]]:
    """Row of the header, column of the letters, number of rows and of columns of each grid, all from 0."""
    for top, row in enumerate(cells[:-1]):
        for left in range(len(row) - 1):
            if not _is_column(row[left + 1], 1):
                continue
            columns = _count(row[left + 1 :], lambda cell, n: _is_column(cell, n + 1))
            below = (line[left] if left < len(line) else "" for line in itertools.islice(cells, top + 1, None))
            rows = _count(below, lambda cell, n: cell.upper() == _row_letters(n))
            if columns >= 2 and rows >= 2:
                yield top, left, rows, columns


def _is_column(cell: str, number: int) -> bool:
    return cell == str(number) or cell == f"{number:02}"


def _row_letters(number: int) -> str:
    return well_name(number, 0).rstrip("0123456789")


def _count(cells: Iterable[str], expected: Callable[[str, int], bool]) -> int:
    """How many of the first cells are as expected."""
    return sum(1 for _ in itertools.takewhile(lambda item: expected(item[1], item[0]), enumerate(cells)))


def _check_end(sheet: Sheet, top: int, left: int, rows: int, columns: int) -> None:
    """Refuse a grid that goes on after a row or a column that it lacks."""
    right = sheet.cells[top][left + 1 + columns :]
    for cell in itertools.takewhile(lambda cell: not _is_column(cell, 1), right):
        if cell.isdecimal() and int(cell) > columns:
            raise PlateMapError(f"{sheet.place}, row {top + 1}: the grid lacks column {columns + 1}, but has {cell}")
    later = {_row_letters(number) for number in range(rows, MOST_ROWS)}
    for number, line in enumerate(sheet.cells[top + 1 + rows :], top + 2 + rows):
        values = [cell for cell in line[left + 1 : left + 1 + columns] if cell]
        if values and _is_column(values[0], 1):
            break  # the next grid
        if values and line[left].upper() in later:
            raise PlateMapError(
                f"{sheet.place}, row {number}: the grid lacks row {_row_letters(rows)}, but has {line[left].upper()}"
            )


def _parse_block(sheet: Sheet, top: int, left: int, rows: int, columns: int, *, alone: bool) -> SheetPart:
    from openpyxl.utils import get_column_letter

    name = sheet.cells[top][left] or _title_above(sheet.cells, top)
    if not name:
        if not alone:
            raise PlateMapError(
                f"{sheet.place}, row {top + 1}: this grid has no name: write one in its corner, left of the 1"
            )
        name = sheet.names[0]
    wells, values, lines, letters = [], [], [], []
    for row in range(rows):
        line = sheet.cells[top + 1 + row]
        for column in range(columns):
            place = left + 1 + column
            wells.append(well_name(row, column))
            values.append((line[place] or None) if place < len(line) else None)
            lines.append(top + row + 2)
            letters.append(get_column_letter(place + 1))
    table = pd.DataFrame({"well": wells, _header(name): values}, dtype=object)
    return SheetPart(sheet, table, lines, letters)


def _title_above(cells: list[list[str]], top: int) -> str:
    """The only filled cell of the row above, or of the one above an empty row."""
    for row in reversed(cells[max(top - 2, 0) : top]):
        filled = [cell for cell in row if cell]
        if len(set(filled)) == 1:  # merged cells repeat it
            return filled[0]
        if filled:
            break
    return ""
