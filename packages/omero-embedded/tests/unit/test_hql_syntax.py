"""HQL as text: what the parser understands, and what it refuses."""

from __future__ import annotations

import pytest

pytest.importorskip("lark")
omero = pytest.importorskip("omero")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from omero_embedded.hql import syntax  # noqa: E402
from omero_embedded.hql.syntax import Binary, Call, Literal, Param, Path, Query, parse  # noqa: E402


def test_keywords_are_words_only_where_they_may_stand():
    tree = parse(
        "select map.child.id from ExperimenterGroup as group join group.groupExperimenterMap as map "
        "where group.details.group.id = :in and index.class = 1 and member member of group.empty"
    )
    assert tree.sources[0] == syntax.Root(Path(("ExperimenterGroup",)), "group")
    assert tree.sources[1].alias == "map"
    assert tree.where.parts[0] == Binary("=", Path(("group", "details", "group", "id")), Param("in"))
    assert tree.where.parts[2] == syntax.Member(Path(("member",)), Path(("group", "empty")))


def test_precedence():
    where = parse(
        "from Plate p where not a.b = 1 + 2 * -3 or x.y in (1, 2) and z.a between 1 and 2 and b.c is null"
    ).where
    assert where.op == "or"
    negation, conjunction = where.parts
    assert negation == syntax.Not(
        Binary(
            "=",
            Path(("a", "b")),
            Binary("+", Literal(1, "int"), Binary("*", Literal(2, "int"), syntax.Negative(Literal(3, "int")))),
        )
    )
    assert (
        parse("select 8 - 2 - 3, 8 / 2 * 3 from Plate").select.items
        == parse("select (8 - 2) - 3, (8 / 2) * 3 from Plate").select.items
    )
    assert [type(part) for part in conjunction.parts] == [syntax.In, syntax.Between, syntax.IsNull]


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("8", 8, "int"),
        ("8L", 8, "long"),
        ("3000000000", 3000000000, "long"),
        ("2.5", 2.5, "double"),
        (".5f", 0.5, "float"),
        ("1e3", 1000.0, "double"),
        ("1.5E-1d", 0.15, "double"),
        ("'it''s'", "it's", "text"),
        ("''", "", "text"),
        ("TRUE", True, "bool"),
        ("null", None, "null"),
    ],
)
def test_literals(text, value, kind):
    assert parse(f"select {text} from Plate").select.items[0].value == Literal(value, kind)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "select",
        "selct p from Plate p",
        "select p from Plate p where",
        "select p from Plate p wher p.id = 1",
        "select p from Plate p where p.name = 'open",
        "select p from Plate p where (p.id = 1",
        "drop table plate",
        "select p from Plate p; select 1",
        "select w.wells[0] from Well w",
        'select p from Plate p where p.name = "a"',
        "select p from",
        "from Plate p join",
        "from Plate p order p.id",
        "from Plate p where p.id in ()",
        "from Plate p where 8x = 1",
        "from Plate p where x in foo(p.wells)",
        "select from Plate",
        "from Plate p group by",
        "from Plate p where p.id = 1 and",
        "from Plate p where case end = 1",
    ],
)
def test_invalid_queries(text):
    with pytest.raises(omero.QueryException) as error:
        parse(text)
    assert error.value.message.startswith(("unexpected ", "foo(p.wells) is not"))


@pytest.mark.parametrize(
    "text",
    [
        "delete from Plate",
        "delete from Plate p where p.id = 1",
        "update Plate set name = 'x'",
        "update Plate p set p.rows = 1, p.columns = 2",
    ],
)
def test_nothing_is_changed(text):
    with pytest.raises(omero.ApiUsageException):
        parse(text)


# A tree as text, and back: whatever can be said is understood as it was meant.

WORDS = st.sampled_from(["p", "w", "name", "rows", "group", "index", "member", "class", "map", "of", "with", "value"])
PATHS = st.lists(WORDS, min_size=2, max_size=4).map(lambda names: Path(tuple(names)))
LITERALS = st.one_of(
    st.integers(0, 2**31 - 1).map(lambda n: Literal(n, "int")),
    st.integers(0, 2**40).map(lambda n: Literal(n, "long")),
    st.floats(0, 1e6).map(lambda x: Literal(x, "double")),
    st.text("ab'%_ ü\\\n\"", max_size=6).map(lambda t: Literal(t, "text")),
    st.just(Literal(None, "null")),
    st.booleans().map(lambda b: Literal(b, "bool")),
)


def composite(inner):
    some = st.lists(inner, min_size=1, max_size=3).map(tuple)
    query = st.builds(
        lambda item, where: Query(
            syntax.Select((syntax.Item(item, None),), False), (syntax.Root(Path(("Plate",)), "p"),), where
        ),
        inner,
        inner,
    )
    return st.one_of(
        st.builds(
            Binary, st.sampled_from(["+", "-", "*", "/", "%", "||", "=", "<>", "<", "<=", ">", ">="]), inner, inner
        ),
        st.builds(syntax.Logic, st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(syntax.Not, inner),
        st.builds(syntax.Negative, inner),
        st.builds(syntax.IsNull, inner),
        st.builds(syntax.IsEmpty, PATHS),
        st.builds(syntax.In, inner, some),
        st.builds(syntax.Between, inner, inner, inner),
        st.builds(syntax.Like, inner, inner, st.none() | inner),
        st.builds(syntax.Member, inner, PATHS),
        st.builds(syntax.Cast, inner, st.sampled_from(["string", "long"])),
        st.builds(Call, st.sampled_from(["lower", "count", "coalesce"]), some, st.booleans()),
        st.builds(syntax.Case, st.lists(st.tuples(inner, inner), min_size=1, max_size=2).map(tuple), st.none() | inner),
        st.builds(syntax.Subquery, query),
        st.builds(lambda q: syntax.Exists(syntax.Subquery(q)), query),
    )


TREES = st.recursive(st.one_of(PATHS, LITERALS, st.just(Param("ids"))), composite, max_leaves=8)


def text_of(expr) -> str:
    """HQL for a tree, with brackets around every part."""

    def inner(part):
        plain = isinstance(
            part, Path | Literal | Param | Call | syntax.Cast | syntax.Subquery | syntax.Exists | syntax.Case
        )
        return text_of(part) if plain else f"({text_of(part)})"

    match expr:
        case Path():
            return str(expr)
        case Literal(value, "text"):
            return "'" + value.replace("'", "''") + "'"
        case Literal(value, kind):
            return {"null": "null", "bool": str(value).lower(), "long": f"{value}L"}.get(kind, repr(value))
        case Param():
            return f":{expr.name}"
        case Binary():
            return f"{inner(expr.left)} {expr.op} {inner(expr.right)}"
        case syntax.Logic():
            return f" {expr.op} ".join(inner(part) for part in expr.parts)
        case syntax.Not():
            return f"not {inner(expr.value)}"
        case syntax.Negative():
            return f"-{inner(expr.value)}"
        case syntax.IsNull():
            return f"{inner(expr.value)} IS NULL"
        case syntax.IsEmpty():
            return f"{expr.value} is empty"
        case syntax.In():
            return f"{inner(expr.value)} in ({', '.join(inner(value) for value in expr.values)})"
        case syntax.Between():
            return f"{inner(expr.value)} between {inner(expr.low)} and {inner(expr.high)}"
        case syntax.Like():
            return f"{inner(expr.value)} like {inner(expr.pattern)}" + (
                f" escape {inner(expr.escape)}" if expr.escape else ""
            )
        case syntax.Member():
            return f"{inner(expr.value)} member of {expr.collection}"
        case syntax.Cast():
            return f"cast({inner(expr.value)} as {expr.kind})"
        case Call():
            return f"{expr.name}({'distinct ' * expr.distinct}{', '.join(inner(arg) for arg in expr.args)})"
        case syntax.Case():
            whens = " ".join(f"when {inner(when)} then {inner(then)}" for when, then in expr.whens)
            return f"case {whens}" + (f" else {inner(expr.otherwise)}" if expr.otherwise else "") + " end"
        case syntax.Subquery(query):
            return f"(select {inner(query.select.items[0].value)} from Plate p where {inner(query.where)})"
        case syntax.Exists():
            return "exists " + text_of(expr.query)


@given(TREES)
def test_every_tree_can_be_written_as_text(tree):
    assert parse(f"from Plate p where {text_of(tree)}").where == tree


@given(st.text("selctfromwhr pPa.()='1:,*<>-\n", max_size=60))
def test_nonsense_is_a_query_exception_or_a_query(text):
    try:
        parse(text)
    except (omero.QueryException, omero.ApiUsageException):
        pass
