"""What HQL has, and few clients use: right and full joins, vectors, functions of collections, numbered parameters.

What Hibernate 3.6 allows is in its hql.g, hql-sql.g and CollectionPropertyMapping; what functions give, in the
documentation of PostgreSQL.
"""

from __future__ import annotations

import pytest

pytest.importorskip("lark")
pytest.importorskip("sqlalchemy")
omero = pytest.importorskip("omero")

from hql_store import ADA, EVE, FOREIGN, column, context, objects, results, rows  # noqa: E402
from omero.rtypes import rint, rlong  # noqa: E402
from omero_embedded.hql.results import Results  # noqa: E402
from omero_embedded.model.access import ALL_GROUPS  # noqa: E402
from omero_embedded.model.sql_functions import _number_to_char, interval_of  # noqa: E402


def test_right_and_full_joins(store):
    """Rows without a root are for administrators in all groups: a root has to be in the current group."""
    admin = context(ADA, ALL_GROUPS, admin=True)
    right = "select p.name, w.column from Well w right outer join w.plate p with w.column = 1 order by p.name"
    found = rows(store, right, ctx=admin)
    assert ["alpha", 1] in found and ["Beta", None] in found and len(found) == 7
    full = "from Well w full join w.plate p with w.column = 1"
    assert len(rows(store, f"select w.column, p.name {full}", ctx=admin)) == 9
    assert [plate.name.val for plate in objects(store, f"select p {full}", ctx=admin) if plate].count("alpha") == 1
    assert rows(store, "select w.column from Plate p right join p.wells w", ctx=context(EVE, FOREIGN)) == []
    with pytest.raises(omero.QueryException, match="unexpected token: outer"):
        rows(store, "from Plate p full outer join p.wells w")


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("(p.rows, p.status) = (8, 'open')", ["gamma"]),
        ("(p.rows, p.status) <> (8, 'open') and p.status is not null", ["alpha", "delta_1"]),
        ("(p.rows, p.id) > (8, 1)", ["Beta", "gamma", "delta_1"]),
        ("(p.rows, p.status) in ((8, 'done'), (32, 'done'))", ["alpha", "delta_1"]),
        ("(p.rows, p.status) not in ((8, 'done'), (32, 'done')) and p.status is not null", ["gamma"]),
        ("(p.id, p.rows) in (select q.id, q.rows from Plate q where q.rows = 8)", ["alpha", "gamma"]),
        ("(p.id, p.rows) = (select max(q.id), max(q.rows) from Plate q)", ["delta_1"]),
        ("(p.rows, p.id) = (:rows, :id)", ["alpha"]),
        ("p.id = ?1", ["alpha"]),
    ],
)
def test_vectors_and_numbered_parameters(store, where, names):
    given = {"rows": rint(8), "id": rlong(1), "1": rlong(1)}
    assert column(store, f"select p.name from Plate p where {where} order by p.id", given) == names


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("maxindex(w.wellSamples) = 3 and minindex(w.wellSamples) = 0", [0]),
        ("w.wellSamples.maxIndex = 0", [1]),
        ("2 in indices(w.wellSamples)", [0]),
        ("1 < some indices(w.wellSamples)", [0]),
        ("0 = all indices(w.wellSamples)", [1]),
        ("exists indices(w.wellSamples)", [0, 1]),
        ("maxelement(w.wellSamples) = (select max(s.id) from WellSample s)", [1]),
        ("minelement(w.wellSamples).id = 1", None),
        ("1 = some elements(w.wellSamples)", [0]),
        ("size(w.wellSamples) = 3", [0]),
        ("w.annotationLinksCountPerOwner is empty", [0, 1]),
    ],
)
def test_functions_of_collections(store, where, names):
    text = f"select w.column from Well w where {where} order by w.column"
    if names is None:
        with pytest.raises(omero.QueryException):
            rows(store, text)
        return
    assert column(store, text) == names


def test_collections_that_are_selected(store):
    assert sorted(column(store, "select indices(w.wellSamples) from Well w")) == [0, 0, 2, 3]
    with pytest.raises(omero.QueryException, match="unindexed collection before indices"):
        rows(store, "select indices(p.wells) from Plate p")
    (((found),),) = results(store, "select maxelement(p.wells) from Plate p where p.id = 1", read=Results.projected)
    assert (type(found.val).__name__, found.val.isLoaded()) == ("WellI", False)


def test_numbers_of_links_by_owner(store):
    counts = "from Plate p join p.annotationLinksCountPerOwner c"
    assert rows(store, f"select p.name, index(c), c {counts}") == [["alpha", ADA, 3]]
    assert rows(store, f"select sum(c) {counts} where c > 1") == [[3]]
    assert column(store, "select size(p.annotationLinksCountPerOwner) from Plate p order by p.id") == [1, 0, 0, 0]
    assert column(store, "select p.name from Plate p where 3 in elements(p.annotationLinksCountPerOwner)") == ["alpha"]
    assert len(objects(store, "select p from Plate p left join p.annotationLinksCountPerOwner c")) == 4
    with pytest.raises(omero.QueryException, match="could not resolve property: wellsCountPerOwner of"):
        rows(store, "from Plate p join p.wellsCountPerOwner c")


@pytest.mark.parametrize(
    ("number", "pattern", "text"),
    [
        (485, "999", " 485"),
        (-485, "999", "-485"),
        (12, "9990999.9", "    0012.0"),
        (12, "FM9990999.9", "0012."),
        (-0.1, "99.99", "  -.10"),
        (-0.1, "FM9.99", "-.1"),
        (0.1, "0.9", " 0.1"),
        (148.5, "999.999", " 148.500"),
        (148.5, "FM999.999", "148.5"),
        (148.5, "FM999.990", "148.500"),
        (1485, "9,999", " 1,485"),
        (485, "FM0000", "0485"),
        (485, "S999", "+485"),
        (1234, "999", " ###"),
        # as PostgreSQL 15 has it of float8
        (148.5, "999", " 148"),
        (-0.1, "FM99", "-0"),
        (0.5, ".99", " .##"),
        (0, "FM999.99", "0."),
        (-0.004, "999.99", "   -.00"),
        (1234567, "FM9G999G999", "1,234,567"),
        (5, "9.", " 5"),
    ],
)
def test_numbers_as_text(number, pattern, text):
    assert _number_to_char(number, pattern) == text


@pytest.mark.parametrize("pattern", ["RN", "9EEEE", "999PR", "", "FM"])
def test_patterns_of_numbers_that_are_refused(pattern):
    with pytest.raises(ValueError, match="takes no pattern"):
        _number_to_char(1, pattern)


def test_intervals():
    assert interval_of("1 day 2 hours") == 26 * 3_600_000
    for wrong in ("soon", "1", "1 day ago"):
        with pytest.raises((ValueError, KeyError)):
            interval_of(wrong)


@pytest.mark.parametrize(
    ("select", "value"),
    [
        ("to_char(p.rows, 'FM000')", "008"),
        ("substring(p.name, -1, 3)", "a"),
        ("substring(p.name, 0)", "alpha"),
        ("substring(p.name, 2, 3)", "lph"),
        ("upper('äß')", "Äß"),
        ("md5(p.name)", "2c1743a391305fbf367df8e4f069f9f9"),
        ("to_date('2020-02-01', 'YYYY-MM-DD')", 1580515200.0),
    ],
)
def test_more_functions(store, select, value):
    ((found,),) = rows(store, f"select {select} from Plate p where p.id = 1")
    assert found == (value * 1000 if isinstance(value, float) else value)


@pytest.mark.parametrize(
    "where",
    [
        "left(p.name, 2) = 'al'",
        "right(p.name, 2) = 'ha'",
        "strpos(p.name, 'ph') = 3",
        "reverse(p.name) = 'ahpla'",
        "lpad(p.name, 7, '-') = '--alpha'",
        "split_part(p.name, 'p', 2) = 'ha'",
        "age(p.details.creationEvent.time, p.details.creationEvent.time) < '1 day' and p.id = 1",
    ],
)
def test_functions_of_the_database(store, where):
    assert column(store, f"select p.name from Plate p where {where}") == ["alpha"]


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("select p from Plate p wher p.id = 1", omero.QueryException, "unexpected token: wher near line 1, column 23"),
        ("from Plait p", omero.QueryException, "Plait is not mapped"),
        ("select p.nome from Plate p", omero.QueryException, "could not resolve property: nome of: ome.model.screen."),
        ("from Plate p where p.id = :x", omero.ApiUsageException, "Null parameters not allowed: x"),
        ("from Plate p where p.id = ?", omero.ApiUsageException, "Expected positional parameter count: 1"),
        ("from Plate p where nosuch(p.id) = 1", omero.ApiUsageException, "could not execute query; "),
        ("select age(e.time) from Event e", omero.ValidationException, "could not execute query; "),
        ("from Plate p where (p.id, p.rows) = (1, 2, 3)", omero.ApiUsageException, "could not execute query; "),
        ("select (p.id, p.rows) from Plate p", omero.QueryException, ""),
    ],
)
def test_what_errors_say(store, text, kind, message):
    """As StringQuery and ServiceHandler of OMERO.server word them."""
    with pytest.raises(kind) as refused:
        rows(store, text)
    if kind is omero.QueryException:
        message = f"Illegal query:{text}\n{message}"
        assert refused.value.serverExceptionClass == "ome.services.query.QueryException"
    assert refused.value.message.startswith(message)


def test_members_of_a_class(store):
    """MetadataImpl of OMERO.server asks for annotations like this."""
    named = "ome.model.annotations.TagAnnotation"
    assert column(store, f"select a.textValue from Annotation a where a member of {named} order by a.id") == [
        "one",
        "two",
    ]
    assert column(store, "select a.ns from Annotation a where not a member of TextAnnotation") == ["pairs"]
