"""HQL without the wire: who sees what, which parameters are taken, and what is refused."""

from __future__ import annotations

import pytest

pytest.importorskip("lark")
pytest.importorskip("sqlalchemy")
omero = pytest.importorskip("omero")

from hql_store import ADA, BOB, EVE, FOREIGN, PLATES, PRIVATE, SHARED, column, context, objects, rows  # noqa: E402
from omero.rtypes import rdouble, rint, rlist, rlong, robject, rstring, rtime  # noqa: E402
from omero_embedded.hql.syntax import parse  # noqa: E402
from omero_embedded.model.access import ALL_GROUPS  # noqa: E402
from omero_embedded.model.loading import Loader  # noqa: E402
from omero_embedded.model.schema import schema  # noqa: E402

# -- who sees what ------------------------------------------------------------------------------------------------


def test_groups(store):
    names = "select p.name from Plate p order by p.id"
    assert column(store, names, ctx=context(ADA, SHARED)) == ["ada's", "bob's"]
    assert column(store, names, ctx=context(BOB, SHARED)) == ["ada's", "bob's"]
    assert column(store, names, ctx=context(BOB, ALL_GROUPS)) == ["ada's", "bob's"]
    assert column(store, names, ctx=context(ADA, ALL_GROUPS)) == [*(name for name, *_ in PLATES), "ada's", "bob's"]
    assert column(store, names, ctx=context(EVE, FOREIGN)) == ["eve's"]
    assert column(store, names, ctx=context(ADA, FOREIGN, admin=True)) == ["eve's"]


def test_invisible_parts_of_a_join(store):
    """The well of a plate that bob sees is in a group that he isn't in; so is the plate of the well that eve sees."""
    bob, eve = context(BOB, ALL_GROUPS), context(EVE, ALL_GROUPS)
    assert rows(store, "select w.id from Plate p join p.wells w", ctx=bob) == []
    left = "select p.name, w.id from Plate p left join p.wells w order by p.name"
    assert rows(store, left, ctx=bob) == [["ada's", None], ["bob's", None]]
    assert column(store, "select size(p.wells) from Plate p", ctx=bob) == [0, 0]
    assert len(column(store, "select p.id from Plate p where p.wells is empty", ctx=bob)) == 2
    assert [plate.sizeOfWells() for plate in objects(store, "from Plate p left join fetch p.wells", ctx=bob)] == [0, 0]
    assert len(rows(store, "select w.id from Well w", ctx=eve)) == 1
    for text in ("select w.plate.name from Well w", "select w from Well w join w.plate", "select w.plate from Well w"):
        assert rows(store, text, ctx=eve) == []


def test_strangers_are_hidden(store):
    text = "select e.omeName, e.firstName, e.email from Experimenter e where e.id = :id"
    assert rows(store, text, {"id": rlong(EVE)}) == [["<hidden>", "<hidden>", None]]
    assert rows(store, text, {"id": rlong(BOB)}) == [["bob", "Bob", None]]
    assert rows(store, text, {"id": rlong(0)}) == [["root", "root", None]]
    assert rows(store, text, {"id": rlong(EVE)}, ctx=context(ADA, PRIVATE, admin=True)) == [["eve", "Eve", None]]
    with store.read() as connection:
        assert Loader(connection, context()).get(schema()["Experimenter"], [EVE])[EVE].omeName.val == "<hidden>"


# -- parameters ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("p.id = :x", rlong(1)),
        ("p.id in :x", rlist([rlong(1)])),
        ("p.id in (:x)", rlist([rlong(1), rlong(99)])),
        ("p.id in (:x)", rlong(1)),
        (":x = p.name", rstring("alpha")),
        ("p.name in (:x)", rlist([rstring("alpha")])),
        ("p.rows = :x and p.id = 1", rint(8)),
        ("p.name like :x", rstring("al%")),
        ("p.rows + :x = 9 and p.id = 1", rint(1)),
        ("p = :x", robject(omero.model.PlateI(1, False))),
    ],
)
def test_parameters(store, where, value):
    assert column(store, f"select p.name from Plate p where {where}", {"x": value, "extra": rint(1)}) == ["alpha"]


@pytest.mark.parametrize(
    ("where", "value", "kind"),
    [
        ("p.id = :x", rint(1), omero.InternalException),
        ("p.rows = :x", rlong(1), omero.InternalException),
        ("p.name = :x", rint(1), omero.InternalException),
        ("p.id in (:x)", rlist([rint(1)]), omero.InternalException),
        ("p.rows = :x", rdouble(1), omero.InternalException),
        ("p.wellOriginX.value = :x", rint(1), omero.InternalException),
        ("p.details.creationEvent.time = :x", rlong(1), omero.InternalException),
        ("w.plate = :x", rlong(1), omero.InternalException),
        ("p.id in (:x)", rlist([]), omero.ApiUsageException),
        ("p.id = :x", None, omero.ApiUsageException),
        ("p.id = :y", rlong(1), omero.ApiUsageException),
        ("p.id = :x", rlist([rlong(1), rlong(2)]), omero.ApiUsageException),
        ("p.id = :x", rtime(1), omero.InternalException),
        ("p.name = :x", rlist([rlong(1)]), omero.InternalException),
    ],
)
def test_wrong_parameters(store, where, value, kind):
    if kind is omero.InternalException and isinstance(value, omero.RCollection) and "=" in where:
        kind = (omero.InternalException, omero.ApiUsageException)
    with pytest.raises(kind):
        rows(store, f"select p.id from Plate p, Well w where {where}", {"x": value})


@pytest.mark.parametrize(
    "text",
    [
        "from Plait",
        "from plate",
        "select p.nome from Plate p",
        "select x from Plate p",
        "from Plate p where p.nome = 1",
        "from Plate p join p.images i",
        "from Plate p order by p.nome",
        "select w from Plate p join fetch p.wells w",
        "select p.wells.name from Plate p",
        "select ws.image.pixels.sizeX from WellSample ws",
        "select p.name from Plate p join fetch p.wells",
        "select p from Plate p, Well p",
        "from Plate p join fetch p.wells w with w.row = 0",
        "from Plate p where p.name",
        "select p.name.length from Plate p",
        "from PlateI",
        "from ome.model.core.Plate",
        "from Plate p join q.wells",
        "from Plate p where p.rows is empty",
        "select p.wells from Plate p where p.wells = 1",
        "select q.id from Plate p, Well w where name = 'x'",
        "select size(p.name) from Plate p",
        # Hibernate 3.6's hql.g and hql-sql.g, and "No data type for node"
        "select lower() from Plate p",
        "select cast(p.name as elephant) from Plate p",
        "select count(p.id, p.name) from Plate p",
        "select count(1) from Plate p",
        "select sum(distinct p.rows) from Plate p",
        "select p.rows > 3 from Plate p",
        "select null from Plate p",
        "select coalesce(null, p.name) from Plate p",
        "select case when p.rows > 3 then null else 1 end from Plate p",
        "select case when p.rows > 3 then p.rows + 1 else 1 end from Plate p",
        "from Pixels p where p.physicalSizeX = 5",
        "from Pixels p where p.physicalSizeX > 0.1",
    ],
)
def test_query_exceptions(store, text):
    with pytest.raises(omero.QueryException):
        rows(store, text)


@pytest.mark.parametrize(
    "text",
    [
        "from Plate p where nosuch(p.id) = 1",
        "select lower(p.name, 1, 2) from Plate p",
        "from Plate p where p.name = 5",
        "from Plate p where p.name + 1 = 2",
        "select extract(elephant from e.time) from Event e",
        "select extract(year from p.name) from Plate p",
        "from Plate p where count(p) > 1",
        "select p.name, count(p) from Plate p",
        "select p.name, max(p.rows) + p.columns from Plate p group by p.name",
        "select count(p) from Plate p order by p.name",
        "select p.name from Plate p group by p.rows",
        "select distinct p.name from Plate p order by p.rows",
        "select distinct p from Plate p order by lower(p.name)",
        # what PostgreSQL refuses of the SQL that Hibernate makes, and IceMapper of the answer
        "select p.details from Plate p",
        "from Plate p where p.rows = nosuch",
        "insert into Plate (name) select p.name from Plate p",
        "select length(p.rows) from Plate p",
        "select sum(p.name) from Plate p",
        "select abs(p.name) from Plate p",
        "select concat(p.rows, p.columns) from Plate p",
        "select coalesce(p.status, 5) from Plate p",
        "select p.rows, count(p) from Plate p group by p.rows having p.name = 'x'",
        "from Event e where e.time > 5",
        "from Event e where e.time + 1 > e.time",
        "select chr(65) from Plate p",
        "select max(p.physicalSizeX) from Pixels p",
        "select p.physicalSizeX * 2 from Pixels p",
    ],
)
def test_usage_exceptions(store, text):
    with pytest.raises(omero.ApiUsageException):
        rows(store, text)


@pytest.mark.parametrize(
    "select", ["p.rows / 0", "mod(p.rows, p.rows - 8)", "sqrt(-1)", "ln(0)", "cast(p.name as int)", "p.rows % 0"]
)
def test_values_that_postgresql_refuses(store, select):
    with pytest.raises(omero.ValidationException, match=r"by zero|of a negative|of zero|invalid input"):
        rows(store, f"select {select} from Plate p where p.id = 1")
    assert rows(store, f"select {select} from Plate p where p.id = -1") == []


def test_columns_are_not_objects(store):
    for text in ("select p.name from Plate p", "select p, p.name from Plate p", "select new map(p as p) from Plate p"):
        with pytest.raises(omero.InternalException):
            objects(store, text)
    assert objects(store, "select p.name from Plate p where 1 = 2") == []


@pytest.mark.parametrize("text", ["not " * 3000, "-" * 3000, "(" * 3000 + "not " * 3000])
def test_deeply_nested_queries(store, text):
    closing = ")" * text.count("(")
    with pytest.raises(omero.QueryException, match="nested too deeply"):
        rows(store, f"select p.id from Plate p where {text}1 = 1{closing}")


def test_large_queries(store):
    """Large ones are not kept in memory, and larger ones are refused before they are read."""
    before = parse.cache_info().currsize
    assert rows(store, f"select p.id from Plate p where p.id in (1{', 1' * 4000})") == [[1]]
    assert parse.cache_info().currsize == before
    with pytest.raises(omero.OverUsageException, match="characters of a query"):
        rows(store, f"select p.id from Plate p where p.id in (1{', 1' * 70_000})")
