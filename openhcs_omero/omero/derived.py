"""Derived plates: the plates that processed images go into.

A derived plate is a plate of its own, found by a map annotation and never by its name. It is created with its wells and
without any image; `derived_well` writes the images of a well.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping

import omero
from omero.gateway import BlitzGateway
from omero.model import (
    MapAnnotationI,
    PlateI,
    ScreenI,
    WellI,
)
from omero.rtypes import rint, rstring

from openhcs_omero.errors import PlateError
from openhcs_omero.omero import queries
from openhcs_omero.omero.annotations import unlinked_files
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.writing import map_annotation
from openhcs_omero.plates.paths import parse_well
from openhcs_omero.plates.structure import PlateStructure

NAMESPACE = "openhcs_omero/derived"
PLATE_MARK = "derived_plate"  # plate_7_processed, on the derived plate
WELL_MARK = "derived_well"  # plate_7_processed/A01, on the images of its well
ATTEMPTS = 3
log = logging.getLogger(__name__)


def find_derived(conn: BlitzGateway, plate_id: int, output: str) -> int | None:
    """Id of the derived plate of plate `plate_id` for `output`.

    It is found by its map annotation, in all groups of the user. The user's own goes before that of another, and the
    oldest first.
    """
    mine = conn.getUserId()
    found = _marked(conn, "Plate", PLATE_MARK, _plate_mark(plate_id, output))
    return min(((owner != mine, plate) for plate, owner, _ in found), default=(False, None))[1]


def list_derived(conn: BlitzGateway, plate_id: int) -> dict[str, int]:
    """Ids of the derived plates of plate `plate_id` by output, as `find_derived` finds them."""
    found: dict[str, int] = {}
    for plate, _, _ in _marked(conn, "Plate", "source_plate", str(plate_id)):
        mark = mark_of(conn, plate)
        output = {pair.name: pair.value for pair in mark.mapValue}.get("output") if mark else None
        derived = find_derived(conn, plate_id, output) if output else None
        if output and derived is not None:
            found[output] = derived
    return found


def derive_plate(
    conn: BlitzGateway,
    source: PlateStructure,
    output: str,
    marks: Mapping[str, str],
    wells: Collection[str] | None = None,
) -> int:
    """Make the derived plate of `source` for `output`, or bring the existing one up to date.

    Plate, wells and mark are made in one save. An existing plate gets the wells that it lacks, and those that it
    should no longer have are deleted with their images; the images of the others stay. Where two processes make it at
    once, the older plate stays and the other is deleted.

    Parameters
    ----------
    marks
        What else to note on the plate, names and values: run, version of the code, hash of the configuration.
    wells
        The wells to have; None means all wells of `source` with images.

    Returns
    -------
    int
        Id of the derived plate, which belongs to this user and to the group of `source`.

    Raises
    ------
    PlateError
        If this user may not write into the group of `source`, or `source` lacks one of `wells`.
    """
    wanted = set(source.wells_with_images() if wells is None else source.only(wells).wells)
    pairs = _plate_pairs(source.plate_id, output, marks)
    if not own_plates(conn, source, output):
        # once there is a plate, hidden images may be those that another process is about to show
        delete_hidden(
            conn,
            source.group_id,
            PLATE_MARK,
            _plate_mark(source.plate_id, output),
            unless=lambda: bool(own_plates(conn, source, output)),
        )
        with queries.writing(f"a plate derived from plate {source.plate_id}"):
            queries.update(conn).saveObject(
                _new_plate(conn, source, output, wanted, pairs), queries.context(conn, source.group_id)
            )
    derived = _only_plate(conn, source, output)
    _set_wells(conn, derived, wanted)
    _set_mark(conn, derived, source.group_id, pairs)
    return derived


def note_on_plate(conn: BlitzGateway, derived_id: int, marks: Mapping[str, str]) -> None:
    """Note names and values on a derived plate, in the place of those that it was made with."""
    annotation = mark_of(conn, derived_id)
    if annotation is None:
        raise PlateError(f"plate {derived_id} is not there or is no derived plate")
    own = {pair.name: pair.value for pair in annotation.mapValue if pair.name in (PLATE_MARK, "source_plate", "output")}
    _set_mark(conn, derived_id, annotation.details.group.id.val, list({**marks, **own}.items()))


def delete_if_empty(conn: BlitzGateway, derived_id: int) -> bool:
    """Delete a derived plate if no image is in it; whether it has been deleted, now or before."""
    try:
        plate = load_plate(conn, derived_id, require_images=False)
    except PlateError:
        return True
    if plate.wells_with_images() or mark_of(conn, derived_id) is None:
        return False
    queries.delete(conn, plate.group_id, Plate=[derived_id])
    return True


def derived_state(conn: BlitzGateway, derived_id: int) -> dict[str, list[tuple[int, str]]]:
    """(image id, SHA-1) of every site, by well, as OMERO has them now; one call. {} where the plate is gone."""
    try:
        plate = load_plate(conn, derived_id, require_images=False)
    except PlateError:
        return {}
    return {
        name: [(well.images[site].image_id, well.images[site].sha1) for site in sorted(well.images)]
        for name, well in plate.wells.items()
    }


# ---- marks


def _plate_mark(plate_id: int, output: str) -> str:
    return f"plate_{plate_id}_{output}"


def _plate_pairs(source_id: int, output: str, marks: Mapping[str, str]) -> list[tuple[str, str]]:
    own = {PLATE_MARK: _plate_mark(source_id, output), "source_plate": str(source_id), "output": output}
    return list({**{key: str(value) for key, value in marks.items()}, **own}.items())


def _marked(conn: BlitzGateway, kind: str, key: str, value: str) -> list[list[int]]:
    """[id, owner, group] of the plates or images that carry a pair in their mark, by id."""
    return queries.rows(
        conn,
        f"select distinct o.id, w.id, g.id from {kind}AnnotationLink l join l.parent o join o.details.owner w "
        "join o.details.group g where l.child.id in (select a.id from MapAnnotation a join a.mapValue mv "
        "where a.ns = :ns and mv.name = :name and mv.value = :value) order by o.id",
        ns=NAMESPACE,
        name=key,
        value=value,
    )


def delete_hidden(
    conn: BlitzGateway, group_id: int, key: str, value: str, unless: Callable[[], bool] = lambda: False
) -> None:
    """Delete this user's images with a mark that no well and no dataset shows: replaced ones, and those left behind,
    with the files that were written for them.

    Another process may delete or show one of them in the meantime; OMERO then refuses all, and they are asked for
    again. `unless` is asked between finding and deleting.
    """
    mine = conn.getUserId()
    for _ in range(ATTEMPTS):
        marked = [
            image for image, owner, group in _marked(conn, "Image", key, value) if (owner, group) == (mine, group_id)
        ]
        hidden = [
            row[0]
            for ids in queries.pages(marked)
            for row in queries.rows(
                conn,
                "select i.id from Image i left outer join i.wellSamples ws left outer join i.datasetLinks d "
                "where i.id in (:ids) and ws.id is null and d.id is null",
                ids=ids,
            )
        ]
        if not hidden or unless():
            return
        try:
            for ids in queries.pages(hidden):
                queries.delete(conn, group_id, Image=ids, FileAnnotation=unlinked_files(conn, ids))
            return
        except queries.DeletionRefused as error:
            log.warning("%s", error)


# ---- the plate


def own_plates(conn: BlitzGateway, source: PlateStructure, output: str) -> list[int]:
    """Ids of this user's derived plates in the group of `source`, the oldest first."""
    found = _marked(conn, "Plate", PLATE_MARK, _plate_mark(source.plate_id, output))
    here = (conn.getUserId(), source.group_id)
    return [plate for plate, owner, group in found if (owner, group) == here]


def _only_plate(conn: BlitzGateway, source: PlateStructure, output: str) -> int:
    """The oldest of the derived plates, which stays; the others, made by processes at the same time, are deleted."""
    for _ in range(ATTEMPTS):
        plates = own_plates(conn, source, output)
        if not plates:
            break
        try:
            queries.delete(conn, source.group_id, Plate=plates[1:])
            return plates[0]
        except queries.DeletionRefused as error:  # they were deleted by another process
            log.warning("%s", error)
    raise PlateError(
        f"another process is making or deleting the plate derived from plate {source.plate_id} for "
        f"{output!r}: let only one run work on it at a time, then start it again"
    )


def _new_plate(
    conn: BlitzGateway, source: PlateStructure, output: str, wells: Iterable[str], pairs: list[tuple[str, str]]
) -> PlateI:
    """The derived plate with empty wells and its mark, not saved; in those screens of the source that the user owns."""
    plate = PlateI()
    plate.name = rstring(f"{source.name} [{output}]")
    plate.rows, plate.columns = rint(source.rows), rint(source.columns)
    plate.rowNamingConvention, plate.columnNamingConvention = rstring("letter"), rstring("number")
    for name in sorted(wells, key=parse_well):
        plate.addWell(_new_well(name))
    plate.linkAnnotation(map_annotation(NAMESPACE, pairs))
    screens = queries.rows(
        conn,
        "select distinct s.id, w.id from ScreenPlateLink l join l.parent s join s.details.owner w "
        "where l.child.id = :plate",
        plate=source.plate_id,
    )
    for screen, owner in screens:
        if owner == conn.getUserId():
            plate.linkScreen(ScreenI(screen, False))
    return plate


def _new_well(name: str) -> WellI:
    well = WellI()
    row, column = parse_well(name)
    well.row, well.column = rint(row), rint(column)
    return well


def _set_wells(conn: BlitzGateway, derived_id: int, wanted: set[str]) -> None:
    """Give the plate the wells that it lacks, and delete those that it should not have."""
    for attempt in range(ATTEMPTS):
        plate = load_plate(conn, derived_id, require_images=False)
        surplus = [well.well_db_id for name, well in plate.wells.items() if name not in wanted]
        missing = [_new_well(name) for name in sorted(wanted - set(plate.wells), key=parse_well)]
        for well in missing:
            well.plate = PlateI(derived_id, False)
        try:
            queries.delete(conn, plate.group_id, Well=surplus)
            if missing:
                queries.update(conn).saveArray(missing, queries.context(conn, plate.group_id))
            return
        except (queries.DeletionRefused, omero.ValidationException):  # another process did the same
            if attempt == ATTEMPTS - 1:
                raise


def _set_mark(conn: BlitzGateway, derived_id: int, group_id: int, pairs: list[tuple[str, str]]) -> None:
    """Note the pairs on the plate in the place of the earlier ones."""
    for _ in range(ATTEMPTS):
        annotation = mark_of(conn, derived_id)
        if annotation is None or [(pair.name, pair.value) for pair in annotation.mapValue] == pairs:
            return
        annotation.mapValue = map_annotation(NAMESPACE, pairs).mapValue
        try:
            return queries.update(conn).saveObject(annotation, queries.context(conn, group_id))
        except omero.OptimisticLockException:  # another process noted its own
            continue


def mark_of(conn: BlitzGateway, plate_id: int) -> MapAnnotationI | None:
    """The plate's mark, an annotation; None where it is no derived plate."""
    links = queries.query(conn).findAllByQuery(
        "select l from PlateAnnotationLink l join fetch l.child a where l.parent.id = :id and a.ns = :ns",
        queries.parameters(id=plate_id, ns=NAMESPACE),
        queries.context(conn, queries.ALL_GROUPS),
    )
    marks = [link.child for link in links if isinstance(link.child, MapAnnotationI)]
    return min(marks, key=lambda annotation: annotation.id.val, default=None)
