"""HQL without the wire: what a query's answer is."""

from __future__ import annotations

import datetime

import pytest

pytest.importorskip("lark")
pytest.importorskip("sqlalchemy")
omero = pytest.importorskip("omero")

import sqlalchemy as sa  # noqa: E402
from hql_store import ADA, EVE, FOREIGN, PLATES, column, context, objects, results, rows  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from omero.rtypes import rint, rlist, rlong, rstring, unwrap  # noqa: E402
from omero_embedded.hql.results import Results  # noqa: E402
from omero_embedded.model.loading import Loader  # noqa: E402
from omero_embedded.model.schema import schema  # noqa: E402

# -- conditions, against their meaning in three-valued logic ------------------------------------------------------

ATOMS = st.one_of(
    st.tuples(st.just("rows"), st.sampled_from(["=", "<>", "<", "<=", ">", ">="]), st.sampled_from([7, 8, 16, 33])),
    st.tuples(st.just("name"), st.sampled_from(["=", "<>", "<", ">="]), st.sampled_from(["alpha", "Beta", "c", ""])),
    st.tuples(st.just("status"), st.sampled_from(["=", "<>", "<", ">"]), st.sampled_from(["done", "open"])),
    st.tuples(st.just("status"), st.just("null"), st.none()),
)
CONDITIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner, st.none()),
        st.tuples(st.just("and"), inner, inner),
        st.tuples(st.just("or"), inner, inner),
    ),
    max_leaves=6,
)
COMPARE = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def holds(condition, plate):
    """True, False or None (unknown)."""
    first, second, third = condition
    if first == "not":
        inner = holds(second, plate)
        return None if inner is None else not inner
    if first in ("and", "or"):
        both = {holds(second, plate), holds(third, plate)}
        decisive = first == "or"
        return decisive if decisive in both else None if None in both else not decisive
    value = plate[first]
    if second == "null":
        return value is None
    return None if value is None else COMPARE[second](value, third)


def said(condition):
    first, second, third = condition
    if first == "not":
        return f"not ({said(second)})"
    if first in ("and", "or"):
        return f"({said(second)}) {first} ({said(third)})"
    if second == "null":
        return f"p.{first} is null"
    return f"p.{first} {second} {third!r}"


@given(CONDITIONS)
def test_conditions(store, condition):
    expected = {
        name for name, nrows, status in PLATES if holds(condition, {"name": name, "rows": nrows, "status": status})
    }
    assert set(column(store, f"select p.name from Plate p where {said(condition)}")) == expected


@pytest.mark.parametrize("among", ["", "status = 'done'", "status = 'none'"])
@pytest.mark.parametrize("quantifier", ["all", "any", "some"])
@pytest.mark.parametrize("sign", list(COMPARE))
def test_comparisons_with_rows(store, sign, quantifier, among):
    """With all rows of a subquery a comparison has to be true, none unknown; with any, true once."""
    values = [rows for _, rows, status in PLATES if not among or among == f"status = '{status}'"]
    true = {
        name
        for name, rows, _ in PLATES
        if (all if quantifier == "all" else any)(COMPARE[sign](rows, value) for value in values)
    }
    inner = "select q.rows from Plate q" + (f" where q.{among}" if among else "")
    assert set(column(store, f"select p.name from Plate p where p.rows {sign} {quantifier} ({inner})")) == true


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("p.status >= all (select q.status from Plate q)", ""),  # a missing status is unknown
        ("p.status >= all (select q.status from Plate q where q.status is not null)", "gamma"),
        ("p.status = any (select q.status from Plate q where q.id <> p.id)", "alpha delta_1"),
        ("p.rows >= all (select max(q.rows) from Plate q)", "delta_1"),
        ("p.rows > any (select min(q.rows) from Plate q group by q.status)", "Beta delta_1"),
        ("not p.rows > all (select q.rows from Plate q where q.rows < 16)", "alpha gamma"),
        ("p = any (select w.plate from Well w)", "alpha"),
    ],
)
def test_rows_of_other_kinds(store, where, expected):
    assert column(store, f"select p.name from Plate p where {where} order by p.id") == expected.split()


# -- what comes out -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("p.name like '%a'", "alpha Beta gamma"),
        ("p.name like 'delta\\_1'", "delta_1"),
        ("p.name like '_eta'", "Beta"),
        ("p.name like 'delta!_1' escape '!'", "delta_1"),
        ("p.rows in (8, 32)", "alpha gamma delta_1"),
        ("p.wells is empty", "Beta gamma delta_1"),
        ("p.wells is not empty", "alpha"),
        ("size(p.wells) = 2", "alpha"),
        ("p.wells.size > 1", "alpha"),
        ("p.status = null", "Beta"),
        ("p.status != null", "alpha gamma delta_1"),
        ("exists (select w from Well w where w.plate = p and w.column = 1)", "alpha"),
        ("exists (from p.wells w where w.column = 1)", "alpha"),
        ("exists elements(p.wells)", "alpha"),
        ("not exists (select w from Well w where w.plate = p.id)", "Beta gamma delta_1"),
        ("p.id in (select w.plate.id from Well w)", "alpha"),
        ("p in (select w.plate from Well w)", "alpha"),
        ("p.id not in (select distinct(w.plate.id) from Well w)", "Beta gamma delta_1"),
        ("1 < (select count(*) from Well w where w.plate = p)", "alpha"),
        ("p.details.owner.omeName = 'ada'", None),
        ("'done' = p.status", "alpha delta_1"),
        ("lower(p.name) = 'beta'", "Beta"),
        ("p.rows + 8 = 24", "Beta"),
        ("p.rows between 9 and 16", "Beta"),
        ("p.rows not between 9 and 16", "alpha gamma delta_1"),
        ("case when p.rows > 10 then p.status else 'small' end = 'done'", "delta_1"),
        ("1 = 1", None),
    ],
)
def test_where(store, where, expected):
    found = column(store, f"select p.name from Plate p where {where} order by p.id")
    assert found == ([name for name, *_ in PLATES] if expected is None else expected.split())


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("p.rows desc, p.name", "delta_1 Beta alpha gamma"),
        ("lower(p.name)", "alpha Beta delta_1 gamma"),
        ("p.status, p.id", "alpha delta_1 gamma Beta"),
        ("p.status desc, p.id", "Beta gamma alpha delta_1"),
    ],
)
def test_order(store, order, expected):
    assert column(store, f"select p.name from Plate p order by {order}") == expected.split()


def test_kinds(store):
    cells = results(
        store,
        "select p.id, p.rows, p.rows + 1L, p.rows / 3, p.rows * 1.5, sum(p.rows), avg(p.rows), count(*), "
        "max(p.name), min(p.rows), max(p.details.creationEvent.time), -p.rows, mod(p.rows, 3), length(p.name), "
        "str(p.rows), p.name || '-' || p.rows, coalesce(p.status, 'none') "
        "from Plate p where p.rows = 16 group by p.id",
        read=Results.projected,
    )[0]
    kinds = "Long Int Long Int Double Long Double Long String Int Time Int Int Int String String String"
    assert " ".join(type(cell).__name__[1:-1] for cell in cells) == kinds
    assert unwrap(cells)[:8] == [2, 16, 17, 5, 24.0, 16, 16.0, 1] and unwrap(cells)[-2:] == ["Beta-16", "none"]


def test_units(store):
    half = {"value": 0.5, "unit": "MICROMETER", "symbol": "µm"}
    assert rows(
        store,
        "select p.physicalSizeX, p.physicalSizeX.value, p.physicalSizeX.unit, p.physicalSizeY from Pixels p",
        page=(0, 1),
    ) == [[half, 0.5, "MICROMETER", None]]
    for text in ("p.physicalSizeX.unit = 'µm'", "p.physicalSizeX.unit = :unit", "p.physicalSizeX.value < 1"):
        assert column(store, f"select count(p) from Pixels p where {text}", {"unit": rstring("µm")}) == [4]
    assert objects(store, "select p from Pixels p", page=(0, 1))[0].physicalSizeX.getSymbol() == "µm"


def test_classes(store):
    assert sorted(column(store, "select a.class from Annotation a")) == ["/basic/text/tag/"] * 2 + ["/map/"]
    assert column(store, "select a.textValue from Annotation a where a.class = TagAnnotation order by a.id") == [
        "one",
        "two",
    ]
    assert rows(store, "select type(a.class), count(a) from Annotation a group by a.class order by count(a)") == [
        ["ome.model.annotations.MapAnnotation", 1],
        ["ome.model.annotations.TagAnnotation", 2],
    ]
    assert column(store, "select a.textValue from Annotation a where type(a) = TagAnnotation order by a.id") == [
        "one",
        "two",
    ]
    assert len(objects(store, "from TextAnnotation")) == 2 and len(objects(store, "from CommentAnnotation")) == 0
    assert column(store, "select a.id from Annotation a where a.class = '/map/'") == [3]


def test_map_pairs(store):
    assert rows(store, "select a.id, mv.name, mv.value from Annotation a join a.mapValue mv order by index(mv)") == [
        [3, "k", "v"],
        [3, "a", "w"],
    ]
    found = objects(store, "from MapAnnotation")[0]
    assert [(pair.name, pair.value) for pair in found.mapValue] == [("k", "v"), ("a", "w")]


def test_indexes(store):
    assert rows(store, "select w.column, index(ws) from Well w join w.wellSamples ws order by w.column, index(ws)") == [
        [0, 0],
        [0, 2],
        [0, 3],
        [1, 0],
    ]
    assert rows(store, "select minIndex(ws), maxIndex(ws) from Well w join w.wellSamples ws") == [[0, 3]]
    assert column(store, "select maxindex(w.wellSamples) from Well w order by w.id") == [3, 0]
    with pytest.raises(omero.QueryException):
        rows(store, "select index(w) from Plate p join p.wells w")


def test_nulls_in_rows(store):
    assert rows(store, "select p.status from Plate p where p.name = 'Beta'") == [[]]
    assert rows(store, "select p.status, p.name from Plate p where p.name = 'Beta'") == [[None, "Beta"]]


def test_a_path_to_an_end_joins_it_and_its_id_does_not(store):
    assert rows(store, "select ws.plateAcquisition.id, ws.id from WellSample ws order by ws.id", page=(0, 1)) == [
        [None, 1]
    ]
    assert rows(store, "select ws.plateAcquisition, ws.id from WellSample ws") == []
    assert rows(store, "select ws.plateAcquisition.name, ws.id from WellSample ws") == []


def test_fetched_collections(store):
    plates = objects(
        store,
        "select p from Plate p left outer join fetch p.wells w left outer join fetch w.wellSamples ws "
        "left outer join fetch ws.image order by p.id",
    )
    assert [plate.sizeOfWells() for plate in plates] == [2, 0, 0, 0]
    first = plates[0].copyWells()[0]
    assert first.plate is plates[0]
    assert [sample and sample.image.name.val for sample in first.copyWellSamples()] == ["0 0", None, "0 1", "0 2"]
    assert not plates[0].isAnnotationLinksLoaded()


def test_a_condition_on_what_is_fetched_filters_it(store):
    (well,) = objects(store, "select w from Well w join fetch w.wellSamples ws where index(ws) = 2")
    assert [sample and sample.id.val for sample in well.copyWellSamples()] == [None, None, 2]


def test_pages_count_roots(store):
    hql = "select p from Plate p {} join fetch p.wells order by p.id"
    assert [(p.name.val, p.sizeOfWells()) for p in objects(store, hql.format("left"), page=(0, 2))] == [
        ("alpha", 2),
        ("Beta", 0),
    ]
    assert [p.name.val for p in objects(store, hql.format("left"), page=(1, 2))] == ["Beta", "gamma"]
    assert objects(store, hql.format(""), page=(1, None)) == []
    assert len(objects(store, "select p from Plate p join p.wells")) == 2
    assert objects(store, "from Plate", page=(0, 0)) == []


@pytest.mark.parametrize(
    ("page", "expected"), [((0, 0), 1), ((-3, 2), 1), ((0, 1), 1), ((1, -1), 3), ((2, 9), 2), ((9, 2), 0)]
)
def test_pages_that_are_cut_in_memory(store, page, expected):
    """Hibernate's QueryTranslatorImpl does so with a fetched collection, and keeps one root where a page has none."""
    names = [name for name, *_ in PLATES]
    found = objects(store, "select p from Plate p left join fetch p.wells order by p.id", page=page)
    start = max(0, page[0])
    assert [plate.name.val for plate in found] == names[start : start + expected]


def test_what_is_not_fetched(store):
    (image,) = objects(store, "select i from Image i where i.name = '0 0'")
    assert image.isWellSamplesLoaded() and image.copyWellSamples()[0].image is image
    assert not image.isPixelsLoaded() and not image.copyWellSamples()[0].well.isLoaded()
    details = image.details
    assert details.group.isLoaded() and not details.owner.isLoaded() and not details.creationEvent.isLoaded()
    assert details.permissions.canEdit() and not details.permissions.canChown()
    link = objects(store, "from PlateAnnotationLink")[0]
    assert isinstance(link.child, omero.model.TagAnnotationI) and not link.child.isLoaded()
    group = details.group
    assert group.details.owner is None and str(group.details.permissions) == "rw----"


def test_fetching_ends_of_details(store):
    link = objects(
        store,
        "select l from PlateAnnotationLink l join fetch l.details.owner join fetch l.details.creationEvent "
        "join fetch l.child as a join fetch a.details.owner left outer join fetch a.file",
    )[0]
    assert link.details.owner.omeName.val == "ada" and link.details.creationEvent.isLoaded() and link.child.isLoaded()
    assert link.child.details.owner is link.details.owner


def test_few_statements(store):
    """No statement per row: as many for one plate as for all."""
    seen = []
    with store.read() as connection:
        sa.event.listen(connection, "before_cursor_execute", lambda *args: seen.append(args[2]))
        Results(
            connection,
            context(),
            "select p from Plate p join fetch p.wells w join fetch w.wellSamples ws "
            "join fetch ws.image i join fetch i.pixels",
            None,
            (0, None),
        ).objects()
    assert len(seen) < 12


def test_loader(store):
    entity = schema()["Well"]
    with store.read() as connection:
        loader = Loader(connection, context())
        wells = loader.get(entity, [1, 2, 99])
        assert list(wells) == [1, 2] and loader.get(entity, [1])[1] is wells[1]
        assert len(loader.fetch(wells.values(), entity.fields["wellSamples"])) == 4
        assert [wells[oid].sizeOfWellSamples() for oid in (1, 2)] == [4, 1]
        plates = loader.fetch(wells.values(), entity.fields["plate"])
        assert [plate.name.val for plate in plates] == ["alpha"] and wells[1].plate is plates[0]
        assert loader.get(schema()["MapAnnotation"], [1, 2, 3]).keys() == {3}
        assert loader.get(schema()["Annotation"], [1, 2, 3]).keys() == {1, 2, 3}


def test_new_map(store):
    (cell,) = results(
        store,
        "select new map(p.name as name, p.rows, p as p_details_permissions, p.details.permissions as q) "
        "from Plate p where p.rows = 32",
        read=Results.projected,
    )[0]
    made = unwrap(cell)
    assert made["name"] == "delta_1" and made["1"] == 32
    assert made["p_details_permissions"] == made["q"]
    assert made["q"]["perm"] == "rw----" and made["q"]["canEdit"] and not made["q"]["canChown"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "select p.rows, count(p) from Plate p group by p.rows order by count(p) desc, p.rows",
            [[8, 2], [16, 1], [32, 1]],
        ),
        ("select p.rows + 1, min(p.name) from Plate p group by p.rows + 1 order by 1 + max(p.id)", None),
        ("select p.name, max(p.rows) from Plate p where p.id = 1 group by p.id", [["alpha", 8]]),
        ("select p.rows as n, count(*) as c from Plate p group by p.rows having count(*) > 1 order by c", [[8, 2]]),
        ("select upper(p.name), sum(p.rows) * 2 from Plate p where p.id = 2 group by p.name", [["BETA", 32]]),
        (
            "select p.name, (select max(w.column) + p.rows from Well w where w.plate = p) from Plate p where p.id = 1",
            [["alpha", 9]],
        ),
        ("select distinct p.rows from Plate p order by p.rows", [[8], [16], [32]]),
        (
            "select distinct lower(p.status) from Plate p where p.status is not null order by lower(p.status)",
            [["done"], ["open"]],
        ),
    ],
)
def test_groups_and_distinct(store, text, expected):
    found = rows(store, text)
    assert found == expected if expected else len(found) == 3


def test_distinct_entities_are_ordered_by_their_columns(store):
    found = objects(store, "select distinct p from Plate p left join fetch p.wells w order by p.name, w.column")
    assert [plate.name.val for plate in found] == ["Beta", "alpha", "delta_1", "gamma"]


def test_parts_of_times(store):
    parts = ("year", "month", "day", "hour", "minute", "second", "epoch")
    asked = ", ".join(f"extract({part} from e.time)" for part in parts)
    ((*got, time),) = rows(store, f"select {asked}, e.time from Event e where e.id = 0")
    moment = datetime.datetime.fromtimestamp(time / 1000, datetime.UTC)
    assert got == [getattr(moment, part) for part in parts[:-1]] + [time // 1000]
    that_day = f"from Event e where extract(day from e.time) = {got[2]} and e.id = 0"
    (same,) = rows(store, f"select extract(epoch from e.time) + 7 {that_day}")
    assert same == [got[-1] + 7]


def test_lists_of_columns(store):
    found = rows(store, "select new list(p.name, p.rows) from Plate p where p.name = 'alpha'")
    assert found == [[row] for row in rows(store, "select p.name, p.rows from Plate p where p.name = 'alpha'")] != []


def test_texts_that_are_numbers(store):
    """PostgreSQL reads a text as a number where it is compared with one."""
    assert column(store, "select p.rows from Plate p where p.rows = '8'") == column(
        store, "select p.rows from Plate p where p.rows = 8"
    )
    with pytest.raises(omero.ValidationException):
        rows(store, "select p.rows from Plate p where p.rows = 'eight'")


# -- as Hibernate 3.6's grammar and PostgreSQLDialect have it ------------------------------------------------------

MORE = "select p.name from Plate p where p.id = 1"


@pytest.mark.parametrize(
    "text",
    [
        MORE.replace(" where", " fetch all properties where"),
        "select p from Plate p left join fetch p.wells fetch all properties where p.id = -1",
        "select object(p) from Plate p where p.id = -1",
        "select group.name from Plate group where group.id = 1",
        "select order.name from Plate order where order.id = 1 order by order.name",
        "select distinct p.name from Plate p, in(p.wells) w where w.column = 0",
        "select p.name from Plate p where p.id = 1 and p.details.creationEvent.time < current_timestamp",
        "select p.name from Plate p where p.id = 1 and p.details.creationEvent.time < '2100-01-01 10:00'",
        "select name from Plate where id = 1 and details.updateEvent.time between '1969-01-01' and '2100-01-01'",
    ],
)
def test_other_forms_of_a_query(store, text):
    assert column(store, text) == ([] if "= -1" in text else ["alpha"])


def test_links_counted_by_owner(store):
    found = objects(store, "select p from Plate p left outer join fetch p.annotationLinksCountPerOwner c order by p.id")
    assert [plate.getAnnotationLinksCountPerOwner() for plate in found] == [{ADA: 3}, {}, {}, {}]
    (only,) = objects(store, "from Plate p join fetch p.annotationLinksCountPerOwner")
    assert only.id.val == 1


def test_entities_of_which_only_the_id_is_read(store):
    for select in ("max(p)", "(select q from Plate q where q.id = p.id)"):
        ((found,),) = results(store, f"select {select} from Plate p where p.id = 1", read=Results.projected)
        assert (found.val.id.val, found.val.isLoaded()) == (1, False)


@pytest.mark.parametrize(
    ("select", "kind", "value"),
    [
        ("trim(both 'a' from p.name)", "RString", "lph"),
        ("trim(leading 'a' from p.name)", "RString", "lpha"),
        ("trim(trailing from '  x  ')", "RString", "  x"),
        ("trim('a', p.name)", "RString", "lph"),
        ("initcap(p.name)", "RString", "Alpha"),
        ("char_length(p.name)", "RLong", 5),
        ("mod(p.id, 3)", "RInt", 1),
        ("coalesce(p.rows, p.id)", "RInt", 8),
        ("cast(p.rows as float)", "RFloat", 8.0),
        ("cast(2.7 as int)", "RInt", 3),
        ("cast(' 12 ' as long)", "RLong", 12),
        ("1.5f", "RFloat", 1.5),
        ("case when p.rows > 3 then 1 else 2.5 end", "RInt", 1),
        ("str(p.rows * 1.0)", "RString", "8"),
        ("cast('2017-07-14 02:40:00.123' as timestamp)", "RTime", 1500000000123),
        ("cast('2017-07-14 02:40' as date)", "RTime", 1499990400000),
        ("date_trunc('month', cast('2017-07-14 02:40' as timestamp))", "RTime", 1498867200000),
        ("to_char(cast('2017-07-14 02:40' as timestamp), 'YYYY-MM-DD HH24:MI')", "RString", "2017-07-14 02:40"),
        ("str(cast('2017-07-14 02:40:00.120' as timestamp))", "RString", "2017-07-14 02:40:00.12"),
        ("cbrt(27.0)", "RDouble", 3.0),
    ],
)
def test_functions_of_the_dialect(store, select, kind, value):
    ((found,),) = results(store, f"select {select} from Plate p where p.id = 1", read=Results.projected)
    assert (type(found).__name__[:-1], found.val) == (kind, value)


def test_a_query_that_was_compiled_before_takes_the_values_and_the_rights_of_each_call(store):
    by_name = "select p.id from Plate p where p.name = :name"
    assert [column(store, by_name, {"name": rstring(name)}) for name in ("alpha", "gamma", "none")] == [[1], [3], []]
    assert column(store, by_name, {"name": rstring("alpha")}, ctx=context(EVE, FOREIGN)) == []
    assert column(store, by_name, {"name": rlist([rstring("Beta")])}) == [2]
    by_ids = "select p.id from Plate p where p.id in (:ids) order by p.id"
    assert [column(store, by_ids, {"ids": rlist([rlong(i) for i in ids])}) for ids in ([1, 3], [2])] == [[1, 3], [2]]
    with pytest.raises(omero.ApiUsageException, match="is an empty list"):
        column(store, by_ids, {"ids": rlist([])})
    with pytest.raises(omero.InternalException, match="is a int, not a text"):
        column(store, by_name, {"name": rint(1)})
    by_unit = "select count(p) from Pixels p where p.physicalSizeX.unit = :unit"
    assert [column(store, by_unit, {"unit": rstring(unit)}) for unit in ("µm", "mm", "MICROMETER")] == [[4], [0], [4]]
