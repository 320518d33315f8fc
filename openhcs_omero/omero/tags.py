"""Tags on the images of a derived plate, such as those of its hits.

Each derived plate has tags of its own, so that a rerun can replace them: the new tag gets all its images in one save,
the commit point, and the earlier tag is deleted after that. A tag's description names the derived plate, so that the
next process finds what a killed process left behind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import omero
from omero.gateway import BlitzGateway
from omero.model import ImageAnnotationLinkI, ImageI, TagAnnotationI
from omero.rtypes import rstring

from openhcs_omero.errors import PlateError
from openhcs_omero.omero import queries
from openhcs_omero.omero.derived import TAGS
from openhcs_omero.omero.marks import mark_of, plate_mark

Tags = Mapping[str, Collection[int]]
"""Name of the tag -> ids of its images."""


def set_tags(conn: BlitzGateway, derived_id: int, tags: Tags) -> None:
    """Tag images of a derived plate, in place of what this user's earlier runs tagged.

    Tags that already have the right images are left alone. Tags of other users are never touched.

    Parameters
    ----------
    derived_id
        Id of the derived plate.
    tags
        The images of each tag, without empty tags.

    Raises
    ------
    PlateError
        If the plate is no derived plate, or an image was replaced by another process in the meantime.
    """
    annotation = mark_of(conn, derived_id)
    if annotation is None:
        raise PlateError(f"plate {derived_id} is not there or is no derived plate")
    group_id, mark = annotation.details.group.id.val, plate_mark(annotation)
    known = _own(conn, mark)
    texts = {f"{name} [{mark}]": sorted(set(images)) for name, images in tags.items() if images}
    kept: dict[str, int] = {}
    for tag, (text, images) in known.items():
        if texts.get(text) == images:
            kept.setdefault(text, tag)
    with queries.writing(f"tags to the images of plate {derived_id}"):
        for text, images in texts.items():
            if text not in kept:
                kept[text] = _save(conn, group_id, mark, text, images)
    # the server may still be deleting some for a killed process
    queries.delete_existing(conn, group_id, "TagAnnotation", [tag for tag in known if tag not in kept.values()])


def read_tags(conn: BlitzGateway, derived_id: int) -> dict[str, list[int]]:
    """Read the tags that `set_tags` wrote as this user: the ids of their images, sorted, by the text of the tag."""
    annotation = mark_of(conn, derived_id)
    return {} if annotation is None else dict(sorted(_own(conn, plate_mark(annotation)).values()))


def _own(conn: BlitzGateway, mark: str) -> dict[int, tuple[str, list[int]]]:
    """Text and images of this user's tags for a derived plate, by id, oldest first."""
    found: dict[int, tuple[str, list[int]]] = {
        tag: (text, [])
        for tag, text in queries.rows(
            conn,
            "select a.id, a.textValue from TagAnnotation a where a.ns = :ns and a.description = :mark "
            "and a.details.owner.id = :me order by a.id",
            ns=TAGS,
            mark=mark,
            me=conn.getUserId(),
        )
    }
    for ids in queries.pages(list(found)):
        for tag, image in queries.rows(
            conn,
            "select l.child.id, l.parent.id from ImageAnnotationLink l where l.child.id in (:ids) order by l.parent.id",
            ids=ids,
        ):
            found[tag][1].append(image)
    return found


def _save(conn: BlitzGateway, group_id: int, mark: str, text: str, images: list[int]) -> int:
    """Save a tag, then all of its links in one call; until then it is on no image. Returns its id."""
    options = queries.context(conn, group_id)
    tag = TagAnnotationI()
    tag.ns, tag.description, tag.textValue = rstring(TAGS), rstring(mark), rstring(text)
    tag_id = queries.update(conn).saveAndReturnIds([tag], options)[0]
    links = []
    for image in images:
        link = ImageAnnotationLinkI()
        link.parent, link.child = ImageI(image, False), TagAnnotationI(tag_id, False)
        links.append(link)
    try:
        queries.update(conn).saveArray(links, options)
        return int(tag_id)
    except omero.ValidationException:
        raise PlateError(
            f"images of {mark} were replaced while they were tagged: let only one run work on a plate and output at a "
            "time, then start it again"
        ) from None
