"""IRoi: regions of interest with their shapes."""
from __future__ import annotations

import omero
import sqlalchemy as sa
from omero.rtypes import unwrap

from omero_embedded.kernel import Kernel
from omero_embedded.model import rows
from omero_embedded.model.access import Context
from omero_embedded.model.loading import Loader
from omero_embedded.people.sessions import Session
from omero_embedded.services.registry import service


@service("::omero::api::IRoi")
class RoiService:
    """Finds them; statistics of the pixels below are unsupported."""

    def __init__(self, kernel: Kernel, session: Session):
        self.store, self.schema = kernel.store, kernel.schema

    def findByRoi(self, ctx: Context, roi, options):
        return self._found(ctx, self.schema["Roi"].table.c.id == roi, options)

    def findByImage(self, ctx: Context, image, options):
        return self._found(ctx, self.schema["Roi"].table.c.image == image, options)

    def findByPlane(self, ctx: Context, image, z, t, options):
        """Those with a shape on a plane, or with one that is on all planes."""
        table, shapes = self.schema["Roi"].table, self.schema["Shape"].table
        there = sa.select(shapes.c.roi).where(sa.or_(shapes.c.theZ.is_(None), shapes.c.theZ == z),
                                              sa.or_(shapes.c.theT.is_(None), shapes.c.theT == t))
        return self._found(ctx, sa.and_(table.c.image == image, table.c.id.in_(there)), options)

    def _found(self, ctx: Context, wanted: sa.ColumnElement[bool], options):
        entity = self.schema["Roi"]
        columns = entity.table.c
        statement = sa.select(columns.id).where(wanted, *rows.visible(ctx, entity)).order_by(columns.id)
        if options is not None:
            for column, value in ((columns._owner, options.userId), (columns._group, options.groupId)):
                if value is not None:
                    statement = statement.where(column == value.val)
            if options.limit is not None:
                statement = statement.limit(options.limit.val).offset(unwrap(options.offset) or 0)
        with self.store.read() as connection:
            loader = Loader(connection, ctx)
            rois = list(loader.get(entity, connection.execute(statement).scalars().all()).values())
            loader.fetch(rois, entity.fields["shapes"])
        return omero.api.RoiResult(options, rois, {}, {})
