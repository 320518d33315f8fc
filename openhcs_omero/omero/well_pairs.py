"""Key-value pairs on the wells of a plate, in the namespace that OMERO.web shows and edits.

The pairs that this software writes on a well share one map annotation. Its description names the keys, so that a later
run recognizes them: pairs that people add to the annotation stay. One save, the commit point, writes the pairs of all
wells.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import omero
from omero.gateway import BlitzGateway
from omero.model import MapAnnotationI, NamedValue, WellAnnotationLinkI, WellI
from omero.rtypes import rstring

from openhcs_omero.omero import queries
from openhcs_omero.omero.writing import map_annotation
from openhcs_omero.plates.paths import well_name
from openhcs_omero.plates.structure import PlateStructure

CLIENT = omero.constants.metadata.NSCLIENTMAPANNOTATION
MARK = "from the plate map of openhcs_omero: "

Pairs = Mapping[str, Mapping[str, str]]
"""Of a plate: well -> key -> value."""


def set_pairs(conn: BlitzGateway, plate: PlateStructure, pairs: Pairs) -> None:
    """Give the wells of a plate these pairs, in place of those that this user's earlier runs wrote.

    Parameters
    ----------
    plate
        The plate as it is now.
    pairs
        The pairs of each well; wells that are missing get none.

    Raises
    ------
    RightsError
        If this user may not annotate the wells.
    OpenHCSError
        If another process changes the same annotations all the time.
    """
    for attempt in range(queries.ATTEMPTS):
        known = _own(conn, plate.plate_id)
        changed, surplus = [], []
        for name, well in plate.wells.items():
            first, *others = known.get(name) or [None]
            wanted = {key: value for key, value in pairs.get(name, {}).items() if value}
            surplus += [annotation.id.val for annotation in others]
            kept = _of_people(first) if first is not None else []
            if first is None:
                changed += [_link(well.well_db_id, _new(wanted))] if wanted else []
            elif not wanted and not kept:
                surplus.append(first.id.val)
            elif _fill(first, wanted, kept):
                changed.append(first)
        try:
            with queries.writing(f"key-value pairs to the wells of plate {plate.plate_id}"):
                if changed:
                    queries.update(conn).saveArray(changed, queries.context(conn, plate.group_id))
            queries.delete(conn, plate.group_id, MapAnnotation=surplus)
            return
        except (omero.OptimisticLockException, omero.ValidationException, queries.DeletionRefused):
            if attempt == queries.ATTEMPTS - 1:  # another process did the same at the same time, each time
                raise


def read_pairs(conn: BlitzGateway, plate_id: int) -> dict[str, dict[str, str]]:
    """Read the pairs that `set_pairs` wrote as this user, in one call: well -> key -> value."""
    found = {}
    for name, (annotation, *_) in _own(conn, plate_id).items():
        keys = _keys(annotation)
        found[name] = {pair.name: pair.value for pair in annotation.mapValue if pair.name in keys}
    return {name: pairs for name, pairs in found.items() if pairs}


def _own(conn: BlitzGateway, plate_id: int) -> dict[str, list[MapAnnotationI]]:
    """This user's annotations on each well, oldest first; there is one per well unless two processes wrote at once."""
    links = queries.query(conn).findAllByQuery(
        "select l from WellAnnotationLink l join fetch l.child a join fetch l.parent w where w.plate.id = :id "
        "and w.row is not null and w.column is not null "
        "and a.ns = :ns and a.description like :mark and a.details.owner.id = :me order by a.id",
        queries.parameters(id=plate_id, ns=CLIENT, mark=f"{MARK}%", me=conn.getUserId()),
        queries.context(conn, queries.ALL_GROUPS),
    )
    found: dict[str, list[MapAnnotationI]] = {}
    for link in links:
        found.setdefault(well_name(link.parent.row.val, link.parent.column.val), []).append(link.child)
    return found


def _keys(annotation: MapAnnotationI) -> list[str]:
    """The keys that this software wrote."""
    try:
        return list(json.loads(annotation.description.val.removeprefix(MARK)))
    except (ValueError, TypeError):  # somebody edited the description
        return []


def _of_people(annotation: MapAnnotationI) -> list[tuple[str, str]]:
    keys = _keys(annotation)
    return [(pair.name, pair.value) for pair in annotation.mapValue if pair.name not in keys]


def _new(wanted: Mapping[str, str]) -> MapAnnotationI:
    annotation = map_annotation(CLIENT, list(wanted.items()))
    annotation.description = rstring(MARK + json.dumps(list(wanted), ensure_ascii=False))
    return annotation


def _fill(annotation: MapAnnotationI, wanted: Mapping[str, str], kept: list[tuple[str, str]]) -> bool:
    """Put the pairs into an existing annotation; returns whether that changed it."""
    pairs = [*wanted.items(), *(pair for pair in kept if pair[0] not in wanted)]
    description = MARK + json.dumps(list(wanted), ensure_ascii=False)
    if [(p.name, p.value) for p in annotation.mapValue] == pairs and annotation.description.val == description:
        return False
    annotation.mapValue = [NamedValue(key, value) for key, value in pairs]
    annotation.description = rstring(description)
    return True


def _link(well_id: int, annotation: MapAnnotationI) -> WellAnnotationLinkI:
    link = WellAnnotationLinkI()
    link.parent, link.child = WellI(well_id, False), annotation
    return link
