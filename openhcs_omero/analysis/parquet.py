"""Parquet files beside CSV tables: typed columns, null where a value is missing, and the units of the columns.

The metadata of each field hold the `unit`, the `statistic` and the `description` of the column, where they are known.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from openhcs_omero.io.atomic import replacing
from openhcs_omero.spreadsheets import unescape

BLOCK = 4 * 2**20  # bytes of the CSV table that are in memory; each block becomes a row group
ABOUT = ("unit", "statistic", "description")
About = Mapping[str, Mapping[str, str]]
"""Column -> any of unit, statistic and description."""

# A number in another spelling, such as 007, is text: as a number it would lose its zeros. A whole number with more
# digits than int64 has is text, too.
KINDS = {
    pa.int64(): r"^-?(0|[1-9][0-9]{0,17})$",
    pa.float64(): r"^(-?(0|[1-9][0-9]{0,17})(\.[0-9]*)?([eE][-+]?[0-9]+)?|-?inf|nan)$",
    pa.bool_(): r"^([Tt]rue|[Ff]alse)$",
}


def parquet_beside(table: Path) -> Path:
    """The Parquet file that belongs to a CSV table: results/features.parquet for results/features.csv."""
    return table.with_suffix(".parquet")


def write_parquet(table: Path, texts: Collection[str] = (), about: About | None = None) -> None:
    """Write a CSV table as Parquet, next to it.

    The table is read twice, block by block: first to find the types of its columns, then to convert it. A column whose
    values are all whole numbers, numbers, or true and false becomes int64, float64 or bool; any other is text. An empty
    cell becomes null. A column without any value is float64.

    Parameters
    ----------
    table
        The CSV file, with a header; an empty file becomes a Parquet file without columns.
    texts
        Columns that are text, whatever their values look like.
    about
        What is known about the columns.
    """
    with table.open(newline="", encoding="utf-8") as file:
        names = next(csv.reader(file), [])
    types = _types(table, names, texts)
    schema = with_metadata(pa.schema([pa.field(unescape(name), types[name]) for name in names]), about or {})
    with parquet_writer(parquet_beside(table), schema) as writer:
        for batch in _blocks(table, types) if names else ():
            writer.write_table(pa.table([_unescaped(column) for column in batch.columns], schema=schema))


def with_metadata(schema: pa.Schema, about: About) -> pa.Schema:
    """Add what is known about the columns to the metadata of their fields."""
    fields = []
    for field in schema:
        known = {key: text for key in ABOUT if (text := about.get(field.name, {}).get(key))}
        fields.append(field.with_metadata(known) if known else field)
    return pa.schema(fields, schema.metadata)


@contextmanager
def parquet_writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Yield a writer of a Parquet file, which appears complete or not at all.

    A dictionary of the values of floats, which are hardly ever equal, would take four times as long and more space.
    """
    repeated = [field.name for field in schema if not pa.types.is_floating(field.type)]
    with replacing(path) as draft, pq.ParquetWriter(draft, schema, use_dictionary=repeated) as writer:
        yield writer


def _types(table: Path, names: Collection[str], texts: Collection[str]) -> dict[str, pa.DataType]:
    """The narrowest type that all values of each column have."""
    kinds = {name: [] if name in texts else list(KINDS) for name in names}
    empty = set(names)
    for batch in _blocks(table, dict.fromkeys(names, pa.string())) if names else ():
        for name, column in zip(names, batch.columns):
            if column.null_count < len(column):
                empty.discard(name)
                kinds[name] = [kind for kind in kinds[name] if _fits(column, kind)]
    return {
        name: pa.string() if not kinds[name] else pa.float64() if name in empty else kinds[name][0] for name in names
    }


def _unescaped(column: pa.Array) -> pa.Array:
    """Texts without the apostrophes that protect spreadsheet programs; other columns as they are."""
    if not pa.types.is_string(column.type) or not pc.any(pc.match_substring(column, "'")).as_py():
        return column
    return pa.array([text and unescape(text) for text in column.to_pylist()], type=pa.string())


def _fits(column: pa.Array, kind: pa.DataType) -> bool:
    return bool(pc.all(pc.match_substring_regex(column, KINDS[kind])).as_py())


def _blocks(table: Path, types: Mapping[str, pa.DataType]) -> pa.csv.CSVStreamingReader:
    return pyarrow.csv.open_csv(
        table,
        read_options=pyarrow.csv.ReadOptions(block_size=BLOCK, use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict(types), null_values=[""], strings_can_be_null=True
        ),
    )
