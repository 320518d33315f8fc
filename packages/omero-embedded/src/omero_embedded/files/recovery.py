"""Files that were written and not saved, by a client that died or before a kill: their rows are made to agree.

Size and hash of a saved file are true of its bytes. A client may go on writing after a save, and may never come to the
next one; what it wrote stays, as each of its writes was acknowledged, and the row then says what is there.
"""
from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from omero_embedded.files.checksums import file_checksum
from omero_embedded.files.store import JOURNAL, Store, forget

TABLES = "OMERO.tables"  # the mimetype of tables' files
UNSAVED = "Pending..."  # the sha1 of pixels that were never saved
SHA1 = "SHA1-160"


def settle_all(store: Store) -> None:
    """Settle what the last run of the server left unsaved."""
    for name, oid in store.pending("settle"):
        settle(store, name, oid)


def settle(store: Store, name: str, oid: int, writer: int | None = None) -> None:
    """Let the row of a file, in the table `pixels` or `originalfile`, be true of it, after one writer or after all."""
    table = store.schema.metadata.tables[name]
    with store.read() as connection:
        row = connection.execute(sa.select(table).where(table.c.id == oid)).mappings().first()
        values = {} if row is None else _found(store, connection, name, dict(row))
    with store.write() as connection:
        if values:
            connection.execute(table.update().where(table.c.id == oid).values(**values))
        forget(connection, "settle", [(name, oid)], writer)


def _found(store: Store, connection: sa.Connection, name: str, row: dict) -> dict:
    """What a row should say of its file, instead of what it does say; where it says nothing it goes on so."""
    path = store.path(name, row["id"])
    if not path.exists():
        return {}
    if name == "pixels":
        return {} if row["sha1"] == UNSAVED else {"sha1": file_checksum(SHA1, path)}
    if row["mimetype"] == TABLES:
        _roll_back(path)
    values: dict = {} if row["size"] is None else {"size": path.stat().st_size}
    if row["hash"] is not None and row["hasher"] is not None:
        hashers = store.schema["ChecksumAlgorithm"].table
        algorithm = connection.execute(sa.select(hashers.c.value).where(hashers.c.id == row["hasher"])).scalar_one()
        values["hash"] = file_checksum(algorithm, path)
    return values


def _roll_back(path: Path) -> None:
    """Let SQLite undo a write to a table that was cut short, and take the write's journal away."""
    journal = path.with_name(path.name + JOURNAL)
    if not path.stat().st_size:
        journal.unlink(missing_ok=True)
        return
    try:
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            connection.execute("select count(*) from sqlite_master").fetchone()
            if journal.exists():  # it had only begun: nothing to undo, and the next write takes it away
                connection.execute("pragma user_version = 1")
    except sqlite3.DatabaseError:
        pass  # bytes of something else, uploaded as a table
