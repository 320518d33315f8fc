"""Derived plates as a whole: which there are, and whether they are still what was written."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from omero.gateway import BlitzGateway

from openhcs_omero.omero import queries
from openhcs_omero.omero.annotations import list_texts, read_text
from openhcs_omero.omero.marks import NAMESPACE, PLATE_MARK
from openhcs_omero.omero.pixels import read_site
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.plates.structure import PlateStructure


@dataclass(frozen=True)
class DerivedSummary:
    """A derived plate in a list.

    Parameters
    ----------
    plate_id, path
        Its id, and its path like /omero/plate_7_processed.
    source_id, source_name
        The plate that it was made from; the name is None if that plate is gone.
    made
        When it was created, in UTC.
    wells, filled
        Number of its wells, and of those with images.
    size
        Bytes of its pixels.
    """

    plate_id: int
    path: str
    source_id: int
    source_name: str | None
    made: datetime
    wells: int
    filled: int
    size: int

    @property
    def state(self) -> str:
        """What a person should know about it in a word or two."""
        if self.source_name is None:
            return "the source plate is gone"
        return "complete" if self.filled == self.wells else f"{self.wells - self.filled} wells empty"


def list_derived_plates(conn: BlitzGateway) -> list[DerivedSummary]:
    """List the derived plates that the user may see, in five calls whose answers do not grow with the images."""
    marked = queries.rows(
        conn,
        "select p.id, mv.name, mv.value, ev.time from PlateAnnotationLink l join l.parent p "
        "join p.details.creationEvent ev, MapAnnotation a join a.mapValue mv "
        "where l.child.id = a.id and a.ns = :ns and mv.name in ('derived_plate', 'source_plate')",
        ns=NAMESPACE,
    )
    marks: dict[int, dict[str, str]] = {}
    times: dict[int, int] = {}
    for plate, name, value, time in marked:
        marks.setdefault(plate, {})[name] = value
        times[plate] = time
    marks = {plate: mark for plate, mark in marks.items() if {PLATE_MARK, "source_plate"} <= set(mark)}
    if not marks:
        return []
    names = dict(
        queries.rows(
            conn,
            "select p.id, p.name from Plate p where p.id in (:ids)",
            ids=[int(mark["source_plate"]) for mark in marks.values()],
        )
    )
    wells = dict(
        queries.rows(
            conn,
            "select w.plate.id, count(w.id) from Well w where w.plate.id in (:ids) group by w.plate.id",
            ids=list(marks),
        )
    )
    filled = dict(
        queries.rows(
            conn,
            "select w.plate.id, count(distinct w.id) from WellSample ws join ws.well w join ws.image i "
            "where w.plate.id in (:ids) group by w.plate.id",
            ids=list(marks),
        )
    )
    sizes = _sizes(conn, list(marks))
    return [
        DerivedSummary(
            plate,
            f"/omero/{mark[PLATE_MARK]}",
            int(mark["source_plate"]),
            names.get(int(mark["source_plate"])),
            datetime.fromtimestamp(times[plate] / 1000, UTC),
            wells.get(plate, 0),
            filled.get(plate, 0),
            sizes.get(plate, 0),
        )
        for plate, mark in sorted(marks.items())
    ]


def _sizes(conn: BlitzGateway, plates: list[int]) -> dict[int, int]:
    """The bytes of all pixels of each plate; images of one size and type are one row of the answer."""
    sizes: dict[int, int] = {}
    for plate, bits, *lengths, images in queries.rows(
        conn,
        "select w.plate.id, pt.bitSize, px.sizeX, px.sizeY, px.sizeZ, px.sizeC, px.sizeT, count(px.id) "
        "from WellSample ws join ws.well w join ws.image i join i.pixels px join px.pixelsType pt "
        "where w.plate.id in (:ids) "
        "group by w.plate.id, pt.bitSize, px.sizeX, px.sizeY, px.sizeZ, px.sizeC, px.sizeT",
        ids=plates,
    ):
        sizes[plate] = sizes.get(plate, 0) + images * math.prod(lengths) * bits // 8
    return sizes


def verify(conn: BlitzGateway, derived_id: int, progress: Callable[[int, int], None]) -> Iterator[str]:
    """Read every image and attached file of a derived plate, and yield a sentence about each that is not as recorded.

    Source images that were changed or deleted after the derived ones were made are named too.

    Parameters
    ----------
    derived_id
        Id of the derived plate.
    progress
        Called with the number of images that are read, and of all.

    Raises
    ------
    PlateError
        If there is no such plate.
    """
    plate = load_plate(conn, derived_id, require_images=False)
    images = list(plate.images())
    for number, (well, image) in enumerate(images):
        progress(number, len(images))
        pixels = read_site(conn, image)
        if hashlib.sha1(pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()).hexdigest() != image.sha1:
            yield f"site {image.site} of well {well} has other pixels than were written (image {image.image_id})"
    progress(len(images), len(images))
    for file in list_texts(conn, "Plate", derived_id):
        if (
            file.sha1
            and hashlib.sha1(read_text(conn, "Plate", derived_id, file.name, file.namespace)).hexdigest() != file.sha1
        ):
            yield f"the file {file.name} has other content than was written"
    yield from _changed_sources(conn, plate)


def _changed_sources(conn: BlitzGateway, plate: PlateStructure) -> Iterator[str]:
    """Yield a sentence about each well whose source images were changed or deleted after it was written."""
    places = {image.image_id: (well, image.site) for well, image in plate.images()}
    made: dict[int, tuple[int, int]] = {}
    for ids in queries.pages([image for image in places if image is not None]):
        for image, source, event in queries.rows(
            conn,
            "select i.id, mv.value, ev.id from ImageAnnotationLink l join l.parent i join i.details.creationEvent ev, "
            "MapAnnotation a join a.mapValue mv where l.child.id = a.id and a.ns = :ns and mv.name = 'source_image' "
            "and i.id in (:ids)",
            ns=NAMESPACE,
            ids=ids,
        ):
            made[image] = int(source), event
    changed: dict[int, int] = {}
    for ids in queries.pages(sorted({source for source, _ in made.values()})):
        changed |= dict(
            queries.rows(
                conn, "select i.id, ev.id from Image i join i.details.updateEvent ev where i.id in (:ids)", ids=ids
            )
        )
    for image, (source, event) in made.items():
        well, site = places[image]
        if source not in changed:
            yield f"the source of site {site} of well {well} is gone (image {source})"
        elif changed[source] > event:
            yield f"the source of site {site} of well {well} was changed since (image {source})"
