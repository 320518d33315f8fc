"""Text files in OMERO: file annotations of screens, plates, wells and images."""

import contextlib
import hashlib
import io
import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import omero
from omero.gateway import BlitzGateway
from omero.model import ChecksumAlgorithmI, FileAnnotationI, OriginalFileI
from omero.model.enums import ChecksumAlgorithmSHA1160
from omero.rtypes import rlist, rlong, rstring

from openhcs_omero.errors import OpenHCSError, PlateError
from openhcs_omero.omero import queries

Kind = Literal["Screen", "Plate", "Well", "Image"]

NAMESPACE = "openhcs_omero/results"
PATH = "openhcs_omero"  # start of the `path` of every file that this software attaches
CHUNK = 16 * 2**20  # bytes per call
_TYPES = {".csv": "text/csv", ".tsv": "text/tab-separated-values", ".json": "application/json", ".txt": "text/plain"}


@dataclass(frozen=True)
class TextFile:
    """A file attached to a screen, a plate, a well or an image; `size` is in bytes."""

    annotation_id: int
    file_id: int
    name: str
    size: int
    namespace: str | None
    sha1: str | None


def save_text(
    conn: BlitzGateway,
    kind: Kind,
    object_id: int,
    name: str,
    data: bytes | Path,
    ns: str = NAMESPACE,
    description: str = "",
) -> int:
    """Attach a file to an object, replacing any of the same name and namespace that this software attached before.

    The whole file is written, then linked, and only then are the earlier ones deleted, so a reader always finds either
    the old file or the new one. Files that a killed process left unlinked are deleted too.

    Parameters
    ----------
    kind, object_id
        The object to attach the file to. It is looked up in all groups of the user.
    name
        The file's name.
    data
        The file's bytes, or a file on this machine with these bytes, which is read in parts.
    ns, description
        Namespace and description of the file annotation.

    Returns
    -------
    int
        Id of the file annotation.

    Raises
    ------
    PlateError
        If the object does not exist or this user may not annotate it.
    OpenHCSError
        If the server stored other bytes than were sent.
    """
    group_id = _group_of(conn, kind, object_id)
    where = f"{PATH}/{kind}_{object_id}"
    with queries.writing(f"a file to {kind.lower()} {object_id}"):
        new = _attach(conn, kind, object_id, group_id, _new_annotation(name, where, data, ns, description), data)
    # a file moved here from a replaced image still has that image's path
    earlier = queries.rows(
        conn,
        "select a.id from FileAnnotation a join a.file f where a.ns = :ns and f.name = :name "
        f"and (f.path = :path or f.path like '{PATH}/%' and a.id in "
        f"(select l.child.id from {kind}AnnotationLink l where l.parent.id = :id)) "
        "and a.details.owner.id = :me and a.id < :new",
        group_id,
        ns=ns,
        name=name,
        path=where,
        id=object_id,
        me=conn.getUserId(),
        new=new,
    )
    queries.delete(conn, group_id, FileAnnotation=[row[0] for row in earlier])
    return new


def list_texts(conn: BlitzGateway, kind: Kind, object_id: int, ns: str | None = None) -> list[TextFile]:
    """List the files attached to an object, sorted by name, in one call.

    If several files have the same name, only the newest is listed. OMERO.tables are left out.

    Parameters
    ----------
    kind, object_id
        The object.
    ns
        List only the files in this namespace. None lists all files, including those of other programs.
    """
    return texts_of(conn, kind, [object_id], ns)[object_id]


def texts_of(
    conn: BlitzGateway, kind: Kind, object_ids: Sequence[int], ns: str | Mapping[int, str] | None = None
) -> dict[int, list[TextFile]]:
    """List the files attached to each of several objects, as `list_texts` does for one; one call per 10,000 objects.

    Each object may have a namespace of its own.
    """
    found: dict[int, list[TextFile]] = {object_id: [] for object_id in object_ids}
    for ids in queries.pages(list(found)):
        rows = queries.rows(
            conn,
            "select l.parent.id, a.id, f.id, f.name, f.size, a.ns, f.hash "
            f"from FileAnnotation a join a.file f, {kind}AnnotationLink l "
            "where l.child.id = a.id and l.parent.id in (:ids) "
            "and (f.mimetype is null or f.mimetype <> 'OMERO.tables') order by a.id",
            ids=ids,
        )
        for object_id, annotation_id, file_id, name, size, namespace, sha1 in rows:
            if ns is None or namespace == (ns[object_id] if isinstance(ns, Mapping) else ns):
                found[object_id].append(TextFile(annotation_id, file_id, name, size or 0, namespace, sha1))
    for object_id, texts in found.items():
        newest = {text.name: text for text in texts}
        found[object_id] = [newest[name] for name in sorted(newest)]
    return found


def read_text(conn: BlitzGateway, kind: Kind, object_id: int, name: str, ns: str | None = None) -> bytes:
    """Read the bytes of an attached file; the newest one if several have that name.

    Raises
    ------
    PlateError
        If no such file is attached to the object.
    """
    return read_file(conn, _text(conn, kind, object_id, name, ns))


def read_file(conn: BlitzGateway, file: TextFile) -> bytes:
    """Read the bytes of a listed file."""
    if not file.size:
        return b""
    options = queries.context(conn, queries.ALL_GROUPS)
    store = conn.c.sf.createRawFileStore()
    try:
        store.setFileId(file.file_id, options)
        # a read past the end is padded with zeros
        return b"".join(
            store.read(start, min(CHUNK, file.size - start), options) for start in range(0, file.size, CHUNK)
        )
    finally:
        store.close(options)


def namesakes(conn: BlitzGateway, kind: Kind, object_id: int, name: str) -> list[tuple[TextFile, str]]:
    """List the files of a name that are attached to an object, each with the name of its owner, the oldest first.

    Of several files of one owner in one namespace, only the newest is listed: it is about to replace the others.
    """
    rows = queries.rows(
        conn,
        "select a.id, f.id, f.name, f.size, a.ns, f.hash, o.omeName "
        f"from FileAnnotation a join a.file f join a.details.owner o, {kind}AnnotationLink l "
        "where l.child.id = a.id and l.parent.id = :id and f.name = :name "
        "and (f.mimetype is null or f.mimetype <> 'OMERO.tables') order by a.id",
        id=object_id,
        name=name,
    )
    newest = {
        (ns, owner): (TextFile(a, f, name, size or 0, ns, sha1), owner) for a, f, name, size, ns, sha1, owner in rows
    }
    return sorted(newest.values(), key=lambda found: found[0].annotation_id)


def delete_text(conn: BlitzGateway, kind: Kind, object_id: int, name: str, ns: str | None = None) -> None:
    """Delete all files of that name that are attached to an object.

    Raises
    ------
    PlateError
        If no such file is attached to the object.
    """
    while True:
        file = _text(conn, kind, object_id, name, ns)
        queries.delete(conn, _group_of(conn, kind, object_id), FileAnnotation=[file.annotation_id])
        if all(other.name != name for other in list_texts(conn, kind, object_id, ns)):
            return


def _text(conn: BlitzGateway, kind: Kind, object_id: int, name: str, ns: str | None) -> TextFile:
    for file in list_texts(conn, kind, object_id, ns):
        if file.name == name:
            return file
    raise PlateError(f"no file {name!r} is attached to {kind.lower()} {object_id}")


def _group_of(conn: BlitzGateway, kind: Kind, object_id: int) -> int:
    found = queries.rows(conn, f"select g.id from {kind} o join o.details.group g where o.id = :id", id=object_id)
    if not found:
        raise PlateError(f"there is no {kind.lower()} {object_id}, or this user may not see it")
    return found[0][0]


def unlinked_files(conn: BlitzGateway, image_ids: Sequence[int]) -> list[int]:
    """Ids of this user's file annotations that killed processes wrote for these images but never linked."""
    paths = rlist([rstring(f"{PATH}/Image_{image_id}") for image_id in image_ids])
    return [
        row[0]
        for row in queries.rows(
            conn,
            "select a.id from FileAnnotation a join a.file f where f.path in (:paths) and a.details.owner.id = :me "
            "and not exists (select l.id from ImageAnnotationLink l where l.child.id = a.id)",
            paths=paths,
            me=conn.getUserId(),
        )
    ]


def _parts(data: bytes | Path) -> Iterator[bytes]:
    """The bytes, in parts of at most CHUNK."""
    with io.BytesIO(data) if isinstance(data, bytes) else data.open("rb") as stream:
        while part := stream.read(CHUNK):
            yield part


def _size_and_hash(data: bytes | Path) -> tuple[int, str]:
    size, digest = 0, hashlib.sha1()
    for part in _parts(data):
        size += len(part)
        digest.update(part)
    return size, digest.hexdigest()


def _new_annotation(name: str, where: str, data: bytes | Path, ns: str, description: str) -> FileAnnotationI:
    """An unsaved annotation with its file. The file's path names the object, so unlinked leftovers can be found."""
    file = OriginalFileI()
    file.name, file.path = rstring(name), rstring(where)
    ending = name[name.rfind(".") :].lower() if "." in name else ""
    file.mimetype = rstring(_TYPES.get(ending) or mimetypes.guess_type(name)[0] or "application/octet-stream")
    size, sha1 = _size_and_hash(data)
    file.size, file.hash = rlong(size), rstring(sha1)
    file.hasher = ChecksumAlgorithmI()
    file.hasher.value = rstring(ChecksumAlgorithmSHA1160)
    annotation = FileAnnotationI()
    annotation.ns, annotation.description, annotation.file = rstring(ns), rstring(description), file
    return annotation


def _attach(
    conn: BlitzGateway, kind: Kind, object_id: int, group_id: int, annotation: FileAnnotationI, data: bytes | Path
) -> int:
    """Save the annotation, write its file and link it, or leave nothing behind; returns the annotation's id."""
    options = queries.context(conn, group_id)
    saved = queries.update(conn).saveAndReturnObject(annotation, options)
    try:
        _write(conn, saved.file.id.val, data, annotation.file.hash.val, options)
        _link(conn, kind, object_id, saved.id.val, options)
    except BaseException:
        with contextlib.suppress(Exception):
            queries.delete(conn, group_id, FileAnnotation=[saved.id.val])
        raise
    return saved.id.val


def _link(conn: BlitzGateway, kind: Kind, object_id: int, annotation_id: int, options: dict[str, Any]) -> None:
    link = getattr(omero.model, f"{kind}AnnotationLinkI")()
    link.parent = getattr(omero.model, f"{kind}I")(object_id, False)
    link.child = FileAnnotationI(annotation_id, False)
    try:
        queries.update(conn).saveObject(link, options)
    except omero.ValidationException:
        raise PlateError(
            f"{kind.lower()} {object_id} was deleted, or another process attached the same file to it at "
            "the same time: try again"
        ) from None


def _write(conn: BlitzGateway, file_id: int, data: bytes | Path, sha1: str, options: dict[str, Any]) -> None:
    store, start = None, 0
    try:
        for part in _parts(data):
            if store is None:  # an empty file needs none: its database row already says size 0
                store = conn.c.sf.createRawFileStore()
                store.setFileId(file_id, options)
            store.write(part, start, len(part), options)
            start += len(part)
        if store is None:
            return
        stored = store.save(options)
    finally:
        if store is not None:
            store.close(options)
    if stored is None or stored.hash.val != sha1:
        raise OpenHCSError(f"the server did not store file {file_id} as it was sent: try again")
