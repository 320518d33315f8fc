"""IRoi: regions of interest with their shapes."""
from __future__ import annotations

from collections.abc import Callable

import omero
import sqlalchemy as sa
from omero.model import IObject
from omero.rtypes import unwrap

from omero_embedded.kernel import Kernel
from omero_embedded.model import rows
from omero_embedded.model.access import Context
from omero_embedded.model.loading import Loader
from omero_embedded.people.sessions import Session
from omero_embedded.services.registry import service


@service("::omero::api::IRoi")
class RoiService:
    """Finds regions of interest. Statistics of their pixels are unsupported."""

    def __init__(self, kernel: Kernel, session: Session):
        self.store, self.schema = kernel.store, kernel.schema

    def findByRoi(self, ctx: Context, roi, options):
        return self._found(ctx, self.schema["Roi"].table.c.id == roi, options)

    def findByImage(self, ctx: Context, image, options):
        return self._found(ctx, self.schema["Roi"].table.c.image == image, options)

    def findByPlane(self, ctx: Context, image, z, t, options):
        """Those with a shape on a plane, or with one that is on all planes; other shapes are left out of them."""
        def is_there(shape) -> bool:
            return unwrap(shape.theZ) in (None, z) and unwrap(shape.theT) in (None, t)

        return self._found(ctx, self.schema["Roi"].table.c.image == image, options, is_there)

    def _found(self, ctx: Context, wanted: sa.ColumnElement[bool], options,
               is_there: Callable[[IObject], bool] = lambda shape: True):
        """Regions with their shapes and folders; none without a shape."""
        entity = self.schema["Roi"]
        columns = entity.table.c
        statement = sa.select(columns.id).where(wanted, *rows.visible(ctx, entity)).order_by(columns.id)
        if options is not None:
            for column, value in ((columns._owner, options.userId), (columns._group, options.groupId)):
                if value is not None:
                    statement = statement.where(column == value.val)
        with self.store.read() as connection:
            loader = Loader(connection, ctx)
            rois = list(loader.get(entity, connection.execute(statement).scalars().all()).values())
            loader.fetch(rois, entity.fields["shapes"])
            rois = _page([roi for roi in rois if _keep(roi, is_there)], options)
            links = loader.fetch(rois, entity.fields["folderLinks"])
            loader.fetch(links, self.schema["FolderRoiLink"].fields["parent"])
        return _result(rois, options)


def _result(rois: list[IObject], options=None) -> omero.api.RoiResult:
    """Regions, and their shapes by section and by timepoint; -1 for those that are on all."""
    by_z: dict[int, list[IObject]] = {}
    by_t: dict[int, list[IObject]] = {}
    for shape in (shape for roi in rois for shape in roi._shapesSeq if shape is not None):
        for found, place in ((by_z, shape.theZ), (by_t, shape.theT)):
            found.setdefault(-1 if place is None else place.val, []).append(shape)
    return omero.api.RoiResult(options, rois, by_z, by_t)


def _keep(roi: IObject, is_there: Callable[[IObject], bool]) -> bool:
    """Leave only some shapes in a region, each in its place; whether there are any."""
    shapes = [shape if shape is not None and is_there(shape) else None for shape in roi._shapesSeq]
    while shapes and shapes[-1] is None:
        shapes.pop()
    roi._shapesSeq = shapes
    return bool(shapes)


def _page(rois: list[IObject], options) -> list[IObject]:
    if options is None or options.limit is None:
        return rois
    start = unwrap(options.offset) or 0
    return rois[start:start + options.limit.val]
