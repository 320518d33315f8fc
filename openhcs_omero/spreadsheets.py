"""CSV files of spreadsheet programs: how they are written, and texts that are safe in them.

Spreadsheet programs take a text that begins with `=`, `+`, `-` or `@` for a formula, and a formula can start other
programs. Every CSV that this package writes has an apostrophe before such a text, and everything that reads a CSV
removes it. Numbers, such as -3.2, stay as they are.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

_DECIMAL_COMMA = re.compile(r"(?:^|;)[+-]?\d+,\d+(?:[eE][+-]?\d+)?\s*(?:;|$)", re.MULTILINE)
_NUMBER = re.compile(r"[+-]?((\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|inf|infinity|nan)", re.IGNORECASE | re.ASCII)
# A cell can also begin within a text: in some countries, spreadsheets separate the cells of a CSV file by semicolons
_PLAIN = re.compile(r"(?:^|(?<=[;\t\r\n]))(?='*[=+\-@\t\r\n])")
_ESCAPED = re.compile(r"(?:^|(?<=[;\t\r\n]))'(?='*[=+\-@\t\r\n])")
_MAY_NEED_IT = r"(?:^|[;\t\r\n])'*[=+\-@\t\r\n]"  # without lookaround, which is slow in pandas


class Dialect(NamedTuple):
    """How a CSV file is written.

    Attributes
    ----------
    encoding
        UTF-8, UTF-16 where the file begins with its mark, else Windows-1252.
    delimiter
        A comma, a semicolon or a tab.
    decimal
        The decimal point of numbers: in some countries a comma, and then the delimiter is a semicolon.
    """

    encoding: str
    delimiter: str
    decimal: str


def dialect_of(file: Path) -> Dialect:
    """How a CSV or TSV file is written, by what is in it."""
    encoding = _encoding(file)
    with file.open(encoding=encoding, errors="replace") as text:
        head = text.read(100_000)
    delimiter = "\t" if file.suffix.lower() == ".tsv" else max(",;\t", key=head[:10_000].count)
    return Dialect(encoding, delimiter, "," if delimiter == ";" and _DECIMAL_COMMA.search(head) else ".")


def _encoding(file: Path) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with file.open("rb") as data:
        if data.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
        data.seek(0)
        try:
            while chunk := data.read(1 << 20):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"  # what Excel writes on Windows
    return "utf-8-sig"


def escape(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would run."""
    return text if _NUMBER.fullmatch(text) else _PLAIN.sub("'", text)


def unescape(text: str) -> str:
    """Return the text that `escape` got. A text that `escape` doesn't return stays as it is."""
    plain = _ESCAPED.sub("", text)
    return plain if plain != text and escape(plain) == text else text


def escape_column(column: pd.Series) -> pd.Series:
    """Escape the texts of a column; other values stay."""
    return _convert(column, escape)


def escape_table(table: pd.DataFrame) -> pd.DataFrame:
    """Escape the texts of a table, and the names of its columns."""
    return _convert_table(table, escape)


def unescape_table(table: pd.DataFrame) -> pd.DataFrame:
    """The inverse of `escape_table`."""
    return _convert_table(table, unescape)


def _convert_table(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    table = table.rename(columns=lambda name: _changed(name, change))
    for number, kind in enumerate(table.dtypes):
        if kind.kind not in "iuf":  # of hundreds of columns, few are texts
            converted: Any = _convert(table.iloc[:, number], change)
            table.isetitem(number, converted.array)
    return table


def _convert(column: pd.Series, change: Callable[[str], str]) -> pd.Series:
    from pandas.api import types  # takes half a second, so only tables import it

    if types.is_numeric_dtype(column.dtype) or types.is_datetime64_any_dtype(column.dtype):
        return column
    if column.dtype == "str" and not column.str.contains(_MAY_NEED_IT).any():
        return column
    return column.map(lambda value: _changed(value, change))


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    return change(value) if isinstance(value, str) else value
