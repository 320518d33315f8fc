"""Labels as regions of interest: one region per object, with a shape for each z in which the object is seen.

Regions on a derived image are saved before the image becomes visible in its well, and go with the image. Regions on a
source image stay between runs: one save, the commit point, puts the new ones on the image and takes the earlier ones
off it; those are then deleted. They are found by an annotation that names the output, and only the user's own are
touched.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from omero.gateway import BlitzGateway
from omero.model import CommentAnnotationI, ImageI, IObject, MaskI, PolygonI, RoiAnnotationLinkI, RoiI, Shape
from omero.rtypes import rdouble, rint, rstring

from openhcs_omero.errors import RightsError
from openhcs_omero.omero import queries
from openhcs_omero.omero.outlines import outlines_of
from openhcs_omero.plates.labels import Labels, consecutive

NAMESPACE = "openhcs_omero/rois"
PER_CALL = 2000  # regions
CALL_BYTES = 2**24  # of shapes: a server takes no larger calls than 64 to 250 MB
SHAPE_BYTES = 400  # besides the pixels or points
FEW = 2**16  # numbers of objects that are listed for each plane, whether there or not
# one color per name, from Okabe and Ito's palette, which color-blind people can tell apart
_COLORS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0), (0, 114, 178))
_FILL = 96  # alpha of masks, so that the image stays visible below them
log = logging.getLogger(__name__)


def check_may_outline(conn: BlitzGateway, plate_id: int) -> None:
    """Check that this user may put regions on the images of a plate.

    Raises
    ------
    RightsError
        If not.
    """
    plate = queries.query(conn).get("Plate", plate_id, queries.context(conn, queries.ALL_GROUPS))
    if not plate.details.permissions.canAnnotate():
        raise RightsError(
            f"this user may not draw on the images of plate {plate_id}, as `rois: {{on: both}}` asks: "
            "without it, only the derived images get regions of interest"
        )


def make_rois(labels: Labels, shape: Literal["masks", "polygons"]) -> list[RoiI]:
    """Make the unsaved regions of interest of a site.

    Parameters
    ----------
    labels
        By name, (T, C, Z, Y, X). If C or Z is 1, the shapes hold for all channels or z.
    shape
        "masks" are the labels pixel by pixel. "polygons" are the outer outlines, simplified to `TOLERANCE`.

    Returns
    -------
    list of RoiI
        Each has the name of its labels and its number as its name, like "nuclei 12", which its shapes show too.
    """
    draw, template = (_masks, MaskI()) if shape == "masks" else (_polygons, PolygonI())
    template.unloadDetails()
    rois = []
    for number, (name, pixels) in enumerate(sorted(labels.items())):
        _paint(template, _COLORS[number % len(_COLORS)])
        values, pixels = _small_numbers(pixels)
        for t, c in np.ndindex(pixels.shape[:2]):
            shapes: dict[int, list[Shape]] = {}
            template.theT, template.theC = rint(t), rint(c) if pixels.shape[1] > 1 else None
            for z, plane in enumerate(pixels[t, c]):
                template.theZ = rint(z) if pixels.shape[2] > 1 else None
                for label, made in draw(plane, template):
                    shapes.setdefault(label, []).append(made)
            rois += [_roi(f"{name} {values[label]}", shapes[label]) for label in sorted(shapes)]
    return rois


def _roi(name: str, shapes: list[Shape]) -> RoiI:
    """A region with a name, which its shapes show too. The server fills in all details, so none are sent."""
    text = rstring(name)
    roi = _like(_ROI, _name=text, _shapesSeq=shapes, _annotationLinksSeq=[])
    for shape in shapes:
        shape._textValue, shape._roi = text, roi
    return roi


def _like(template: IObject, **members: object) -> Any:
    """A copy of an unsaved object with other members. omero-py's constructors and setters take ten times as long."""
    made = object.__new__(type(template))
    vars(made).update(vars(template), **members)
    return made


_ROI = RoiI()
_ROI.unloadDetails()
_number = lru_cache(10_000)(rdouble)  # objects that occur many times in a call are sent once


def _paint(template: Shape, color: tuple[int, int, int]) -> None:
    """Give a shape a color: masks are filled, polygons are lines."""
    is_mask = isinstance(template, MaskI)
    template.fillColor = rint(_packed(*color, _FILL if is_mask else 0))
    template.strokeColor = None if is_mask else rint(_packed(*color, 255))


def _small_numbers(labels: np.ndarray) -> tuple[Sequence[int], np.ndarray]:
    """Labels that are small enough to list all numbers up to the largest one, and what each of them stands for."""
    top = int(labels.max())
    if top <= FEW:
        return range(top + 1), labels
    known, small = consecutive(labels)
    return [0, *known.tolist()], small


def _masks(plane: np.ndarray, template: MaskI) -> Iterator[tuple[int, MaskI]]:
    """Yield the number and the pixels of each object."""
    from scipy import ndimage

    for number, box in enumerate(ndimage.find_objects(plane), start=1):
        if box is not None:
            inside, (y, x) = plane[box] == number, box
            height, width = inside.shape
            place = {
                "_x": _number(x.start),
                "_y": _number(y.start),
                "_width": _number(width),
                "_height": _number(height),
            }
            yield number, _like(template, _bytes=np.packbits(inside).tobytes(), **place)


def _polygons(plane: np.ndarray, template: PolygonI) -> Iterator[tuple[int, PolygonI]]:
    """Yield the number and the outer outline of each part of each object."""
    for number, outline in outlines_of(plane):
        points = outline[:, ::-1].ravel().tolist()
        yield number, _like(template, _points=rstring(" ".join(["%g,%g"] * len(outline)) % tuple(points)))


def _packed(*rgba: int) -> int:
    """A color as OMERO keeps it: red, green, blue and alpha as the bytes of a signed integer."""
    return int.from_bytes(bytes(rgba), "big", signed=True)


Drawn = Iterable[tuple[int, Sequence[RoiI]]]
"""Ids of images, each with its unsaved regions. They may be made one image after another."""


def save_rois(conn: BlitzGateway, group_id: int, rois: Drawn) -> None:
    """Save new regions of images, a few thousand per call.

    Parameters
    ----------
    group_id
        Group of the images.
    rois
        Unsaved regions by id of the image.
    """
    with queries.writing("regions of interest"):
        for page in _pages(rois):
            queries.update(conn).saveAndReturnIds(page, queries.context(conn, group_id))


def replace_rois(conn: BlitzGateway, group_id: int, rois: Drawn, mark: str) -> None:
    """Replace this user's regions with that mark, all in one save.

    What does not fit into one call is saved on no image before.

    Parameters
    ----------
    group_id
        Group of the images.
    rois
        Unsaved regions by id of the image. Images without any, and other images, lose their earlier ones.
    mark
        Names the derived plate and the well, like "plate_7_processed/A01"; the regions' annotation has it as its text.
    """
    options = queries.context(conn, group_id)
    earlier = [roi for roi in _marked(conn, group_id, mark) if roi.image is not None]
    waiting: dict[int, ImageI] = {}  # the images of the regions that are on none yet
    last: list[RoiI] = []
    with queries.writing("regions of interest to the source images"):
        for page in _pages(rois):
            waiting |= _save_apart(conn, last, options)
            _link(page, _annotation(conn, group_id, mark))
            last = page
        saved = [
            roi
            for ids in queries.pages(list(waiting))
            for roi in queries.query(conn).findAllByQuery(
                "select r from Roi r where r.id in (:ids)", queries.parameters(ids=ids), options
            )
        ]
        for roi in saved:
            roi.image = waiting[roi.id.val]
        for roi in earlier:
            roi.image = None
        if last or earlier:
            queries.update(conn).saveAndReturnIds([*last, *saved, *earlier], options)
    delete_rois(conn, group_id, mark, on_images=False)


def _save_apart(conn: BlitzGateway, rois: Sequence[RoiI], options: Any) -> dict[int, ImageI]:
    """Save regions on no image; returns the images that they are for, by their ids."""
    images = [roi.image for roi in rois]
    for roi in rois:
        roi.image = None
    return dict(zip(queries.update(conn).saveAndReturnIds(rois, options), images)) if rois else {}


def _link(rois: Iterable[RoiI], annotation: CommentAnnotationI) -> None:
    for roi in rois:
        link = RoiAnnotationLinkI()
        link.parent, link.child = roi, annotation
        roi.addRoiAnnotationLink(link)


def _pages(rois: Drawn) -> Iterator[list[RoiI]]:
    """Put regions on their images, and yield as many as go into a call."""
    page: list[RoiI] = []
    size = 0
    for image_id, made in rois:
        image = ImageI(image_id, False)  # one for all of its regions, so that it is sent once
        for roi in made:
            roi.image = image
            more = sum(SHAPE_BYTES + _bytes_of(shape) for shape in roi._shapesSeq)
            if page and (len(page) == PER_CALL or size + more > CALL_BYTES):
                yield page
                page, size = [], 0
            page.append(roi)
            size += more
    if page:
        yield page


def _bytes_of(shape: Shape) -> int:
    return len(shape._bytes) if isinstance(shape, MaskI) else len(shape._points.val)


def list_rois(conn: BlitzGateway, image_ids: Sequence[int]) -> dict[tuple[int, str, int, int | None], int]:
    """Ids of the regions of images by image, name, t, and c or None for all channels; one call per 10,000 images."""
    found = {}
    for ids in queries.pages(image_ids):
        for roi, name, image, t, c in queries.rows(
            conn,
            "select distinct r.id, r.name, i.id, s.theT, s.theC from Roi r join r.shapes s join r.image i "
            "where i.id in (:ids) and r.name is not null and s.theT is not null order by r.id",
            ids=ids,
        ):
            found[image, name, t, c] = roi
    return found


def delete_rois(conn: BlitzGateway, group_id: int, mark: str, on_images: bool = True) -> None:
    """Delete this user's regions with that mark. By default, those on images are deleted too.

    Parameters
    ----------
    mark
        As for `replace_rois`.
    """
    for _ in range(queries.ATTEMPTS):
        found = [roi.id.val for roi in _marked(conn, group_id, mark) if on_images or roi.image is None]
        try:
            queries.delete(conn, group_id, Roi=found)
            if on_images:
                queries.delete(conn, group_id, CommentAnnotation=list(_annotations(conn, group_id, mark)))
            return
        except queries.DeletionRefused as error:  # another process deleted them
            log.warning("%s", error)


def delete_rois_of_plate(conn: BlitzGateway, group_id: int, plate_mark: str, but_for: Collection[str] = ()) -> None:
    """Delete this user's regions on the source images of a derived plate, well by well.

    Parameters
    ----------
    plate_mark
        Names the derived plate, like "plate_7_processed".
    but_for
        The wells whose regions stay.
    """
    kept = {f"{plate_mark}/{well}" for well in but_for}
    for mark in sorted(set(_annotations(conn, group_id, f"{plate_mark}/%").values()) - kept):
        delete_rois(conn, group_id, mark)


def _marked(conn: BlitzGateway, group_id: int, mark: str) -> list[RoiI]:
    """This user's regions with that mark, without their shapes."""
    return queries.query(conn).findAllByQuery(
        "select r from Roi r where r.id in (select l.parent.id from RoiAnnotationLink l where l.child.id in "
        "(select a.id from CommentAnnotation a where a.ns = :ns and a.textValue = :mark)) "
        "and r.details.owner.id = :me",
        queries.parameters(ns=NAMESPACE, mark=mark, me=conn.getUserId()),
        queries.context(conn, group_id),
    )


def _annotation(conn: BlitzGateway, group_id: int, mark: str) -> CommentAnnotationI:
    """This user's annotation with that mark, which is made if there is none."""
    found = list(_annotations(conn, group_id, mark))
    if not found:
        annotation = CommentAnnotationI()
        annotation.ns, annotation.textValue = rstring(NAMESPACE), rstring(mark)
        with queries.writing("a mark of regions of interest"):
            found = queries.update(conn).saveAndReturnIds([annotation], queries.context(conn, group_id))
    return CommentAnnotationI(found[0], False)


def _annotations(conn: BlitzGateway, group_id: int, mark: str) -> dict[int, str]:
    """The marks of this user's annotations by their ids. A percent sign in `mark` stands for any text."""
    rows = queries.rows(
        conn,
        "select a.id, a.textValue from CommentAnnotation a where a.ns = :ns and a.textValue like :mark "
        "and a.details.owner.id = :me order by a.id",
        group_id,
        ns=NAMESPACE,
        mark=mark.replace("_", r"\_"),  # where it would stand for any character: outputs may be named a_b and a-b
        me=conn.getUserId(),
    )
    return {row[0]: row[1] for row in rows}
