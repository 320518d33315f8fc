"""Tables of a plate: the combined measurements of its wells."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs_omero.core.features import ABOUT_SITES, PLACE, SKIPPED, SKIPPED_PLANES, Features
from openhcs_omero.core.treatments import Treatments, as_text, columns_of
from openhcs_omero.core.well_file import open_part, well_file
from openhcs_omero.errors import PlateMapError
from openhcs_omero.io.atomic import replacing, write
from openhcs_omero.spreadsheets import escape, escape_table, unescape, unescape_table

if TYPE_CHECKING:
    import pandas as pd

Excluded = Mapping[tuple[str, str], str]
"""(well, site) -> the condition because of which no statistic uses the site; all text."""
TEXTS = ("plate", "well", "row", "acquisition", "step", "reason", "log")
"""Columns that are text, even if all their values look like numbers: plates are named 7, or day_1."""


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], delimiter: str = ",") -> None:
    """Write rows as a table, as `csv_of` formats them."""
    write(path, csv_of(rows, delimiter))


def csv_of(rows: Sequence[Mapping[str, Any]], delimiter: str = ",") -> str:
    """Format rows as a table with a column for every key, in order of appearance; "" without rows.

    None and NaN become empty fields.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO(newline="")
    if columns:
        table = csv.writer(text, delimiter=delimiter, lineterminator="\n")
        table.writerow([escape(column) for column in columns])
        table.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return escape(value)
    return None if value != value else value


def read_rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    """Read a table written by `write_rows`; all values are text."""
    with path.open(newline="") as file:
        return parse_rows(file, delimiter)


def parse_rows(lines: Iterable[str], delimiter: str = ",") -> list[dict[str, str]]:
    """Parse a table that `csv_of` formatted; all values are text."""
    header, *rows = [[unescape(cell) for cell in row] for row in csv.reader(lines, delimiter=delimiter)] or [[]]
    return [dict(zip(header, row, strict=True)) for row in rows]


def read_places(wells: Path) -> dict[str, tuple[int, int]]:
    """Read the table of wells as well -> (row, column), from 0."""
    return {row["well"]: (int(row["row"]), int(row["column"])) for row in read_rows(wells, delimiter="\t")}


def read_columns(path: Path) -> dict[str, dict[str, str]]:
    """Read what columns.csv says about the columns of wells.csv, by column."""
    return {row["column"]: row for row in read_rows(path) if row["table"] == "wells.csv"}


def aggregate(
    wells: Path,
    folder: Path,
    tables: Mapping[str, Path],
    declared: Features,
    treatments: Treatments | None = None,
    excluded: Excluded | None = None,
    acquired: pd.Series | None = None,
    skipped: Mapping[str, Sequence[int]] | None = None,
    skipped_planes: Sequence[str] = (),
) -> None:
    """Combine the tables of all wells, as CSV and as Parquet beside each CSV file.

    Parameters
    ----------
    wells
        The table of wells, which determines the order.
    folder
        Folder of the plate, with the files of the processed wells. Wells without rows are left out. The table
        of objects is never in memory as a whole.
    tables
        The CSV files to write: `features`, all sites; `wells`, one row per well (and acquisition and timepoint);
        `objects`, all objects; `columns`, a description of the columns of the first two.
    declared
        The declared features of the steps.
    treatments
        What the plate map says about the wells; its columns follow those that locate a row.
    excluded
        The sites that no statistic uses; they stay in the tables of sites and objects, in whose column `excluded` is
        the condition. None without quality control of images.
    acquired
        When each well was acquired, in seconds, by well; None if that is unknown.
    skipped
        The sites that were left out because planes are missing, by well; the table of wells lists them.
    skipped_planes
        The timepoints, channels and z planes that were left out because no site has them; as above.

    Raises
    ------
    PlateMapError
        If the plate map has a column with the name of a measurement.
    """
    from openhcs_omero.analysis.parquet import write_parquet
    from openhcs_omero.core.statistics import KEYS, summarize

    order = read_rows(wells, delimiter="\t")
    sites = _sites(order, folder)
    marked = _marked(sites, excluded)
    by_well, columns = summarize(_without_excluded(sites, excluded), declared)
    if excluded is not None and len(by_well):
        groups = marked.groupby([key for key in KEYS if key in marked], sort=False)["excluded"]
        number = groups.agg(lambda conditions: str((conditions != "").sum()))
        by_well.insert(list(by_well).index("sites") + 1, "sites_excluded", number.to_numpy())
    if skipped_planes and len(by_well):
        by_well.insert(list(by_well).index("sites") + 1, SKIPPED_PLANES, "; ".join(skipped_planes))
    if skipped and len(by_well):
        texts = {well: " ".join(map(str, numbers)) for well, numbers in skipped.items()}
        by_well.insert(list(by_well).index("sites") + 1, SKIPPED, by_well["well"].map(texts).fillna(""))
    if acquired is not None and len(by_well):
        times = by_well["well"].map(acquired).map("{:.10g}".format)
        by_well.insert(list(by_well).index("sites") + 1, "acquired_s", times)
    mapped = treatments or {}
    write_tables([treated(marked, mapped)], tables["features"])
    write_tables([treated(by_well, mapped)], tables["wells"])
    _write_objects(order, folder, tables["objects"], mapped, excluded)
    columns += [
        {"table": "wells.csv", "column": name, "unit": "", "statistic": "from the plate map", "description": ""}
        for name in columns_of(mapped)
    ]
    if SKIPPED in by_well:
        columns.append({"table": "wells.csv", "column": SKIPPED, "statistic": "sites that lack planes, left out"})
    if SKIPPED_PLANES in by_well:
        columns.append({"table": "wells.csv", "column": SKIPPED_PLANES, "statistic": "planes of no site, left out"})
    if "acquisition" in sites:
        columns.append({"table": "wells.csv", "column": "acquisition", "statistic": "name of the acquisition"})
    write_rows(tables["columns"], columns)
    written = [name for name in columns_of(mapped) if any(isinstance(row.get(name), str) for row in mapped.values())]
    for path in tables.values():
        about = {row["column"]: row for row in columns if row["table"] == path.name}
        write_parquet(path, [*TEXTS, *written], {"time_s": {"unit": "s"}, **about})


def _conditions(table: pd.DataFrame, excluded: Excluded) -> list[str]:
    """The condition that each row's site fulfills; "" if it is not excluded."""
    return [excluded.get(key, "") for key in zip(table["well"], table["site"])]


def _marked(table: pd.DataFrame, excluded: Excluded | None) -> pd.DataFrame:
    """Add the column `excluded`, after those that locate a row."""
    if excluded is None or not len(table.columns):
        return table
    table = table.copy()
    table.insert(sum(name in PLACE for name in table.columns), "excluded", _conditions(table, excluded))
    return table


def _without_excluded(sites: pd.DataFrame, excluded: Excluded | None) -> pd.DataFrame:
    """Blank the measurements of excluded sites."""
    if not excluded or not len(sites.columns):
        return sites
    sites = sites.copy()
    out = [condition != "" for condition in _conditions(sites, excluded)]
    sites.loc[out, [name for name in sites.columns if name not in PLACE]] = ""
    return sites


def in_order(columns: Iterable[str]) -> list[str]:
    """The columns without repeats, those that locate a row first."""
    found = list(dict.fromkeys(columns))
    return [name for name in PLACE if name in found] + [name for name in found if name not in PLACE]


def treated(table: pd.DataFrame, treatments: Treatments) -> pd.DataFrame:
    """Add the columns of the plate map, after those that locate a row; everything is text."""
    if not len(table.columns):
        return table
    table = table.copy()
    first = sum(name in (*PLACE, *ABOUT_SITES) for name in table.columns)
    for number, name in enumerate(columns_of(treatments)):
        if name in table.columns:
            raise PlateMapError(f"the plate map's column {name} has the name of a measurement: rename it")
        values = {well: as_text(columns.get(name)) for well, columns in treatments.items()}
        table.insert(first + number, name, table["well"].map(values).fillna(""))
    return table


def _sites(order: Sequence[Mapping[str, str]], folder: Path) -> pd.DataFrame:
    """The measurements of all sites, all text."""
    import pandas as pd

    rows = [row for well in order for row in _rows(well, folder, "features")]
    return unescape_table(pd.DataFrame(rows, columns=in_order(name for row in rows for name in row)).fillna(""))


def _write_objects(
    order: Sequence[Mapping[str, str]], folder: Path, path: Path, treatments: Treatments, excluded: Excluded | None
) -> None:
    """Write the measurements of all objects, holding only one row in memory at a time."""
    import pandas as pd

    names = in_order(unescape(name) for well in order for name in _header(well, folder, "objects"))
    columns = [escape(str(name)) for name in treated(_marked(pd.DataFrame(columns=names), excluded), treatments)]
    added = columns_of(treatments)
    with replacing(path) as draft, draft.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        if columns:
            table.writerow(columns)
        for well in order:
            known = treatments.get(well["well"], {})
            treatment = {escape(name): escape(as_text(known.get(name))) for name in added}
            for row in _rows(well, folder, "objects"):
                if excluded is not None:
                    row["excluded"] = escape(excluded.get((row["well"], row["site"]), ""))
                row |= treatment
                table.writerow([row.get(name, "") for name in columns])


def _header(well: Mapping[str, str], folder: Path, kind: str) -> list[str]:
    """The columns of a well's table as they are written, with `row` and `column`; empty without rows."""
    with _lines(well, folder, kind) as lines:
        return _with_place(next(lines, []), ["row", "column"])


def _rows(well: Mapping[str, str], folder: Path, kind: str) -> Iterator[dict[str, str]]:
    """The rows of a well's table as they are written, with row and column as people count them: A01 is A and 1."""
    place = [well["well"].rstrip("0123456789"), str(int(well["column"]) + 1)]
    with _lines(well, folder, kind) as lines:
        header = _with_place(next(lines, []), ["row", "column"])
        for cells in lines:
            yield dict(zip(header, _with_place(cells, place), strict=True))


@contextmanager
def _lines(well: Mapping[str, str], folder: Path, kind: str) -> Iterator[Iterator[list[str]]]:
    with open_part(well_file(folder, well["well"]), f"{kind}.csv") as part:
        yield csv.reader(io.TextIOWrapper(part, "utf-8", newline=""))


def _with_place(cells: list[str], place: list[str]) -> list[str]:
    """Cells with those that say where the well is, after plate and well; none without cells."""
    return [*cells[:2], *place, *cells[2:]] if cells else []


def write_tables(parts: Iterable[pd.DataFrame], path: Path, columns: Iterable[str] | None = None) -> None:
    """Write tables below one another, holding only one of them in memory at a time.

    Parameters
    ----------
    parts
        The tables.
    path
        The file to write.
    columns
        The columns of all tables; by default, each table keeps its own.
    """
    first = True
    with replacing(path) as draft, draft.open("w", newline="") as file:
        for part in parts:
            if len(part):
                part = part if columns is None else part.reindex(columns=list(columns), fill_value="")
                escape_table(part).to_csv(file, index=False, header=first, lineterminator="\n")
                first = False


def is_number(text: str) -> bool:
    """Whether a text can be read as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
