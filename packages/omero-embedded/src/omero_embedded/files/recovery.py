"""Recovery of files that were written and not saved, because a client or the server died: their rows are corrected.

A save makes size and hash of the row agree with the file. A client may write more after a save, and never save again.
Its writes were acknowledged, so they stay, and the row is corrected.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from omero_embedded.files.checksums import file_checksum
from omero_embedded.files.store import JOURNAL, Store, forget

TABLES = "OMERO.tables"  # the mimetype of tables
UNSAVED = "Pending..."  # the sha1 of pixels that were never saved
SHA1 = "SHA1-160"


def settle_all(store: Store) -> None:
    """Correct the rows of all files that the last run of the server left unsaved."""
    for name, oid in store.pending("settle"):
        settle(store, name, oid)


def settle(store: Store, name: str, oid: int, writer: int | None = None) -> None:
    """Correct the row of a file in the table `pixels` or `originalfile`, after one of its writers or all of them."""
    table = store.schema.metadata.tables[name]
    with store.read() as connection:
        row = connection.execute(sa.select(table).where(table.c.id == oid)).mappings().first()
        values = {} if row is None else _found(store, connection, name, dict(row))
    with store.write() as connection:
        if values:
            connection.execute(table.update().where(table.c.id == oid).values(**values))
        forget(connection, "settle", [(name, oid)], writer)


def _found(store: Store, connection: sa.Connection, name: str, row: dict) -> dict:
    """The corrected values of a row about its file; values that are null stay null."""
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
    """Let SQLite undo an interrupted write to a table, and remove its journal."""
    journal = path.with_name(path.name + JOURNAL)
    if not path.stat().st_size:
        journal.unlink(missing_ok=True)
        return
    try:
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            connection.execute("select count(*) from sqlite_master").fetchone()
            if journal.exists():  # the write had only begun: there is nothing to undo, and the next write removes it
                connection.execute("pragma user_version = 1")
    except sqlite3.DatabaseError:
        pass  # other bytes, which were uploaded as a table
