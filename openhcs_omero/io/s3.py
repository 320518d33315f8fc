"""Objects on S3, or on any server that speaks its protocol, by addresses like ``s3://bucket/plate.zarr``.

Credentials, region and endpoint are found as by every client of S3: in the AWS_* environment variables or in ~/.aws.
Without credentials, buckets are read anonymously.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
from typing import TYPE_CHECKING, Any

from openhcs_omero.errors import OpenHCSError
from openhcs_omero.plates.paths import S3

if TYPE_CHECKING:
    import zarr.storage

DOCUMENTS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
LARGEST_DOCUMENT = 20_000_000  # bytes
WAIT = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3, "mode": "standard"}}


def open_s3_store(address: str) -> zarr.storage.FsspecStore:
    """Open the Zarr store at an address."""
    from zarr.abc.store import RangeByteRequest
    from zarr.storage import FsspecStore

    class Store(FsspecStore):
        """Reads no more of a metadata document than a document may have."""

        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            if byte_range is None and key.rpartition("/")[2] in DOCUMENTS:
                byte_range = RangeByteRequest(0, LARGEST_DOCUMENT + 1)
            value = await super().get(key, prototype, byte_range)
            if value is not None and key.rpartition("/")[2] in DOCUMENTS and len(value) > LARGEST_DOCUMENT:
                raise ValueError(f"{key} is too large for a document of metadata")
            return value

    return Store(_client(asynchronous=True), read_only=True, path=address.removeprefix(S3))


def describe_objects(address: str) -> dict[str, tuple[Any, ...]]:
    """The objects below an address, by their paths from there, each with values that change when it is written."""
    prefix = address.removeprefix(S3)
    found = _client(asynchronous=False).find(prefix, detail=True)
    return {name.removeprefix(f"{prefix}/"): (about["size"], about.get("ETag", "")) for name, about in found.items()}


@functools.cache
def _client(asynchronous: bool) -> Any:
    """The client of this process: an asynchronous one for Zarr, or one for direct calls."""
    try:
        import s3fs
    except ImportError:
        raise OpenHCSError("plates on S3 need the package s3fs: pip install 'openhcs-omero[s3]'") from None
    made = s3fs.S3FileSystem(
        anon=not _has_credentials(),
        asynchronous=asynchronous,
        use_listings_cache=False,
        skip_instance_cache=True,
        config_kwargs=WAIT,
    )
    if asynchronous:
        atexit.register(_close, made)
    return made


def _close(client: Any) -> None:
    """End the requests and connections of an asynchronous client, which Python would otherwise complain about."""
    from zarr.core.sync import sync

    async def close() -> None:
        waiting = asyncio.all_tasks() - {asyncio.current_task()}  # requests beside one that failed
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        session = await client.set_session()
        await session.close()

    sync(close())


def forget_clients() -> None:
    """Look for credentials and the endpoint again, when S3 is next used."""
    _client.cache_clear()


def _has_credentials() -> bool:
    from botocore.session import Session

    return Session().get_credentials() is not None
