"""Features as OMERO.tables: a CSV or TSV attached to a plate also becomes a table for OMERO.web and OMERO.parade.

A table of features has one row per well or per site, and per acquisition and timepoint if it has the columns
`acquisition` and `t`. Column names and types are those of omero-metadata's `populate`, which those programs look for:
`Plate`, `Well` and `Image` hold ids, `Well Name` holds names, and the other columns come from the file. The table is a
file annotation of the plate in the namespace of bulk annotations. A file with more columns than a table takes becomes
several tables with the same rows.
A table of objects has one row per object that has a region of interest on the plate's images, whose id is in the column
`Roi`.

New tables are written completely before anything points to them. One save, the commit point, then makes the annotations
point to them, and the previous tables are deleted last. The name of a table says what it belongs to, so the next
process that saves can find and delete what a killed process left behind.
"""

import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import omero
from omero.gateway import BlitzGateway
from omero.model import FileAnnotationI, OriginalFileI, PlateAnnotationLinkI, PlateI
from omero.rtypes import rstring

from openhcs_omero.errors import PlateError
from openhcs_omero.omero import queries
from openhcs_omero.omero.annotations import NAMESPACE
from openhcs_omero.omero.rois import list_rois
from openhcs_omero.omero.table_columns import Table, separator, tables_of
from openhcs_omero.plates.structure import PlateStructure

BULK_ANNOTATIONS = omero.constants.namespaces.NSBULKANNOTATIONS
MIMETYPE = "OMERO.tables"
PART = r" \(\d+ of \d+\)$"
"""The end of the names of tables that were made from one file."""
log = logging.getLogger(__name__)

Say = Callable[[str], Any]
Tables = Mapping[str, Table]
"""Tables by label."""


class _Refused(Exception):
    """The server has no tables service, or takes no such table."""


@dataclass(frozen=True)
class _Attached:
    """A table of this user that is attached to a plate, its label, and the note recorded with it."""

    annotation_id: int
    label: str
    about: str


def attach_table(
    conn: BlitzGateway,
    plate: PlateStructure,
    name: str,
    data: bytes | Path,
    ns: str = NAMESPACE,
    say: Say = log.warning,
) -> int | None:
    """Update a plate's OMERO.tables to match an attached file.

    A table is created if it is missing, replaced if the file or the plate's images have changed, and deleted if the
    file is not, or is no longer, a table of features. A table that already matches is left alone.

    Parameters
    ----------
    plate
        The plate that the file is attached to, in its current state: its ids go into the table.
    name
        The file's name. Only names that end in ``.csv`` or ``.tsv`` are tables.
    data
        The file's bytes, or its path, if it is large; b"" if the file is deleted.
    ns
        The file's namespace.
    say
        Called with a sentence about each column that is left out, if the file becomes several tables, and if the server
        refuses the table.

    Returns
    -------
    int or None
        Id of the file annotation of the table, or of the first of several; None if there is no table because the file
        has no features, or the server has no tables service or refuses the table.

    Raises
    ------
    PlateError
        If this user may not annotate the plate, or the plate was deleted.
    """
    if not is_table(name):
        return None
    family = _Family(name, f" of plate {plate.plate_id} ({ns})")
    made = tables_of(plate, name, data, say, lambda images: list_rois(conn, images))
    tables = {family.label(part): table for part, table in made.items()}
    abouts = {
        label: f"{family.part(label)} as a table, SHA-1 of its columns {table.digest}"
        for label, table in tables.items()
    }
    attached = _attached(conn, plate, family)
    kept = {one.label: one.annotation_id for one in reversed(attached) if abouts.get(one.label) == one.about}
    new = {label: table for label, table in tables.items() if label not in kept}
    if new:
        try:
            kept |= _write(conn, plate, new, abouts, attached)
        except _Refused as error:
            kept = {}
            if str(error):
                say(f"{name} is not an OMERO.table, because the server refuses it: {error}")
    _sweep(conn, plate, family, [one.annotation_id for one in attached if one.annotation_id not in kept.values()])
    return next((kept[label] for label in tables if label in kept), None)


@dataclass(frozen=True)
class _Family:
    """The tables of one file of a plate. Their labels are the names of their original files.

    Parameters
    ----------
    name
        The name of the file.
    end
        The end of the labels, which says where the file is attached.
    """

    name: str
    end: str

    def label(self, part: str) -> str:
        return part + self.end

    def part(self, label: str) -> str:
        return label.removesuffix(self.end)

    def has(self, label: str) -> bool:
        return label.endswith(self.end) and re.sub(PART, "", self.part(label)) == self.name


def is_table(name: str) -> bool:
    """Whether a file with that name can be a table of features, that is, a CSV or a TSV."""
    return separator(name) is not None


def list_tables(conn: BlitzGateway, plate_id: int, ns: str = NAMESPACE) -> dict[str, str]:
    """List the notes recorded with the tables that `attach_table` attached to a plate, by file name, in one call."""
    return tables_of_plates(conn, {plate_id: ns})[plate_id]


def tables_of_plates(conn: BlitzGateway, namespaces: Mapping[int, str]) -> dict[int, dict[str, str]]:
    """List the tables of each of several plates, as `list_tables` does for one, in one call."""
    rows = queries.rows(
        conn,
        "select l.parent.id, f.name, a.description from FileAnnotation a join a.file f, PlateAnnotationLink l "
        "where l.child.id = a.id and l.parent.id in (:ids) and a.ns = :ns order by a.id",
        ids=list(namespaces),
        ns=BULK_ANNOTATIONS,
    )
    found: dict[int, dict[str, str]] = {plate_id: {} for plate_id in namespaces}
    for plate_id, name, about in rows:
        end = f" of plate {plate_id} ({namespaces[plate_id]})"
        if name.endswith(end):
            found[plate_id][name.removesuffix(end)] = about or ""
    return found


# ---- what is in OMERO


def _attached(conn: BlitzGateway, plate: PlateStructure, family: _Family) -> list[_Attached]:
    """This user's tables of that file on the plate, newest first."""
    rows = queries.rows(
        conn,
        "select a.id, f.name, a.description from FileAnnotation a join a.file f, PlateAnnotationLink l "
        "where l.child.id = a.id and l.parent.id = :id and a.ns = :ns and a.details.owner.id = :me order by a.id desc",
        plate.group_id,
        id=plate.plate_id,
        ns=BULK_ANNOTATIONS,
        me=conn.getUserId(),
    )
    return [_Attached(annotation, label, about or "") for annotation, label, about in rows if family.has(label or "")]


def _write(
    conn: BlitzGateway, plate: PlateStructure, tables: Tables, abouts: Mapping[str, str], attached: Sequence[_Attached]
) -> dict[str, int]:
    """Write tables, and make the newest annotations with their labels, or new ones, point to them.

    Returns the ids of the annotations by label; raises _Refused if the server takes none.
    """
    options = queries.context(conn, plate.group_id)
    newest = {one.label: one.annotation_id for one in reversed(attached)}
    files: dict[str, int] = {}
    try:
        for label, table in tables.items():
            files[label] = _new_table(conn, plate, label, table)
        with queries.writing(f"a table to plate {plate.plate_id}"):
            changed = [
                _pointing(conn, plate, newest.get(label), file_id, abouts[label]) for label, file_id in files.items()
            ]
            saved = queries.update(conn).saveAndReturnArray(changed, options)
    except (omero.ValidationException, omero.OptimisticLockException):
        _discard(conn, plate, files.values())
        raise _collision(plate) from None
    except BaseException:
        _discard(conn, plate, files.values())
        raise
    return {label: (one if isinstance(one, FileAnnotationI) else one.child).id.val for label, one in zip(files, saved)}


def _pointing(conn: BlitzGateway, plate: PlateStructure, annotation_id: int | None, file_id: int, about: str) -> Any:
    """The annotation, or the link of a new one, that points to a table; not saved yet."""
    if annotation_id is None:
        link = PlateAnnotationLinkI()
        link.parent, link.child = PlateI(plate.plate_id, False), FileAnnotationI()
        link.child.ns = rstring(BULK_ANNOTATIONS)
        annotation = link.child
    else:
        options = queries.context(conn, plate.group_id)
        link = annotation = queries.query(conn).get("FileAnnotation", annotation_id, options)
    annotation.file, annotation.description = OriginalFileI(file_id, False), rstring(about)
    return link


def _collision(plate: PlateStructure) -> PlateError:
    return PlateError(
        f"plate {plate.plate_id} was deleted, or another process attached the same table to it at the "
        "same time: try again"
    )


def _new_table(conn: BlitzGateway, plate: PlateStructure, label: str, content: Table) -> int:
    """Write a complete table that nothing points to; returns its file's id, or raises _Refused."""
    options = queries.context(conn, plate.group_id)
    resources = conn.c.sf.sharedResources()
    if not resources.areTablesEnabled(options):
        raise _Refused
    repository = resources.repositories(options).descriptions[0].id.val
    table = resources.newTable(repository, label, options)
    if table is None:
        raise _Refused
    file = table.getOriginalFile(options)
    if file is None:  # another process deleted it as a leftover
        raise _collision(plate)
    try:
        with queries.writing("a table"):
            table.initialize(content.columns, options)
            for columns in content.read():
                table.addData(columns, options)
        table.close(options)
        return file.id.val
    except BaseException as error:
        swept = isinstance(error, omero.ServerError) and not queries.rows(
            conn, "select f.id from OriginalFile f where f.id = :id", id=file.id.val
        )
        with contextlib.suppress(Exception):
            table.close(options)
        _discard(conn, plate, [file.id.val])
        if swept:
            raise _collision(plate) from None
        if isinstance(error, omero.ApiUsageException | omero.ValidationException | omero.InternalException):
            raise _Refused(_reason(error)) from error
        raise


def _reason(error: omero.ServerError) -> str:
    return ((error.message or "").strip() or type(error).__name__).splitlines()[0]


def _discard(conn: BlitzGateway, plate: PlateStructure, file_ids: Iterable[int]) -> None:
    """Try to delete tables that nothing points to. If it fails, the next process that saves finds them by their names.

    They are deleted one by one, since OMERO deletes all of them or none.
    """
    for file_id in file_ids:
        with contextlib.suppress(Exception):
            queries.delete(conn, plate.group_id, OriginalFile=[file_id])


def _sweep(conn: BlitzGateway, plate: PlateStructure, family: _Family, annotations: list[int]) -> None:
    """Delete annotations with their tables, and tables of the same file that no annotation points to.

    The latter were replaced or left behind by killed processes. Another process may do the same at the same time.
    """
    for _ in range(queries.ATTEMPTS):
        try:
            queries.delete(conn, plate.group_id, FileAnnotation=_those_of(conn, "a.id", annotations))
            rows = queries.rows(
                conn,
                "select f.id, f.name from OriginalFile f where f.name like :name and f.mimetype = :type "
                "and f.details.owner.id = :me",
                plate.group_id,
                name=f"%{family.end}",
                type=MIMETYPE,
                me=conn.getUserId(),
            )
            files = [file for file, label in rows if family.has(label)]
            used = _those_of(conn, "f.id", files)
            return queries.delete(conn, plate.group_id, OriginalFile=[file for file in files if file not in used])
        except queries.DeletionRefused as error:
            log.warning("%s", error)


def _those_of(conn: BlitzGateway, what: str, ids: list[int]) -> list[int]:
    """The subset of ids that belong to file annotations (a.id) or to their files (f.id)."""
    return ids and [
        row[0]
        for row in queries.rows(
            conn, f"select {what} from FileAnnotation a join a.file f where {what} in (:ids)", ids=ids
        )
    ]
