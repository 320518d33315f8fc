"""Delete a derived plate, with the files, tables and regions of interest on its source plate that belong to it."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass

from omero.gateway import BlitzGateway

from openhcs_omero.errors import PlateError, RightsError
from openhcs_omero.omero import queries
from openhcs_omero.omero.attachments import Attachment, delete_attachments, list_attachments
from openhcs_omero.omero.derived import delete_hidden, delete_tags, find_derived, list_derived, plates_of
from openhcs_omero.omero.derived_screen import delete_screens
from openhcs_omero.omero.marks import NAMESPACE, PLATE_MARK, derived_marks, mark_of, pairs_of
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.rois import delete_rois_of_plate
from openhcs_omero.plates.paths import PlatePath, parse_path
from openhcs_omero.plates.structure import PlateStructure


@dataclass(frozen=True)
class Deletion:
    """What is deleted together with a derived plate.

    Parameters
    ----------
    path
        The derived plate, by its source and output.
    plates
        The derived plate; several if processes created it at the same time, none if it is gone already.
    attachments
        The files and tables on the source plate.
    remaining
        Paths of the plates that were derived from it, which stay.
    """

    path: PlatePath
    plates: tuple[PlateStructure, ...]
    attachments: tuple[Attachment, ...]
    remaining: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.plates or self.attachments)

    def sentences(self) -> Iterator[str]:
        """What is deleted and what stays, one line each."""
        if not self:
            yield f"there is nothing to delete: you have no plate {self.path}, and no files of it on its source plate"
        for plate in self.plates:
            images, wells = len(list(plate.images())), len(plate.wells_with_images())
            yield (
                f"plate {plate.plate_id}, {plate.name!r}: {_number(images, 'image')} in {_number(wells, 'well')}, and "
                "the files and tables attached to them"
            )
        for kind, is_table in (("file", False), ("table", True)):
            names = [one.name for one in self.attachments if one.is_table == is_table]
            if names:
                yield f"on plate {self.path.plate_id}, {_number(len(names), kind)}: {', '.join(names)}"
        if self.remaining:
            yield f"plates that were derived from it stay: {', '.join(self.remaining)}"


def plan_deletions(conn: BlitzGateway, pattern: str) -> list[Deletion]:
    """Find what the deletion of this user's derived plates takes along whose paths fit a pattern; nothing is deleted.

    Parameters
    ----------
    pattern
        A path such as ``/omero/plate_*_processed``, with ``*``, ``?`` and ``[...]``.

    Raises
    ------
    PlateError
        If none fits, or one of them has images that this software did not write.
    """
    marks = set(derived_marks(conn, conn.getUserId()).values())
    paths = [parse_path(f"/omero/{mark}") for mark in marks if fnmatch.fnmatchcase(f"/omero/{mark}", pattern)]
    found = sorted((path for path in paths if isinstance(path, PlatePath)), key=lambda path: (path.plate_id, str(path)))
    if not found:
        raise PlateError(f"you have no derived plate like {pattern}: `openhcs-omero derived` lists them")
    return [plan_deletion(conn, path) for path in found]


def plan_deletion(conn: BlitzGateway, path: PlatePath) -> Deletion:
    """Find what the deletion of a derived plate takes along; nothing is deleted.

    Parameters
    ----------
    path
        The derived plate, by its source and output or by its own id.

    Raises
    ------
    PlateError
        If it is not a derived plate, or has images that this software did not write.
    RightsError
        If it belongs to another user.
    """
    if path.output is None:
        path = _by_source(conn, path.plate_id)
    mine = plates_of(conn, path.plate_id, path.output or "")
    if not mine and (other := find_derived(conn, path.plate_id, path.output or "")):
        raise RightsError(f"plate {other}, which is {path}, belongs to another user: only its owner may delete it")
    for plate_id in mine:
        _check_derived(conn, path, plate_id)
    return Deletion(
        path,
        tuple(load_plate(conn, plate_id, require_images=False) for plate_id in mine),
        tuple(list_attachments(conn, path.plate_id, path.output)),
        tuple(str(PlatePath(plate_id, output)) for plate_id in mine for output in list_derived(conn, plate_id)),
    )


def delete_derived(conn: BlitzGateway, deletion: Deletion) -> None:
    """Delete a derived plate and what belongs to it.

    The plate goes last: if the process is killed before, the plate can still be found, and deleted again.
    """
    delete_attachments(conn, deletion.attachments)
    mark = str(deletion.path).removeprefix("/omero/")
    delete_screens(conn, [plate.plate_id for plate in deletion.plates], deletion.path.output or "")
    for plate in deletion.plates:
        delete_rois_of_plate(conn, plate.group_id, mark)
        delete_hidden(conn, plate.group_id, PLATE_MARK, mark)
        delete_tags(conn, plate.group_id, mark)
        queries.delete_existing(conn, plate.group_id, "Plate", [plate.plate_id])


def _by_source(conn: BlitzGateway, plate_id: int) -> PlatePath:
    """The path of a derived plate by its source and output, given its own id."""
    load_plate(conn, plate_id, require_images=False)  # says if there is none
    mark = mark_of(conn, plate_id)
    pairs = pairs_of(mark)
    try:
        path = PlatePath(int(pairs["source_plate"]), pairs["output"])
    except (KeyError, ValueError):
        raise _not_derived(plate_id) from None
    if plate_id not in plates_of(conn, path.plate_id, path.output or ""):
        raise RightsError(f"plate {plate_id}, which is {path}, belongs to another user: only its owner may delete it")
    return path


def _check_derived(conn: BlitzGateway, path: PlatePath, plate_id: int) -> None:
    """Refuse a plate that carries the mark of a derived plate, but is not one.

    People can link the key-value pairs of a plate to other plates, and images of their own to its wells.
    """
    if plate_id == path.plate_id:
        raise _not_derived(plate_id)
    foreign = queries.rows(
        conn,
        "select i.id from WellSample ws join ws.well w join ws.image i where w.plate.id = :id and not exists "
        "(select l.id from ImageAnnotationLink l join l.child a where l.parent.id = i.id and a.ns = :ns)",
        id=plate_id,
        ns=NAMESPACE,
    )
    if foreign:
        raise PlateError(
            f"plate {plate_id} has {_number(len(foreign), 'image')} that this software did not write, such as image "
            f"{foreign[0][0]}: move them to another place, or delete the plate in OMERO.web"
        )


def _not_derived(plate_id: int) -> PlateError:
    return PlateError(
        f"plate {plate_id} is not a derived plate: only derived plates, such as /omero/plate_{plate_id}_processed, can "
        "be deleted here"
    )


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
