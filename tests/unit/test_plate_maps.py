"""Plate maps: both formats, several files, and one sentence with file, row and column for each error."""

from __future__ import annotations

import openpyxl
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openhcs_omero.analysis.plate_maps import MappedPlate, PlateMap, find_column, join_plate_map, read_plate_map
from openhcs_omero.analysis.sheets import Sheet, parse_sheet
from openhcs_omero.errors import PlateMapError
from openhcs_omero.plates.paths import well_name

pytestmark = pytest.mark.filterwarnings("error")

ONE = {"7": MappedPlate(("7", "screen A", "BC0007"), 8, 12)}
TWO = {**ONE, "8": MappedPlate(("8", "screen B", "BC0008"), 8, 12)}


def written(folder, name, text, encoding="utf-8"):
    path = folder / name
    path.write_text(text, encoding=encoding)
    return path


def cells(made: PlateMap, *columns):
    return [tuple(row) for row in made.table[["plate", "well", *columns]].itertuples(index=False)]


def test_a_list_of_wells_keeps_units_and_other_columns(tmp_path):
    path = written(
        tmp_path, "m.csv", "Well,Compound,Concentration (uM),Control,Note\nA1,aspirin,0.5,,x\nb02,DMSO,,Negative,\n"
    )
    made = read_plate_map(path, ONE)
    assert made.columns == ["compound", "concentration (uM)", "control", "Note"]
    assert made.table["concentration (uM)"].dtype == "float64"
    first, second = made.table.to_dict("records")
    assert [first[key] for key in ("plate", "well", "compound", "concentration (uM)")] == ["7", "A01", "aspirin", 0.5]
    assert (second["well"], second["control"]) == ("B02", "negative")
    assert pd.isna(second["concentration (uM)"]) and pd.isna(second["Note"]) and pd.isna(first["control"])
    assert find_column(made.columns, "concentration") == "concentration (uM)"


@pytest.mark.parametrize(
    "name, text",
    [
        ("m.csv", "row,column,compound\nA,1,x\nB,12,y\n"),
        ("m.csv", "row;column;compound\n1;1;x\n2;12;y\n"),
        ("m.tsv", "row\tcolumn\tcompound\nA\t1\tx\n\nB\t12\ty\n"),
        ("m.csv", "# plate of Monday,,\n\nwell,compound,\nA01,x,\nB12,y,\n"),
    ],
)
def test_lists_are_read_in_any_notation(tmp_path, name, text):
    made = read_plate_map(written(tmp_path, name, text), ONE)
    assert cells(made, "compound") == [("7", "A01", "x"), ("7", "B12", "y")]


def grid(values, rows, columns, corner=""):
    lines = [",".join([corner, *(str(n + 1) for n in range(columns))])]
    for row in range(rows):
        lines.append(",".join([well_name(row, 0)[:-2], *(values.get((row, n), "") for n in range(columns))]))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("rows, columns", [(8, 12), (16, 24), (32, 48)])
def test_grids_of_all_sizes_are_read(tmp_path, rows, columns):
    last = (rows - 1, columns - 1)
    text = (
        "compound\n"
        + grid({(0, 0): "a", last: "z"}, rows, columns)
        + "\n"
        + grid({(0, 1): "0.1"}, rows, columns, "concentration (nM)")
    )
    plates = {"7": MappedPlate(("7",), rows, columns)}
    table = read_plate_map(written(tmp_path, "m.csv", text), plates).table.set_index("well")
    assert len(table) == rows * columns
    assert table["compound"].dropna().to_dict() == {"A01": "a", well_name(*last): "z"}
    assert table["concentration (nM)"].dropna().to_dict() == {"A02": 0.1}


def test_a_single_grid_is_named_after_its_file(tmp_path):
    made = read_plate_map(written(tmp_path, "compound.csv", grid({(1, 1): "x"}, 8, 12)), ONE)
    assert made.columns == ["compound"]


def test_excel_sheets_are_properties_or_plates(tmp_path):
    book = openpyxl.Workbook()
    book.active.title = "BC0007"
    for row in (["well", "compound", "dose"], ["A01", "x", 1], ["A02", "y", 2.5]):
        book.active.append(row)
    other = book.create_sheet("cell_line")
    other.append([None, *range(1, 13)])
    for letter in "ABCDEFGH":
        other.append([letter, *["HeLa"] * 12])
    book.create_sheet("empty")
    book.save(tmp_path / "m.xlsx")
    table = read_plate_map(tmp_path / "m.xlsx", TWO).table
    assert table.loc[table["compound"].notna(), ["plate", "well", "dose"]].values.tolist() == [
        ["7", "A01", 1.0],
        ["7", "A02", 2.5],
    ]
    assert (table["cell_line"] == "HeLa").sum() == 2 * 96


def test_maps_in_a_folder_are_joined(tmp_path):
    written(tmp_path, "layout.csv", "well,control\nA01,positive\nA02,negative\n")
    written(tmp_path, "BC0007.csv", "well,compound\nA01,p\nA03,x\n")
    written(tmp_path, "BC0008.csv", "well,compound\nA03,y\n")
    written(tmp_path, "BC0009.csv", "well,compound\nA03,z\n")
    made = read_plate_map(tmp_path, TWO)
    assert cells(made.table.fillna("-").pipe(PlateMap), "compound", "control") == [
        ("7", "A01", "p", "positive"),
        ("7", "A02", "-", "negative"),
        ("7", "A03", "x", "-"),
        ("8", "A01", "-", "positive"),
        ("8", "A02", "-", "negative"),
        ("8", "A03", "y", "-"),
    ]
    assert made.notes == [f"{tmp_path / 'BC0009.csv'} is not used: its name matches no plate of this run"]


def test_plates_are_named_by_id_name_or_pattern_and_unknown_ones_are_reported(tmp_path):
    path = written(tmp_path, "m.csv", "plate,well,x\n7,A01,1\nscreen B,A01,2\nBC*,A02,3\nBC0099,A01,4\n")
    made = read_plate_map(path, TWO)
    assert cells(made, "x") == [("7", "A01", 1.0), ("7", "A02", 3.0), ("8", "A01", 2.0), ("8", "A02", 3.0)]
    assert made.notes == [f"{path}: 1 row is of plates that are not in this run (BC0099)"]


def test_numbers_with_leading_zeros_and_names_stay_text(tmp_path):
    path = written(tmp_path, "m.csv", "well,barcode,compound,passage\nA01,007,12,1\nA02,008,13,2\n")
    table = read_plate_map(path, ONE).table
    assert table["barcode"].tolist() == ["007", "008"] and table["compound"].tolist() == ["12", "13"]
    assert table["passage"].tolist() == [1.0, 2.0]


def test_files_from_excel_on_windows_are_read(tmp_path):
    made = read_plate_map(written(tmp_path, "m.csv", "well;concentration (µM)\nA01;1\n", "cp1252"), ONE)
    assert made.columns == ["concentration (µM)"]


@pytest.mark.parametrize(
    "text, encoding",
    [
        ("well;concentration;code;weight\nA01;1,5;1,2;7\nA02;2;x;0,5\n", "utf-8"),
        ("well;concentration;code;weight\nA01;1.5;1,2;7\nA02;2;x;0.5\n", "utf-8"),
        ("well\tconcentration\tcode\tweight\nA01\t1.5\t1,2\t7\nA02\t2\tx\t0.5\n", "utf-16"),
    ],
)
def test_numbers_are_read_as_spreadsheets_of_many_countries_write_them(tmp_path, text, encoding):
    table = read_plate_map(written(tmp_path, "m.csv", text, encoding), ONE).table
    assert table["concentration"].tolist() == [1.5, 2] and table["weight"].tolist() == [7, 0.5]
    assert table["code"].tolist() == ["1,2", "x"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("well,x\nA01,1\nZ01,2\n", "row 3, column well: plate 7 has no well Z01, it has 8 rows and 12 columns"),
        ("well,x\nA01,1\nA1,2\n", "row 3, column well: well A01 of plate 7 appears twice; the first time in row 2"),
        ("well,concentration (uM)\nA01,ten\n", "row 2, column concentration (uM): 'ten' is not a number from 0 up"),
        ("well,concentration\nA01,-1\n", "row 2, column concentration: '-1' is not a number from 0 up"),
        ("well,control\nA01,blank\n", "row 2, column control: 'blank' is not one of positive, negative, empty, none"),
        ("well,x\nAA,1\n", "row 2: 'AA' is not a well"),
        ("well,x\n,1\n", "row 2: no well is named"),
        ("well,x\nA01,1,2\n", "row 2: there is a value in a column without a header"),
        ("well,x,x\nA01,1,2\n", "row 1: the column x appears twice"),
        ("well,row,column\nA01,B,2\n", "row 2: the well is A01, but its row and column are those of B02"),
        ("a,b\n1,2\n", "is not a plate map: expected a column `well`"),
        ("well,concentration (uM),concentration (nM)\nA01,1,2\n", "write all concentrations in one unit"),
        ("concentration\n" + grid({(1, 2): "ten"}, 8, 12), "row 4, column D: 'ten' is not a number from 0 up"),
        (grid({}, 8, 12) + "\n" + grid({}, 8, 12), "row 1: this grid has no name"),
        ("compound\n" + grid({(7, 1): "y"}, 8, 12).replace("\nD", "\n"), "row 10: the grid lacks row D, but has H"),
        ("compound\n" + grid({}, 8, 12).replace(",7,", ",8,", 1), "row 2: the grid lacks column 7, but has 8"),
        (grid({(15, 0): "x"}, 16, 24, "compound"), "plate 7 has no well P01, it has 8 rows and 12 columns"),
    ],
)
def test_an_error_is_one_sentence_with_its_place(tmp_path, text, message):
    path = written(tmp_path, "m.csv", text)
    with pytest.raises(PlateMapError) as caught:
        read_plate_map(path, ONE)
    assert message in str(caught.value)
    assert str(path) in str(caught.value) or "unit" in message
    assert "\n" not in str(caught.value)


def test_contradictory_maps_are_refused(tmp_path):
    written(tmp_path, "a.csv", "well,compound\nA01,x\n")
    written(tmp_path, "b.csv", "well,compound\nA01,y\nA02,z\n")
    with pytest.raises(
        PlateMapError,
        match=r"b\.csv, row 2, column compound: compound of well A01 of plate 7 "
        r"is 'y' here and 'x' in .*a\.csv, row 2",
    ):
        read_plate_map(tmp_path, ONE)


@pytest.mark.parametrize("name", ["none.csv", "m.xls", "folder"])
def test_files_that_are_not_maps_are_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(PlateMapError, match=name.partition(".")[0]):
        read_plate_map(tmp_path / name, ONE)


def test_a_sheet_of_notes_beside_a_map_is_reported(tmp_path):
    book = openpyxl.Workbook()
    book.active.title = "Notes"
    book.active.append(["measured", "on Monday"])
    book.save(tmp_path / "m.xlsx")
    with pytest.raises(PlateMapError, match=r"m\.xlsx, sheet Notes is not a plate map"):
        read_plate_map(tmp_path / "m.xlsx", ONE)
    sheet = book.create_sheet("Map")
    for row in (["well", "compound"], ["A01", "x"]):
        sheet.append(row)
    book.save(tmp_path / "m.xlsx")
    found = read_plate_map(tmp_path / "m.xlsx", ONE)
    assert cells(found, "compound") == [("7", "A01", "x")]
    assert found.notes == [f"{tmp_path / 'm.xlsx'}, sheet Notes is not used: it is no plate map"]


def test_a_broken_excel_file_is_refused(tmp_path):
    with pytest.raises(PlateMapError, match="can't be read as an Excel file"):
        read_plate_map(written(tmp_path, "m.xlsx", "well,x"), ONE)


def test_joining_keeps_every_well_and_refuses_an_existing_column():
    table = pd.DataFrame({"plate": ["7", "7"], "well": ["A01", "A02"], "sites": [1, 1], "spots": [1.0, 2.0]})
    made = PlateMap(pd.DataFrame({"plate": ["7"], "well": ["A02"], "compound": ["x"]}))
    joined = join_plate_map(table, made)
    assert list(joined.columns) == ["plate", "well", "sites", "compound", "spots"]
    assert joined["compound"].fillna("-").tolist() == ["-", "x"]
    with pytest.raises(PlateMapError, match="spots has the name of a column of measurements"):
        join_plate_map(table, PlateMap(made.table.rename(columns={"compound": "spots"})))


@given(
    st.dictionaries(
        st.tuples(st.integers(0, 7), st.integers(0, 11)),
        st.text("abcXYZ019 .-", min_size=1, max_size=6).map(str.strip).filter(bool),
        min_size=1,
    )
)
def test_a_list_and_a_grid_of_the_same_wells_are_equal(values):
    """Property: both formats hold the same information."""
    as_list = [["well", "compound"], *([well_name(*place), value] for place, value in values.items())]
    as_grid = [
        ["compound", *(str(n + 1) for n in range(12))],
        *([letter, *(values.get((row, n), "") for n in range(12))] for row, letter in enumerate("ABCDEFGH")),
    ]
    found = []
    for sheet in (as_list, as_grid):
        (part,) = parse_sheet(Sheet("m", ("m",), sheet))
        found.append(part.table.dropna(subset="compound").set_index("well")["compound"].to_dict())
    assert found[0] == found[1] == {well_name(*place): value for place, value in values.items()}


@given(st.lists(st.lists(st.text("A1well,row5;\t x\u00b5", max_size=4), max_size=5), max_size=6))
def test_any_sheet_is_a_map_or_is_refused_with_a_sentence(rows):
    try:
        parts = parse_sheet(Sheet("m", ("m",), rows))
    except PlateMapError as error:
        assert str(error).startswith("m")
    else:
        assert all("well" in part.table.columns for part in parts)


def test_no_cell_of_an_excel_file_is_dropped(tmp_path):
    """Merged cells have their value in each well; a formula without a value is refused."""
    book = openpyxl.Workbook()
    for row in (["well", "compound", "concentration"], ["A01", "x", 1], ["A02", None, 2], ["A03", "y", 3]):
        book.active.append(row)
    book.active.merge_cells("B2:B3")
    grid = book.create_sheet("grid")
    for row in (["cell_line"], [None, 1, 2], ["A", "HeLa", "U2OS"], ["B", None, "U2OS"]):
        grid.append(row)
    grid.merge_cells("A1:C1")
    grid.merge_cells("B3:B4")
    book.save(tmp_path / "map.xlsx")
    table = read_plate_map(tmp_path / "map.xlsx", {"7": MappedPlate(("7",), 8, 12)}).table.set_index("well")
    assert table.loc[["A01", "A02", "A03"], "compound"].tolist() == ["x", "x", "y"]
    assert table.loc[["A01", "B01", "A02", "B02"], "cell_line"].tolist() == ["HeLa", "HeLa", "U2OS", "U2OS"]
    for value, message in (
        ("=C2/2", "row 3, column 3: the formula '=C2/2' has no value: open the file in Excel"),
        ("#N/A", "row 3, column concentration: #N/A is an error of the spreadsheet"),
    ):
        book["Sheet"]["C3"] = value
        book.save(tmp_path / "map.xlsx")
        with pytest.raises(PlateMapError, match=message):
            read_plate_map(tmp_path / "map.xlsx", {"7": MappedPlate(("7",), 8, 12)})
    (tmp_path / "map.csv").write_text("compound,1,2\nA,x,y\nB,z,w\n\nwell,concentration\nA01,1\n")
    with pytest.raises(PlateMapError, match="row 5: a list of wells is beside a grid"):
        read_plate_map(tmp_path / "map.csv", {"7": MappedPlate(("7",), 8, 12)})
