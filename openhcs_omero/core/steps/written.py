"""What a command wrote: images, labels and tables, and which site each belongs to."""

from __future__ import annotations

import csv
import glob
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from openhcs_omero.core.command import Command
from openhcs_omero.errors import StepError, brief, first_of
from openhcs_omero.io.base import BadData, MissingFile
from openhcs_omero.io.formats import decode_planes

SHOWN = 8  # names in a sentence
LARGEST = 2**28  # bytes of a file that is read, which is in memory as a whole
LARGEST_PER_PIXEL = 128  # bytes of an image for each pixel of the input: 16 pixels of 8 bytes
OBJECT_COLUMNS = ("label", "ObjectNumber")
"""A table with one of these columns, the number of an object, has a row per object; the second is CellProfiler's."""
MISSING = frozenset({"", "na", "nan"})
_NUMBERS = {
    int: re.compile(r"[+-]?\d+", re.ASCII),
    float: re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf", re.ASCII | re.I),
}
Row = dict[str, Any]


@dataclass
class Written:
    """What a command wrote about a site."""

    image: np.ndarray | None = None
    results: Row = field(default_factory=dict)
    objects: list[Row] = field(default_factory=list)
    labels: dict[str, np.ndarray] = field(default_factory=dict)


def read_written(
    command: Command, folder: Path, stems: Mapping[int, str], shapes: Mapping[int, tuple[int, ...]]
) -> dict[int, Written]:
    """Read what a command wrote.

    Parameters
    ----------
    command
        The command.
    folder
        The folder that it wrote to.
    stems
        The names of the images that it got, without their endings, by site and in the order of the sites.
    shapes
        Their shapes (T, C, Z, Y, X), by site.

    Raises
    ------
    StepError
        If something is missing, can't be read, or belongs to no site.
    """
    found = {site: Written() for site in stems}
    if command.image is not None:
        for site, path in _one_each(folder, command.image, stems).items():
            t, c, z = _first_three(shapes[site])
            found[site].image = _read_image(path, folder, [(t, c, z), (t, c, 1)], shapes[site])
    for name, pattern in command.labels.items():
        for site, path in _one_each(folder, pattern, stems).items():
            t, c, z = _first_three(shapes[site])
            found[site].labels[name] = _read_image(path, folder, [(t, c, z), (t, 1, z), (t, 1, 1)], shapes[site])
    tables = [_read_tables(folder, pattern, stems, command.key) for pattern in command.tables]
    of_objects = sum(table.of_objects for table in tables)
    for table in tables:
        _add_table(table, found, command, alone=of_objects == 1, sizes={site: shapes[site][0] for site in stems})
    return found


def _first_three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    t, c, z = shape[:3]
    return t, c, z


# ---- files


def _matching(folder: Path, pattern: str) -> list[str]:
    if not folder.is_dir():
        raise StepError("removed {out}, the folder for its results")
    paths = sorted(glob.glob(pattern, root_dir=folder, recursive=True))
    for path in map(folder.joinpath, paths):
        if not (path.is_file() or path.is_dir()):  # to open a pipe would take forever
            raise StepError(f"wrote {path.name}, which is neither a file nor a folder")
    if not paths:
        written = sorted(path.name for path in folder.iterdir())
        there = f"only {', '.join(written[:5])}{' and more' if len(written) > 5 else ''}" if written else "nothing"
        raise StepError(f"wrote no {pattern!r} to {{out}}, but {there}")
    return paths


def _of_site(paths: Iterable[str], stem: str) -> list[str]:
    """The paths that name a site."""
    name = re.compile(rf"(?<![A-Za-z0-9]){re.escape(stem)}(?!\d)")
    return [path for path in paths if name.search(path)]


def _one_each(folder: Path, pattern: str, stems: Mapping[int, str]) -> dict[int, Path]:
    """The only file of each site that matches a pattern."""
    paths = _matching(folder, pattern)
    chosen = {}
    for site, stem in stems.items():
        own = paths if len(stems) == 1 else _of_site(paths, stem)
        if len(own) != 1:
            count = f"{len(own)} files ({', '.join(own[:3])})" if own else "no file"
            raise StepError(
                f"wrote {count} like {pattern!r} for site {site}; it must write one per site, with {stem} in its name"
            )
        chosen[site] = folder / own[0]
    return chosen


def _read_image(path: Path, folder: Path, sizes: Sequence[tuple[int, int, int]], shape: tuple[int, ...]) -> np.ndarray:
    """Read the image of a site whose input has that shape."""
    name, largest = path.relative_to(folder).as_posix(), max(LARGEST, LARGEST_PER_PIXEL * math.prod(shape))
    try:
        if path.is_dir():
            return _read_zarr(path, name, largest)
        _check_size(name, path.stat().st_size, largest)
        return decode_planes(path.read_bytes(), name, sizes)
    except MissingFile as error:
        raise StepError(f"wrote an image that can't be used: {name} is a folder, but not of OME-Zarr") from error
    except BadData as error:
        raise StepError(f"wrote an image that can't be used: {error}") from error


def _check_size(name: str, size: int, largest: int) -> None:
    if size > largest:
        raise StepError(f"wrote {name} with {size} bytes, but at most {largest} can be read")


def _read_zarr(path: Path, name: str, largest: int) -> np.ndarray:
    from openhcs_omero.io.ome_zarr import read_image  # slow to import

    image = read_image(str(path))
    _check_size(name, math.prod(image.shape) * image.array.dtype.itemsize, largest)
    planes = image.read(list(np.ndindex(image.shape[:3])))
    return np.stack(planes).reshape(image.shape)


# ---- tables


@dataclass
class _Table:
    """The rows of a table by site."""

    name: str
    rows: dict[int, list[Row]]
    of_objects: bool


def _read_tables(folder: Path, pattern: str, stems: Mapping[int, str], key: str | None) -> _Table:
    """Read the tables that match a pattern: one for each site, or one with the sites in the column `key`."""
    paths = _matching(folder, pattern)
    by_site = {site: _of_site(paths, stem) for site, stem in stems.items()}
    if len(stems) == 1:
        by_site = dict.fromkeys(stems, paths)
    named = sum(map(len, by_site.values())) == len(paths)
    if named and not (key and len(paths) == 1):
        for site, own in by_site.items():
            if len(own) != 1:
                raise StepError(f"wrote {len(own)} tables like {pattern!r} for site {site}; it must write one per site")
        read = {site: _read_table(folder, own[0]) for site, own in by_site.items()}
        columns = [column for names, _ in read.values() for column in names]
        rows = {site: [{c: row[c] for c in row if c != key} for row in own] for site, (_, own) in read.items()}
        return _Table(
            Path(pattern).stem.strip("*_- ") or Path(paths[0]).stem, rows, bool(set(OBJECT_COLUMNS) & set(columns))
        )
    if len(paths) > 1:
        raise StepError(f"wrote {len(paths)} tables like {pattern!r}, whose names don't say which site they are of")
    names, together = _read_table(folder, paths[0])
    if key is None:
        raise StepError(f"wrote {paths[0]}, which can't be joined to the sites: name its column for them in `key`")
    if key not in names:
        raise StepError(
            f"wrote {paths[0]} without the column {key!r}, which `key` names; it has {first_of(names, SHOWN)}"
        )
    rows = {site: [] for site in stems}
    for row in together:
        rows[_site_of(row.pop(key), stems, f"{paths[0]}: {key}")].append(row)
    return _Table(Path(paths[0]).stem, rows, bool(set(OBJECT_COLUMNS) & set(names)))


def _site_of(value: Any, stems: Mapping[int, str], where: str) -> int:
    """The site that a value in the key column names: the name of its image, or its number among the images, from 1."""
    if isinstance(value, int | float) and value in range(1, len(stems) + 1):
        return list(stems)[int(value) - 1]
    for site, stem in stems.items():
        if isinstance(value, str) and _of_site([value], stem):
            return site
    raise StepError(
        f"wrote a table that can't be joined to the sites: {where} is {brief(value, 60)}, but the images are "
        f"{first_of(list(stems.values()), SHOWN)}, numbered from 1"
    )


def _read_table(folder: Path, name: str) -> tuple[list[str], list[Row]]:
    """Read a table: the names of its columns, and its rows. A first column without a name, of row numbers, is left out.

    A column whose values are all numbers has numbers. None stands for what is missing.
    """
    _check_size(name, (folder / name).stat().st_size, LARGEST)
    try:
        with (folder / name).open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file, delimiter="," if name.lower().endswith(".csv") else "\t", strict=True))
    except (OSError, UnicodeError, csv.Error) as error:
        raise StepError(f"wrote a table {name} that can't be read: {error}") from None
    lines = [line for line in lines if line]
    if not lines:
        raise StepError(f"wrote an empty table {name}, without the names of its columns")
    header = [column.strip() for column in lines[0]]
    if len(header) == 1 and (other := next((mark for mark in ";\t," if mark in header[0]), "")):
        raise StepError(
            f"wrote a table {name} that is separated by {other!r}: write .csv files with commas, and others with tabs"
        )
    first = 1 if header[0] == "" and len(header) > 1 else 0
    names = header[first:]
    if again := [column for place, column in enumerate(names) if column in names[:place]]:
        raise StepError(f"wrote a table {name} with two columns {brief(again[0])}")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(header):
            raise StepError(
                f"wrote a table {name} whose row {number} has {len(line)} values, but there are {len(header)} columns"
            )
    columns = [_typed([line[place] for line in lines[1:]]) for place in range(first, len(header))]
    return names, [dict(zip(names, values)) for values in zip(*columns)]


def _typed(values: Sequence[str]) -> list[Any]:
    texts = [None if value.strip().lower() in MISSING else value for value in values]
    for kind, number in _NUMBERS.items():
        if all(text is None or number.fullmatch(text.strip()) for text in texts):
            return [None if text is None else kind(text) for text in texts]
    return texts


def _add_table(
    table: _Table, found: Mapping[int, Written], command: Command, alone: bool, sizes: Mapping[int, int]
) -> None:
    """Add a table to what was found about the sites.

    `alone` says that it is the only table of objects; it is then about the only labels, whatever its name.
    """
    labels = table.name if table.name in command.labels else None
    labels = labels or next((name for name in command.labels if name.lower() == table.name.lower()), None)
    if labels is None and alone and len(command.labels) == 1:
        labels = next(iter(command.labels))
    for site, rows in table.rows.items():
        if table.of_objects:
            for row in rows:
                number = row.pop("ObjectNumber", None)
                found[site].objects.append({"label": number, **row, "labels": labels})
            continue
        values = _values(table.name, rows, site, sizes[site])
        if again := sorted(values.keys() & found[site].results):
            raise StepError(f"wrote two tables with the column {brief(again[0])}")
        found[site].results |= values


def _values(name: str, rows: Sequence[Row], site: int, timepoints: int) -> Row:
    """The values of a site: those of its only row, or lists with one value per timepoint."""
    if timepoints > 1 and rows and "t" in rows[0]:
        by_time = {row["t"]: row for row in rows}
        if len(rows) != timepoints or set(by_time) != set(range(timepoints)):
            raise StepError(
                f"wrote the table {name} without one row for each t from 0 to {timepoints - 1}, site {site}"
            )
        return {column: [by_time[t][column] for t in range(timepoints)] for column in rows[0] if column != "t"}
    if len(rows) != 1:
        raise StepError(
            f"wrote the table {name} with {len(rows)} rows for site {site}; it must have one, or a column "
            f"{' or '.join(OBJECT_COLUMNS)} for objects"
        )
    return {column: value for column, value in rows[0].items() if not (column == "t" and timepoints == 1)}
