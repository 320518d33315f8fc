"""What is in an OMERO.table: its columns, rows and metadata, in one SQLite file of its own.

Every call is one transaction, so several handles may be open on a table, and all see the same rows. (OMERO's own tables
are HDF5 files: one that is downloaded from here is not.)
"""
from __future__ import annotations

import ast
import json
import math
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, contextmanager

import numpy as np
import omero
import omero.grid
from omero.rtypes import rfloat, rint, rlong, rstring, unwrap

from omero_embedded.errors import refuse
from omero_embedded.files.store import Store

MASK_FIELDS = ("imageId", "theZ", "theT", "x", "y", "w", "h", "bytes")
ARRAYS = ("LongArrayColumn", "FloatArrayColumn", "DoubleArrayColumn")
METADATA: dict[str, Callable] = {"RStringI": rstring, "RLongI": rlong, "RIntI": rint, "RFloatI": rfloat}
OPERATORS: dict[type[ast.AST], Callable] = {
    ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.true_divide, ast.Mod: np.mod,
    ast.Pow: np.power, ast.BitAnd: np.bitwise_and, ast.BitOr: np.bitwise_or, ast.BitXor: np.bitwise_xor,
    ast.USub: np.negative, ast.UAdd: np.positive, ast.Invert: np.invert, ast.Eq: np.equal, ast.NotEq: np.not_equal,
    ast.Lt: np.less, ast.LtE: np.less_equal, ast.Gt: np.greater, ast.GtE: np.greater_equal}


class TableFile:
    """One table's file."""

    def __init__(self, store: Store, oid: int):
        self.store, self.id, self.path = store, oid, store.file_path(oid)

    @contextmanager
    def _open(self, write: bool = False):
        if not self.path.exists():
            raise refuse(omero.ValidationException, f"The table {self.id} was deleted.")
        with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=rw", uri=True, timeout=60,
                                     isolation_level=None)) as connection:
            try:
                connection.execute("PRAGMA trusted_schema = OFF")  # a client may have uploaded the file
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                yield connection
                connection.execute("COMMIT")
            except sqlite3.DatabaseError as wrong:
                raise refuse(omero.ValidationException, f"This original file is no table: {wrong}.") from None

    def headers(self) -> list:
        """The columns, without values. Raises ApiUsageException where the table is not initialized."""
        found = []
        if self.path.exists() and self.path.stat().st_size:
            with self._open() as connection:
                found = connection.execute("select kind, name, description, size from header order by position"
                                           ).fetchall()
        if not found:
            raise refuse(omero.ApiUsageException, "The table is not initialized.")
        return [_column(*one) for one in found]

    def initialize(self, columns: Sequence) -> None:
        _check_new(columns)
        try:
            self.headers()
        except omero.ApiUsageException:
            pass
        else:
            raise refuse(omero.ValidationException, "The table is initialized already.")
        with self.store.making_file("originalfile", self.id) as path:
            path.touch()
        with self._open(write=True) as connection:
            connection.execute("create table header (position integer primary key, kind, name, description, size)")
            connection.execute("create table metadata (key text primary key, kind, value)")
            connection.execute(f"create table data (row integer primary key, {', '.join(_places(columns))})")
            connection.executemany("insert into header values (?, ?, ?, ?, ?)", [
                (position, type(one).__name__, one.name, one.description, getattr(one, "size", None))
                for position, one in enumerate(columns)])
            connection.executemany("insert into metadata values (?, ?, ?)", [
                ("__version", "RStringI", "2"), ("__initialized", "RFloatI", time.time())])

    def count(self) -> int:
        self.headers()
        with self._open() as connection:
            return connection.execute("select count(*) from data").fetchone()[0]

    def add(self, columns: Sequence) -> None:
        """Append rows; columns go by their position, whatever their names are."""
        headers = self.headers()
        if len(columns) != len(headers):
            raise refuse(omero.InternalException, f"The table has {len(headers)} columns, not {len(columns)}.")
        values = [_encoded(header, one) for header, one in zip(headers, columns)]
        if len({len(one) for one in values}) > 1:
            raise refuse(omero.ValidationException, "The columns have different numbers of values.")
        with self._open(write=True) as connection:
            first = connection.execute("select count(*) from data").fetchone()[0]
            marks = ", ".join("?" * (len(values) + 1))
            connection.executemany(f"insert into data values ({marks})",
                                   ((first + index, *row) for index, row in enumerate(zip(*values))))

    def update(self, rows: Sequence[int], columns: Sequence) -> None:
        """Write over some rows of the columns with these names."""
        headers = self.headers()
        places = {one.name: place for place, one in enumerate(headers)}
        self._check_rows(rows)
        if unknown := [one.name for one in columns if one.name not in places]:
            raise refuse(omero.ApiUsageException, f"The table has no column {unknown[0]}.")
        with self._open(write=True) as connection:
            for one in columns:
                values = _encoded(headers[places[one.name]], one)
                if len(values) != len(rows):
                    raise refuse(omero.ValidationException, f"{one.name} has not {len(rows)} values.")
                connection.executemany(f"update data set c{places[one.name]} = ? where row = ?", zip(values, rows))

    def read(self, columns: Sequence[int], rows: Sequence[int] | range):
        """Some rows of some columns, as omero.grid.Data."""
        headers = self.headers()
        if any(not 0 <= place < len(headers) for place in columns):
            raise refuse(omero.ApiUsageException, f"The table has the columns 0 to {len(headers) - 1}.")
        self._check_rows(rows)
        wanted = ", ".join(f"c{place}" for place in columns)
        with self._open() as connection:
            if isinstance(rows, range):
                found = connection.execute(f"select {wanted} from data where row >= ? and row < ? order by row",
                                           (rows.start, rows.stop)).fetchall()
            else:
                by_row = {row: values for row, *values in connection.execute(
                    f"select row, {wanted} from data where row in (select value from json_each(?))",
                    (json.dumps(list(rows)),))}
                found = [by_row[row] for row in rows]
        for number, place in enumerate(columns):
            _decode(headers[place], [row[number] for row in found])
        return omero.grid.Data(0, list(rows), [headers[place] for place in columns])

    def _check_rows(self, rows: Sequence[int] | range) -> None:
        count = self.count()
        if len(rows) and not (min(rows) >= 0 and max(rows) < count):
            raise refuse(omero.InternalException, f"The table has {count} rows.")

    def where(self, condition: str, variables: dict, start: int, stop: int, step: int) -> list[int]:
        """The rows that a condition is true for; see FACTS on start, stop and step that are 0."""
        headers, count = self.headers(), self.count()
        tree = _parsed(condition)
        if not stop and not step:
            if not 0 <= start < count:
                raise refuse(omero.InternalException, f"There is no row {start} in {count} rows.")
            rows = range(start, start + 1)
        else:
            rows = range(*slice(start, stop or None, step or 1).indices(count))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        known: dict[str, object] = {name: unwrap(value) for name, value in (variables or {}).items()}
        if any(isinstance(known.get(name), str) for name in names):
            raise refuse(omero.InternalException, "A text can't be a variable: write it into the condition.")
        places = [place for place, one in enumerate(headers) if one.name in names]
        if missing := names - set(known) - {one.name for one in headers}:
            raise refuse(omero.ApiUsageException, f"There is no column and no variable {min(missing)}.")
        for one in self.read(places, range(count)).columns if places else ():
            known[one.name] = np.asarray(one.values)
        found = np.broadcast_to(np.asarray(_evaluated(tree.body, known)), (count,))
        if found.dtype != bool:
            raise refuse(omero.ApiUsageException, f"{condition!r} is not a condition.")
        return [row for row in rows if found[row]]

    def metadata(self) -> dict:
        self.headers()
        with self._open() as connection:
            return {key: METADATA[kind](value)
                    for key, kind, value in connection.execute("select key, kind, value from metadata")}

    def set_metadata(self, values: dict) -> None:
        self.headers()
        for key, value in values.items():
            if type(value).__name__ not in METADATA:
                raise refuse(omero.ValidationException, f"{key} is a {type(value).__name__}: metadata are strings, "
                                                        "longs, ints and floats.")
        with self._open(write=True) as connection:
            connection.executemany("replace into metadata values (?, ?, ?)", [
                (key, type(value).__name__, value.val) for key, value in values.items()])


def _column(kind: str, name: str, description: str, size: int | None):
    """A column without values."""
    made = getattr(omero.grid, kind)()
    made.name, made.description = name, description
    if size is not None:
        made.size = size
    _decode(made, [])
    return made


def _places(columns: Sequence) -> list[str]:
    return [f"c{place}" for place in range(len(columns))]


def _check_new(columns: Sequence) -> None:
    names = [one.name for one in columns if one is not None]
    if not names or len(names) != len(columns) or not all(names) or len(set(names)) != len(names):
        raise refuse(omero.ApiUsageException, "A table needs columns, each with a name of its own.")
    if any("/" in name for name in names):
        raise refuse(omero.InternalException, "A column's name can't have a slash in it.")
    if any(getattr(one, "size", 1) < 1 for one in columns):
        raise refuse(omero.ApiUsageException, "The size of a column of texts or arrays is 1 at least.")


def _encoded(header, given) -> list:
    """A column's values as they are stored in the place of `header`."""
    kind = type(header).__name__
    if isinstance(given, omero.grid.MaskColumn):
        rows = zip(*(getattr(given, name) or () for name in MASK_FIELDS))
        return [json.dumps([*row[:-1], bytes(row[-1]).hex()]) for row in rows]
    values = given.values or []
    if kind == "StringColumn":
        texts = [value if isinstance(value, str) else "" for value in values]
        if any(len(text.encode()) > header.size for text in texts):
            raise refuse(omero.ValidationException, f"A text of {header.name} is longer than {header.size} bytes.")
        return texts
    if kind in ARRAYS:
        if any(not isinstance(value, list | tuple) or len(value) != header.size for value in values):
            raise refuse(omero.ValidationException, f"An array of {header.name} has not {header.size} values.")
        return [json.dumps(list(value)) for value in values]
    make = {"BoolColumn": bool, "DoubleColumn": float}.get(kind, int)
    # a text in the place of a number is nothing that could be read again: OMERO keeps its bytes, here it is 0
    return [make(value) if isinstance(value, bool | int | float) else make(0) for value in values]


def _decode(header, stored: list) -> None:
    """Give a column the values that are stored in its place."""
    kind = type(header).__name__
    if kind == "MaskColumn":
        rows = [json.loads(one) for one in stored]
        for place, name in enumerate(MASK_FIELDS[:-1]):
            setattr(header, name, [row[place] for row in rows])
        header.bytes = [bytes.fromhex(row[-1]) for row in rows]
    elif kind in ARRAYS:
        header.values = [json.loads(one) for one in stored]
    elif kind == "DoubleColumn":
        header.values = [math.nan if one is None else one for one in stored]  # SQLite has no NaN but null
    elif kind == "BoolColumn":
        header.values = [bool(one) for one in stored]
    else:
        header.values = stored


def _parsed(condition: str) -> ast.Expression:
    try:
        return ast.parse((condition or "").strip(), mode="eval")
    except (SyntaxError, ValueError):
        raise refuse(omero.ApiUsageException, f"{condition!r} is not a condition.") from None


def _evaluated(node: ast.AST, known: dict[str, object]):
    """The value of a condition's part: numbers, texts, and arrays of them for columns."""
    if isinstance(node, ast.Name):
        return known[node.id]
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str | bytes):
        return node.value.decode() if isinstance(node.value, bytes) else node.value
    try:
        if isinstance(node, ast.UnaryOp):
            return OPERATORS[type(node.op)](_evaluated(node.operand, known))
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](_evaluated(node.left, known), _evaluated(node.right, known))
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            left, right = _evaluated(node.left, known), _evaluated(node.comparators[0], known)
            if (np.asarray(left).dtype.kind == "U") != (np.asarray(right).dtype.kind == "U"):
                raise refuse(omero.InternalException, "A text can be compared with a text only.")
            return OPERATORS[type(node.ops[0])](left, right)
    except (KeyError, TypeError) as wrong:
        raise refuse(omero.ApiUsageException, f"That can't be asked of these columns: {wrong}") from None
    raise refuse(omero.ApiUsageException, "A condition is made of columns, variables, values, comparisons, arithmetic, "
                                          "and &, | and ~.")
