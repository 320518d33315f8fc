"""Passwords: kept as salted scrypt hashes in a table of their own, compared in constant time."""
from __future__ import annotations

import hashlib
import hmac
import secrets

import sqlalchemy as sa

SIDE = sa.MetaData()  # tables that are no part of the OMERO model
PASSWORD = sa.Table(
    "password", SIDE,
    sa.Column("experimenter", sa.Integer, primary_key=True),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False))
_COST = {"n": 1 << 14, "r": 8, "p": 1}  # 16 MB and some tens of milliseconds a guess
_NOBODY = (secrets.token_bytes(16), secrets.token_bytes(64))


def set_password(connection: sa.Connection, user: int, password: str) -> None:
    """Keep a user's new password."""
    salt = secrets.token_bytes(16)
    connection.execute(PASSWORD.delete().where(PASSWORD.c.experimenter == user))
    connection.execute(PASSWORD.insert().values(experimenter=user, salt=salt, hash=_hash(password, salt)))


def has_password(connection: sa.Connection, user: int) -> bool:
    """Whether a user can log in by any password."""
    found = connection.execute(sa.select(PASSWORD.c.salt).where(PASSWORD.c.experimenter == user)).first()
    return found is not None


def is_password(connection: sa.Connection, user: int | None, password: str) -> bool:
    """Whether a password is the user's; as much work for a user who doesn't exist, and never true of an empty one."""
    row = connection.execute(sa.select(PASSWORD.c.salt, PASSWORD.c.hash).where(PASSWORD.c.experimenter == user)).first()
    salt, stored = row or _NOBODY
    same = hmac.compare_digest(_hash(password, salt), stored)
    return same and row is not None and password != ""


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, **_COST)
