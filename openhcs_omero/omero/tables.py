"""Features as OMERO.tables: a CSV or TSV attached to a plate also becomes a table for OMERO.web and OMERO.parade.

A table of features has one row per well or per site, and per timepoint if it has a column `t`. Column names and types
are those of omero-metadata's `populate`, which those programs look for: `Plate`, `Well` and `Image` hold ids,
`Well Name` holds names, and the other columns come from the file. The table is a file annotation of the plate in the
namespace of bulk annotations.

A new table is written completely before anything points to it. One save, the commit point, then makes the annotation
point to it, and the previous table is deleted last. The file's name says what the table belongs to, so the next process
that saves can find and delete what a killed process left behind.
"""

import contextlib
import hashlib
import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import omero
from omero.gateway import BlitzGateway
from omero.model import FileAnnotationI, OriginalFileI, PlateAnnotationLinkI, PlateI
from omero.rtypes import rstring

from openhcs_omero.errors import PlateError
from openhcs_omero.omero import queries
from openhcs_omero.omero.annotations import NAMESPACE
from openhcs_omero.plates.paths import parse_well, well_name
from openhcs_omero.plates.structure import PlateStructure
from openhcs_omero.spreadsheets import unescape_table

if TYPE_CHECKING:
    import pandas

BULK_ANNOTATIONS = omero.constants.namespaces.NSBULKANNOTATIONS
ATTEMPTS = 3
CELLS = 500_000  # per call
MIMETYPE = "OMERO.tables"
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Attached:
    """A table of this user that is attached to a plate, and the note recorded with it."""

    annotation_id: int
    about: str


def attach_table(conn: BlitzGateway, plate: PlateStructure, name: str, data: bytes, ns: str = NAMESPACE) -> int | None:
    """Update a plate's OMERO.table to match an attached file.

    The table is created if it is missing, replaced if the file or the plate's images have changed, and deleted if the
    file is not, or is no longer, a table of features. A table that already matches is left alone.

    Parameters
    ----------
    plate
        The plate that the file is attached to, in its current state: its ids go into the table.
    name
        The file's name. Only names that end in ``.csv`` or ``.tsv`` are tables.
    data
        The file's bytes; b"" if the file is deleted.
    ns
        The file's namespace.

    Returns
    -------
    int or None
        Id of the table's file annotation; None if there is no table because the file has no features or the server has
        no tables service.

    Raises
    ------
    PlateError
        If this user may not annotate the plate, or the plate was deleted.
    """
    if not is_table(name):
        return None
    label = f"{name} of plate {plate.plate_id} ({ns})"
    attached = _attached(conn, plate, label)
    columns = _columns(plate, name, data)
    kept = None
    if columns:
        about = _about(name, columns)
        kept = next((table.annotation_id for table in attached if table.about == about), None)
        if kept is None:
            kept = _write(conn, plate, label, about, columns, attached)
    _sweep(conn, plate, label, [table.annotation_id for table in attached if table.annotation_id != kept])
    return kept


def is_table(name: str) -> bool:
    """Whether a file with that name can be a table of features, that is, a CSV or a TSV."""
    return _separator(name) is not None


def list_tables(conn: BlitzGateway, plate_id: int, ns: str = NAMESPACE) -> dict[str, str]:
    """List the notes recorded with the tables that `attach_table` attached to a plate, by file name, in one call."""
    end = f" of plate {plate_id} ({ns})"
    rows = queries.rows(
        conn,
        "select f.name, a.description from FileAnnotation a join a.file f, PlateAnnotationLink l "
        "where l.child.id = a.id and l.parent.id = :id and a.ns = :ns order by a.id",
        id=plate_id,
        ns=BULK_ANNOTATIONS,
    )
    return {name.removesuffix(end): about or "" for name, about in rows if name.endswith(end)}


# ---- what is in OMERO


def _attached(conn: BlitzGateway, plate: PlateStructure, label: str) -> list[_Attached]:
    """This user's tables with that label on the plate, newest first."""
    rows = queries.rows(
        conn,
        "select a.id, a.description from FileAnnotation a join a.file f, PlateAnnotationLink l "
        "where l.child.id = a.id and l.parent.id = :id and a.ns = :ns and f.name = :name "
        "and a.details.owner.id = :me order by a.id desc",
        plate.group_id,
        id=plate.plate_id,
        ns=BULK_ANNOTATIONS,
        name=label,
        me=conn.getUserId(),
    )
    return [_Attached(annotation, about or "") for annotation, about in rows]


def _write(
    conn: BlitzGateway, plate: PlateStructure, label: str, about: str, columns: list[Any], attached: list[_Attached]
) -> int | None:
    """Write a table and make the newest annotation, or a new one, point to it.

    Returns the annotation's id, or None if the server has no tables service.
    """
    file_id = _new_table(conn, plate, label, columns)
    if file_id is None:
        return None
    options = queries.context(conn, plate.group_id)
    try:
        with queries.writing(f"a table to plate {plate.plate_id}"):
            if attached:
                annotation = queries.query(conn).get("FileAnnotation", attached[0].annotation_id, options)
                annotation.file, annotation.description = OriginalFileI(file_id, False), rstring(about)
                queries.update(conn).saveObject(annotation, options)
                return annotation.id.val
            link = PlateAnnotationLinkI()
            link.parent, link.child = PlateI(plate.plate_id, False), FileAnnotationI()
            link.child.ns, link.child.description = rstring(BULK_ANNOTATIONS), rstring(about)
            link.child.file = OriginalFileI(file_id, False)
            return queries.update(conn).saveAndReturnObject(link, options).child.id.val
    except (omero.ValidationException, omero.OptimisticLockException):
        _discard(conn, plate, file_id)
        raise _collision(plate) from None
    except BaseException:
        _discard(conn, plate, file_id)
        raise


def _collision(plate: PlateStructure) -> PlateError:
    return PlateError(
        f"plate {plate.plate_id} was deleted, or another process attached the same table to it at the "
        "same time: try again"
    )


def _new_table(conn: BlitzGateway, plate: PlateStructure, label: str, columns: list[Any]) -> int | None:
    """Write a complete table that nothing points to; its file's id, or None if the server has no tables service."""
    options = queries.context(conn, plate.group_id)
    resources = conn.c.sf.sharedResources()
    if not resources.areTablesEnabled(options):
        return None
    repository = resources.repositories(options).descriptions[0].id.val
    table = resources.newTable(repository, label, options)
    if table is None:
        return None
    file = table.getOriginalFile(options)
    if file is None:  # another process deleted it as a leftover
        raise _collision(plate)
    try:
        with queries.writing("a table"):
            _fill(table, columns, options)
        table.close(options)
        return file.id.val
    except BaseException as error:
        swept = isinstance(error, omero.ServerError) and not queries.rows(
            conn, "select f.id from OriginalFile f where f.id = :id", id=file.id.val
        )
        with contextlib.suppress(Exception):
            table.close(options)
        _discard(conn, plate, file.id.val)
        if swept:
            raise _collision(plate) from None
        raise


def _fill(table: Any, columns: list[Any], options: Any) -> None:
    table.initialize([_part(column, 0, 0) for column in columns], options)
    rows, step = len(columns[0].values), max(1, CELLS // len(columns))
    for start in range(0, rows, step):
        table.addData([_part(column, start, start + step) for column in columns], options)


def _discard(conn: BlitzGateway, plate: PlateStructure, file_id: int) -> None:
    """Try to delete a table that nothing points to. If that fails, the next process that saves finds it by its name."""
    with contextlib.suppress(Exception):
        queries.delete(conn, plate.group_id, OriginalFile=[file_id])


def _sweep(conn: BlitzGateway, plate: PlateStructure, label: str, annotations: list[int]) -> None:
    """Delete annotations with their tables, and tables with that label that no annotation points to.

    The latter were replaced or left behind by killed processes. Another process may do the same at the same time.
    """
    for _ in range(ATTEMPTS):
        try:
            queries.delete(conn, plate.group_id, FileAnnotation=_those_of(conn, "a.id", annotations))
            files = [
                row[0]
                for row in queries.rows(
                    conn,
                    "select f.id from OriginalFile f where f.name = :name and f.mimetype = :type "
                    "and f.details.owner.id = :me",
                    plate.group_id,
                    name=label,
                    type=MIMETYPE,
                    me=conn.getUserId(),
                )
            ]
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


# ---- what is in a table


def _columns(plate: PlateStructure, name: str, data: bytes) -> list[Any]:
    """The columns of a table of features with their values; [] if the file is not a table of features."""
    features = _read(name, data)
    if features is None:
        return []
    sites = features.pop("site").tolist() if "site" in features else None
    names = [_well(text) for text in features.pop("well")]
    places = list(zip(names, *(values for values in (sites, features.get("t")) if values is not None)))
    if len(set(places)) < len(places) or not set(names) <= set(plate.wells):
        return []
    wells = [plate.wells[well or ""] for well in names]
    if sites and not all(site in well.images for well, site in zip(wells, sites)):
        return []
    ids = [
        omero.grid.PlateColumn("Plate", "", [plate.plate_id] * len(names)),
        omero.grid.WellColumn("Well", "", [well.well_db_id for well in wells]),
    ]
    if sites:
        ids.append(omero.grid.ImageColumn("Image", "", [well.images[s].image_id for well, s in zip(wells, sites)]))
    ids.append(_column("Well Name", names))
    if sites:
        ids.append(omero.grid.LongColumn("site", "", sites))
    taken = {column.name for column in ids} | {"plate"}
    return ids + [_column(key.replace("/", "\\"), values) for key, values in _values(features) if key not in taken]


def _separator(name: str) -> str | None:
    return _SEPARATORS.get(name[name.rfind(".") :].lower())


def _read(name: str, data: bytes) -> "pandas.DataFrame | None":
    """The file's rows; None if it has none or they do not name wells."""
    if not data.strip():
        return None
    import pandas  # takes half a second, so only tables import it

    try:
        rows = pandas.read_csv(
            io.BytesIO(data), sep=_separator(name), dtype={"well": str}, keep_default_na=False, na_values=["", "nan"]
        )
    except (ValueError, UnicodeError):
        return None
    rows = unescape_table(rows)
    if "well" not in rows or rows.empty or ("site" in rows and rows["site"].dtype.kind != "i"):
        return None
    return rows


def _well(text: Any) -> str | None:
    try:
        return well_name(*parse_well(str(text)))
    except ValueError:
        return None


def _values(rows: "pandas.DataFrame") -> Iterator[tuple[str, list[Any]]]:
    """Names and values of columns: bool, int, float (NaN where missing) or str."""
    for key, column in rows.items():
        if column.dtype.kind in "bif":
            yield str(key), column.tolist()
        elif column.dtype.kind == "u":  # too large for OMERO's integers
            yield str(key), column.astype(float).tolist()
        else:
            yield str(key), ["" if value != value else str(value) for value in column.tolist()]


def _column(name: str, values: list[Any]) -> Any:
    kind = type(values[0])
    if kind is str:
        return omero.grid.StringColumn(name, "", max(1, *(len(value.encode()) for value in values)), values)
    made = {bool: omero.grid.BoolColumn, int: omero.grid.LongColumn, float: omero.grid.DoubleColumn}[kind]
    return made(name, "", values)


def _part(column: Any, start: int, stop: int) -> Any:
    """The same column with some of its values."""
    size = [column.size] if isinstance(column, omero.grid.StringColumn) else []
    return type(column)(column.name, column.description, *size, column.values[start:stop])


def _about(name: str, columns: list[Any]) -> str:
    """The note recorded with a table: its file's name and a hash of its contents."""
    digest = hashlib.sha1(usedforsecurity=False)
    for column in columns:
        digest.update(json.dumps([type(column).__name__, column.name, column.values]).encode())
    return f"{name} as a table, SHA-1 of its columns {digest.hexdigest()}"
