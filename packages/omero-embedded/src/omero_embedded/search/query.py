"""A search query as a tree, and whether the texts of an object match it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

Texts = dict[str, list[str]]  # an object's texts by the name of their field
_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """The words of a text in order: its runs of letters and digits, in lower case."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True)
class Phrase:
    """Words that follow each other, in one field or in any.

    Attributes
    ----------
    field
        The name of the field; None for any.
    text
        The words, as written in the query.
    is_word
        Whether this is a single word, in which ``*`` and ``?`` are wildcards.
    """

    field: str | None
    text: str
    is_word: bool = True

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        if not self.is_word:
            return [re.compile(re.escape(word)) for word in words(self.text)]
        plain = re.sub(r"\\(.)", lambda found: " " if found[1] in "*?" else found[1], self.text.lower())
        return [_pattern(word) for word in re.findall(r"[^\W_*?]*[*?][\w*?]*|[^\W_]+", plain)]

    def within(self, name: str) -> Phrase:
        """The same phrase in a field, unless it names one itself."""
        return replace(self, field=self.field or name)

    def phrases(self) -> Iterator[Phrase]:
        yield self

    def matches(self, texts: Texts, fields: Collection[str]) -> bool:
        wanted = [self.field] if self.field else fields or texts
        return bool(self._patterns) and any(
            self._stands_in(words(text)) for name in wanted for text in texts.get(name, ())
        )

    def _stands_in(self, found: list[str]) -> bool:
        length = len(self._patterns)
        return any(
            all(pattern.fullmatch(word) for pattern, word in zip(self._patterns, found[start : start + length]))
            for start in range(len(found) - length + 1)
        )


def _pattern(word: str) -> re.Pattern[str]:
    """Translate a word with wildcards.

    What stands between two `*` is matched at its first place, and never again at another one. With backtracking, a word
    of n letters and k `*` would take up to n^k steps.
    """
    first, *rest = ("".join("." if one == "?" else re.escape(one) for one in part) for part in word.split("*"))
    if not rest:
        return re.compile(first)
    return re.compile(first + "".join(f"(?>.*?{part})" for part in rest[:-1] if part) + ".*" + rest[-1])


@dataclass
class FullTextQuery:
    """What must match, what may, and what must not. If nothing must match, one of `should` has to."""

    must: list[Phrase | FullTextQuery] = field(default_factory=list)
    should: list[Phrase | FullTextQuery] = field(default_factory=list)
    must_not: list[Phrase | FullTextQuery] = field(default_factory=list)

    @property
    def parts(self) -> list[Phrase | FullTextQuery]:
        return [*self.must, *self.should, *self.must_not]

    def within(self, name: str) -> FullTextQuery:
        """The same query in a field, except for phrases that name one themselves."""
        return FullTextQuery(
            *([part.within(name) for part in some] for some in (self.must, self.should, self.must_not))
        )

    def phrases(self) -> Iterator[Phrase]:
        """All phrases, at any depth."""
        for part in self.parts:
            yield from part.phrases()

    def matches(self, texts: Texts, fields: Collection[str] = ()) -> bool:
        """Whether an object matches.

        Parameters
        ----------
        texts
            The object's texts by field.
        fields
            Where phrases without a field are looked for; all fields if it is empty.
        """

        def those(parts: Iterable[Phrase | FullTextQuery]) -> Iterable[bool]:
            return (part.matches(texts, fields) for part in parts)

        wanted = all(those(self.must)) if self.must else any(those(self.should))
        return wanted and not any(those(self.must_not))
