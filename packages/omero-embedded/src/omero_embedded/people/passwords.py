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
MOST_KNOWN = 10_000
_KNOWN: dict[bytes, bytes] = {}  # hashes of right passwords, by what only this process can make of salt and password
_KEY = secrets.token_bytes(32)
_NOBODY = (secrets.token_bytes(16), secrets.token_bytes(64))


def set_password(connection: sa.Connection, user: int, password: str) -> None:
    """Set a user's password."""
    salt = secrets.token_bytes(16)
    hashed = _hash(password, salt)
    connection.execute(PASSWORD.delete().where(PASSWORD.c.experimenter == user))
    connection.execute(PASSWORD.insert().values(experimenter=user, salt=salt, hash=hashed))
    _remember(password, salt, hashed)


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
    hashed = _KNOWN.get(_key(password, salt)) or _hash(password, salt)
    same = hmac.compare_digest(hashed, stored) and row is not None and password != ""
    if same:
        _remember(password, salt, hashed)
    return same


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, **_COST)


def _key(password: str, salt: bytes) -> bytes:
    return hmac.digest(_KEY, salt + password.encode(), "sha256")


def _remember(password: str, salt: bytes, hashed: bytes) -> None:
    """Let the next login with a right password be quick: tests log in as the same users again and again.

    Wrong passwords stay slow. If they did not, the time of an answer would tell which users there are.
    """
    if len(_KNOWN) >= MOST_KNOWN:
        _KNOWN.clear()
    _KNOWN[_key(password, salt)] = hashed
