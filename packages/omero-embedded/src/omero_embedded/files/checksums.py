"""The checksum algorithms of OMERO's enumeration, as hexadecimal text."""
from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

_BLOCK = 1 << 20
_MASK32, _MASK64 = (1 << 32) - 1, (1 << 64) - 1


def file_checksum(algorithm: str, path: Path) -> str:
    """The checksum of a file's bytes by one of the values of ChecksumAlgorithm, such as `SHA1-160`."""
    if algorithm in _HASHLIB:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, _HASHLIB[algorithm]).hexdigest()
    return _OTHERS[algorithm](path)


def _blocks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _rolling(function: Callable[[bytes, int], int], start: int) -> Callable[[Path], str]:
    def checksum(path: Path) -> str:
        value = start
        for block in _blocks(path):
            value = function(block, value)
        return value.to_bytes(4, "little").hex()
    return checksum


def _file_size(path: Path) -> str:
    return path.stat().st_size.to_bytes(8, "little").hex()


def murmur3_32(data: bytes) -> str:
    """MurmurHash3 x86_32 with seed 0, as its bytes (Austin Appleby's reference, public domain)."""
    value, rest = 0, data[len(data) & ~3:]
    for i in range(0, len(data) & ~3, 4):
        value ^= _mix32(int.from_bytes(data[i:i + 4], "little"))
        value = (_rotate(value, 13, 32) * 5 + 0xE6546B64) & _MASK32
    value ^= _mix32(int.from_bytes(rest, "little")) ^ len(data)
    value = ((value ^ value >> 16) * 0x85EBCA6B) & _MASK32
    value = ((value ^ value >> 13) * 0xC2B2AE35) & _MASK32
    return (value ^ value >> 16).to_bytes(4, "little").hex()


def _mix32(block: int) -> int:
    return (_rotate((block * 0xCC9E2D51) & _MASK32, 15, 32) * 0x1B873593) & _MASK32


def murmur3_128(data: bytes) -> str:
    """MurmurHash3 x64_128 with seed 0, as its bytes (Austin Appleby's reference, public domain)."""
    one = two = 0
    whole = len(data) & ~15
    for i in range(0, whole, 16):
        one ^= _mix64(int.from_bytes(data[i:i + 8], "little"), 31, _C1, _C2)
        one = ((_rotate(one, 27, 64) + two) * 5 + 0x52DCE729) & _MASK64
        two ^= _mix64(int.from_bytes(data[i + 8:i + 16], "little"), 33, _C2, _C1)
        two = ((_rotate(two, 31, 64) + one) * 5 + 0x38495AB5) & _MASK64
    rest = data[whole:]
    two ^= _mix64(int.from_bytes(rest[8:], "little"), 33, _C2, _C1) ^ len(data)
    one ^= _mix64(int.from_bytes(rest[:8], "little"), 31, _C1, _C2) ^ len(data)
    one = (one + two) & _MASK64
    two = (two + one) & _MASK64
    one, two = _finish64(one), _finish64(two)
    one = (one + two) & _MASK64
    two = (two + one) & _MASK64
    return (one.to_bytes(8, "little") + two.to_bytes(8, "little")).hex()


_C1, _C2 = 0x87C37B91114253D5, 0x4CF5AD432745937F


def _mix64(block: int, by: int, first: int, second: int) -> int:
    return (_rotate((block * first) & _MASK64, by, 64) * second) & _MASK64


def _finish64(value: int) -> int:
    value = ((value ^ value >> 33) * 0xFF51AFD7ED558CCD) & _MASK64
    value = ((value ^ value >> 33) * 0xC4CEB9FE1A85EC53) & _MASK64
    return value ^ value >> 33


def _rotate(value: int, by: int, bits: int) -> int:
    return (value << by | value >> bits - by) & ((1 << bits) - 1)


_HASHLIB = {"MD5-128": "md5", "SHA1-160": "sha1"}
_OTHERS: dict[str, Callable[[Path], str]] = {
    "Adler-32": _rolling(zlib.adler32, 1), "CRC-32": _rolling(zlib.crc32, 0), "File-Size-64": _file_size,
    "Murmur3-32": lambda path: murmur3_32(path.read_bytes()),
    "Murmur3-128": lambda path: murmur3_128(path.read_bytes()),
}
