"""Secrets in the environment, such as OMERO_PASSWORD: read once, removed from there, and kept in this process."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

VARIABLE = "OMERO_PASSWORD"
_kept: dict[str, str] = {}


def read(variable: str = VARIABLE) -> str:
    """The secret in a variable, by default the password in OMERO_PASSWORD; "" where none was set.

    The variable is removed from `os.environ`, so that no child inherits it, and overwritten in the memory that the
    process was started with, which the system shows to every process of the same user as ``/proc/<pid>/environ``.
    A secret that is set later replaces an earlier one.
    """
    if variable in os.environ:
        value = os.environ[variable]
        _overwrite(variable, len(os.fsencode(value)))
        del os.environ[variable]
        _kept[variable] = value
    return _kept.get(variable, "")


def forget() -> None:
    """Forget the password that was read."""
    _kept.pop(VARIABLE, None)


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a process that this one starts: without the password, with `extra`."""
    read()
    return {**os.environ, **(extra or {})}


def _overwrite(name: str, length: int) -> None:
    """Overwrite the value of a variable of `length` bytes with zeros, where the system keeps it."""
    getenv = ctypes.CDLL(None).getenv
    getenv.argtypes, getenv.restype = [ctypes.c_char_p], ctypes.c_void_p
    address = getenv(name.encode())
    if address and ctypes.string_at(address) == os.environb[name.encode()]:
        ctypes.memset(address, 0, length)
