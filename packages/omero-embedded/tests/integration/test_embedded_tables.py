"""OMERO.tables over the wire: what outlives a handle, a client and the server, and what conditions say."""

from __future__ import annotations

import math

import Ice
import numpy as np
import omero
import omero.grid
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omero.rtypes import rlong, rstring


def columns(numbers=(), values=(), texts=()) -> list:
    return [
        omero.grid.LongColumn("n", "", list(numbers)),
        omero.grid.DoubleColumn("x", "", list(values)),
        omero.grid.StringColumn("t", "", 8, list(texts)),
    ]


def new_table(conn, *rows):
    table = conn.c.sf.sharedResources().newTable(1, "table")
    table.initialize(columns())
    if rows:
        table.addData(columns(*zip(*rows)))
    return table


def reopen(conn, table):
    return conn.c.sf.sharedResources().openTable(omero.model.OriginalFileI(table.getOriginalFile().id.val, False))


def where(table, condition: str, **variables) -> list[int]:
    return table.getWhereList(condition, variables, 0, 0, 1)


def test_nothing_of_a_refused_call_is_kept(conn):
    table = new_table(conn, (1, 1.0, "a"))
    with pytest.raises(omero.ValidationException):
        table.addData(columns([2, 3], [1.0, 2.0], ["fits", "this does not fit"]))
    assert table.getNumberOfRows() == 1
    assert table.read([0, 1, 2], 0, 0).columns[0].values == [1]


def test_rows_without_their_numbers(conn):
    table = new_table(conn, (1, 1.0, "a"))
    context = {"omero.tables.include_row_numbers": "false"}
    for data in (
        table.read([0], 0, 1, context),
        table.slice([0], [0], context),
        table.readCoordinates([0], context),
    ):
        assert (data.rowNumbers, data.columns[0].values) == ([], [1])
    assert table.read([0], 0, 1).rowNumbers == [0]


@pytest.mark.parametrize(
    ("header", "given", "stored"),
    [
        (omero.grid.LongColumn("x", "", []), omero.grid.StringColumn("x", "", 8, ["abc"]), [6513249]),
        (omero.grid.LongColumn("x", "", []), omero.grid.StringColumn("x", "", 16, ["12"]), [12849, 0]),
        (omero.grid.LongColumn("x", "", []), omero.grid.DoubleColumn("x", "", [1.5]), [4609434218613702656]),
        (omero.grid.DoubleColumn("x", "", []), omero.grid.LongColumn("x", "", [3]), [1.5e-323]),
        (omero.grid.LongColumn("x", "", []), omero.grid.ImageColumn("x", "", [4]), [4]),
        (omero.grid.BoolColumn("x", "", []), omero.grid.StringColumn("x", "", 3, ["ab"]), [True, True, False]),
        (omero.grid.StringColumn("x", "", 8, []), omero.grid.LongColumn("x", "", [5]), ["\x05"]),
        (omero.grid.LongColumn("x", "", []), omero.grid.StringColumn("x", "", 5, ["12"]), None),
        (omero.grid.LongColumn("x", "", []), omero.grid.BoolColumn("x", "", [True]), None),
        (omero.grid.StringColumn("x", "", 8, []), omero.grid.StringColumn("x", "", 9, ["12"]), None),
        (omero.grid.DoubleColumn("x", "", []), omero.grid.DoubleArrayColumn("x", "", 2, [[1.0, 2.0]]), [1.0, 2.0]),
    ],
)
def test_values_of_another_type(conn, header, given, stored):
    """OMERO stores the bytes of the rows, or refuses them; measured with omero-py's HdfStorage. It is never a 0."""
    table = conn.c.sf.sharedResources().newTable(1, "table")
    table.initialize([header])
    if stored is None:
        with pytest.raises(omero.InternalException):
            table.addData([given])
        assert table.getNumberOfRows() == 0
    else:
        table.addData([given])
        assert table.read([0], 0, 0).columns[0].values == stored


def test_an_update_with_another_type(conn):
    """Texts are converted to the numbers that they stand for, or refused."""
    table = new_table(conn, (1, 1.0, "a"))
    table.update(omero.grid.Data(0, [0], [omero.grid.StringColumn("n", "", 8, ["12"])]))
    with pytest.raises(omero.InternalException):
        table.update(omero.grid.Data(0, [0], [omero.grid.StringColumn("n", "", 8, ["abc"])]))
    assert table.read([0], 0, 0).columns[0].values == [12]


def test_an_update_goes_value_by_value(conn):
    table = new_table(conn, (1, 1.0, "a"), (2, 2.0, "b"))
    table.update(omero.grid.Data(0, [0], columns([5], [5.0], ["this does not fit"])))
    assert [one.values for one in table.read([0, 2], 0, 1).columns] == [[5], ["this doe"]]
    with pytest.raises(omero.InternalException):
        table.update(omero.grid.Data(0, [1], columns([6], [6.0], ["\u00e9"])))
    assert [one.values for one in table.read([0, 1, 2], 1, 2).columns] == [[6], [6.0], ["b"]]
    with pytest.raises(omero.InternalException):
        table.update(omero.grid.Data(0, [1], [omero.grid.LongColumn("nothing", "", [1])]))
    with pytest.raises(omero.ApiUsageException):
        table.update(omero.grid.Data(0, [2], columns([1], [1.0], ["x"])))


def test_reads_return_the_requested_rows(conn):
    table = new_table(conn, *((n, n / 2, str(n)) for n in range(4)))
    beyond = table.read([0], 2, 9)
    assert (list(beyond.rowNumbers), beyond.columns[0].values) == ([2, 3, 4, 5, 6, 7, 8], [2, 3])
    assert table.read([-1], 3, 4).columns[0].values == ["3"]
    assert table.slice([2, 0], [3, 0]).columns[0].values == ["3", "0"]
    for refused in (lambda: table.readCoordinates([]), lambda: table.read([3], 0, 1), lambda: table.slice([], [4])):
        with pytest.raises(omero.ApiUsageException):
            refused()


@pytest.mark.parametrize(
    ("kind", "name", "fits"),
    [
        (omero.grid.DoubleColumn, "n", 1092),
        (omero.grid.LongColumn, "n", 1260),
        (omero.grid.StringColumn, "n", 1365),
        (omero.grid.DoubleColumn, "n" * 40, 655),
    ],
)
def test_a_header_takes_64_kilobytes(conn, kind, name, fits):
    def table_of(count):
        made = [
            kind(f"{name}{number:04}", "", *([8] if kind is omero.grid.StringColumn else []), [])
            for number in range(count)
        ]
        table = conn.c.sf.sharedResources().newTable(1, "table")
        table.initialize(made)
        return table

    assert len(table_of(fits).getHeaders()) == fits
    with pytest.raises(omero.InternalException):
        table_of(fits + 1)


def test_names_that_are_the_tables_own(conn):
    table = new_table(conn)
    with pytest.raises(omero.ApiUsageException):
        table.setMetadata("__version", rstring("3"))
    with pytest.raises(omero.ApiUsageException):
        conn.c.sf.sharedResources().newTable(1, "t").initialize([omero.grid.LongColumn("__row", "", [])])


def test_nan_round_trips(conn):
    table = new_table(conn, (1, math.nan, "nan"), (2, math.inf, "inf"), (3, -0.0, "0"))
    first, second, third = table.read([1], 0, 3).columns[0].values
    assert math.isnan(first) and second == math.inf and third == 0
    assert where(table, "x > 0") == [1] and where(table, "x == x") == [1, 2]


def test_metadata(conn):
    table = new_table(conn)
    table.setMetadata("key", rstring("value"))
    table.setAllMetadata({"number": rlong(1 << 40)})
    found = reopen(conn, table).getAllMetadata()
    assert "key" not in found and found["number"].val == 1 << 40 and found["__version"].val == "2"
    table.setMetadata("key", omero.rtypes.rint(5))
    assert isinstance(table.getMetadata("key"), omero.RLong) and table.getMetadata("number") is not None
    assert table.getMetadata("nothing") is None
    with pytest.raises(omero.ValidationException):
        table.setMetadata("list", omero.rtypes.rlist([]))


def test_a_client_that_dies_leaves_a_table_of_the_right_size(conn, omero_server):
    other = omero_server.login(conn.getUser().getName(), "pw")
    table = new_table(other, (1, 1.0, "a"))
    oid = table.getOriginalFile().id.val
    other.close()
    file = conn.getObject("OriginalFile", oid)
    assert file.getSize() > 0
    assert conn.c.sf.sharedResources().openTable(file._obj).getNumberOfRows() == 1


def test_delete_takes_the_file(conn):
    table = new_table(conn, (1, 1.0, "a"))
    oid = table.getOriginalFile().id.val
    table.delete()
    assert conn.getObject("OriginalFile", oid) is None
    with pytest.raises(Ice.ObjectNotExistException):
        table.getHeaders()


def test_another_file_is_not_a_table(conn, tmp_path):
    (tmp_path / "a.csv").write_text("well,cells\n" * 1000)
    file = conn.createOriginalFileFromLocalFile(str(tmp_path / "a.csv"))
    with pytest.raises(omero.InternalException):
        conn.c.sf.sharedResources().openTable(file._obj)
    assert b"".join(conn.getObject("OriginalFile", file.getId()).getFileInChunks()) == b"well,cells\n" * 1000


def test_conditions_have_functions(conn):
    table = new_table(conn, *((n, n / 2, str(n)) for n in range(9)))
    assert where(table, "sqrt(n) > 2.5") == [7, 8] and where(table, "where(n > 4, x, 0.0) > 3") == [7, 8]
    assert where(table, "n == other", other=rstring("n")) == list(range(9))
    with pytest.raises(omero.InternalException):
        where(table, "t == 1")


@pytest.mark.parametrize(
    "condition",
    ["__import__('os')", "[1][0] == n", "n > 0 and n > 1", "0 < n < 3", "lambda: n", "n + 1", "(n > 0", "t + 1 == 2"],
)
def test_conditions_are_columns_values_and_operators_only(conn, condition):
    with pytest.raises(omero.ApiUsageException):
        where(new_table(conn, (1, 1.0, "a")), condition)


@pytest.fixture(scope="module")
def numbers(root):
    table = new_table(root, *((n, n / 2, str(n)) for n in range(-10, 11)))
    yield table
    table.delete()


@settings(max_examples=40)
@given(st.integers(-12, 12), st.integers(-12, 12), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), st.booleans())
def test_conditions_are_what_python_says(numbers, low, high, operator, both):
    join = "&" if both else "|"
    got = where(numbers, f"(n {operator} low) {join} ~(x * 2 {operator} {high})", low=rlong(low))
    wanted = [
        row
        for row, n in enumerate(range(-10, 11))
        if eval(f"(n {operator} {low}) {join} (not n {operator} {high})", {"n": n})
    ]
    assert got == wanted


def test_corners_that_pytables_has(conn):
    """What omero.hdfstorageV2 of omero-py answers with PyTables 3.11, asked of both."""
    table = conn.c.sf.sharedResources().newTable(0, "corners")
    grid = omero.grid
    with pytest.raises(omero.InternalException):
        table.initialize([grid.LongColumn("n", "größe", [])])
    table.initialize(
        [grid.LongColumn("n", "", []), grid.StringColumn("s", "", 8, []), grid.DoubleArrayColumn("a", "", 2, [])]
    )
    table.addData([])
    numbers, texts = list(range(4)), [f"s{i}" for i in range(4)]
    table.addData(
        [
            grid.LongColumn("n", "", numbers),
            grid.StringColumn("s", "", 8, texts),
            grid.DoubleArrayColumn("a", "", 2, [[1.0, 2.0]] * 4),
        ]
    )
    last = table.slice([0], [-1, 0])
    assert (last.rowNumbers, last.columns[0].values) == ([-1, 0], [3, 0])
    assert table.readCoordinates([-4]).columns[1].values == ["s0"]
    table.update(None)
    for rows, column in (
        ([-1], grid.LongColumn("n", "", [50])),
        ([0], grid.LongColumn("s", "", [12])),
        ([0], grid.DoubleColumn("a", "", [7.0])),
        ([1], grid.DoubleColumn("n", "", [float("nan")])),
    ):
        table.update(grid.Data(0, rows, [column]))
    found = [column.values for column in table.read([0, 1, 2], 0, 4).columns]
    assert found == [[0, -(2**63), 2, 50], ["12", "s1", "s2", "s3"], [[7.0, 7.0]] + [[1.0, 2.0]] * 3]
    assert table.getWhereList("n >= 0", {}, -1, 0, 0) == [3]
    for condition, variables, kind in (
        ("True", {}, omero.ApiUsageException),
        ("1 == 1", {}, omero.ApiUsageException),
        ("x > 2", {"x": omero.rtypes.rlong(5)}, omero.ApiUsageException),
        ("n > 1", {"x": rstring("no column")}, omero.InternalException),
    ):
        with pytest.raises(kind):
            table.getWhereList(condition, variables, 0, 0, 1)
    for rows, column in (
        ([-5], grid.LongColumn("n", "", [1])),
        ([0], grid.DoubleArrayColumn("a", "", 2, [[1.0]])),
    ):
        with pytest.raises(omero.InternalException):
            table.update(grid.Data(0, rows, [column]))
    with pytest.raises(omero.InternalException):
        table.setMetadata("", rstring("value"))
    table.close()


def test_bytes_of_other_types_beside_masks(conn):
    """As PyTables has it, the bytes of a row are stored, whatever they mean in the table."""
    grid = omero.grid
    mask = grid.MaskColumn("m", "", [1], [0], [0], [1.0], [2.0], [3.0], [4.0], [b"ab"])
    table = conn.c.sf.sharedResources().newTable(0, "masks")
    table.initialize([grid.LongColumn("n", "", []), mask, grid.DoubleColumn("d", "", [])])
    table.addData([grid.DoubleColumn("n", "", [1.5]), mask, grid.DoubleColumn("d", "", [2.5])])
    numbers, masks, doubles = table.read([0, 1, 2], 0, 1).columns
    assert numbers.values == np.array([1.5]).view("int64").tolist() and doubles.values == [2.5]
    assert (masks.imageId, list(map(bytes, masks.bytes))) == ([1], [b"ab"])
    with pytest.raises(omero.InternalException):
        table.addData([grid.StringColumn("n", "", 4, ["text"]), mask, grid.DoubleColumn("d", "", [2.5])])
    table.close()
