"""IRoi: regions of interest with their shapes."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import omero
import sqlalchemy as sa
from omero.model import IObject
from omero.rtypes import rbool, rdouble, rint, rlong, rstring, unwrap
from PIL import Image

from omero_embedded.errors import refuse
from omero_embedded.files.pyramids import MAX_PLANE
from omero_embedded.hql.results import Results
from omero_embedded.kernel import Kernel
from omero_embedded.model import rows, saving
from omero_embedded.model.access import Context
from omero_embedded.model.loading import Loader
from omero_embedded.people.sessions import Session
from omero_embedded.rendering import shapes
from omero_embedded.rendering.settings import PixelsSource, load_source
from omero_embedded.services.registry import Host, service
from omero_embedded.services.tables import TableService

BLACK = 0xFF000000  # alpha, red, green, blue
MEASUREMENT = omero.constants.namespaces.NSMEASUREMENT


@service("::omero::api::IRoi")
class RoiService:
    """Finds regions of interest, and describes their pixels."""

    client: Host

    def __init__(self, kernel: Kernel, session: Session):
        self.kernel, self.session = kernel, session
        self.store, self.schema = kernel.store, kernel.schema

    def findByRoi(self, ctx: Context, roi, options):
        return self._found(ctx, self.schema["Roi"].table.c.id == roi, options, folders=False)

    def findByImage(self, ctx: Context, image, options):
        return self._found(ctx, self.schema["Roi"].table.c.image == image, options)

    def findByPlane(self, ctx: Context, image, z, t, options):
        """Those with a shape on a plane, or with one that is on all planes; other shapes are left out of them."""

        def is_there(shape) -> bool:
            return unwrap(shape.theZ) in (None, z) and unwrap(shape.theT) in (None, t)

        return self._found(ctx, self.schema["Roi"].table.c.image == image, options, is_there)

    def _found(
        self,
        ctx: Context,
        wanted: sa.ColumnElement[bool],
        options,
        is_there: Callable[[IObject], bool] = lambda shape: True,
        folders: bool = True,
    ):
        """Regions with their shapes and, if wanted, folders; none without a shape."""
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
            if folders:
                links = loader.fetch(rois, entity.fields["folderLinks"])
                loader.fetch(links, self.schema["FolderRoiLink"].fields["parent"])
        return _result(rois, options)

    def uploadMask(self, ctx: Context, image, z, t, data):
        """Save a region with a mask for each color of a picture but black."""
        try:
            with Image.open(io.BytesIO(data)) as picture:
                pixels = np.asarray(picture.convert("RGBA")).astype(np.uint32)
        except (OSError, ValueError, Image.DecompressionBombError) as wrong:
            raise refuse(omero.InternalException, f"The mask can't be read as a picture: {wrong}") from None
        colors = pixels @ np.array([1 << 16, 1 << 8, 1, 1 << 24], np.uint32)
        regions = []
        for color in np.unique(colors[colors != BLACK]):
            roi = omero.model.RoiI()
            roi.image = omero.model.ImageI(image, False)
            roi.addShape(_mask(colors == color, z, t))
            regions.append(roi)
        with self.store.write() as connection:
            saving.save_ids(connection, ctx, regions)

    # -- measurements --------------------------------------------------------------------------------------------

    def getRoiMeasurements(self, ctx: Context, image, options) -> list[IObject]:
        """Find the measurements of an image's plate that regions of the image have too."""
        with self.store.read() as connection:
            return Results(
                connection,
                ctx,
                "select distinct a from Roi r join r.annotationLinks rl join rl.child a "
                "where a.ns = :ns and r.image.id = :id and a.id in (select pl.child.id from WellSample ws "
                "join ws.well w join w.plate p join p.annotationLinks pl where ws.image.id = :id)",
                {"ns": rstring(MEASUREMENT), "id": rlong(image)},
            ).objects()

    def getMeasuredRois(self, ctx: Context, image, annotation, options):
        """Find the regions of an image whose plate has an annotation."""
        measured = "select p.id from Plate p join p.annotationLinks l where l.child.id = :annotation"
        with self.store.read() as connection:
            found = Results(
                connection,
                ctx,
                "select r from Roi r join fetch r.shapes where r.image.id = :image and "
                "r.image.id in (select ws.image.id from WellSample ws where ws.well.plate.id in "
                f"({measured})) order by r.id",
                {"image": rlong(image), "annotation": rlong(annotation)},
            ).objects()
        return _result(found, options)

    def getMeasuredRoisMap(self, ctx: Context, image, annotations, options):
        return {oid: self.getMeasuredRois(ctx, image, oid, options) for oid in annotations or ()}

    def getTable(self, ctx: Context, annotation):
        """Open the table in the file of an annotation."""
        with self.store.read() as connection:
            hql = "select a.file from FileAnnotation a where a.id = :id"
            found = Results(connection, ctx, hql, {"id": rlong(annotation)}).objects()
        if not found:
            raise refuse(omero.ApiUsageException, f"No such file annotation: {annotation}")
        table = TableService(self.kernel, self.session)
        table.open(ctx, found[0].id.val)
        return self.client.serve(table)

    # -- pixels of shapes ----------------------------------------------------------------------------------------

    def getPoints(self, ctx: Context, shape):
        with self.store.read() as connection:
            found = shapes.covered(self._shapes(connection, ctx, [shape])[0])
        return omero.api.ShapePoints(found[:, 0].tolist(), found[:, 1].tolist())

    def getShapeStats(self, ctx: Context, shape):
        return self.getShapeStatsList(ctx, [shape])[0]

    def getShapeStatsList(self, ctx: Context, ids):
        """Describe the pixels of shapes, in all their sections and timepoints."""
        with self.store.read() as connection:
            return [self._described(connection, ctx, shape) for shape in self._shapes(connection, ctx, ids)]

    def getRoiStats(self, ctx: Context, roi):
        """Describe the pixels of each shape of a region. As in OMERO, what is combined is left empty."""
        table = self.schema["Shape"].table
        with self.store.read() as connection:
            statement = sa.select(table.c.id).where(table.c.roi == roi).order_by(table.c.roi_index)
            ids = connection.execute(statement).scalars().all()
            if not ids:
                return omero.api.RoiStats(perShape=[])
            found = self._shapes(connection, ctx, ids)
            described = [self._described(connection, ctx, shape) for shape in found]
            source = self._source(connection, ctx, found[0])
            logical = self._logical(connection, source.id)
        combined = shapes.statistics(-1, logical, [np.zeros(0)] * len(logical))
        return omero.api.RoiStats(roi, found[0].roi.image.id.val, source.id, combined, described)

    def getShapeStatsRestricted(self, ctx: Context, ids, z, t, channels):
        """Describe the pixels of shapes of one image, in one section and timepoint each, within the image."""
        if not ids or not channels:
            raise refuse(omero.ApiUsageException, "Give shapes and channels.")
        with self.store.read() as connection:
            found = self._shapes(connection, ctx, ids, omero.ApiUsageException)
            source = self._source(connection, ctx, found[0])
            if len({shape.roi.image.id.val for shape in found}) > 1:
                raise refuse(omero.ApiUsageException, "All shapes have to be of the same image.")
        size_t, size_c, size_z, height, width = source.shape
        if height * width > MAX_PLANE * MAX_PLANE:
            raise refuse(omero.ApiUsageException, "This method cannot handle tiled images yet.")
        if not (0 <= z < size_z and 0 <= t < size_t and all(0 <= c < size_c for c in channels)):
            raise refuse(omero.ApiUsageException, "The section, the timepoint or a channel is not in the image.")
        return [self._restricted(source, shape, z, t, sorted(set(channels))) for shape in found]

    def _restricted(self, source: PixelsSource, shape, z: int, t: int, channels: list[int]):
        points = shapes.covered(shape)
        height, width = source.shape[3:]
        inside = (points >= 0).all(axis=1) & (points[:, 0] < width) & (points[:, 1] < height)
        x, y = points[inside].T
        z, t = (default if place is None else place.val for place, default in ((shape.theZ, z), (shape.theT, t)))
        return shapes.statistics(shape.id.val, channels, [source.plane(z, c, t)[y, x] for c in channels])

    def _described(self, connection: sa.Connection, ctx: Context, shape):
        """Describe the pixels of a shape. As in OMERO, a shape of one channel gets the values of the first one."""
        source = self._source(connection, ctx, shape)
        size_t, _, size_z = source.shape[:3]
        points = shapes.covered(shape)
        z, t = (
            range(size) if place is None else [place.val]
            for place, size in ((shape.theZ, size_z), (shape.theT, size_t))
        )
        _check_inside(points, [*z], [*t], source.shape)
        logical = self._logical(connection, source.id)
        if shape.theC is not None and not 0 <= shape.theC.val < len(logical):
            raise refuse(omero.InternalException, f"Index {shape.theC.val} out of bounds for length {len(logical)}")
        channels = logical if shape.theC is None else [logical[shape.theC.val]]
        values = [
            np.concatenate([source.plane(k, c, i)[points[:, 1], points[:, 0]] for k in z for i in t])
            if len(points)
            else np.zeros(0)
            for c in range(len(channels))
        ]
        return shapes.statistics(shape.id.val, channels, values, mean_of_none=float("nan"))

    def _shapes(
        self, connection: sa.Connection, ctx: Context, ids, kind: type[omero.ServerError] = omero.InternalException
    ) -> list:
        loader = Loader(connection, ctx)
        found = loader.get(self.schema["Shape"], ids)
        if missing := [oid for oid in ids if oid not in found]:
            raise refuse(kind, f"There is no Shape {missing[0]}.")
        loader.fetch_paths(found.values(), "roi", "transform")
        return [found[oid] for oid in ids]

    def _source(self, connection: sa.Connection, ctx: Context, shape) -> PixelsSource:
        table, image = self.schema["Pixels"].table, shape.roi.image
        pixels = (
            None
            if image is None
            else connection.execute(
                sa.select(table.c.id).where(table.c.image == image.id.val).order_by(table.c.image_index)
            ).scalar()
        )
        if pixels is None:
            raise refuse(omero.InternalException, f"Shape {shape.id.val} is on no image with pixels.")
        return load_source(self.store, connection, ctx, pixels)

    def _logical(self, connection: sa.Connection, pixels: int) -> list[int]:
        table = self.schema["Channel"].table
        return list(
            connection.execute(
                sa.select(table.c.logicalChannel).where(table.c.pixels == pixels).order_by(table.c.pixels_index)
            ).scalars()
        )


def _mask(where: np.ndarray, z: int, t: int) -> IObject:
    """Make a mask of the smallest rectangle of (Y, X) that has all of it, with a bit for each pixel."""
    rows_of, columns = np.nonzero(where)
    top, left = int(rows_of.min()), int(columns.min())
    part = where[top : rows_of.max() + 1, left : columns.max() + 1]
    mask = omero.model.MaskI()
    mask.x, mask.y = rdouble(left), rdouble(top)
    mask.width, mask.height = rdouble(part.shape[1]), rdouble(part.shape[0])
    mask.theZ, mask.theT, mask.locked = rint(z), rint(t), rbool(True)
    mask.bytes = np.packbits(part).tobytes()
    return mask


def _check_inside(points: np.ndarray, z: list[int], t: list[int], shape: tuple[int, ...]) -> None:
    """Refuse points outside of an image, with the error of the first of them.

    Raises
    ------
    omero.ApiUsageException
        If a section, a timepoint or a row is not there.
    omero.ValidationException
        If a column is not there.
    """
    size_t, _, size_z, height, width = shape
    if not len(points):
        return
    for name, places, size in (("Z", z, size_z), ("T", t, size_t)):
        if outside := [place for place in places if not 0 <= place < size]:
            raise refuse(omero.ApiUsageException, f"DimensionsOutOfBounds: {name} '{outside[0]}' is not below {size}")
    x, y = points.T
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
    if outside.any():
        column, row = points[outside.argmax()].tolist()
        if 0 <= row < height:
            raise refuse(omero.ValidationException, f"IndexOutOfBounds: {column} is not below {width}")
        raise refuse(omero.ApiUsageException, f"DimensionsOutOfBounds: Y '{row}' is not below {height}")


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
    if options is None:
        return rois
    start, limit = unwrap(options.offset) or 0, unwrap(options.limit)
    return rois[start:] if limit is None or limit < 0 else rois[start : start + limit]
