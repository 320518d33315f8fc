"""The content of an OMERO.table: its columns, rows and metadata, in one SQLite file.

Every call is one transaction, so that a table may be open several times, and all see the same rows. OMERO's own tables
are HDF5 files; a table that is downloaded from this server is a SQLite file.
"""

from __future__ import annotations

import copy
import json
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, contextmanager

import numpy as np
import omero
import omero.grid
from omero.rtypes import rfloat, rlong, rstring, unwrap

from omero_embedded.errors import refuse
from omero_embedded.files import conditions
from omero_embedded.files.cells import NUMBER, as_stored, cell, cell_bytes, decode, encoded
from omero_embedded.files.store import Store
from omero_embedded.limits import check_bytes

METADATA: dict[str, Callable] = {"RStringI": rstring, "RLongI": rlong, "RIntI": rlong, "RFloatI": rfloat}
RESERVED_IN_HDF5 = re.compile("_[cfgv]_")
RESERVED = "__"  # the prefix of names that the server uses itself
# Bytes of a column's description in the HDF5 header, without its name. OMERO's header has 64 KB at most.
HEADER_BYTES = 65_527
DESCRIPTION_BYTES = {
    "DoubleColumn": 52,
    "StringColumn": 40,
    "MaskColumn": 424,
    "LongArrayColumn": 64,
    "FloatArrayColumn": 72,
    "DoubleArrayColumn": 72,
}
NUMBER_BYTES = 44  # of a column of integers, ids or booleans


class TableFile:
    """The file of one table."""

    def __init__(self, store: Store, oid: int):
        self.store, self.id, self.path = store, oid, store.file_path(oid)
        self.opened = int(time.time() * 1000)  # in milliseconds; what reads call the last modification

    @contextmanager
    def _open(self, write: bool = False):
        if not self.path.exists():
            raise refuse(omero.ValidationException, f"The table {self.id} was deleted.")
        with closing(
            sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=rw", uri=True, timeout=60, isolation_level=None)
        ) as connection:
            try:
                connection.execute("PRAGMA trusted_schema = OFF")  # a client may have uploaded the file
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                yield connection
                connection.execute("COMMIT")
            except sqlite3.DatabaseError as wrong:
                raise refuse(omero.ValidationException, f"This original file is not a table: {wrong}.") from None

    def is_other(self) -> bool:
        """Whether the file has content that is not a table."""
        if not self.path.exists() or not self.path.stat().st_size:
            return False
        try:
            self.headers()
        except omero.ValidationException:
            return True
        except omero.ApiUsageException:  # it is not initialized
            pass
        return False

    def headers(self) -> list:
        """The columns, without values; ApiUsageException if the table is not initialized."""
        found = []
        if self.path.exists() and self.path.stat().st_size:
            with self._open() as connection:
                found = connection.execute(
                    "select kind, name, description, size from header order by position"
                ).fetchall()
        if not found:
            raise refuse(omero.ApiUsageException, "Not yet initialized")
        return [_column(*one) for one in found]

    def initialize(self, columns: Sequence) -> None:
        _check_new(columns)
        try:
            self.headers()
        except omero.ApiUsageException:
            pass
        else:
            raise refuse(omero.ValidationException, "Already initialized.")
        with self.store.making_file("originalfile", self.id) as path:
            path.touch()
        with self._open(write=True) as connection:
            connection.execute("create table header (position integer primary key, kind, name, description, size)")
            connection.execute("create table metadata (key text primary key, kind, value)")
            connection.execute(f"create table data (row integer primary key, {', '.join(_places(columns))})")
            connection.executemany(
                "insert into header values (?, ?, ?, ?, ?)",
                [
                    (position, type(one).__name__, one.name, one.description, getattr(one, "size", None))
                    for position, one in enumerate(columns)
                ],
            )
            connection.executemany(
                "insert into metadata values (?, ?, ?)",
                [("__version", "RStringI", "2"), ("__initialized", "RFloatI", time.time())],
            )

    def count(self) -> int:
        self.headers()
        with self._open() as connection:
            return connection.execute("select count(*) from data").fetchone()[0]

    def add(self, columns: Sequence) -> None:
        """Append rows. The position of a column counts, not its name; `as_stored` says what becomes of other types."""
        headers = self.headers()
        if not columns:
            return
        if len(columns) != len(headers):
            raise refuse(omero.InternalException, f"The table has {len(headers)} columns, not {len(columns)}.")
        values = [encoded(header, one) for header, one in zip(headers, as_stored(headers, columns))]
        if len({len(one) for one in values}) > 1:
            raise refuse(omero.ValidationException, "The columns have different numbers of values.")
        with self._open(write=True) as connection:
            first = connection.execute("select count(*) from data").fetchone()[0]
            marks = ", ".join("?" * (len(values) + 1))
            connection.executemany(
                f"insert into data values ({marks})", ((first + index, *row) for index, row in enumerate(zip(*values)))
            )

    def update(self, rows: Sequence[int], columns: Sequence) -> None:
        """Overwrite some rows of the columns with these names, value by value.

        If a value can't be written, the values before it are, as in OMERO. Texts are cut to the size of their column.
        """
        headers = self.headers()
        places = {one.name: place for place, one in enumerate(headers)}
        count = self._check_rows(rows)
        refused: omero.ServerError | None = None
        with self._open(write=True) as connection:
            try:
                for number, row in enumerate(rows):
                    if row < -count:
                        raise IndexError(f"there are {count} rows")
                    for one in columns:
                        connection.execute(
                            f"update data set c{places[one.name]} = ? where row = ?",
                            (cell(headers[places[one.name]], one, number), row % count),
                        )
            except (omero.ServerError, LookupError, AttributeError, TypeError, ValueError) as wrong:
                refused = refuse(omero.InternalException, f"Row {row} can't be updated: {wrong}")
        if refused is not None:
            raise refused

    def read(self, columns: Sequence[int], start: int, stop: int):
        """Read rows `start` to `stop` of some columns, or all rows if both are 0, as omero.grid.Data.

        The row numbers are the requested ones; values exist only for rows that exist.
        """
        headers, count = self.headers(), self.count()
        self._check_columns(columns, len(headers))
        asked = range(count) if start == stop == 0 else range(start, stop)
        there = range(count)[slice(start, stop) if start or stop else slice(None)]
        check_bytes(len(asked) * NUMBER + len(there) * sum(cell_bytes(headers[place]) for place in columns))
        wanted = ", ".join(f"c{place % len(headers)}" for place in columns)
        with self._open() as connection:
            found = connection.execute(
                f"select {wanted} from data where row >= ? and row < ? order by row", (there.start, there.stop)
            ).fetchall()
        return self._data([headers[place] for place in columns], found, asked)

    def read_rows(self, columns: Sequence[int], rows: Sequence[int]):
        """Read some rows of some columns, in any order."""
        headers = self.headers()
        self._check_columns(columns, len(headers))
        count = self._check_rows(rows)
        check_bytes(len(rows) * (NUMBER + sum(cell_bytes(headers[place]) for place in columns)))
        places = [row % count if -count <= row < 0 else row for row in rows]  # -1 is the last row
        wanted = ", ".join(f"c{place % len(headers)}" for place in columns)
        with self._open() as connection:
            by_row = {
                row: values
                for row, *values in connection.execute(
                    f"select row, {wanted} from data where row in (select value from json_each(?))",
                    (json.dumps(list(places)),),
                )
            }
        if missing := set(places) - set(by_row):
            raise refuse(omero.InternalException, f"There is no row {min(missing)}.")
        return self._data([headers[place] for place in columns], [by_row[row] for row in places], rows)

    def _data(self, headers: list, found: Sequence, rows: Sequence[int]):
        """Make omero.grid.Data of stored cells, row by row."""
        columns = [copy.copy(one) for one in headers]  # a column may be asked for twice
        for number, one in enumerate(columns):
            decode(one, [row[number] for row in found])
        return omero.grid.Data(self.opened, list(rows), columns)

    def _check_columns(self, columns: Sequence[int], width: int) -> None:
        if not len(columns):
            raise refuse(omero.ApiUsageException, "Columns not specified: []")
        if max(columns) >= width:
            raise refuse(omero.ApiUsageException, f"Column overflow: {max(columns)} >= {width}")
        if min(columns) < -width:
            raise refuse(omero.InternalException, f"There is no column {min(columns)}.")

    def _check_rows(self, rows: Sequence[int]) -> int:
        """Refuse rows beyond the end; return the number of rows."""
        count = self.count()
        if not len(rows):
            raise refuse(omero.ApiUsageException, "Rows not specified: []")
        if max(rows) >= count:
            raise refuse(omero.ApiUsageException, f"Row overflow: {max(rows)} >= {count}")
        return count

    def where(self, condition: str, variables: dict, start: int, stop: int, step: int) -> list[int]:
        """The rows that a condition is true for; see FACTS on start, stop and step that are 0."""
        headers, count = self.headers(), self.count()
        if not stop and not step:
            if not -count <= start < count:
                raise refuse(omero.InternalException, f"There is no row {start} in {count} rows.")
            rows = range(start % count, start % count + 1)
        else:
            if step < 0:
                raise refuse(omero.ApiUsageException, "The step has to be 1 or more.")
            rows = range(*slice(start, stop or None, step or 1).indices(count))
        known = {name: unwrap(value) for name, value in (variables or {}).items()}
        found = conditions.true_for(condition or "", headers, known, lambda place: self._values(headers, place), count)
        return [row for row in rows if found[row]]

    def _values(self, headers: list, place: int) -> np.ndarray:
        """Read all values of a column; texts as bytes."""
        with self._open() as connection:
            found = [row[0] for row in connection.execute(f"select c{place} from data order by row")]
        kind = type(headers[place]).__name__
        if kind == "StringColumn":
            texts = [text.encode() for text in found]
            check_bytes(len(texts) * max(map(len, texts), default=0))
            return np.array(texts, "S")
        if kind == "DoubleColumn":
            return np.array(found, np.float64)  # None becomes NaN
        return np.array(found, bool if kind == "BoolColumn" else np.int64)

    def metadata(self) -> dict:
        self.headers()
        with self._open() as connection:
            return {
                key: METADATA[kind](value)
                for key, kind, value in connection.execute("select key, kind, value from metadata")
            }

    def set_metadata(self, values: dict, replace: bool = False) -> None:
        """Save metadata. With `replace`, they replace all earlier ones except the server's own."""
        self.headers()
        for key, value in values.items():
            if not key:
                raise refuse(omero.InternalException, "The empty string is not allowed as a name.")
            if key.startswith(RESERVED):
                raise refuse(omero.ApiUsageException, f"Reserved attribute name: {key}")
            if type(value).__name__ not in METADATA:
                raise refuse(
                    omero.ValidationException,
                    f"{key} is a {type(value).__name__}: metadata are strings, longs, ints and floats.",
                )
        with self._open(write=True) as connection:
            if replace:
                connection.execute("delete from metadata where substr(key, 1, 2) <> ?", (RESERVED,))
            connection.executemany(
                "replace into metadata values (?, ?, ?)",
                [(key, type(value).__name__, value.val) for key, value in values.items()],
            )


def _column(kind: str, name: str, description: str, size: int | None):
    """Copy a column without its values."""
    made = getattr(omero.grid, kind)()
    made.name, made.description = name, description
    if size is not None:
        made.size = size
    decode(made, [])
    return made


def _places(columns: Sequence) -> list[str]:
    return [f"c{place}" for place in range(len(columns))]


def _check_new(columns: Sequence) -> None:
    names = [one.name for one in columns if one is not None]
    if not names or len(names) != len(columns) or not all(names) or len(set(names)) != len(names):
        raise refuse(omero.ApiUsageException, "A table needs columns, each with a name of its own.")
    if reserved := [name for name in names if name.startswith(RESERVED)]:
        raise refuse(omero.ApiUsageException, f"Reserved column name: {reserved[0]}")
    if any("/" in name or RESERVED_IN_HDF5.match(name) for name in names):
        raise refuse(omero.InternalException, "The name of a column can't contain a slash, or begin with _c_ or _v_.")
    if not all(one.description.isascii() for one in columns if one.description):
        raise refuse(omero.InternalException, "The description of a column has to be ASCII.")
    if any(getattr(one, "size", 1) < 1 for one in columns):
        raise refuse(omero.ApiUsageException, "The size of a column of texts or arrays has to be 1 or more.")
    if sum(map(_description_bytes, columns)) > HEADER_BYTES:
        raise refuse(omero.InternalException, f"{len(columns)} columns are too many for the header of a table.")


def _description_bytes(column) -> int:
    """The bytes of a column in the HDF5 header; its name is padded to a multiple of 8."""
    return DESCRIPTION_BYTES.get(type(column).__name__, NUMBER_BYTES) + (len(column.name.encode()) // 8 + 1) * 8
