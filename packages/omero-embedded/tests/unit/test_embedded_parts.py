"""Parts of the embedded server that need no server: checksums, the layout of pixels, passwords."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("omero")
pytest.importorskip("sqlalchemy")

import omero
import sqlalchemy as sa
from omero_embedded import services
from omero_embedded.files.checksums import file_checksum
from omero_embedded.people.passwords import SIDE, has_password, is_password, set_password
from omero_embedded.services import registry
from omero_embedded.services.rawpixels import Layout

# -- checksums ---------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=100))
def test_checksums_are_those_of_their_algorithms(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(data)
    assert file_checksum("SHA1-160", path) == hashlib.sha1(data).hexdigest()
    assert file_checksum("MD5-128", path) == hashlib.md5(data).hexdigest()
    assert bytes.fromhex(file_checksum("CRC-32", path))[::-1] == zlib.crc32(data).to_bytes(4)
    assert bytes.fromhex(file_checksum("Adler-32", path))[::-1] == zlib.adler32(data).to_bytes(4)
    assert int.from_bytes(bytes.fromhex(file_checksum("File-Size-64", path)), "little") == len(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [  # published vectors of MurmurHash3, seed 0
        (b"", 0x00000000),
        (b"test", 0xBA6BD213),
        (b"Hello, world!", 0xC0363E43),
        (b"The quick brown fox jumps over the lazy dog", 0x2E4FF723),
    ],
)
def test_murmur3_of_32_bits(tmp_path, data, expected):
    path = tmp_path / "bytes"
    path.write_bytes(data)
    assert int.from_bytes(bytes.fromhex(file_checksum("Murmur3-32", path)), "little") == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", "00" * 16), (b"The quick brown fox jumps over the lazy dog", "6c1b07bc7bbc4be347939ac4a93c437a")],
)
def test_murmur3_of_128_bits(tmp_path, data, expected):
    path = tmp_path / "bytes"
    path.write_bytes(data)
    assert file_checksum("Murmur3-128", path) == expected


# -- the layout of pixels ----------------------------------------------------------------------------------------------

sizes = st.integers(1, 4)


@given(sizes, sizes, sizes, sizes, sizes, st.sampled_from([1, 2, 4, 8]), st.data())
def test_offsets_are_those_of_a_block_in_the_order_tczyx(x, y, z, c, t, width, data):
    layout = Layout(x, y, z, c, t, width)
    block = np.arange(layout.total // width).reshape(t, c, z, y, x)
    at = [data.draw(st.integers(0, size - 1)) for size in (t, c, z, y)]
    assert layout.offset(at[3], at[2], at[1], at[0]) == block[tuple(at)][0] * width


@given(st.integers(-3, 6), st.integers(-3, 6), st.integers(-3, 6), st.integers(-3, 6))
def test_what_is_out_of_range_is_refused(y, z, c, t):
    layout = Layout(2, 3, 2, 3, 2, 1)
    if 0 <= y < 3 and 0 <= z < 2 and 0 <= c < 3 and 0 <= t < 2:
        assert 0 <= layout.offset(y, z, c, t) <= layout.total - layout.row
    else:
        with pytest.raises(omero.ApiUsageException):
            layout.offset(y, z, c, t)


# -- passwords ---------------------------------------------------------------------------------------------------------


def test_a_password_is_stored_as_a_salted_hash():
    with sa.create_engine("sqlite://").connect() as connection:
        SIDE.create_all(connection)
        assert not has_password(connection, 7)
        assert not is_password(connection, 7, "")
        set_password(connection, 7, "grün")
        set_password(connection, 8, "grün")
        stored = connection.exec_driver_sql("select * from password").all()
        assert len({row.hash for row in stored}) == len({row.salt for row in stored}) == 2
        assert is_password(connection, 7, "grün") and not is_password(connection, 7, "Grün")
        set_password(connection, 7, "new")
        assert is_password(connection, 7, "new") and not is_password(connection, 7, "grün")
        assert not is_password(connection, None, "new")


def test_only_a_right_password_is_quick(monkeypatch):
    """Otherwise, the time of a second guess would tell whether there is such a user."""
    hashed = []
    scrypt = hashlib.scrypt
    monkeypatch.setattr(hashlib, "scrypt", lambda *args, **options: hashed.append(1) or scrypt(*args, **options))
    with sa.create_engine("sqlite://").connect() as connection:
        SIDE.create_all(connection)
        set_password(connection, 7, "right")
        for user, password, slow in ((7, "right", 0), (7, "wrong", 1), (None, "wrong", 1), (None, "right", 1)):
            for _ in range(2):
                hashed.clear()
                is_password(connection, user, password)
                assert len(hashed) == slow


# -- what a fresh server needs -----------------------------------------------------------------------------------------


def test_the_modules_of_services_are_those_that_register_them():
    """Each service is found without importing the others."""
    found = {}
    for path in Path(services.__file__).parent.glob("*.py"):
        for interface in re.findall(r'^@service\("(.+)"\)$', path.read_text(), re.MULTILINE):
            found[interface] = path.stem
    assert found == registry.MODULES
    assert registry.service_class("::omero::api::IQuery").__name__ == "QueryService"
    assert registry.service_class("::omero::api::Nothing") is None


def test_a_fresh_server_has_not_imported_what_only_pixels_and_tables_need():
    code = "import sys, omero_embedded.ice.server; print(*{'numpy', 'numexpr', 'PIL', 'lark'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
