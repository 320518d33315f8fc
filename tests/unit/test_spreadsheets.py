"""No text in a CSV is run by a spreadsheet, and every reader gets the text that was written."""

import csv
import re

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openhcs_omero.analysis.plate_maps import MappedPlate, read_plate_map
from openhcs_omero.analysis.well_tables import described_features, read_tables, write_table
from openhcs_omero.core.features import Features
from openhcs_omero.core.plate_tables import aggregate, csv_of, read_rows, write_rows
from openhcs_omero.core.well_file import well_file, write_well_file
from openhcs_omero.errors import PlateMapError
from openhcs_omero.io.formats import decode, encode
from openhcs_omero.spreadsheets import escape, escape_table, unescape, unescape_table

FORMULAS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-1+2",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "a;=1",
    "'=1",
    "''-x",
    "a\n@b",
    "-",
    "-1_0",
]
HARMLESS = ["-3.2", "+5", "-1e-5", "-inf", "nan", "a-b", "'quoted'", "", "µm", "a;b", "it's"]
texts = st.text(st.sampled_from("=+-@\t\r\n;,'\"a1.e")) | st.text()


def run_by_a_spreadsheet(text: str) -> bool:
    """Whether a cell begins with a formula, also where the cells of a file are separated by semicolons."""
    cells = re.split(r"[;\t\r\n]", text) if len(text) > 1 else [text]
    return any(cell[:1] in ("=", "+", "-", "@") for cell in cells if cell)


@given(texts)
@example("-3.2")
def test_escaping_is_safe_and_undone(text):
    escaped = escape(text)
    assert unescape(escaped) == text
    if run_by_a_spreadsheet(escaped):
        float(escaped)


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas(text):
    assert escape(text) != text and not run_by_a_spreadsheet(escape(text)) and unescape(escape(text)) == text


@pytest.mark.parametrize("text", HARMLESS)
def test_other_texts_and_numbers_stay(text):
    assert escape(text) == text == unescape(text)


def test_tables_of_any_type_are_unescaped():
    table = pd.DataFrame(
        {
            "=a": ["=1", "x", None],
            "n": [-1.5, 2, 3],
            "c": pd.Categorical(["-a", "b", "-a"]),
            "o": pd.Series([-1, "=2", None], dtype=object),
        }
    )
    escaped = escape_table(table)
    assert list(escaped) == ["'=a", "n", "c", "o"] and escaped["o"][1] == "'=2" and escaped["o"][0] == -1
    pd.testing.assert_frame_equal(unescape_table(escaped), table)


def cells(path):
    with path.open(newline="") as file:
        return [cell for row in csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",") for cell in row]


def check_file(path, *wanted):
    found = cells(path)
    assert not [cell for cell in found if run_by_a_spreadsheet(cell) and escape(cell) != cell]
    assert {escape(text) for text in wanted} <= set(found)


def test_tables_of_a_plate(tmp_path):
    """Names and values of features, and what the plate map says."""
    wells = tmp_path / "wells.tsv"
    write_rows(wells, [{"well": "A01", "row": 0, "column": 0}], delimiter="\t")
    site = {"plate": "=7", "well": "A01", "site": 1, "=spots": 3, "@note": "+x", "mean": -3.5}
    objects = [{"plate": "=7", "well": "A01", "label": "=o"}]
    write_well_file(well_file(tmp_path, "A01"), "{}", csv_of([site]), csv_of(objects))
    tables = {name: tmp_path / f"{name}.csv" for name in ("features", "wells", "objects", "columns")}
    aggregate(wells, tmp_path, tables, Features(), {"A01": {"-compound": "=HYPERLINK(1)"}})
    check_file(tables["features"], "=7", "=spots", "@note", "+x", "-3.5", "-compound", "=HYPERLINK(1)")
    check_file(tables["objects"], "=7", "=o")
    check_file(tables["columns"], "=spots")
    [row] = read_rows(tables["wells"])
    assert row["=spots"] == "3" and row["@note"] == "+x" and row["-compound"] == "=HYPERLINK(1)"
    assert described_features([tables["wells"]]) == ["=spots", "mean"]
    [read] = read_tables([tables["wells"]]).to_dict("records")
    assert read["plate"] == "=7" and read["=spots"] == 3 and read["@note"] == "+x" and read["mean"] == -3.5


def test_results_of_an_analysis(tmp_path):
    table = pd.DataFrame({"plate": ["=7"], "well": ["A01"], "compound": ["-x"], "=f": [-1.5], "@other": ["a,=b"]})
    write_table(table, tmp_path / "hits.csv")
    check_file(tmp_path / "hits.csv", "=7", "-x", "=f", "-1.5", "@other")
    pd.testing.assert_frame_equal(read_tables([tmp_path / "hits.csv"]), table, check_dtype=False)


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_tables_that_steps_save(tmp_path, ending):
    table = pd.DataFrame({"=a": ["=1", "\tx"], "n": [-1, 2]})
    (tmp_path / f"t{ending}").write_bytes(encode(table, f"t{ending}"))
    check_file(tmp_path / f"t{ending}", "=a", "=1", "\tx", "-1")
    pd.testing.assert_frame_equal(decode(encode(table, f"t{ending}"), f"t{ending}"), table)


def test_plate_maps(tmp_path):
    path = tmp_path / "map.csv"
    path.write_text("well,compound,'=note\nA01,'=x,'-3.2\nA02,-3.2,'y\n")
    made = read_plate_map(path, {"7": MappedPlate(("7",), 8, 12)})
    assert made.columns == ["compound", "=note"]
    assert made.table[["compound", "=note"]].values.tolist() == [["=x", "'-3.2"], ["-3.2", "'y"]]


def test_a_plate_map_with_an_open_quotation_mark(tmp_path):
    """The rest of the file is then one cell, which can be larger than Python's csv reads."""
    (tmp_path / "map.csv").write_text('well,compound\nA01,"x\n' + "A02,y\n" * 50_000)
    with pytest.raises(PlateMapError, match=r"map\.csv can't be read: field larger"):
        read_plate_map(tmp_path / "map.csv", {"7": MappedPlate(("7",), 8, 12)})
