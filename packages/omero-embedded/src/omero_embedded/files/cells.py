"""The cells of OMERO.tables: how values are stored, and what becomes of values of another type."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence

import numpy as np
import omero
import omero.grid

from omero_embedded.errors import refuse

MASK_FIELDS = ("imageId", "theZ", "theT", "x", "y", "w", "h", "bytes")
ARRAYS = ("LongArrayColumn", "FloatArrayColumn", "DoubleArrayColumn")
NUMBER = 8  # bytes of a number in an answer


def as_stored(headers: Sequence, columns: Sequence) -> Sequence:
    """The columns to append, as the table's own columns.

    OMERO does not compare the types of the given columns with those of the table. If they differ, it stores the bytes
    of the rows, whatever they mean in the table: integers for real numbers become other numbers, and a row may become
    several. If the bytes do not fit, OMERO refuses them. A column of texts with another size is another type.

    Raises
    ------
    omero.InternalException
        If the bytes of the rows do not fit the rows of the table.
    """
    wanted, given = [_dtype(one) for one in headers], [_dtype(one) for one in columns]
    if wanted == given:
        return columns
    masks = [place for place, one in enumerate(wanted) if one == ()]
    if masks:
        if [_bytes(one) for one in given] != [_bytes(one) for one in wanted]:
            raise refuse(omero.InternalException, "Columns beside a column of masks can't be stored as wider ones.")
        others = [place for place in range(len(wanted)) if place not in masks]
        kept = as_stored([headers[place] for place in others], [columns[place] for place in others])
        found = dict(zip(others, kept, strict=True))
        return [found.get(place, columns[place]) for place in range(len(wanted))]
    values = [_raw(one) for one in columns]
    if len({len(one) for one in values}) > 1:
        raise refuse(omero.ValidationException, "The columns have different numbers of values.")
    rows = np.array(list(zip(*values)), [(f"f{place}", *one) for place, one in enumerate(given)])
    try:
        rows = rows.view([(f"f{place}", *one) for place, one in enumerate(wanted)])
    except (ValueError, TypeError):
        raise refuse(
            omero.InternalException,
            f"Columns of the types {', '.join(type(one).__name__ for one in columns)} do not fit the table's, "
            f"{', '.join(type(one).__name__ for one in headers)}.",
        ) from None
    return [_with_values(header, _plain(rows[f"f{place}"])) for place, header in enumerate(headers)]


def _dtype(column) -> tuple:
    """NumPy's type of a column's cells, with the shape of arrays; () for masks."""
    kind = type(column).__name__
    if kind == "StringColumn":
        return (f"S{column.size}",)
    if kind in ARRAYS:
        return ({"L": "<i8", "F": "<f4", "D": "<f8"}[kind[0]], (column.size,))
    return {"MaskColumn": (), "BoolColumn": ("?",), "DoubleColumn": ("<f8",)}.get(kind, ("<i8",))


def _bytes(kind: tuple) -> int:
    """The bytes of a cell; 0 for masks."""
    return np.dtype(kind if len(kind) > 1 else kind[0]).itemsize if kind else 0


def _raw(column) -> list:
    """The values of a column as NumPy takes them; refuses texts and arrays that do not fit the column itself."""
    values = encoded(column, column)
    if type(column).__name__ in ARRAYS:
        return [json.loads(one) for one in values]
    return [one.encode() if isinstance(one, str) else one for one in values]


def _plain(values: np.ndarray) -> list:
    found = values.tolist()
    return [one.decode(errors="replace") if isinstance(one, bytes) else one for one in found]


def cell_bytes(column) -> int:
    """The bytes of one cell in an answer, at least; texts are shorter than their column as a rule."""
    return NUMBER * column.size if type(column).__name__ in ARRAYS else 1 if hasattr(column, "size") else NUMBER


def cell(header, given, number: int):
    """One value of a column in the form in which an update stores it."""
    value = given.values[number]
    if isinstance(header, omero.grid.StringColumn):
        return str(value).encode("ascii")[: header.size].decode()
    if type(header).__name__ in ARRAYS and not isinstance(value, list | tuple):
        value = [value] * header.size
    if isinstance(value, float) and not math.isfinite(value) and _dtype(header) == ("<i8",):
        value = -(2**63)  # what NumPy makes of it
    (stored,) = encoded(header, _with_values(header, [value]))
    return stored


def _with_values(header, values: list):
    made = copy.copy(header)
    made.values = values
    return made


def encoded(header, given) -> list:
    """The values of a column in the form in which they are stored under `header`."""
    kind = type(header).__name__
    if isinstance(given, omero.grid.MaskColumn):
        rows = zip(*(getattr(given, name) or () for name in MASK_FIELDS))
        return [json.dumps([*row[:-1], bytes(row[-1]).hex()]) for row in rows]
    values = given.values or []
    if kind == "StringColumn":
        if numbers := [value for value in values if not isinstance(value, str)]:
            raise ValueError(f"{header.name} takes texts, not {numbers[0]!r}")
        texts: list[str] = list(values)
        if any(len(text.encode()) > header.size for text in texts):
            raise refuse(omero.ValidationException, f"A text of {header.name} is longer than {header.size} bytes.")
        return [text.rstrip("\0") for text in texts]
    if kind in ARRAYS:
        if any(not isinstance(value, list | tuple) or len(value) != header.size for value in values):
            raise refuse(omero.ValidationException, f"An array of {header.name} does not have {header.size} values.")
        return [json.dumps(list(value)) for value in values]
    make = {"BoolColumn": bool, "DoubleColumn": float}.get(kind, int)
    return [make(value) for value in values]  # an update may have texts, which OMERO converts


def decode(header, stored: list) -> None:
    """Set the values of a column from the stored ones."""
    kind = type(header).__name__
    if kind == "MaskColumn":
        rows = [json.loads(one) for one in stored]
        for place, name in enumerate(MASK_FIELDS[:-1]):
            setattr(header, name, [row[place] for row in rows])
        header.bytes = [bytes.fromhex(row[-1]) for row in rows]
    elif kind in ARRAYS:
        header.values = [json.loads(one) for one in stored]
    elif kind == "DoubleColumn":
        header.values = [math.nan if one is None else one for one in stored]  # SQLite stores NaN as null
    elif kind == "BoolColumn":
        header.values = [bool(one) for one in stored]
    else:
        header.values = stored
