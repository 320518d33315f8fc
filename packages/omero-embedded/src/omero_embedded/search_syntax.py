"""Full text as OMERO's search takes it: Lucene's query syntax, asked of texts that are looked at one after the other.

Words, "phrases", wildcards (* and ?), field:word, +must, -mustn't, AND, OR, NOT and parentheses; words of which none of
this is said are alternatives. Ranges, boosts and similar words are not there. A text's words are its runs of
letters and digits in lower case. See Lucene's "Query Parser Syntax" (the classic one).
"""
from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property

Texts = dict[str, list[str]]  # an object's texts by the name of their field

MOST_WILDCARDS = 4  # a word; the time that they take multiplies
_TOKEN = re.compile(r"""\s*(?: (?P<sign>[+\-!]) | (?P<open>\() | (?P<close>\)) | (?P<both>&&) | (?P<either>\|\|)
                        | (?:(?P<field>(?:\\.|[^\s:()"+\-!\\])(?:\\.|[^\s:()"\\])*):)?
                          (?:"(?P<phrase>(?:\\.|[^"\\])*)" | (?P<word>(?:\\.|[^\s:()"\\])+) | (?P<group>\()) )""", re.X)
_WORD = re.compile(r"[^\W_]+")


class BadQuery(Exception):
    """The query can't be understood; the text says why."""


def words(text: str) -> list[str]:
    """The words of a text in order."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True)
class Phrase:
    """Words that stand one after the other, in one field or in any."""

    field: str | None
    text: str
    is_word: bool = True  # so * and ? are wildcards

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        if not self.is_word:
            return [re.compile(re.escape(word)) for word in words(self.text)]
        plain = re.sub(r"\\(.)", lambda found: " " if found[1] in "*?" else found[1], self.text.lower())
        return [re.compile("".join({"*": ".*", "?": "."}.get(one, re.escape(one)) for one in word))
                for word in re.findall(r"[^\W_*?]*[*?][\w*?]*|[^\W_]+", plain)]

    def matches(self, texts: Texts, fields: Collection[str]) -> bool:
        wanted = [self.field] if self.field else fields or texts
        return bool(self._patterns) and any(
            self._stands_in(words(text)) for name in wanted for text in texts.get(name, ()))

    def _stands_in(self, found: list[str]) -> bool:
        length = len(self._patterns)
        return any(all(pattern.fullmatch(word) for pattern, word in zip(self._patterns, found[start:start + length]))
                   for start in range(len(found) - length + 1))


@dataclass
class Query:
    """What must be there, what must not, and alternatives of which one must be where nothing else must."""

    must: list[Phrase | Query] = field(default_factory=list)
    should: list[Phrase | Query] = field(default_factory=list)
    must_not: list[Phrase | Query] = field(default_factory=list)

    def matches(self, texts: Texts, fields: Collection[str] = ()) -> bool:
        """Whether an object with these texts is found; words without a field are looked for in `fields` (none: all)."""
        def those(parts: Iterable[Phrase | Query]) -> Iterable[bool]:
            return (part.matches(texts, fields) for part in parts)

        wanted = all(those(self.must)) if self.must else any(those(self.should))
        return wanted and not any(those(self.must_not))


def parse(query: str, leading_wildcards: bool = False) -> Query:
    """Read a query.

    Raises
    ------
    BadQuery
        Where it is not one, has no word, or begins a word with a wildcard and may not.
    """
    reader = _Reader(query, leading_wildcards)
    read = reader.clauses(depth=0)
    if not (read.must or read.should):
        raise BadQuery("there is nothing to look for")
    return read


class _Reader:
    """Reads a query from left to right."""

    def __init__(self, query: str, leading_wildcards: bool):
        self.query, self.at, self.leading_wildcards = query, 0, leading_wildcards

    def clauses(self, depth: int, name: str | None = None) -> Query:
        """Clauses up to the end or, inside of parentheses, to the closing one."""
        parts: list[tuple[str, Phrase | Query]] = []
        sign, joined = "", ""  # what stands before the next clause
        while self.query[self.at:].strip():
            token = self._next()
            if token["close"]:
                if not depth:
                    raise BadQuery('")" closes nothing')
                depth = -1
                break
            word = token["word"] if not token["field"] else None
            if token["sign"] or word == "NOT":
                sign = "-" if token["sign"] != "+" else "+"
            elif token["both"] or token["either"] or word in ("AND", "OR"):
                if not parts or joined or sign:
                    raise BadQuery(f"{token[0].strip()} stands between nothing")
                joined = "AND" if token["both"] or word == "AND" else "OR"
                if joined == "AND" and parts[-1][0] == "":
                    parts[-1] = ("+", parts[-1][1])
            else:
                parts.append((sign or ("+" if joined == "AND" else ""), self._clause(token, depth, name)))
                sign = joined = ""
        if depth > 0 or joined or sign:
            raise BadQuery("it ends too early")
        return Query(*([part for how, part in parts if how == wanted] for wanted in ("+", "", "-")))

    def _clause(self, token: re.Match[str], depth: int, name: str | None) -> Phrase | Query:
        name = re.sub(r"\\(.)", r"\1", token["field"]) if token["field"] else name
        if token["open"] or token["group"]:
            if depth > 20:
                raise BadQuery("it has too many parentheses")
            return self.clauses(depth + 1, name)
        if token["phrase"] is not None:
            return Phrase(name, token["phrase"], is_word=False)
        if token["word"][0] in "*?" and not self.leading_wildcards:
            raise BadQuery("'*' or '?' not allowed as first character")
        if token["word"].count("*") > MOST_WILDCARDS:
            raise BadQuery(f"{token['word'][:20]} has more than {MOST_WILDCARDS} wildcards")
        return Phrase(name, token["word"])

    def _next(self) -> re.Match[str]:
        found = _TOKEN.match(self.query, self.at)
        if found is None:
            raise BadQuery(f"{self.query[self.at:].strip()[:20]} is not understood")
        self.at = found.end()
        return found
