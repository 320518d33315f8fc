"""What others have put on somebody's data: annotations and regions with another owner than what they are on."""

from __future__ import annotations

import sqlalchemy as sa

from omero_embedded.model import rows
from omero_embedded.model.graphs import Ids
from omero_embedded.model.schema import schema


def annotations_of_others(connection: sa.Connection, going: Ids, ids: set[int]) -> set[int]:
    """Those of some annotations that are on objects that go, but on none with the same owner."""
    columns = schema()["Annotation"].table.c
    on_own, linked = set(), set()
    for name, links in going.items():
        link = schema()[name]
        if not links or not link.is_link or link.fields["child"].target != "Annotation":
            continue
        parent = schema()[link.fields["parent"].target or ""].root
        whose, ends = parent.table.alias(), link.table.c
        found = connection.execute(
            sa.select(ends.child, ends.parent, whose.c._owner == columns._owner).where(
                rows.among(ends.id, links), whose.c.id == ends.parent, columns.id == ends.child
            )
        )
        for child, holder, same in found:
            if holder in going.get(parent.name, ()):
                linked.add(child)
                if same:
                    on_own.add(child)
    return (linked - on_own) & ids


def rois_of_others(connection: sa.Connection, going: Ids, ids: set[int]) -> set[int]:
    """Those of some regions that are on images that go, and that have another owner."""
    roi, image = schema()["Roi"].table.c, schema()["Image"].table.c
    found = connection.execute(
        sa.select(roi.id).where(
            rows.among(roi.id, ids),
            rows.among(roi.image, going.get("Image", ())),
            image.id == roi.image,
            image._owner != roi._owner,
        )
    )
    return set(found.scalars())
