"""IQuery: HQL, and simple queries for objects."""

from __future__ import annotations

import omero
import sqlalchemy as sa
from omero.model import IObject
from omero.rtypes import rstring

from omero_embedded.errors import no_row, refuse
from omero_embedded.hql.results import Page, Results
from omero_embedded.kernel import Kernel
from omero_embedded.limits import MOST_VALUES, check
from omero_embedded.model.access import Context
from omero_embedded.model.loading import Loader
from omero_embedded.model.rows import row_of
from omero_embedded.model.schema import SCALARS, Entity
from omero_embedded.people.sessions import Session
from omero_embedded.services.registry import service
from omero_embedded.services.search import full_text


@service("::omero::api::IQuery")
class QueryService:
    """Each call reads one snapshot."""

    def __init__(self, kernel: Kernel, session: Session):
        self.store = kernel.store
        self.schema = kernel.schema

    # -- HQL ----------------------------------------------------------------------------------------------------

    def findAllByQuery(self, ctx: Context, query, params) -> list[IObject]:
        return self._objects(ctx, query, *_asked(params))

    def findByQuery(self, ctx: Context, query, params) -> IObject | None:
        with self.store.read() as connection:
            results = Results(connection, ctx, query, *_asked(params))
            if results.rows and not results.plan.selects_entity:
                raise refuse(
                    omero.ApiUsageException,
                    f"Query named:\n\t{query}\nhas returned columns\n"
                    "Queries must return IObjects when using findByQuery. ",
                )
            return _single(results.objects(), query)

    def projection(self, ctx: Context, query, params) -> list:
        with self.store.read() as connection:
            return Results(connection, ctx, query, *_asked(params)).projected()

    def _objects(self, ctx: Context, query: str, params: dict, page: Page) -> list[IObject]:
        with self.store.read() as connection:
            return Results(connection, ctx, query, params, page).objects()

    # -- by class -----------------------------------------------------------------------------------------------

    def get(self, ctx: Context, klass, id) -> IObject:
        found = self._find(ctx, klass, id)
        if found is None:
            raise no_row(self._entity(klass).java, id)
        return found

    def find(self, ctx: Context, klass, id) -> IObject | None:
        return self._find(ctx, klass, id)

    def findAll(self, ctx: Context, klass, filter) -> list[IObject]:
        entity = self._entity(klass)
        return self._objects(ctx, f"select x from {entity.java} x", {}, _page(filter))

    def _find(self, ctx: Context, klass: str, oid: int) -> IObject | None:
        entity = self._entity(klass)
        if entity.abstract:
            raise refuse(omero.ApiUsageException, f"{klass} does not specify a valid class, it is abstract.")
        with self.store.read() as connection:
            found = Loader(connection, ctx).get(entity, [oid])
            if found:
                return found[oid]
            if connection.execute(_of_class(entity).where(entity.table.c.id == oid)).first():
                raise refuse(omero.SecurityViolation, f"Cannot read {entity.java}:Id_{oid}")
        return None

    def _entity(self, klass: str) -> Entity:
        entity = self.schema.find(klass or "")
        if entity is None:
            raise refuse(omero.ApiUsageException, f"{klass} does not specify a valid class.")
        return entity

    # -- by a field's value, by an example ----------------------------------------------------------------------

    def findByString(self, ctx: Context, klass, field, value) -> IObject | None:
        self._check_text_field(klass, field)
        query = f"select x from {self._entity(klass).java} x where x.{field} = :value"
        return _single(self._objects(ctx, query, {"value": rstring(value)}, (0, None)), "findByString")

    def findAllByString(self, ctx: Context, klass, field, value, caseSensitive, filter) -> list[IObject]:
        """Find objects with a field that contains a text; `%` and `_` are wildcards."""
        self._check_text_field(klass, field)
        where = f"x.{field} like :value" if caseSensitive else f"lower(x.{field}) like lower(:value)"
        query = f"select x from {self._entity(klass).java} x where {where}"
        return self._objects(ctx, query, {"value": rstring(f"%{value}%")}, _page(filter))

    def _check_text_field(self, klass: str, name: str) -> None:
        """As in HQL, the field may be one of a subclass."""
        found = self._entity(klass).find_field(name)
        if found is None and name != "id":
            raise refuse(omero.ApiUsageException, f"could not resolve property: {name} of: {klass}")
        if found is None or found.kind != "text":
            raise refuse(omero.InternalException, f"{name} of {klass} is no text")

    def findByExample(self, ctx: Context, example) -> IObject | None:
        return _single(self.findAllByExample(ctx, example, None), "findByExample")

    def findAllByExample(self, ctx: Context, example, filter) -> list[IObject]:
        """Find objects with the same values as an example; its id, details and associations don't count."""
        if example is None:
            raise refuse(omero.ApiUsageException, "The example may not be null.")
        entity = self.schema.of(example)
        columns = entity.table.c
        plain = {one.name for one in entity.fields.values() if one.kind in SCALARS.values()}
        wanted = [
            columns[name] == value
            for name, value in row_of(entity, example).items()
            if name in plain and value is not None
        ]
        offset, limit = _page(filter)
        statement = _of_class(entity).where(*wanted)
        visible = ctx.visible(entity, entity.table)
        if visible is not None:
            statement = statement.where(visible)
        statement = statement.order_by(columns.id).limit(-1 if limit is None else limit).offset(offset)
        with self.store.read() as connection:
            ids = connection.execute(statement).scalars().all()
            return list(Loader(connection, ctx).get(entity, ids).values())

    def findAllByFullText(self, ctx: Context, klass, text, params) -> list[IObject]:
        """Find objects by the words in their texts and annotations."""
        entity = self._entity(klass)
        _, (offset, limit) = _asked(params)
        found = full_text(self.store, ctx, entity, text)
        with self.store.read() as connection:
            return list(Loader(connection, ctx).get(entity, found[offset:][:limit]).values())

    def refresh(self, ctx: Context, iObject) -> IObject:
        """Load the stored state of an object."""
        if iObject is None or iObject.id is None:
            raise refuse(omero.InternalException, "An object that is not stored can't be refreshed.")
        return self.get(ctx, self.schema.of(iObject).name, iObject.id.val)


def _of_class(entity: Entity) -> sa.Select:
    """Find the ids of the objects of a class."""
    columns = entity.table.c
    statement = sa.select(columns.id)
    if entity.parent is not None:
        statement = statement.where(columns["class"].in_([one.name for one in entity.family()]))
    return statement


def _asked(params) -> tuple[dict, Page]:
    """Return the named values and the page of a call's parameters."""
    if params is None:
        return {}, (0, None)
    named = params.map or {}
    lists = [value.val or () for value in named.values() if isinstance(value, omero.RCollection)]
    check(sum(map(len, lists)), MOST_VALUES, "values")
    return named, _page(params.theFilter)


def _page(filter) -> Page:
    if filter is None:
        return 0, None
    offset = filter.offset.val if filter.offset is not None else 0
    return offset, filter.limit.val if filter.limit is not None else None


def _single(found: list[IObject], asked: str) -> IObject | None:
    """The only object of a result, which may have it several times."""
    if any(one is not found[0] for one in found):
        raise refuse(
            omero.ApiUsageException,
            f"Query named:\n\n\t{asked}\n\nhas returned more than one Object\n"
            "findBy methods must return a single value.\n"
            "Please try findAllBy methods for queries which return Lists.",
        )
    return found[0] if found else None
