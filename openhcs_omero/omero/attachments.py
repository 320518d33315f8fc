"""What the workflow attached to a source plate or its screen for derived plates: files and OMERO.tables.

The namespace of a file says which output it belongs to. That of a table is the one that OMERO.web looks for; its name
says to which file it belongs.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from omero.gateway import BlitzGateway

from openhcs_omero.omero import queries
from openhcs_omero.omero.annotations import PATH, Kind
from openhcs_omero.omero.marks import NAMESPACE
from openhcs_omero.omero.omero_tables import BULK_ANNOTATIONS, PART


@dataclass(frozen=True)
class Attachment:
    """A file or an OMERO.table of this user on a source plate or screen.

    Parameters
    ----------
    annotation_id, group_id
        The file annotation and its group.
    output
        The output that it belongs to.
    name
        The name shown in OMERO, without the place that follows it in the names of tables.
    is_table
        Whether it is an OMERO.table.
    """

    annotation_id: int
    group_id: int
    output: str
    name: str
    is_table: bool

    @property
    def file_name(self) -> str:
        """The name of the file; of a table, that of the file which it was made from."""
        return re.sub(PART, "", self.name) if self.is_table else self.name


def list_attachments(
    conn: BlitzGateway, source_id: int, output: str | None = None, kind: Kind = "Plate"
) -> list[Attachment]:
    """List what this user's workflow attached to a source plate or screen, for one output or for all, in one call.

    This includes files that a killed process wrote but never linked to it. Only plates have tables.
    """
    rows = queries.rows(
        conn,
        "select a.id, g.id, a.ns, f.name from FileAnnotation a join a.file f join a.details.group g "
        "where a.details.owner.id = :me and (f.path = :path or a.ns = :bulk and f.name like :name) order by f.name",
        me=conn.getUserId(),
        path=f"{PATH}/{kind}_{source_id}",
        bulk=BULK_ANNOTATIONS,
        name=f"% of plate {source_id} ({NAMESPACE}/%)" if kind == "Plate" else "",
    )
    found = []
    for annotation_id, group_id, ns, name in rows:
        is_table = ns == BULK_ANNOTATIONS
        if is_table:
            name, _, ns = name.removesuffix(")").rpartition(f" of plate {source_id} (")
        if ns and ns.startswith(f"{NAMESPACE}/"):
            found.append(Attachment(annotation_id, group_id, ns.removeprefix(f"{NAMESPACE}/"), name, is_table))
    return [one for one in found if output in (None, one.output)]


def delete_attachments(conn: BlitzGateway, attachments: Iterable[Attachment]) -> None:
    """Delete attachments. What another process has deleted in the meantime is no error."""
    by_group: dict[int, list[int]] = {}
    for one in attachments:
        by_group.setdefault(one.group_id, []).append(one.annotation_id)
    for group_id, ids in by_group.items():
        queries.delete_existing(conn, group_id, "FileAnnotation", ids)
