"""The parser of search queries: Lucene's classic syntax, without ranges, boosts and fuzzy words."""

from __future__ import annotations

import re
from functools import cache
from typing import cast

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from omero_embedded.search.query import FullTextQuery, Phrase

MOST_WILDCARDS = 4  # in one word; the time to match multiplies with each
MOST_DEPTH = 20  # of parentheses


class BadQuery(Exception):
    """The query can't be understood. The message says why."""


def parse(query: str, leading_wildcards: bool = False) -> FullTextQuery:
    """Parse a query.

    Parameters
    ----------
    query
        Words, "phrases", wildcards (``*`` and ``?``), ``field:word``, ``+must``, ``-mustn't``, ``AND``, ``OR``,
        ``NOT`` and parentheses. Words that are joined by none of these are alternatives.
    leading_wildcards
        Whether a word may start with a wildcard.

    Raises
    ------
    BadQuery
        If the syntax is wrong, nothing is searched for, or a wildcard is not allowed.
    """
    try:
        read = cast(FullTextQuery, _parser().parse(query))  # made by _Builder
    except UnexpectedCharacters as error:
        raise BadQuery(f"{query[error.pos_in_stream or 0 :].strip()[:20]} is not understood") from None
    except UnexpectedToken as error:
        place = f"{error.token[:20]} is in an unexpected place"
        raise BadQuery(place if error.token else "it ends too early") from None
    if not (read.must or read.should):
        raise BadQuery("there is nothing to look for")
    for phrase in read.phrases():
        _check_wildcards(phrase, leading_wildcards)
    return read


def _check_wildcards(phrase: Phrase, leading: bool) -> None:
    if phrase.is_word and phrase.text[0] in "*?" and not leading:
        raise BadQuery("'*' or '?' not allowed as first character")
    if phrase.is_word and phrase.text.count("*") > MOST_WILDCARDS:
        raise BadQuery(f"{phrase.text[:20]} has more than {MOST_WILDCARDS} wildcards")


@cache
def _parser() -> Lark:
    return Lark.open("grammar.lark", rel_to=__file__, start="query", parser="lalr", transformer=_Builder())


class _Builder(Transformer):
    """Makes the tree of a query while it is parsed."""

    @v_args(inline=True)
    def word(self, token: Token) -> Phrase:
        return Phrase(None, str(token))

    @v_args(inline=True)
    def phrase(self, token: Token) -> Phrase:
        return Phrase(None, str(token[1:-1]), is_word=False)

    def clause(self, parts: list) -> tuple[str, Phrase | FullTextQuery]:
        """A part with its sign, "" for none; of several signs the last one counts."""
        *signs, part = parts
        return ("+" if signs[-1].type == "PLUS" else "-") if signs else "", part

    def field(self, parts: list) -> tuple[str, Phrase | FullTextQuery]:
        """A clause whose words are searched for in one field."""
        *signs, name, part = parts
        return self.clause([*signs, part.within(re.sub(r"\\(.)", r"\1", name[:-1]))])

    @v_args(inline=True)
    def conjunction(self, token: Token) -> str:
        return token.type

    def query(self, parts: list) -> FullTextQuery:
        """Sort the clauses by their signs; AND gives one to the unsigned clauses on both sides of it."""
        clauses: list[tuple[str, Phrase | FullTextQuery]] = []
        joined_by = ""
        for part in parts:
            if isinstance(part, str):
                joined_by = part
                if joined_by == "AND" and not clauses[-1][0]:
                    clauses[-1] = ("+", clauses[-1][1])
            else:
                sign, found = part
                clauses.append((sign or ("+" if joined_by == "AND" else ""), found))
                joined_by = ""
        made = FullTextQuery(*([found for sign, found in clauses if sign == wanted] for wanted in ("+", "", "-")))
        if _depth(made) > MOST_DEPTH:
            raise BadQuery("it has too many parentheses")
        return made


def _depth(part: Phrase | FullTextQuery) -> int:
    return 0 if isinstance(part, Phrase) else 1 + max(map(_depth, part.parts))
