"""Derived plates: the plates that processed images go into.

A derived plate is a separate plate, found by its map annotation and never by its name. It is created with empty wells;
`derived_well` writes the images of a well.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping

import omero
from omero.gateway import BlitzGateway
from omero.model import PlateI
from omero.rtypes import rstring

from openhcs_omero.errors import PlateError
from openhcs_omero.omero import queries
from openhcs_omero.omero.annotations import unlinked_files
from openhcs_omero.omero.copying import copied_plate, copied_wells, set_acquisitions
from openhcs_omero.omero.derived_screen import delete_screens, gather_plate
from openhcs_omero.omero.marks import NAMESPACE, PLATE_MARK, hidden_images, mark_of, marked, pairs_of, plate_mark
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.writing import map_annotation
from openhcs_omero.plates.structure import PlateStructure

TAGS = "openhcs_omero/tags"  # namespace of the tags on its images; tags.py writes them
log = logging.getLogger(__name__)


def find_derived(conn: BlitzGateway, plate_id: int, output: str) -> int | None:
    """Find the id of the derived plate of plate `plate_id` for `output`; None if there is none.

    It is found by its map annotation, in all groups of the user. The user's own plates are preferred to those of
    others, and older plates to newer ones.
    """
    mine = conn.getUserId()
    found = marked(conn, "Plate", PLATE_MARK, _plate_mark(plate_id, output))
    return min(((owner != mine, plate) for plate, owner, _ in found), default=(False, None))[1]


def list_derived(conn: BlitzGateway, plate_id: int) -> dict[str, int]:
    """List the derived plates of plate `plate_id`: their ids by output, as `find_derived` finds them."""
    found: dict[str, int] = {}
    for plate, _, _ in marked(conn, "Plate", "source_plate", str(plate_id)):
        mark = mark_of(conn, plate)
        output = pairs_of(mark).get("output")
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
    """Create the derived plate of `source` for `output`, or update the existing one.

    A new plate is saved with its wells and its mark in one call. An existing plate gets the wells that it lacks. Wells
    that it should no longer have are deleted with their images; the images of all other wells stay. The plate has the
    acquisitions of `source` again. For each screen of `source` it is put into a screen of derived plates
    (derived_screen.py). If two processes create the plate at the same time, the older plate stays and the
    other is deleted.

    Parameters
    ----------
    source
        The plate that the images come from.
    output
        Name of the output.
    marks
        More names and values to record on the plate: run, version of the code, hash of the configuration.
    wells
        Names of the wells that the plate should have; None means all wells of `source` with images.

    Returns
    -------
    int
        Id of the derived plate, which belongs to this user and is in the group of `source`.

    Raises
    ------
    PlateError
        If this user may not write into the group of `source`, or `source` lacks one of `wells`.
    """
    wanted = set(source.wells_with_images() if wells is None else source.only(wells).wells)
    pairs = _plate_pairs(source.plate_id, output, marks)
    if not own_plates(conn, source, output):
        # once the plate exists, hidden images may be ones that another process is about to show
        delete_hidden(
            conn,
            source.group_id,
            PLATE_MARK,
            _plate_mark(source.plate_id, output),
            unless=lambda: bool(own_plates(conn, source, output)),
        )
        delete_tags(conn, source.group_id, _plate_mark(source.plate_id, output))  # of a plate that was deleted
        with queries.writing(f"a plate derived from plate {source.plate_id}"):
            queries.update(conn).saveObject(
                _new_plate(conn, source, output, wanted, pairs), queries.context(conn, source.group_id)
            )
    derived = _only_plate(conn, source, output)
    _set_wells(conn, derived, source, wanted)
    set_acquisitions(conn, derived, source, NAMESPACE)
    _set_mark(conn, derived, source.group_id, pairs)
    gather_plate(conn, derived, source, output)
    return derived


def note_on_plate(conn: BlitzGateway, derived_id: int, marks: Mapping[str, str]) -> None:
    """Record names and values on a derived plate, replacing the earlier ones."""
    annotation = mark_of(conn, derived_id)
    if annotation is None:
        raise PlateError(f"plate {derived_id} does not exist, or is not a derived plate")
    kept = (PLATE_MARK, "source_plate", "output")
    own = {name: value for name, value in pairs_of(annotation).items() if name in kept}
    _set_mark(conn, derived_id, annotation.details.group.id.val, list({**marks, **own}.items()))


def delete_if_empty(conn: BlitzGateway, derived_id: int) -> bool:
    """Delete a derived plate if it has no images.

    Returns
    -------
    bool
        Whether the plate is gone, deleted now or earlier.
    """
    try:
        plate = load_plate(conn, derived_id, require_images=False)
    except PlateError:
        return True
    annotation = mark_of(conn, derived_id)
    if plate.wells_with_images() or annotation is None:
        return False
    delete_tags(conn, plate.group_id, plate_mark(annotation))
    delete_screens(conn, [derived_id], pairs_of(annotation).get("output", ""))
    queries.delete(conn, plate.group_id, Plate=[derived_id])
    return True


def delete_tags(conn: BlitzGateway, group_id: int, mark: str) -> None:
    """Delete this user's tags for a derived plate, which outlive the images that they were on."""
    tags = queries.rows(
        conn,
        "select a.id from TagAnnotation a where a.ns = :ns and a.description = :mark and a.details.owner.id = :me",
        ns=TAGS,
        mark=mark,
        me=conn.getUserId(),
    )
    queries.delete(conn, group_id, TagAnnotation=[row[0] for row in tags])


def derived_state(conn: BlitzGateway, derived_id: int) -> dict[str, list[tuple[int, str]]]:
    """Read the (image id, SHA-1) of every site, by well, in one call; {} if the plate no longer exists."""
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


def delete_hidden(
    conn: BlitzGateway, group_id: int, key: str, value: str, unless: Callable[[], bool] = lambda: False
) -> None:
    """Delete this user's marked images that are in no well and no dataset, with the files written for them.

    These are images that were replaced or that a killed process left behind. If another process deletes or shows one of
    them in the meantime, OMERO refuses the whole deletion; the images are then queried again.

    Parameters
    ----------
    group_id
        Group of the images.
    key, value
        The pair in the mark of the images.
    unless
        Called between finding and deleting; nothing is deleted if it returns True.
    """
    for _ in range(queries.ATTEMPTS):
        hidden = hidden_images(conn, group_id, NAMESPACE, key, value)
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
    """Ids of this user's derived plates in the group of `source`, oldest first."""
    found = marked(conn, "Plate", PLATE_MARK, _plate_mark(source.plate_id, output))
    here = (conn.getUserId(), source.group_id)
    return [plate for plate, owner, group in found if (owner, group) == here]


def plates_of(conn: BlitzGateway, source_id: int, output: str) -> list[int]:
    """Ids of this user's derived plates in all groups, oldest first, even if the source plate is gone."""
    found = marked(conn, "Plate", PLATE_MARK, _plate_mark(source_id, output))
    return [plate for plate, owner, _ in found if owner == conn.getUserId()]


def _only_plate(conn: BlitzGateway, source: PlateStructure, output: str) -> int:
    """Keep the oldest of the derived plates, and delete others that were created at the same time."""
    for _ in range(queries.ATTEMPTS):
        plates = own_plates(conn, source, output)
        if not plates:
            break
        try:
            queries.delete(conn, source.group_id, Plate=plates[1:])
            return plates[0]
        except queries.DeletionRefused as error:  # another process deleted them
            log.warning("%s", error)
    raise PlateError(
        f"another process is making or deleting the plate derived from plate {source.plate_id} for "
        f"{output!r}: let only one run work on it at a time, then start it again"
    )


def _new_plate(
    conn: BlitzGateway, source: PlateStructure, output: str, wells: Iterable[str], pairs: list[tuple[str, str]]
) -> PlateI:
    """The unsaved derived plate with empty wells and its mark."""
    plate = copied_plate(conn, source)
    plate.name = rstring(f"{source.name} [{output}]")
    for well in copied_wells(conn, source, wells):
        plate.addWell(well)
    plate.linkAnnotation(map_annotation(NAMESPACE, pairs))
    return plate


def _set_wells(conn: BlitzGateway, derived_id: int, source: PlateStructure, wanted: set[str]) -> None:
    """Add the wells that the plate lacks, and delete those that it should not have."""
    for attempt in range(queries.ATTEMPTS):
        plate = load_plate(conn, derived_id, require_images=False)
        surplus = [well.well_db_id for name, well in plate.wells.items() if name not in wanted]
        lacking = wanted - set(plate.wells)
        missing = copied_wells(conn, source, lacking) if lacking else []
        for well in missing:
            well.plate = PlateI(derived_id, False)
        try:
            queries.delete(conn, plate.group_id, Well=surplus)
            if missing:
                queries.update(conn).saveArray(missing, queries.context(conn, plate.group_id))
            return
        except (queries.DeletionRefused, omero.ValidationException):  # another process did the same
            if attempt == queries.ATTEMPTS - 1:
                raise


def _set_mark(conn: BlitzGateway, derived_id: int, group_id: int, pairs: list[tuple[str, str]]) -> None:
    """Record the pairs on the plate, replacing the earlier ones."""
    for _ in range(queries.ATTEMPTS):
        annotation = mark_of(conn, derived_id)
        if annotation is None or [(pair.name, pair.value) for pair in annotation.mapValue] == pairs:
            return
        annotation.mapValue = map_annotation(NAMESPACE, pairs).mapValue
        try:
            return queries.update(conn).saveObject(annotation, queries.context(conn, group_id))
        except omero.OptimisticLockException:  # another process recorded its own
            continue
