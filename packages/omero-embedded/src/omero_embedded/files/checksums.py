"""The checksum algorithms of OMERO's enumeration ChecksumAlgorithm, as hexadecimal text.

OMERO computes them with Guava, whose hash codes list their bytes from the lowest to the highest.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmh3


def file_checksum(algorithm: str, path: Path) -> str:
    """Compute the checksum of a file.

    Parameters
    ----------
    algorithm
        A value of ChecksumAlgorithm, such as ``SHA1-160``.
    path
        The file.
    """
    if algorithm == "File-Size-64":
        return path.stat().st_size.to_bytes(8, "little").hex()
    with path.open("rb") as file:
        return hashlib.file_digest(file, _HASHES[algorithm]).digest().hex()


class _Rolling:
    """A checksum of zlib with the interface of hashlib's objects."""

    def __init__(self, function: Callable[[Any, int], int], start: int) -> None:
        self._function, self._value = function, start

    def update(self, data: Any) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "little")


_HASHES: dict[str, Callable[[], Any]] = {
    "MD5-128": hashlib.md5,
    "SHA1-160": hashlib.sha1,
    "Adler-32": lambda: _Rolling(zlib.adler32, 1),
    "CRC-32": lambda: _Rolling(zlib.crc32, 0),
    "Murmur3-32": mmh3.mmh3_32,
    "Murmur3-128": mmh3.mmh3_x64_128,
}
