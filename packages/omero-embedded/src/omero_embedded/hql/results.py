"""The rows of a query as OMERO returns them: objects for the find methods of IQuery, rtypes for projections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import omero
import omero.model
import sqlalchemy as sa
from omero.model import IObject, PermissionsI
from omero.rtypes import rbool, rdouble, rfloat, rint, rlist, rlong, rmap, robject, rstring
from sqlalchemy.util import LRUCache

from omero_embedded import limits
from omero_embedded.errors import refuse
from omero_embedded.hql.compiler import Column, CompiledQuery, FetchedMap, Node, compile_query
from omero_embedded.hql.syntax import parse
from omero_embedded.hql.values import DISCRIMINATORS, Params, cast_error, usage_error
from omero_embedded.model import sql_functions
from omero_embedded.model.access import Context
from omero_embedded.model.loading import RTYPES, Loader
from omero_embedded.model.schema import schema

Page = tuple[int, int | None]  # offset, limit
Reader = Callable[[Sequence], omero.RType | None]


_plans: LRUCache = LRUCache(1000)  # the compiled usual queries; no large ones


def _planned(text: str, ctx: Context, params: Params) -> CompiledQuery:
    """Compile a query, or find that it was compiled before for the same rights and kinds of parameters."""
    key = text, ctx, params.kinds
    if (plan := _plans.get(key)) is not None:
        return plan
    is_usual = len(text) < limits.KEPT_QUERY
    try:
        query = parse(text) if is_usual else parse.__wrapped__(text)
        plan = compile_query(query, schema(), ctx, params)
    except omero.QueryException as illegal:
        raise _illegal(text, f"{illegal.message} [{text}]") from None
    except RecursionError:
        raise _illegal(text[:200], "the query is nested too deeply") from None
    if is_usual:
        _plans[key] = plan
    return plan


def _illegal(text: str, reason: str) -> omero.ServerError:
    return refuse(omero.QueryException, f"Illegal query:{text}\n{reason}")


class Results:
    """The answer to one HQL query.

    A page counts roots. If a collection is fetched, the page is cut after the roots have been made unique.
    """

    def __init__(self, connection: sa.Connection, ctx: Context, text: str, params: dict | None, page: Page = (0, None)):
        limits.check(len(text), limits.MOST_QUERY, "characters of a query")
        given = Params(params)
        self.plan = _planned(text, ctx, given)
        self._values = {place: find(given) for place, find in self.plan.places.items()}
        self.text = text
        self.loader = Loader(connection, ctx)
        try:
            self.rows = self._ask(connection, *page)
        except sa.exc.DBAPIError as exc:
            if reason := sql_functions.refusal():
                raise refuse(
                    omero.ValidationException,
                    f"could not execute query; SQL [{text}]; nested exception is "
                    f"org.hibernate.exception.DataException: {reason}",
                ) from None
            raise usage_error(f"{exc.orig} [{text}]") from None

    def _ask(self, connection: sa.Connection, offset: int, limit: int | None) -> Sequence:
        statement = self.plan.statement
        if self.plan.fetches_collection:
            return _cut(_bounded(connection.execute(statement, self._values)), self._root, offset, limit)
        if limit is not None or offset:
            statement = statement.limit(-1 if limit is None else limit).offset(offset)
        return _bounded(connection.execute(statement, self._values))

    def objects(self) -> list[IObject]:
        """Return the objects of a query that selects one entity."""
        if not self.plan.selects_entity:
            if not self.rows:
                return []
            raise cast_error(f"the query selects no entity, use projection [{self.text}]")
        self._load()
        known = self._objects[self.plan.nodes[0]]
        return [known.get(row[0]) for row in self._unique_rows()]

    def projected(self) -> list[list[omero.RType | None]]:
        """Return the rows of any query. As in OMERO, a row whose single column is null is empty."""
        self._load()
        readers = [self._reader(column) for column in self.plan.columns]
        rows = self._unique_rows()
        if self.plan.into == "list":
            return [[rlist([read(row) for read in readers])] for row in rows]
        if self.plan.into == "map":
            names = [column.name for column in self.plan.columns]
            return [[rmap({name: read(row) for name, read in zip(names, readers, strict=True)})] for row in rows]
        if len(readers) == 1:
            cells = (readers[0](row) for row in rows)
            return [[] if cell is None else [cell] for cell in cells]
        return [[read(row) for read in readers] for row in rows]

    @property
    def _root(self) -> int | None:
        """The column of the root's id, if each root is returned once."""
        return 0 if self.plan.fetches_collection and self.plan.selects_entity else None

    def _unique_rows(self) -> list[Sequence]:
        root = self._root
        if root is None:
            return list(self.rows)
        return list({row[root]: row for row in reversed(self.rows)}.values())[::-1]

    # -- objects ------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Load every entity of the rows, with few statements for each class, then set the fetched collections."""
        self._objects: dict[Node, dict[int, IObject]] = {}
        for node in self.plan.nodes:
            ids = (row[node.start] for row in self.rows)
            assert node.source.entity is not None
            self._objects[node] = self.loader.get(node.source.entity, (oid for oid in ids if oid is not None))
        for node in self.plan.nodes:
            if node.field is not None:
                self._fill(node)
        for fetched in self.plan.maps:
            self._fill_map(fetched)
        for source, field in self.plan.counts:
            for node in self.plan.nodes:
                if node.source is source:
                    self.loader.count_by_owner(self._objects[node].values(), field)

    def _fill(self, node: Node) -> None:
        """Set a fetched collection, with its elements in the order of the rows."""
        assert node.field is not None and node.owner is not None
        collections: dict[int, dict[int, int | None]] = {}
        for row in self.rows:
            if row[node.owner] is None:
                continue
            members = collections.setdefault(row[node.owner], {})
            if row[node.start] is not None:
                members[row[node.start]] = None if node.index is None else row[node.index]
        owner = node.source.owner
        owners = next(self._objects[other] for other in self.plan.nodes if other.source is owner)
        elements = self._objects[node]
        for oid, members in collections.items():
            if oid in owners:
                found = [(elements[member], index) for member, index in members.items() if member in elements]
                self.loader.fill(owners[oid], node.field, found)

    def _fill_map(self, fetched: FetchedMap) -> None:
        """Set a fetched map to the pairs in the rows, which a condition may have left out some of."""
        pairs: dict[int, dict[int, omero.model.NamedValue]] = {}
        for row in self.rows:
            position, name, value = row[fetched.start : fetched.start + 3]
            found = pairs.setdefault(row[fetched.owner], {})
            if position is not None:
                found[position] = omero.model.NamedValue(name, value)
        objects = next(self._objects[node] for node in self.plan.nodes if node.source is fetched.source)
        for oid, found in pairs.items():
            if oid in objects:
                vars(objects[oid])["_" + fetched.field.name] = [found[position] for position in sorted(found)]

    # -- cells --------------------------------------------------------------------------------------------------

    def _reader(self, column: Column) -> Reader:
        """Return a function that reads the cells of a column."""
        value, start = column.value, column.start
        kind = value.kind
        if kind == "entity":
            return self._entity_reader(column)
        if kind == "unit":
            symbols = getattr(omero.model, (value.field.target or "") + "I").SYMBOLS if value.field else {}
            return _unit_reader(start, symbols)
        if kind == "permissions":
            return lambda row: _permissions_map(self._permissions(*row[start : start + 4]))
        converted = self._converted(kind)

        def read(row: Sequence):
            cell = row[start]
            return None if cell is None else converted[cell]

        return read

    def _converted(self, kind: str) -> Mapping:
        """Return a function from the values of a kind to what the answer holds."""
        own: dict[str, Callable] = {
            "class": _discriminator,
            "java": _java,
            "symbol": rstring,
            "float": lambda x: rfloat(float(x)),
            "character": _no_character,
            "interval": _no_time,
            "double": lambda x: rdouble(float(x)),
            "bool": lambda x: rbool(bool(x)),
            "strings": _text_list,
            "bytes": lambda x: rstring(x.hex()),
        }
        if kind in own:
            return _Converted(own[kind])
        return self.loader.rtypes[kind] if kind in RTYPES else _Converted(_guess)

    def _entity_reader(self, column: Column) -> Reader:
        source, start = column.value.source, column.start
        entity = column.value.entity
        if source is None and entity is not None:  # of max(p) or a subquery: HQL reads the id alone
            return lambda row: None if row[start] is None else robject(self.loader.proxy(entity, row[start]))
        known = next((self._objects[node] for node in self.plan.nodes if node.source is source), {})
        if column.name.endswith("_details_permissions") and self.plan.into == "map":

            def read_permissions(row: Sequence):
                found = known.get(row[start])
                return None if found is None else _permissions_map(found.details.permissions)

            return read_permissions

        def read(row: Sequence):
            found = known.get(row[start])
            return None if found is None else robject(found)

        return read

    def _permissions(self, owner: int | None, group: int | None, own: str | None, oid: int) -> PermissionsI:
        if own is None:
            return self.loader.permissions(owner, group)
        return self.loader.permissions(None, oid)


class _Converted(dict):
    """Calls a converter for every value without a cache, because values such as lists can't be keys."""

    def __init__(self, convert: Callable):
        super().__init__()
        self._convert = convert

    def __getitem__(self, value):
        return self._convert(value)


def _bounded(result: sa.CursorResult) -> Sequence:
    """Fetch all rows, unless there are more of them than an answer may have."""
    most = limits.MOST_CELLS // max(1, len(result.keys()))
    rows = result.fetchmany(most + 1)
    if len(rows) > most:
        result.close()
        raise refuse(omero.OverUsageException, f"The query has more than {most} rows: ask for them in pages.")
    return rows


def _cut(rows: Sequence, root: int | None, offset: int, limit: int | None) -> Sequence:
    """The rows of a page of roots. As in Hibernate, a page that fetches a collection has one root at least."""
    start = max(0, offset)
    stop = None if limit is None or limit < 0 else max(start, offset + limit - 1) + 1
    if root is None:
        return rows[start:stop]
    if stop is None and not start:
        return rows
    wanted = set(list(dict.fromkeys(row[root] for row in rows))[start:stop])
    return [row for row in rows if row[root] in wanted]


def _unit_reader(start: int, symbols: dict[str, str]) -> Reader:
    def read(row: Sequence):
        value, unit = row[start], row[start + 1]
        if value is None:
            return None
        return rmap({"value": rdouble(value), "unit": rstring(unit), "symbol": rstring(symbols.get(unit))})

    return read


def _permissions_map(permissions: PermissionsI) -> omero.RType:
    names = ("canAnnotate", "canChgrp", "canChown", "canDelete", "canEdit", "canLink")
    flags = {name: rbool(getattr(permissions, name)()) for name in names}
    return rmap({"perm": rstring(str(permissions)), **flags})


def _discriminator(name: str) -> omero.RType:
    return rstring(DISCRIMINATORS.get(name) or schema()[name].java)


def _java(name: str) -> omero.RType:
    return rstring(schema()[name].java)


def _no_character(value: str) -> omero.RType:
    raise refuse(omero.ApiUsageException, f"Unsupported conversion to rtype from java.lang.Character:{value}")


def _no_time(value: int) -> omero.RType:
    """Of `age()` in a select clause, HQL expects a time."""
    raise refuse(omero.ValidationException, "could not execute query; Bad value for type timestamp")


def _text_list(values: list) -> omero.RType:
    return omero.rtypes.rlist([rstring(value) for value in values])


def _guess(value) -> omero.RType:
    """The rtype of a cell whose kind is not known from the query."""
    if isinstance(value, bool):
        return rbool(value)
    if isinstance(value, int):
        return rint(value) if abs(value) < 2**31 else rlong(value)
    return rdouble(value) if isinstance(value, float) else rstring(str(value))
