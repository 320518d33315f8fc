"""What a derived plate takes over from its source besides images: names, labels, colors, positions and acquisitions."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from omero.gateway import BlitzGateway
from omero.model import MapAnnotationI, PlateAcquisitionI, PlateI, WellI, WellSampleI
from omero.rtypes import rint, rstring

from openhcs_omero.omero import queries
from openhcs_omero.omero.writing import length, map_annotation
from openhcs_omero.plates.image import Acquired
from openhcs_omero.plates.paths import parse_well
from openhcs_omero.plates.structure import PlateStructure

SOURCE = "source_acquisition"  # on an acquisition of a derived plate: the id of the acquisition that it stands for
_PLATE = [
    *("description", "externalIdentifier", "status", "rowNamingConvention", "columnNamingConvention"),
    *("defaultSample", "wellOriginX", "wellOriginY"),
]
_WELL = ["externalDescription", "externalIdentifier", "type", "status", "red", "green", "blue", "alpha"]
_ACQUISITION = ["name", "description", "startTime", "endTime", "maximumFieldCount"]


def copied_plate(conn: BlitzGateway, source: PlateStructure) -> PlateI:
    """An unsaved plate with the description, format and labels of the source; rows are letters if it does not say."""
    plate = PlateI()
    plate.rowNamingConvention, plate.columnNamingConvention = rstring("letter"), rstring("number")
    _copy(_get(conn, "Plate", source.plate_id), plate, _PLATE)
    plate.rows, plate.columns = rint(source.rows), rint(source.columns)
    return plate


def copied_wells(conn: BlitzGateway, source: PlateStructure, names: Iterable[str]) -> list[WellI]:
    """Unsaved wells without images, with the colors, types and descriptions of the source's wells."""
    options = queries.context(conn, queries.ALL_GROUPS)
    found = queries.query(conn).findAllByQuery(
        "select w from Well w where w.plate.id = :id", queries.parameters(id=source.plate_id), options
    )
    originals = {(well.row.val, well.column.val): well for well in found if well.row and well.column}
    wells = []
    for row, column in sorted(map(parse_well, names)):
        well = WellI()
        if (row, column) in originals:
            _copy(originals[row, column], well, _WELL)
        well.row, well.column = rint(row), rint(column)
        wells.append(well)
    return wells


def place_sample(sample: WellSampleI, acquired: Acquired, acquisition: int | None) -> None:
    """Give a well sample the position of the source's sample, and put it into an acquisition."""
    sample.plateAcquisition = None if acquisition is None else PlateAcquisitionI(acquisition, False)
    sample.posX, sample.posY = map(length, acquired.position)


def _get(conn: BlitzGateway, kind: str, object_id: int) -> object:
    return queries.query(conn).get(kind, object_id, queries.context(conn, queries.ALL_GROUPS))


def _copy(original: object, copy: object, names: Iterable[str]) -> bool:
    """Copy the attributes that the original has; returns whether the copy differed."""
    changed = False
    for name in names:
        value = getattr(original, name)
        if value is not None and not _same(value, getattr(copy, name)):
            setattr(copy, name, value)
            changed = True
    return changed


def _same(one: object, other: object) -> bool:
    plain = [(getattr(v, "_val", None), getattr(v, "_value", None), getattr(v, "_unit", None)) for v in (one, other)]
    return other is not None and plain[0] == plain[1]


# ---- acquisitions


def set_acquisitions(conn: BlitzGateway, derived_id: int, source: PlateStructure, namespace: str) -> None:
    """Create the acquisitions of the source in its derived plate, or bring their names and times up to date."""
    wanted = [number for number, _ in source.acquisitions()]
    if not wanted:
        return
    options = queries.context(conn, source.group_id)
    originals = _acquisitions(conn, wanted)
    present = derived_acquisitions(conn, derived_id, namespace)
    copies = _acquisitions(conn, [present[number] for number in wanted if number in present])
    changed = []
    for number in wanted:
        if number in present:
            if _copy(originals[number], copies[present[number]], _ACQUISITION):
                changed.append(copies[present[number]])
            continue
        made = PlateAcquisitionI()
        _copy(originals[number], made, _ACQUISITION)
        made.plate = PlateI(derived_id, False)
        made.linkAnnotation(map_annotation(namespace, [(SOURCE, str(number))]))
        changed.append(made)
    if changed:
        queries.update(conn).saveArray(changed, options)


def derived_acquisitions(conn: BlitzGateway, derived_id: int, namespace: str) -> dict[int, int]:
    """The ids of a derived plate's acquisitions, by the ids of the source's acquisitions that they stand for."""
    return {source: copies[0] for source, copies in _all_acquisitions(conn, derived_id, namespace).items()}


def delete_surplus_acquisitions(
    conn: BlitzGateway, derived_id: int, group_id: int, wanted: Collection[int], namespace: str
) -> None:
    """Delete a derived plate's acquisitions without images that stand for no wanted one, or for one a second time."""
    found = _all_acquisitions(conn, derived_id, namespace)
    surplus = [copy for source, copies in found.items() for copy in copies[source in wanted :]]
    if not surplus:
        return
    used = queries.rows(
        conn, "select distinct pa.id from WellSample ws join ws.plateAcquisition pa where pa.id in (:ids)", ids=surplus
    )
    free = sorted(set(surplus) - {row[0] for row in used})
    queries.delete(conn, group_id, PlateAcquisition=free)


def _all_acquisitions(conn: BlitzGateway, derived_id: int, namespace: str) -> dict[int, list[int]]:
    links = queries.query(conn).findAllByQuery(
        "select l from PlateAcquisitionAnnotationLink l join fetch l.child a "
        "where l.parent.plate.id = :id and a.ns = :ns order by l.parent.id",
        queries.parameters(id=derived_id, ns=namespace),
        queries.context(conn, queries.ALL_GROUPS),
    )
    found: dict[int, list[int]] = {}
    for link in links:
        if isinstance(link.child, MapAnnotationI):
            for pair in link.child.mapValue:
                if pair.name == SOURCE:
                    found.setdefault(int(pair.value), []).append(link.parent.id.val)
    return found


def _acquisitions(conn: BlitzGateway, ids: list[int]) -> dict[int, PlateAcquisitionI]:
    if not ids:
        return {}
    found = queries.query(conn).findAllByQuery(
        "select pa from PlateAcquisition pa where pa.id in (:ids)",
        queries.parameters(ids=ids),
        queries.context(conn, queries.ALL_GROUPS),
    )
    return {acquisition.id.val: acquisition for acquisition in found}
