"""The marks on everything that this software derives: map annotations by which plates, images and screens are found."""

from omero.gateway import BlitzGateway
from omero.model import MapAnnotationI

from openhcs_omero.omero import queries

NAMESPACE = "openhcs_omero/derived"
PLATE_MARK = "derived_plate"  # plate_7_processed, on the derived plate
WELL_MARK = "derived_well"  # plate_7_processed/A01, on the images of its well
SCREEN_MARK = "derived_screen"  # screen_51_processed, on the screen of derived plates


def mark_of(conn: BlitzGateway, plate_id: int) -> MapAnnotationI | None:
    """The annotation that marks a derived plate; None if the plate is not a derived plate."""
    links = queries.query(conn).findAllByQuery(
        "select l from PlateAnnotationLink l join fetch l.child a where l.parent.id = :id and a.ns = :ns",
        queries.parameters(id=plate_id, ns=NAMESPACE),
        queries.context(conn, queries.ALL_GROUPS),
    )
    marks = [link.child for link in links if isinstance(link.child, MapAnnotationI)]
    return min(marks, key=lambda annotation: annotation.id.val, default=None)


def read_mark(conn: BlitzGateway, plate_id: int) -> tuple[int | None, dict[str, str]]:
    """The group, and the names and values, of what `mark_of` returns; no group if the plate is not a derived plate.

    It takes a fifth of the time.
    """
    rows = queries.rows(
        conn,
        "select a.id, g.id, pair.name, pair.value from MapAnnotation a join a.details.group g join a.mapValue pair, "
        "PlateAnnotationLink l where l.child.id = a.id and l.parent.id = :id and a.ns = :ns order by a.id",
        id=plate_id,
        ns=NAMESPACE,
    )
    pairs = {name: value for annotation, _, name, value in rows if annotation == rows[0][0]}
    return rows[0][1] if rows else None, pairs


def pairs_of(annotation: MapAnnotationI | None) -> dict[str, str]:
    """The names and values of a mark; none without a mark."""
    return {pair.name: pair.value for pair in annotation.mapValue} if annotation else {}


def plate_mark(annotation: MapAnnotationI) -> str:
    """The text that names a derived plate, such as plate_7_processed, from the annotation that marks it."""
    return pairs_of(annotation).get(PLATE_MARK, "")


def derived_marks(conn: BlitzGateway, owner: int | None = None) -> dict[int, str]:
    """The texts that name derived plates, such as plate_7_processed, by id; of all users, or of one."""
    rows = queries.rows(
        conn,
        "select p.id, mv.value, p.details.owner.id from PlateAnnotationLink l join l.parent p, "
        "MapAnnotation a join a.mapValue mv where l.child.id = a.id and a.ns = :ns and mv.name = :name",
        ns=NAMESPACE,
        name=PLATE_MARK,
    )
    return {plate: mark for plate, mark, user in rows if owner in (None, user)}


def marked(conn: BlitzGateway, kind: str, key: str, value: str) -> list[list[int]]:
    """[id, owner, group] of the plates or screens whose mark has this pair, ordered by id."""
    return queries.rows(
        conn,
        f"select distinct o.id, w.id, g.id from {kind}AnnotationLink l join l.parent o join o.details.owner w "
        "join o.details.group g where l.child.id in (select a.id from MapAnnotation a join a.mapValue mv "
        "where a.ns = :ns and mv.name = :name and mv.value = :value) order by o.id",
        ns=NAMESPACE,
        name=key,
        value=value,
    )


def hidden_images(conn: BlitzGateway, group_id: int, namespace: str, key: str, value: str) -> list[int]:
    """Ids of this user's images in the group whose mark has this pair and that are in no well and no dataset."""
    found = queries.rows(
        conn,
        "select distinct i.id from Image i join i.annotationLinks l left outer join i.wellSamples ws "
        "left outer join i.datasetLinks d where l.child.id in (select a.id from MapAnnotation a join a.mapValue mv "
        "where a.ns = :ns and mv.name = :name and mv.value = :value) and i.details.owner.id = :me "
        "and i.details.group.id = :group and ws.id is null and d.id is null order by i.id",
        ns=namespace,
        name=key,
        value=value,
        me=conn.getUserId(),
        group=group_id,
    )
    return [row[0] for row in found]
