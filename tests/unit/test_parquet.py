"""Parquet beside CSV tables: types, missing values, metadata, and memory."""

import math
import tracemalloc

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openhcs_omero.analysis import parquet
from openhcs_omero.analysis.parquet import write_parquet
from openhcs_omero.analysis.well_tables import write_table
from openhcs_omero.core.features import Feature, Features
from openhcs_omero.core.plate_tables import aggregate, csv_of, write_rows
from openhcs_omero.core.well_file import well_file, write_well_file

SITE = {"plate": "7", "well": "A01"}


def written(folder, rows, **options):
    write_rows(folder / "x.csv", rows)
    write_parquet(folder / "x.csv", **options)
    return pq.read_table(folder / "x.parquet")


def test_types_and_missing_values(tmp_path):
    rows = [
        {"n": 3, "x": 1, "ok": True, "kind": "a,b", "code": "007", "none": None, "digits": 10**20, "plate": 7},
        {"n": None, "x": -2.5e-7, "ok": None, "kind": "", "code": "010", "none": math.nan, "digits": 1, "plate": 8},
        {"n": -4, "x": math.inf, "ok": False, "kind": "1", "code": "", "none": None, "digits": 2, "plate": 9},
    ]
    table = written(tmp_path, rows, texts=["plate"])
    assert {field.name: field.type for field in table.schema} == {
        "n": pa.int64(),
        "x": pa.float64(),
        "ok": pa.bool_(),
        "kind": pa.string(),
        "code": pa.string(),  # as a number it would lose its zeros
        "none": pa.float64(),
        "digits": pa.string(),  # as a number it would lose digits
        "plate": pa.string(),
    }
    assert table.to_pydict() == {
        "n": [3, None, -4],
        "x": [1.0, -2.5e-7, math.inf],
        "ok": [True, None, False],
        "kind": ["a,b", None, "1"],
        "code": ["007", "010", None],
        "none": [None, None, None],
        "digits": ["100000000000000000000", "1", "2"],
        "plate": ["7", "8", "9"],
    }


def test_texts_that_are_escaped_for_spreadsheets(tmp_path):
    """The apostrophes are in the CSV files alone."""
    rows = [{"well": "A01", "=n": 1, "kind": "=1+1"}, {"well": "A02", "=n": -2, "kind": "-x"}]
    assert written(tmp_path, rows).to_pylist() == rows
    write_table(pd.DataFrame(rows), tmp_path / "y.csv")
    assert pq.read_table(tmp_path / "y.parquet").to_pylist() == rows
    assert (tmp_path / "y.csv").read_text() == (tmp_path / "x.csv").read_text()
    assert (tmp_path / "x.csv").read_text().splitlines()[1] == "A01,1,'=1+1"


VALUES = st.one_of(
    st.lists(st.none() | st.integers(-(2**59), 2**59), min_size=1),
    st.lists(st.none() | st.floats(allow_nan=False), min_size=1),
    st.lists(st.none() | st.booleans(), min_size=1),
    st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).map("t{}".format)),
)


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_values_come_back(tmp_path_factory, columns):
    """Whatever the steps return is in the Parquet file with its value and type."""
    size = min(map(len, columns))
    rows = [{"well": "A01", **{f"c{n}": values[row] for n, values in enumerate(columns)}} for row in range(size)]
    table = written(tmp_path_factory.mktemp("values"), rows)
    assert table.num_rows == size
    for number, values in enumerate(columns) if size else ():
        found = table[f"c{number}"].to_pylist()
        assert found == values[:size]
        kinds = {type(value) for value in found if value is not None}
        if any(value is not None and value % 1 for value in values[:size] if isinstance(value, float)):
            assert kinds == {float}
        assert len(kinds) <= 1


def test_a_column_that_is_a_number_in_the_first_blocks_only(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "BLOCK", 1000)
    rows = [{"well": "A01", "n": n, "kind": n} for n in range(1000)] + [{"well": "A01", "n": 0.5, "kind": "late"}]
    table = written(tmp_path, rows)
    assert table["n"].to_pylist()[-2:] == [999.0, 0.5] and table["kind"].to_pylist()[-2:] == ["999", "late"]
    assert pq.ParquetFile(tmp_path / "x.parquet").num_row_groups > 3


@pytest.mark.parametrize("text", ["", "well,n\n"])
def test_a_table_without_rows(tmp_path, text):
    (tmp_path / "x.csv").write_text(text)
    write_parquet(tmp_path / "x.csv")
    assert pd.read_parquet(tmp_path / "x.parquet").empty


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    written(tmp_path, [{"n": 1}])
    monkeypatch.setattr(pq.ParquetWriter, "write_table", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        written(tmp_path, [{"n": 2}])
    assert pq.read_table(tmp_path / "x.parquet")["n"].to_pylist() == [1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv", "x.parquet"]


def wells_with_objects(folder, wells, objects):
    """Write the tables of wells as jobs do, each with so many objects."""
    names = [f"A{number:02d}" for number in range(1, wells + 1)]
    write_rows(folder / "wells.tsv", [{"well": n, "row": 0, "column": c} for c, n in enumerate(names)], "\t")
    for name in names:
        header = ",".join([*SITE, "site", "step", "label", "area"])
        rows = (f"7,{name},1,cells,{label},{label / 7}" for label in range(objects))
        features = csv_of([{**SITE, "well": name, "site": 1, "n": 3}])
        write_well_file(well_file(folder, name), "{}", features, "\n".join([header, *rows, ""]))


def test_the_tables_of_a_run(tmp_path):
    """Types are those of the plate map and the steps, and the fields tell unit, statistic and description."""

    declared = Features({"n": Feature("count", "px", "number of cells")})
    write_rows(tmp_path / "wells.tsv", [{"well": "A01", "row": 0, "column": 0}], "\t")
    row = {**SITE, "site": 1, "t": 0, "time_s": 1.5, "n": 3, "kind": "x"}
    found = [{**SITE, "site": 1, "step": "s", "label": 1}]
    write_well_file(well_file(tmp_path, "A01"), "{}", csv_of([row, {**row, "site": 2, "n": None}]), csv_of(found))
    names = ("features", "wells", "objects", "columns")
    tables = {name: tmp_path / f"{name}.csv" for name in names}
    treatments = {"A01": {"dose": 0.5, "compound": "12"}}
    aggregate(tmp_path / "wells.tsv", tmp_path, tables, declared, treatments)
    features, wells, objects, columns = (pq.read_table(tmp_path / f"{name}.parquet") for name in names)
    assert features.to_pylist()[1] == {
        **SITE,
        "row": "A",
        "column": 1,
        "site": 2,
        "t": 0,
        "time_s": 1.5,
        "dose": 0.5,
        "compound": "12",
        "n": None,
        "kind": "x",
    }
    assert wells.schema.field("n_sum").metadata == {
        b"unit": b"px",
        b"statistic": b"sum over sites",
        b"description": b"number of cells",
    }
    assert features.schema.field("time_s").metadata == {b"unit": b"s"}
    assert features.schema.field("dose").metadata is None
    assert wells.schema.field("dose").metadata == {b"statistic": b"from the plate map"}
    assert objects["compound"].to_pylist() == ["12"] and objects["label"].to_pylist() == [1]
    assert {"features.csv", "wells.csv"} == set(columns["table"].to_pylist())


def test_objects_are_never_in_memory_as_a_whole(tmp_path, monkeypatch):
    """Four times the wells take no more memory than the first ones, however many objects there are."""
    monkeypatch.setattr(parquet, "BLOCK", 50_000)
    usual, peaks = pa.default_memory_pool(), []
    for wells in (10, 40):
        folder = tmp_path / str(wells)
        folder.mkdir()
        wells_with_objects(folder, wells, 2000)
        tables = {name: folder / f"{name}.csv" for name in ("features", "wells", "objects", "columns")}
        pool = pa.proxy_memory_pool(usual)
        pa.set_memory_pool(pool)
        tracemalloc.start()
        try:
            aggregate(folder / "wells.tsv", folder, tables, Features())
            peaks.append(tracemalloc.get_traced_memory()[1] + pool.max_memory())
        finally:
            tracemalloc.stop()
            pa.set_memory_pool(usual)
        assert pq.ParquetFile(folder / "objects.parquet").metadata.num_rows == 2000 * wells
    assert peaks[1] - peaks[0] < (folder / "objects.csv").stat().st_size / 2, peaks


def test_tables_of_the_analysis(tmp_path):
    table = pd.DataFrame(
        {
            "plate": ["7"] * 3,
            "z": [1 / 3, math.nan, 2.0],
            "n": [1, 2, 3],
            "ok": [True, False, True],
            "kind": ["a", None, "b"],
        }
    )
    write_table(table, tmp_path / "x.csv", {"z": {"unit": "%", "description": "percent_of_control of n"}})
    found = pq.read_table(tmp_path / "x.parquet")
    assert [str(field.type) for field in found.schema] == ["string", "double", "int64", "bool", "string"]
    assert found["z"].to_pylist() == [0.3333333333, None, 2.0] and found["kind"].to_pylist() == ["a", None, "b"]
    assert found.schema.field("z").metadata[b"unit"] == b"%"
    assert (tmp_path / "x.csv").read_text().splitlines()[2] == "7,,2,false,"
