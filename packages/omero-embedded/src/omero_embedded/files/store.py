"""The data folder: a SQLite database, `Pixels/` and `Files/`, locked against other servers."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import logging
import os
import re
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

import omero
import sqlalchemy as sa

from omero_embedded import limits
from omero_embedded.errors import refuse
from omero_embedded.model import sql_functions
from omero_embedded.model.schema import Schema, schema

log = logging.getLogger(__name__)
# What has to be done about files after a kill: "remove" those whose rows are deleted, and "settle" those that were
# written and not saved. Each entry is made in the transaction that it is about, or before the write.
PENDING = sa.Table(
    "pending_file",
    sa.MetaData(),
    sa.Column("task", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("writer", sa.Integer, primary_key=True),
)  # the number of the open store that is writing; 0 for a removal
RESERVED = 512  # descriptors that are not used for files that stay open
BLOCK = 1 << 20  # bytes that are read at once for a hash
PYRAMID = "_pyramid"  # OMERO appends this to the name of a pyramid's file
JOURNAL = "-journal"  # SQLite's file beside that of a table during a write

# OMERO's constraints of uniqueness: table -> columns.
UNIQUE = {
    "well": ("plate", "row", "column"),
    "wellsample": ("well", "well_index"),
    "pixels": ("image", "image_index"),
    "channel": ("pixels", "pixels_index"),
    "shape": ("roi", "roi_index"),
    "experimenter": ("omeName",),
    "experimentergroup": ("name",),
    "groupexperimentermap": ("parent", "child"),
    "namespace": ("name",),
    "session": ("uuid",),
    "node": ("uuid",),
}


class Store:
    """The data folder.

    Reads see a consistent snapshot and never wait. Only one write runs at a time. When `write` returns, its changes
    are in SQLite's write-ahead log, so that a killed server loses nothing that it acknowledged.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.schema: Schema = schema()
        for part in (folder, folder / "Pixels", folder / "Files"):
            part.mkdir(parents=True, exist_ok=True)
        self._lock_file = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(f"another server is using {folder}") from None
        for private in ("omero.db", "server.log"):  # they contain hashes of passwords and ids of sessions
            (folder / private).touch(mode=0o600)
        self.engine = sa.create_engine(
            f"sqlite:///{folder / 'omero.db'}",
            pool_size=32,
            max_overflow=32,
            connect_args={"check_same_thread": False, "timeout": 60},
        )
        sa.event.listen(self.engine, "connect", _on_connect)
        sa.event.listen(self.engine, "begin", _on_begin)
        sa.event.listen(self.engine, "before_cursor_execute", _on_statement)
        self._writer = threading.RLock()
        self._opening, self._open_files = threading.Lock(), 0
        self._hashed: WeakValueDictionary[int, HashedFile] = WeakValueDictionary()  # by inode
        self._writers = itertools.count(1)
        self.account_changes = 0  # accounts that were read are valid while this stays the same
        self._add_constraints()
        self.schema.metadata.create_all(self.engine)
        PENDING.create(self.engine, checkfirst=True)
        self._remove(self.pending("remove"))

    def _add_constraints(self) -> None:
        indexes = dict(UNIQUE)
        for entity in self.schema.entities.values():
            if entity.is_link and not entity.is_global:
                indexes[entity.table.name] = ("parent", "child", "_owner")
            elif entity.is_enum:
                indexes[entity.table.name] = ("value",)
        for name, columns in indexes.items():
            table = self.schema.metadata.tables[name]
            if not any(index.unique for index in table.indexes):
                sa.Index(f"unique_{name}", *(table.c[column] for column in columns), unique=True)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Open a connection that sees one snapshot."""
        with self.engine.connect() as connection:
            yield connection
            connection.rollback()

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Open the one write transaction. It is committed at the end, or rolled back by an exception.

        The files of rows that are put into `connection.info["gone"]`, as (table, id), are removed after the commit.
        """
        with self._writer, limits.unlimited(), self.engine.connect().execution_options(writer=True) as connection:
            gone: list[tuple[str, int]] = []
            connection.info.update(gone=gone, accounts=False)
            with connection.begin():
                yield connection
                if gone:
                    _note(connection, "remove", gone)
            self.account_changes += connection.info["accounts"]
        if gone:
            self._remove(gone)

    def open_file(self, path: Path, create: bool = False) -> int:
        """Open a file that stays open until `close_file`, and return its descriptor.

        Raises
        ------
        omero.OverUsageException
            If so many files are open that no descriptors would be left for connections and the database.
        FileNotFoundError
            If the file does not exist and `create` is False.
        """
        with self._opening:
            if self._open_files >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED:
                log.warning("refused to open one more file: %d are open", self._open_files)
                raise refuse(omero.OverUsageException, f"{self._open_files} files are open already: close some stores.")
            file = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o644)
            self._open_files += 1
        return file

    def close_file(self, file: int) -> None:
        with self._opening:
            os.close(file)
            self._open_files -= 1

    def hashed_file(self, file: int) -> HashedFile:
        """The object to write to an open file with, shared by all writers. Release it before the file is closed."""
        with self._opening:
            return self._hashed.setdefault(os.fstat(file).st_ino, HashedFile())

    # -- files and their rows ------------------------------------------------------------------------------------

    def _remove(self, gone: list[tuple[str, int]]) -> None:
        """Remove the files of deleted rows; after a kill, the next start does the rest."""
        if not gone:
            return
        for name, oid in gone:
            path = self.path(name, oid)
            path.unlink(missing_ok=True)
            path.with_name(path.name + JOURNAL).unlink(missing_ok=True)
        with self.write() as connection:
            forget(connection, "remove", gone)

    @contextmanager
    def making_file(self, name: str, oid: int, pyramid: bool = False) -> Iterator[Path]:
        """The path of a row, to create its file. The row can't be deleted meanwhile, which would leave the file.

        Raises
        ------
        omero.ValidationException
            If the row is deleted.
        """
        table = self.schema.metadata.tables[name]
        with self._writer:
            with self.read() as connection:
                if connection.execute(sa.select(table.c.id).where(table.c.id == oid)).first() is None:
                    raise refuse(omero.ValidationException, f"The {name} {oid} was deleted.")
            path = self.pyramid_path(oid) if pyramid else self.path(name, oid)
            path.parent.mkdir(parents=True, exist_ok=True)
            yield path

    def pending(self, task: str) -> list[tuple[str, int]]:
        """The files, as (table, id), for which something has to be done."""
        with self.read() as connection:
            return list(
                connection.execute(
                    sa.select(PENDING.c.name, PENDING.c.id).distinct().where(PENDING.c.task == task)
                ).tuples()
            )

    def note_unsaved(self, name: str, oid: int) -> int:
        """Note, until `forget`, that a file has unsaved changes; return the number of this writer."""
        writer = next(self._writers)
        with self.write() as connection:
            _note(connection, "settle", [(name, oid)], writer)
        return writer

    def path(self, name: str, oid: int) -> Path:
        """The path for a row of the table `pixels` or `originalfile`."""
        return (self.pixels_path if name == "pixels" else self.file_path)(oid)

    def pixels_path(self, oid: int) -> Path:
        """The raw file of a Pixels, or of its pyramid if it has one: big-endian, in the order XYZCT, no header."""
        pyramid = self.pyramid_path(oid)
        return pyramid if pyramid.exists() else _numbered(self.folder / "Pixels", oid)

    def pyramid_path(self, oid: int) -> Path:
        """The file of the pyramid of a Pixels with large planes."""
        plain = _numbered(self.folder / "Pixels", oid)
        return plain.with_name(plain.name + PYRAMID)

    def file_path(self, oid: int) -> Path:
        """The file of an OriginalFile."""
        return _numbered(self.folder / "Files", oid)

    def close(self) -> None:
        self.engine.dispose()
        self._lock_file.close()


def _note(connection: sa.Connection, task: str, files: list[tuple[str, int]], writer: int = 0) -> None:
    connection.execute(
        PENDING.insert(), [{"task": task, "name": name, "id": oid, "writer": writer} for name, oid in files]
    )


def forget(connection: sa.Connection, task: str, files: list[tuple[str, int]], writer: int | None = None) -> None:
    """Delete the note about a file, of one writer or of all, in this transaction."""
    wanted = [
        PENDING.c.task == task,
        PENDING.c.name == sa.bindparam("its_name"),
        PENDING.c.id == sa.bindparam("its_id"),
    ]
    if writer is not None:
        wanted.append(PENDING.c.writer == writer)
    connection.execute(PENDING.delete().where(*wanted), [{"its_name": name, "its_id": oid} for name, oid in files])


def _numbered(root: Path, oid: int) -> Path:
    """OMERO's layout, with at most 1000 entries per folder: `<id>`, `Dir-001/<id>`, `Dir-001/Dir-234/<id>`."""
    folders: list[str] = []
    rest = oid // 1000
    while rest:
        folders.insert(0, f"Dir-{rest % 1000:03d}")
        rest //= 1000
    return root.joinpath(*folders, str(oid))


def _on_connect(connection, _record) -> None:
    connection.isolation_level = None  # _on_begin starts the transactions
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        "case_sensitive_like = ON",
        "cache_size = -16384",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")
    connection.set_progress_handler(limits.must_stop, limits.STEPS)
    sql_functions.register(connection)


def _on_begin(connection: sa.Connection) -> None:
    writer = connection.get_execution_options().get("writer", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")


_OF_ACCOUNTS = re.compile(r'(INSERT INTO|UPDATE|DELETE FROM) "?(experimenter|groupexperimentermap)')


def _on_statement(connection: sa.Connection, _cursor, statement: str, *_) -> None:
    """Note that a transaction changes users, groups or memberships."""
    if _OF_ACCOUNTS.match(statement):
        connection.info["accounts"] = True


class HashedFile:
    """A file whose SHA-1 is computed while it is written, as long as the writes follow each other from its start.

    The rest of the file is read when the hash is needed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sha1, self._length = hashlib.sha1(), 0  # of this many bytes from the start

    def write(self, file: int, data: bytes | memoryview, offset: int) -> None:
        with self._lock:
            if offset < self._length:
                self._sha1, self._length = hashlib.sha1(), 0
            write_at(file, data, offset)
            if offset == self._length:
                self._sha1.update(data)
                self._length += len(data)

    def digest(self, file: int) -> bytes:
        """The SHA-1 of the whole file."""
        with self._lock:
            sha1, offset = self._sha1.copy(), self._length
            while part := os.pread(file, BLOCK, offset):
                sha1.update(part)
                offset += len(part)
            return sha1.digest()


def write_at(file: int, data: bytes | memoryview, offset: int) -> None:
    """Write all bytes at an offset of an open file. One system call writes 2 GB at most."""
    rest = memoryview(data)
    while rest:
        done = os.pwrite(file, rest, offset)
        rest, offset = rest[done:], offset + done
