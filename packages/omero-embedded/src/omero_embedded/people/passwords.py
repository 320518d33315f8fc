"""Passwords, stored as salted scrypt hashes in a table of their own and compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import secrets

import sqlalchemy as sa

SIDE = sa.MetaData()  # tables that are not part of OMERO's model
PASSWORD = sa.Table(
    "password",
    SIDE,
    sa.Column("experimenter", sa.Integer, primary_key=True),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)
_COST = {"n": 1 << 14, "r": 8, "p": 1}  # 16 MB and tens of milliseconds for each guess
MOST_HASHED = 10_000
_HASHED: dict[bytes, bytes] = {}  # hashes, by what only this process can make of a salt and a password
_KEY = secrets.token_bytes(32)
_NOBODY = (secrets.token_bytes(16), secrets.token_bytes(64))


def set_password(connection: sa.Connection, user: int, password: str) -> None:
    """Set a user's password."""
    salt = secrets.token_bytes(16)
    connection.execute(PASSWORD.delete().where(PASSWORD.c.experimenter == user))
    connection.execute(PASSWORD.insert().values(experimenter=user, salt=salt, hash=_hash(password, salt)))


def remove_password(connection: sa.Connection, user: int) -> None:
    """Remove a user's password, so that none logs the user in."""
    connection.execute(PASSWORD.delete().where(PASSWORD.c.experimenter == user))


def has_password(connection: sa.Connection, user: int) -> bool:
    """Whether a user has a password, and can log in with it."""
    found = connection.execute(sa.select(PASSWORD.c.salt).where(PASSWORD.c.experimenter == user)).first()
    return found is not None


def is_password(connection: sa.Connection, user: int | None, password: str) -> bool:
    """Whether a password is the user's. It takes as long for a missing user; an empty password is always wrong."""
    row = connection.execute(sa.select(PASSWORD.c.salt, PASSWORD.c.hash).where(PASSWORD.c.experimenter == user)).first()
    salt, stored = row or _NOBODY
    same = hmac.compare_digest(_hash(password, salt), stored)
    return same and row is not None and password != ""


def _hash(password: str, salt: bytes) -> bytes:
    """Hash a password. It is slow for the first time only, because tests log in as the same users again and again."""
    key = hmac.digest(_KEY, salt + password.encode(), "sha256")
    if key not in _HASHED:
        if len(_HASHED) >= MOST_HASHED:
            _HASHED.clear()
        _HASHED[key] = hashlib.scrypt(password.encode(), salt=salt, **_COST)
    return _HASHED[key]
