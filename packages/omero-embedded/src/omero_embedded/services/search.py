"""Search: objects by the words in their texts and annotations. There is no index: every search reads the texts."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, replace

import omero
import sqlalchemy as sa
from omero.rtypes import rstring, unwrap

from omero_embedded.errors import refuse
from omero_embedded.files.store import Store
from omero_embedded.hql.results import Results
from omero_embedded.kernel import Kernel
from omero_embedded.model import rows
from omero_embedded.model.access import Context
from omero_embedded.model.loading import Loader
from omero_embedded.model.schema import Entity, schema
from omero_embedded.people.sessions import Session
from omero_embedded.search.query import FullTextQuery, Texts
from omero_embedded.search.syntax import BadQuery, parse
from omero_embedded.services.registry import StatefulService, service

BATCH = 1000
# The fields that hold what annotations say.
VALUES = ("textValue", "boolValue", "timeValue", "doubleValue", "longValue", "termValue", "file")
DAY = "%Y%m%d"
Period = tuple[int | None, int | None]  # milliseconds, both included
Whose = tuple[str, int] | None  # a column, of the owner or the group, and an id


@dataclass
class Wanted:
    """The restrictions of the next queries."""

    kind: Entity | None = None
    ids: list[int] | None = None
    owned: Whose = None
    not_owned: Whose = None
    created: Period = (None, None)
    modified: Period = (None, None)
    acquired: Period = (None, None)  # of images
    annotated: Period = (None, None)
    annotated_by: Whose = None
    not_annotated_by: Whose = None
    leading_wildcards: bool = False
    order: tuple[tuple[str, bool], ...] = ()  # properties, and whether their order is descending


@service("::omero::api::Search")
class SearchService(StatefulService):
    """Clients set restrictions, call a query by*, and fetch what it has found in batches."""

    def __init__(self, kernel: Kernel, session: Session):
        super().__init__(kernel, session)
        self.store = kernel.store
        self.resetDefaults(None)
        self._results: list[list] = []  # what queries have found and clients have not fetched

    # -- restrictions --------------------------------------------------------------------------------------------

    def resetDefaults(self, ctx: Context | None):
        self._wanted, self._batch, self._case, self._unloaded = Wanted(), BATCH, False, False
        self._merged = self._projected = False

    def onlyType(self, ctx: Context, kind):
        entity = schema().find(kind or "")
        if entity is None or entity.is_global or entity.is_link:
            raise refuse(omero.ApiUsageException, f"There is nothing to search in a {kind}.")
        self._wanted.kind = entity

    def allTypes(self, ctx: Context):
        self._wanted.kind = None

    def onlyTypes(self, ctx: Context, kinds):
        """Search one type; as in OMERO, searches by full text take no more."""
        self.allTypes(ctx)
        if len(kinds or ()) == 1:
            self.onlyType(ctx, kinds[0])

    def onlyIds(self, ctx: Context, ids):
        self._wanted.ids = list(ids) if ids else None

    def onlyOwnedBy(self, ctx: Context, details):
        self._wanted.owned = _whose(details)

    def notOwnedBy(self, ctx: Context, details):
        self._wanted.not_owned = _whose(details)

    def onlyCreatedBetween(self, ctx: Context, start, stop):
        self._wanted.created = (unwrap(start), unwrap(stop))

    def onlyModifiedBetween(self, ctx: Context, start, stop):
        self._wanted.modified = (unwrap(start), unwrap(stop))

    def onlyAnnotatedBetween(self, ctx: Context, start, stop):
        self._wanted.annotated = (unwrap(start), unwrap(stop))

    def onlyAnnotatedBy(self, ctx: Context, details):
        self._wanted.annotated_by = _whose(details)

    def notAnnotatedBy(self, ctx: Context, details):
        self._wanted.not_annotated_by = _whose(details)

    def setAllowLeadingWildcard(self, ctx: Context, allowed):
        self._wanted.leading_wildcards = allowed

    def isAllowLeadingWildcard(self, ctx: Context):
        return self._wanted.leading_wildcards

    def setBatchSize(self, ctx: Context, size):
        if size < 1:
            raise refuse(omero.ApiUsageException, f"A batch of {size} holds nothing: it should be 1 or more.")
        self._batch = size

    def getBatchSize(self, ctx: Context):
        return self._batch

    def setCaseSensitive(self, ctx: Context, sensitive):
        """Store the value. As in OMERO, texts are always compared in lower case."""
        self._case = sensitive

    setCaseSentivice = setCaseSensitive  # the interface has both

    def isCaseSensitive(self, ctx: Context):
        return self._case

    def setReturnUnloaded(self, ctx: Context, unloaded):
        self._unloaded = unloaded

    def isReturnUnloaded(self, ctx: Context):
        return self._unloaded

    def setMergedBatches(self, ctx: Context, merged):
        """Store the value. Each batch is of one query nevertheless."""
        self._merged = merged

    def isMergedBatches(self, ctx: Context):
        return self._merged

    def setUseProjections(self, ctx: Context, projected):
        """Store the value. OMERO does no more with it."""
        self._projected = projected

    def isUseProjections(self, ctx: Context):
        return self._projected

    def addOrderByAsc(self, ctx: Context, path):
        self._wanted.order += ((path, False),)

    def addOrderByDesc(self, ctx: Context, path):
        self._wanted.order += ((path, True),)

    def unordered(self, ctx: Context):
        self._wanted.order = ()

    def _never(self, ctx: Context, *asked):
        """What OMERO's interface has, and refuses too."""
        raise refuse(omero.InternalException, " Wrapped Exception: (java.lang.UnsupportedOperationException):\nnull")

    currentMetadata = currentMetadataList = fetchAlso = remove = _never

    # -- queries -------------------------------------------------------------------------------------------------

    def byFullText(self, ctx: Context, query):
        self._ask(ctx, query, [], self._wanted)

    def bySomeMustNone(self, ctx: Context, some, must, none):
        """Search for objects with some of the first words, all of the second and none of the third."""
        optional = " OR ".join(word for word in some or () if word)
        terms = [f"({optional})"] if optional else []
        terms += [f"{sign}{word}" for sign, words in (("+", must), ("-", none)) for word in words or () if word]
        if not terms:
            raise refuse(omero.ApiUsageException, "There are no words to search for.")
        self._ask(ctx, " ".join(terms), [], self._wanted)

    def byLuceneQueryBuilder(self, ctx: Context, fields, start, stop, date_type, query):
        """Search in some fields, of objects from some days (YYYYMMDD, inclusive)."""
        wanted = self._wanted
        if start or stop:
            days = _milliseconds(start), _milliseconds(stop, days=1)
            acquired = date_type == "acquisitionDate" and wanted.kind is not None and wanted.kind.name == "Image"
            wanted = replace(wanted, acquired=days) if acquired else replace(wanted, created=days)
        self._ask(ctx, query, [name for name in fields.split(",") if name], wanted)

    def _ask(self, ctx: Context, text: str, fields: list[str], wanted: Wanted) -> None:
        if wanted.kind is None:
            raise refuse(
                omero.ApiUsageException, "Searches by full text are limited to a single type: call onlyType first."
            )
        try:
            query = parse(text, wanted.leading_wildcards)
        except BadQuery as reason:
            raise refuse(omero.ApiUsageException, f"{text} caused a parse exception: {reason}") from None
        found = matching(self.store, ctx, wanted.kind, _conditions(wanted), query, fields)
        self._add([(wanted.kind, oid) for oid in self._ordered(wanted.kind, found)])

    def _ordered(self, kind: Entity, found: list[int]) -> list[int]:
        """Put ids into the order that is asked for, if any is."""
        if not self._wanted.order:
            return found
        order = []
        for path, descending in self._wanted.order:
            field = kind.find_field(path)
            if field is None or path not in kind.table.c:
                raise refuse(omero.ApiUsageException, f"could not resolve property: {path} of: {kind.java}")
            column = kind.table.c[path]
            order.append(column.desc().nulls_first() if descending else column.asc().nulls_last())
        columns = kind.table.c
        with self.store.read() as connection:
            statement = sa.select(columns.id).where(rows.among(columns.id, found)).order_by(*order, columns.id)
            return list(connection.execute(statement).scalars())

    def byHqlQuery(self, ctx: Context, query, params):
        """Find the objects of a query in HQL."""
        given = (params.map or {}) if params is not None else {}
        with self.store.read() as connection:
            found = Results(connection, ctx, query, given).objects()
        self._add([(schema().of(one), one.id.val) for one in found])

    def byAnnotatedWith(self, ctx: Context, examples):
        """Find objects with annotations that have the values of the examples; an example without one is any."""
        kind = self._wanted.kind
        if kind is None or not examples:
            raise refuse(
                omero.ApiUsageException,
                "Searches by annotations are limited to a single type, and need one annotation: call onlyType first.",
            )
        links = schema().find(f"{kind.root.name}AnnotationLink")
        if links is None:
            raise refuse(omero.ApiUsageException, f"A {kind.name} has no annotations.")
        with self.store.read() as connection:
            statement = (
                sa.select(kind.table.c.id)
                .where(*_conditions(self._wanted), *rows.visible(ctx, kind))
                .order_by(kind.table.c.id)
            )
            for example in examples:
                statement = statement.where(kind.table.c.id.in_(_annotated_with(ctx, links, example)))
            found = list(connection.execute(statement).scalars())
        self._add([(kind, oid) for oid in self._ordered(kind, found)])

    def byGroupForTags(self, ctx: Context, group):
        """Find the tag sets of a tag: as in OMERO, tags that have nothing but their text."""
        self._by_tags(ctx, group, "parent", "child")

    def byTagForGroups(self, ctx: Context, tag):
        """Find the tags of a tag set, likewise."""
        self._by_tags(ctx, tag, "child", "parent")

    def _by_tags(self, ctx: Context, text: str, wanted: str, given: str) -> None:
        hql = (
            f"select t.textValue from AnnotationAnnotationLink l join l.{wanted} t join l.{given} s "
            "where t.class = TagAnnotation and s.class = TagAnnotation"
        )
        with self.store.read() as connection:
            found = Results(
                connection, ctx, hql + (" and s.textValue = :text" if text else ""), {"text": rstring(text)}
            ).projected()
        tags = []
        for row in found:
            tags.append(omero.model.TagAnnotationI())
            tags[-1].textValue = row[0] if row else None
        self._add(tags)

    def _add(self, found: list) -> None:
        if found:
            self._results.append(found)

    def activeQueries(self, ctx: Context):
        return len(self._results)

    def clearQueries(self, ctx: Context):
        self._results = []

    # -- results -------------------------------------------------------------------------------------------------

    def hasNext(self, ctx: Context):
        return bool(self._results)

    def next(self, ctx: Context):
        return self._take(ctx, 1)[0]

    def results(self, ctx: Context):
        """Return the next batch of what one query has found."""
        return self._take(ctx, self._batch)

    def _take(self, ctx: Context, count: int) -> list:
        if not self._results:
            raise refuse(omero.ApiUsageException, "There are no more results: ask hasNext.")
        found = self._results.pop(0)
        if found[count:]:
            self._results.insert(0, found[count:])
        if self._unloaded:
            return [one[0].new(one[1], False) if isinstance(one, tuple) else one for one in found[:count]]
        with self.store.read() as connection:
            loader = Loader(connection, ctx)
            for entity in {one[0].root.name: one[0].root for one in found[:count] if isinstance(one, tuple)}.values():
                ids = [one[1] for one in found[:count] if isinstance(one, tuple) and one[0].root is entity]
                loader.load_stamps(loader.get(entity, ids).values())
            loaded = [
                loader.get(one[0], [one[1]]).get(one[1]) if isinstance(one, tuple) else one for one in found[:count]
            ]
        return [one for one in loaded if one is not None]


def matching(
    store: Store, ctx: Context, entity: Entity, conditions: list, query: FullTextQuery, fields: list[str]
) -> list[int]:
    """Find the ids of the objects of a class whose texts match a query."""
    table = entity.table
    names = [one.name for one in entity.fields.values() if one.kind == "text"]
    with store.read() as connection:
        found = connection.execute(
            sa.select(table.c.id, *(table.c[name] for name in names))
            .where(*conditions, *rows.visible(ctx, entity))
            .order_by(table.c.id)
        ).all()
        annotated = _annotations(connection, ctx, entity, [row[0] for row in found])
    found_ids = []
    for oid, *values in found:
        texts: Texts = {"id": [str(oid)], **annotated.get(oid, {})}
        for name, value in zip(names, values):
            if value:
                texts[name] = [*texts.get(name, []), value]
        if query.matches(texts, fields):
            found_ids.append(oid)
    return found_ids


def full_text(store: Store, ctx: Context, entity: Entity, text: str) -> list[int]:
    """Find the ids of the objects of a class by full text."""
    try:
        query = parse(text, False)
    except BadQuery as reason:
        raise refuse(omero.ApiUsageException, f"{text} caused a parse exception: {reason}") from None
    return matching(store, ctx, entity, _conditions(Wanted(kind=entity)), query, [])


def _annotated_with(ctx: Context, links: Entity, example) -> sa.Select:
    """Select the ids of what has an annotation of an example's class and value."""
    entity = schema().of(example)
    table, columns = entity.table, links.table.c
    wanted = [table.c["class"].in_([one.name for one in entity.family()])]
    values = rows.row_of(entity, example)
    wanted += [table.c[name] == values[name] for name in VALUES if values.get(name) is not None]
    return (
        sa.select(columns.parent)
        .join(table, table.c.id == columns.child)
        .where(*wanted, *rows.visible(ctx, links), *rows.visible(ctx, entity))
    )


def _whose(details) -> Whose:
    """The owner of details or else their group; None for no restriction."""
    for column, one in (("_owner", details._owner), ("_group", details._group)) if details is not None else ():
        if one is not None:
            if (oid := rows.id_of(one)) is None:
                raise refuse(omero.ApiUsageException, f"The {column[1:]} has no id.")
            return column, oid
    return None


def _milliseconds(day: str | None, days: int = 0) -> int | None:
    """The first moment of a day or, with days=1, its last; None for an empty text."""
    if not day:
        return None
    try:
        begin = (
            time.mktime(time.strptime(day, DAY))
            if days == 0
            else time.mktime((*time.strptime(day, DAY)[:2], time.strptime(day, DAY)[2] + days, 0, 0, 0, 0, 0, -1))
            - 0.001
        )
    except ValueError:
        raise refuse(omero.ApiUsageException, f"{day} is not a day such as 20261123.") from None
    return int(begin * 1000)


def _conditions(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    assert wanted.kind is not None
    columns = wanted.kind.table.c
    conditions: list[sa.ColumnElement[bool]] = []
    if "class" in columns:
        conditions.append(columns["class"].in_([one.name for one in wanted.kind.family()]))
    if wanted.ids is not None:
        conditions.append(rows.among(columns.id, wanted.ids))
    if wanted.acquired != (None, None):
        conditions.append(_within(columns.acquisitionDate, wanted.acquired))
    conditions += _about(columns, wanted.owned, wanted.not_owned, wanted.created)
    if wanted.modified != (None, None):
        conditions.append(columns._updateEvent.in_(_events(wanted.modified)))
    return [*conditions, *_annotated(wanted)]


def _annotated(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    """Whether an object has an annotation as it is asked for, if one is."""
    table = schema()["Annotation"].table
    conditions = _about(table.c, wanted.annotated_by, wanted.not_annotated_by, wanted.annotated)
    if not conditions or wanted.kind is None:
        return []
    links = schema().find(f"{wanted.kind.root.name}AnnotationLink")
    if links is None:
        return [sa.false()]
    parents = sa.select(links.table.c.parent).join(table, table.c.id == links.table.c.child).where(*conditions)
    return [wanted.kind.table.c.id.in_(parents)]


def _about(columns, whose: Whose, not_whose: Whose, created: Period) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if whose is not None:
        conditions.append(columns[whose[0]] == whose[1])
    if not_whose is not None:
        conditions.append(columns[not_whose[0]] != not_whose[1])
    if created != (None, None):
        conditions.append(columns._creationEvent.in_(_events(created)))
    return conditions


def _events(period: Period) -> sa.Select:
    events = schema()["Event"].table.c
    return sa.select(events.id).where(_within(events.time, period))


def _within(column: sa.ColumnElement, period: Period) -> sa.ColumnElement[bool]:
    start, stop = period
    return column.between(start or 0, stop if stop is not None else 1 << 62)


def _annotations(connection: sa.Connection, ctx: Context, entity: Entity, ids: list[int]) -> dict[int, Texts]:
    """Read the texts of annotations that the caller sees, by object: values, tags, file names and key-value pairs.

    The keys of key-value pairs are fields of their own.
    """
    links = schema().find(f"{entity.root.name}AnnotationLink")
    found: dict[int, Texts] = defaultdict(lambda: defaultdict(list))
    if links is None:
        return found
    annotation, file = schema()["Annotation"], schema()["OriginalFile"].table
    table, link = annotation.table, links.table
    which = [rows.among(link.c.parent, ids), *rows.visible(ctx, annotation)]
    joined = link.join(table, link.c.child == table.c.id)
    for parent, kind, text, name in connection.execute(
        sa.select(link.c.parent, table.c["class"], table.c.textValue, file.c.name)
        .select_from(joined.outerjoin(file, table.c.file == file.c.id))
        .where(*which)
    ):
        if text:
            found[parent]["annotation"].append(text)
            if kind == "TagAnnotation":
                found[parent]["tag"].append(text)
        if name:
            found[parent]["file.name"].append(name)
    pairs = schema()["MapAnnotation"].maps["mapValue"]
    for parent, key, value in connection.execute(
        sa.select(link.c.parent, pairs.c.name, pairs.c.value)
        .select_from(joined.join(pairs, pairs.c.parent == table.c.id))
        .where(*which)
    ):
        found[parent]["annotation"] += [key, value]
        found[parent][key].append(value)
    return found
