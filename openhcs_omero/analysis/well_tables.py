"""Read tables of wells, and write tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from openhcs_omero.analysis.parquet import About, parquet_beside, parquet_writer, with_metadata
from openhcs_omero.errors import ConfigError, OpenHCSError, brief
from openhcs_omero.io.atomic import replacing
from openhcs_omero.plates.paths import parse_well, well_name
from openhcs_omero.spreadsheets import Dialect, dialect_of, escape, unescape_table

pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own takes a quarter more time for large tables

DIGITS = 10
POWERS = 10.0 ** np.arange(30)
ROWS = 20_000
THREADS = 2
NO_VALUE = ("NA", "N/A", "n/a", "#N/A", "#DIV/0!", "#VALUE!", "None", "null", "NULL")
TEXT_COLUMNS = ("plate", "well", "acquisition", "compound", "control", "replicate", "cell_line", "batch")


def read_tables(files: Sequence[Path], timepoint: int | None = None, acquisition: str | None = None) -> pd.DataFrame:
    """Read tables with one row per well, such as wells.csv, and put them together.

    A table without a column `plate` is the plate that the file is named for; wells.csv that of its folder.

    Parameters
    ----------
    timepoint
        The rows to take of tables with a column `t`; None if there is one timepoint only.
    acquisition
        Name of the acquisition to take of plates with several, which have a column `acquisition`.

    Raises
    ------
    OpenHCSError
        If a file can't be read, has no column `well` or no wells, a well is there twice, or there are several
        timepoints or acquisitions and none is chosen.
    """
    tables = _alike(files, [_read_table(file) for file in files])
    table = pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0]
    if "t" in table.columns:
        if table["t"].isna().any():  # a plate with one timepoint has no column for it
            table["t"] = table["t"].fillna(0).astype(int)
        found = sorted(table["t"].unique())
        if timepoint is None and len(found) > 1:
            raise ConfigError(f"the tables have {len(found)} timepoints: name the one to analyze in analysis.timepoint")
        if timepoint is not None:
            table = table[table["t"] == timepoint].reset_index(drop=True)
        if table.empty:
            raise ConfigError(f"the tables have no timepoint {timepoint}: they have {found[0]} to {found[-1]}")
    if "acquisition" in table.columns:
        table = _of_acquisition(table, acquisition)
    again = table[table.duplicated(["plate", "well"])]
    if len(again):
        raise OpenHCSError(
            f"well {again.iloc[0]['well']} of plate {again.iloc[0]['plate']} is there twice: "
            "expected one row per well, as in wells.csv"
        )
    return table


def _of_acquisition(table: pd.DataFrame, acquisition: str | None) -> pd.DataFrame:
    """The rows of one acquisition of each plate that has several; other plates keep all rows."""
    runs = table.groupby("plate", sort=False)["acquisition"].unique()
    several = {plate: list(names) for plate, names in runs.items() if len(names) > 1}
    for plate, names in several.items():
        if acquisition not in names:
            asked = "name the one to analyze in" if acquisition is None else f"it has no {acquisition!r} as asked by"
            raise ConfigError(
                f"plate {plate} has the acquisitions {', '.join(map(str, names))}: {asked} analysis.acquisition"
            )
    return table[~table["plate"].isin(list(several)) | (table["acquisition"] == acquisition)].reset_index(drop=True)


def described_features(files: Sequence[Path]) -> list[str] | None:
    """The features of tables that the workflow wrote: the means of wells.csv, without their deviations and numbers.

    The workflow describes the columns in columns.csv, beside wells.csv. Without it, None.
    """
    beside = [file.with_name("columns.csv") for file in files if file.name == "wells.csv"]
    if not beside or not all(file.exists() for file in beside):
        return None
    columns = pd.concat(
        [unescape_table(pd.read_csv(file, dtype=str, keep_default_na=False)) for file in dict.fromkeys(beside)]
    )
    means = (columns["table"] == "wells.csv") & columns["statistic"].str.startswith("mean")
    return list(dict.fromkeys(columns.loc[means, "column"]))


def _alike(files: Sequence[Path], tables: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """Tables that can be put together: a column that has texts in one of them is read as texts from all."""
    texts = {name for table in tables for name in _without_numbers(table)} - {*TEXT_COLUMNS}
    both = {
        name
        for table in tables
        for name in texts & {*table.columns} - {*_without_numbers(table)}
        if table[name].notna().any()
    }
    return [_read_table(file, both) if both & set(table.columns) else table for file, table in zip(files, tables)]


def _read_table(file: Path, as_texts: Collection[str] = ()) -> pd.DataFrame:
    if file.exists() and not file.is_file():  # reading a pipe would block
        raise OpenHCSError(f"the table {file} can't be read: it is no regular file")
    try:
        wanted = dict.fromkeys([*TEXT_COLUMNS, *as_texts], pa.string())
        dialect = dialect_of(file)
        found = _parse(file, dialect, wanted)
        again = [name for name, count in Counter(found.column_names).items() if count > 1]
        if again:
            raise OpenHCSError(f"{file} has the column {brief(again[0])} more than once")
        texts = {  # a column without any value may be a feature
            column.name: pa.float64() if pa.types.is_null(column.type) else pa.string()
            for column in found.schema
            if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type))
        }
        if not texts.keys() <= wanted.keys():  # dates and the like, which are kept as they are written
            found = _parse(file, dialect, texts | wanted)
        table = unescape_table(found.to_pandas())
        for name in _without_numbers(table):
            if name not in wanted:
                table[name] = _numbers(table[name])
    except OSError as error:
        raise OpenHCSError(f"the table {file} can't be read: {error.strerror or error}") from None
    except pa.ArrowInvalid as error:
        raise OpenHCSError(f"{file} can't be read as a table: {str(error).splitlines()[0]}") from None
    if "well" not in table.columns:
        raise OpenHCSError(f"{file} has no column `well`: expected one row per well, as in wells.csv")
    if table.empty:
        raise OpenHCSError(f"{file} has no wells")
    names = {}
    for name in table["well"].unique():
        try:
            names[name] = well_name(*parse_well(str(name)))
        except ValueError as error:
            raise OpenHCSError(f"{file}: {error}") from None
    table["well"] = table["well"].map(names)
    if "plate" not in table.columns:
        table.insert(0, "plate", file.stem if file.stem != "wells" else file.resolve().parent.name)
    if table["plate"].isna().any():
        raise OpenHCSError(f"{file}: a row has no plate")
    return table


def _without_numbers(table: pd.DataFrame) -> list[str]:
    """The columns that are not of numbers; hundreds are."""
    return [str(name) for name, kind in table.dtypes.items() if kind.kind not in "biuf"]


def _parse(file: Path, dialect: Dialect, types: dict[str, pa.DataType]) -> pa.Table:
    return pyarrow.csv.read_csv(
        file,
        read_options=pyarrow.csv.ReadOptions(encoding=dialect.encoding),
        parse_options=pyarrow.csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=types,
            null_values=["", "nan", "NaN"],
            strings_can_be_null=True,
            decimal_point=dialect.decimal,
        ),
    )


def _numbers(column: pd.Series) -> pd.Series:
    """A column of texts that are numbers, and words for missing values such as R's NA, as numbers; others stay."""
    values = column.mask(column.isin(NO_VALUE))
    numbers = pd.to_numeric(values, errors="coerce")
    return numbers if numbers.notna().equals(values.notna()) else column


def write_table(table: pd.DataFrame, file: Path, about: About | None = None) -> None:
    """Write a table as CSV, and as Parquet beside it; each file appears complete or not at all.

    In the CSV file missing values are empty and lines end in a newline. Floats have 10 significant digits in both.

    Parameters
    ----------
    about
        What is known about the columns; it goes into the Parquet file.
    """
    schema = with_metadata(pa.schema([(name, _type(table[name])) for name in table.columns]), about or {})
    with (
        replacing(file) as draft,
        draft.open("w", encoding="utf-8", newline="") as out,
        parquet_writer(parquet_beside(file), schema) as parquet,
        ThreadPoolExecutor(THREADS) as threads,
    ):
        out.write(",".join(_quoted(escape(name)) for name in table.columns) + "\n")
        for start in range(0, len(table), ROWS):
            part = table.iloc[start : start + ROWS]
            columns = list(threads.map(_as_arrow, (part.iloc[:, number] for number in range(part.shape[1]))))
            out.write("\n".join([*pc.binary_join_element_wise(*threads.map(_as_text, columns), ",").to_pylist(), ""]))
            parquet.write_table(pa.table(columns, schema=schema))


def described_columns(files: Sequence[Path]) -> dict[str, dict[str, str]]:
    """What columns.csv, beside wells.csv, says about the columns of tables that the workflow wrote."""
    about: dict[str, dict[str, str]] = {}
    for file in dict.fromkeys(file.with_name("columns.csv") for file in files if file.name == "wells.csv"):
        if file.exists() and file.stat().st_size:
            columns = unescape_table(pd.read_csv(file, dtype=str, keep_default_na=False))
            about |= {row["column"]: row for row in columns[columns["table"] == "wells.csv"].to_dict("records")}
    return about


def _type(column: pd.Series) -> pa.DataType:
    if pd.api.types.is_float_dtype(column):
        return pa.float64()
    if pd.api.types.is_bool_dtype(column):
        return pa.bool_()
    return pa.int64() if pd.api.types.is_integer_dtype(column) else pa.string()


def _as_arrow(column: pd.Series) -> pa.Array:
    if pd.api.types.is_float_dtype(column):
        values = round_digits(column.to_numpy(dtype="float64", na_value=np.nan))
        return pa.array(values, type=pa.float64(), from_pandas=True)
    if pd.api.types.is_numeric_dtype(column):
        return pa.array(column, type=_type(column), from_pandas=True)
    return pa.array(column.astype(object), type=pa.string(), from_pandas=True)


def _as_text(column: pa.Array) -> pa.Array:
    texts = pc.fill_null(pc.cast(column, pa.string()), "")
    if pa.types.is_string(column.type) and pc.any(pc.match_substring_regex(texts, '[",\r\n\t=+@-]')).as_py():
        return pa.array([_quoted(escape(text)) for text in texts.to_pylist()], type=pa.string())
    return texts


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text


def round_digits(values: np.ndarray, digits: int = DIGITS) -> np.ndarray:
    """Round to significant digits; the last bits of sums differ between machines and orders."""
    size = np.abs(values)
    usual = (size > 1e-12) & (size < 1e15)  # a power of ten is exact there
    exponent = digits - 1 - np.floor(np.log10(size, out=np.zeros_like(size), where=usual))
    up, down = POWERS[np.maximum(exponent, 0).astype(int)], POWERS[np.maximum(-exponent, 0).astype(int)]
    rounded = np.where(usual, np.round(np.where(usual, values, 0.0) * up / down) / up * down, values)
    for place in np.flatnonzero(~usual & np.isfinite(values) & (values != 0)):  # few
        rounded[place] = float(f"{values[place]:.{digits}g}")
    return np.where(np.isinf(rounded), values, rounded)  # the largest numbers can't be rounded up
