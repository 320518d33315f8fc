"""Tables: what the wells measured, put together."""
from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from openhcs_omero.io.atomic import write

PLACE = ("plate", "well", "row", "column", "site")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], delimiter: str = ",") -> None:
    """Write rows as a table whose columns are all keys, in the order in which they come; no rows, an empty file."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = _Lines()
    if columns:
        table = csv.DictWriter(text, columns, restval="", delimiter=delimiter, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    write(path, "".join(text.lines))


class _Lines:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        self.lines.append(line)


def read_rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    """Read a table that `write_rows` wrote; all values are text."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def read_places(wells: Path) -> dict[str, tuple[int, int]]:
    """Well -> (row, column), from 0, of the table of wells."""
    return {row["well"]: (int(row["row"]), int(row["column"])) for row in read_rows(wells, delimiter="\t")}


def aggregate(wells: Path, folder: Path, features: Path, by_well: Path, objects: Path) -> None:
    """Put the tables of all wells together.

    Parameters
    ----------
    wells
        The table of wells, which gives the order.
    folder
        With `<WELL>.features.csv` (a row a site) and `<WELL>.objects.csv` (a row an object).
    features, by_well, objects
        The tables to write: all sites; a row a well, with the number of its sites and the mean of each numeric feature
        over those that have it; all objects.
    """
    order = read_rows(wells, delimiter="\t")
    sites = [row for well in order for row in _placed(well, folder / f"{well['well']}.features.csv")]
    write_rows(features, sites)
    write_rows(objects, [row for well in order for row in _placed(well, folder / f"{well['well']}.objects.csv")])
    names = list(dict.fromkeys(key for row in sites for key in row if key not in PLACE))
    numeric = [name for name in names if all(is_number(row[name]) for row in sites if row.get(name))]
    write_rows(by_well, [_mean(well, [row for row in sites if row["well"] == well["well"]], numeric) for well in order])


def _placed(well: Mapping[str, str], table: Path) -> Iterator[dict[str, Any]]:
    """The table's rows, with row and column as people count them: A01 is row A, column 1."""
    letters, column = well["well"].rstrip("0123456789"), int(well["column"]) + 1
    for row in read_rows(table):
        yield {"plate": row["plate"], "well": row["well"], "row": letters, "column": column, **row}


def _mean(well: Mapping[str, str], sites: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, Any]:
    place = {key: sites[0][key] for key in ("plate", "well", "row", "column")}
    means = {}
    for name in names:
        values = [float(site[name]) for site in sites if site.get(name)]
        means[name] = f"{sum(values) / len(values):.10g}" if values else ""
    return {**place, "sites": len(sites), **means}


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
