"""Lucene's query syntax, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("omero")

from omero_embedded.search.query import words
from omero_embedded.search.syntax import BadQuery, parse

TEXTS = {"name": ["Plate_01 of the GFP screen"], "tag": ["good one"], "dose": ["1.5"]}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("gfp", True),
        ("plate", True),
        ("plate_01", True),
        ("plat", False),
        ("nope gfp", True),
        ("gfp AND nope", False),
        ("gfp && one", True),
        ("nope || gfp", True),
        ("gfp NOT nope", True),
        ("gfp !one", False),
        ("+gfp -plate", False),
        ("scre*", True),
        ("s?reen", True),
        ("s?een", False),
        ("plate_0*", True),
        ('"the gfp"', True),
        ('"gfp the"', False),
        ("name:good", False),
        ("tag:good", True),
        ("tag:(nope good)", True),
        ("dose:1.5", True),
        ("dose:5.1", False),
        ("(nope OR gfp) AND good", True),
        ("(gfp AND nope) OR tag:one", True),
        (r"g\*", False),
        ('tag:"good one"', True),
    ],
)
def test_queries(query, found):
    assert parse(query).matches(TEXTS) is found


def test_fields_are_for_words_without_one():
    assert not parse("good").matches(TEXTS, ["name"])
    assert parse("good").matches(TEXTS, ["name", "tag"])
    assert parse("tag:good").matches(TEXTS, ["name"])


def test_leading_wildcards_are_asked_for():
    with pytest.raises(BadQuery, match="first character"):
        parse("*fp")
    assert parse("*fp", leading_wildcards=True).matches(TEXTS)
    with pytest.raises(BadQuery, match="more than 4"):
        parse("a*b*c*d*e*f")


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", "too early"),
        ("AND", "AND is in"),
        ("a OR OR b", "OR is in"),
        ("a AND", "too early"),
        ("-a", "nothing"),
        ("a )", r"\) is in"),
        ("()", r"\) is in"),
        ("(a", "too early"),
        ('a "b', '"b is not'),
        ("a:b:c", ":c is not"),
        ("(" * 30 + "a" + ")" * 30, "parentheses"),
        ("(" * 5000, "too early"),
        ("field:NOT", "NOT is in"),
    ],
)
def test_refusals(query, reason):
    with pytest.raises(BadQuery, match=reason):
        parse(query)


@given(st.text(st.sampled_from('ab "():+-*?\\ANDORT&|!_'), max_size=30) | st.text(max_size=30))
def test_every_text_is_a_query_or_is_refused(text):
    try:
        parse(text).matches(TEXTS)
    except BadQuery as reason:
        assert str(reason)


@given(st.text(min_size=1, max_size=30))
def test_a_text_is_found_by_each_of_its_words(text):
    for word in words(text):
        assert parse(f'"{word}"').matches({"name": [text]})


@pytest.mark.parametrize(
    ("pattern", "word", "matches"),
    [
        ("a*c*e", "abcde", True),
        ("a*c*c", "abc", False),
        ("*b*", "abc", True),
        ("a**c", "abc", True),
        ("a?c*", "abc", True),
        ("*ab*ab", "abab", True),
        ("*ab*ab", "ab", False),
        ("*aab", "aaaaab", True),
        ("a*?c", "ac", False),
        ("*a*a*a*b", "a" * 10_000, False),
        ("*a*a*a*b", "a" * 10_000 + "b", True),
    ],
)
def test_wildcards_do_not_backtrack(pattern, word, matches):
    """With backtracking, the last but one would take days."""
    assert parse(pattern, True).matches({"name": [word]}) is matches
