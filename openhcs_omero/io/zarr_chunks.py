"""Decoding the chunks of Zarr arrays, whoever wrote them, without ending the process or filling the memory.

Codecs in C believe what a chunk says about itself: Blosc reads beyond a chunk that is shorter than its header says, and
any of them makes gigabytes of a few bytes. Here the header is checked, and no chunk becomes larger than the array says.
Arrays with other codecs than these are not read: one of numcodecs (pickle) runs the code that a chunk contains.
"""

from __future__ import annotations

import asyncio
import bz2
import functools
import gzip
import io
import lzma
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs_omero.io.base import BadData

if TYPE_CHECKING:
    import zarr

MOST_CHUNKS = 10**6  # per plane
_SPARE = 2**16  # bytes that checksums and headers add to a chunk, at most
_WIDEST = 16  # times the size of the chunk that a filter of Zarr v2 may make of it
_HEADER = 16  # bytes of Blosc's

# names in Zarr v2, and after "numcodecs." in v3
FILTERS = frozenset(
    {"shuffle", "delta", "fixedscaleoffset", "astype", "quantize", "bitround", "packbits"}
    | {"fletcher32", "crc32", "crc32c", "adler32", "jenkins_lookup3"}
)
V3_CODECS = frozenset({"bytes", "endian", "transpose", "sharding_indexed", "crc32c", "blosc", "gzip", "zstd"})


# ---- what may be read


def open_safely() -> None:
    """Make Zarr decode the chunks of all arrays that this process opens from now on as this module does."""
    import zarr

    pipeline = _pipeline()
    zarr.config.set({"codec_pipeline.path": f"{pipeline.__module__}.{pipeline.__qualname__}"})


def check_array(array: zarr.Array, path: object) -> None:
    """Check that an array can be decoded safely.

    Raises
    ------
    BadData
        If it has a codec that is not read, or far more chunks than any microscope's plane.
    """
    strange = [name for name in _codecs_of(array.metadata.to_dict()) if not _is_read(name)]
    if strange:
        raise BadData(f"{path} is stored with the codec {strange[0].removeprefix('numcodecs.')}, which is not read")
    chunks = math.prod(-(-size // side) for size, side in zip(array.shape[-2:], array.chunks[-2:]) if side)
    if chunks > MOST_CHUNKS:
        raise BadData(f"{path} has {chunks} chunks in each plane, too many to be read")


def _codecs_of(metadata: Mapping[str, Any]) -> Iterator[str]:
    """The names of all codecs in the metadata of an array, also of those inside of shards."""
    if metadata["zarr_format"] == 2:
        for codec in (*(metadata.get("filters") or ()), metadata.get("compressor")):
            if codec is not None:
                yield "numcodecs." + str(codec["id"] if isinstance(codec, Mapping) else codec.codec_id)
        return
    waiting = list(metadata["codecs"])
    while waiting:
        codec = waiting.pop(0)
        yield str(codec["name"])
        settings = codec.get("configuration") or {}
        waiting += [*settings.get("codecs", ()), *settings.get("index_codecs", ())]


def _is_read(name: str) -> bool:
    inner = name.removeprefix("numcodecs.")
    return name in V3_CODECS or (inner != name and inner in {*FILTERS, *_EXPANDERS})


# ---- decoding


def expand(name: str, data: Any, most: int, settings: Mapping[str, Any] | None = None) -> bytes:
    """Decompress a chunk.

    Parameters
    ----------
    name
        Name of the codec in numcodecs.
    data
        The chunk, as bytes or anything with a buffer.
    most
        The number of bytes that the chunk may become.
    settings
        The settings of the codec, of which only LZMA needs some.

    Raises
    ------
    ValueError
        If it becomes more. Codecs raise all kinds of errors for chunks that are damaged otherwise.
    """
    expanded = _EXPANDERS[name](memoryview(np.frombuffer(data, np.uint8).data), most, settings or {})
    if len(expanded) > most:
        raise _too_large(most)
    return expanded


def _too_large(most: int) -> ValueError:
    return ValueError(f"a chunk is damaged: it claims more than {most} bytes, which is more than the array can have")


def _blosc(data: memoryview, most: int, _: Mapping[str, Any]) -> bytes:
    from numcodecs.blosc import Blosc

    claimed, stored = (int.from_bytes(data[at : at + 4], "little") for at in (4, 12))
    if not _HEADER <= stored <= len(data):
        raise ValueError(f"a chunk is damaged or cut: it has {len(data)} bytes, where its header says {stored}")
    if claimed > most:
        raise _too_large(most)
    return Blosc().decode(data)  # type: ignore[no-any-return]


def _lz4(data: memoryview, most: int, _: Mapping[str, Any]) -> bytes:
    from numcodecs.lz4 import LZ4

    if int.from_bytes(data[:4], "little") > most:
        raise _too_large(most)
    return LZ4().decode(data)  # type: ignore[no-any-return]


def _zstd(data: memoryview, most: int, _: Mapping[str, Any]) -> bytes:
    import imagecodecs  # numcodecs takes as much memory as a chunk claims to need

    return bytes(imagecodecs.zstd_decode(data.tobytes(), out=most))


def _lzma(data: memoryview, most: int, settings: Mapping[str, Any]) -> bytes:
    form, filters = settings.get("format", lzma.FORMAT_XZ), settings.get("filters")
    return lzma.LZMAFile(io.BytesIO(data), format=form, filters=filters).read(most + 1)


_EXPANDERS: dict[str, Callable[[memoryview, int, Mapping[str, Any]], bytes]] = {
    "blosc": _blosc,
    "lz4": _lz4,
    "zstd": _zstd,
    "lzma": _lzma,
    "gzip": lambda data, most, _: gzip.GzipFile(fileobj=io.BytesIO(data)).read(most + 1),
    "zlib": lambda data, most, _: zlib.decompressobj().decompress(data, most + 1),
    "bz2": lambda data, most, _: bz2.BZ2File(io.BytesIO(data)).read(most + 1),
}


@functools.cache
def _pipeline() -> type:
    """The class that Zarr decodes chunks with."""
    from numcodecs.compat import ensure_contiguous_ndarray
    from zarr.abc.codec import BytesBytesCodec
    from zarr.codecs._v2 import V2Codec
    from zarr.core.codec_pipeline import BatchedCodecPipeline
    from zarr.registry import register_pipeline

    def size_of(spec: Any) -> int:
        return int(math.prod(spec.shape)) * int(spec.dtype.to_native_dtype().itemsize)

    def name_and_settings(codec: BytesBytesCodec) -> tuple[str, Mapping[str, Any]]:
        described: Any = codec.to_dict()
        return described["name"].removeprefix("numcodecs."), described.get("configuration") or {}

    class Expander(BytesBytesCodec):
        """Decodes as a codec of Zarr v3 does."""

        is_fixed_size = False

        def __init__(self, codec: BytesBytesCodec) -> None:
            self.name, self.settings = name_and_settings(codec)

        async def _decode_single(self, data: Any, spec: Any) -> Any:
            most = size_of(spec) + _SPARE
            made = await asyncio.to_thread(expand, self.name, data.as_numpy_array(), most, self.settings)
            return spec.prototype.buffer.from_bytes(made)

        def compute_encoded_size(self, size: int, spec: Any) -> int:
            raise NotImplementedError

    class ExpanderV2(V2Codec):
        """Decodes as the compressor and the filters of an array of Zarr v2 do."""

        async def _decode_single(self, data: Any, spec: Any) -> Any:
            made = await asyncio.to_thread(self._undo, data.as_numpy_array(), _WIDEST * size_of(spec) + _SPARE)
            return await V2Codec(None, None)._decode_single(spec.prototype.buffer.from_array_like(made), spec)

        def _undo(self, data: Any, most: int) -> np.ndarray:
            for codec in (self.compressor, *reversed(self.filters or ())):
                if codec is not None and codec.codec_id in _EXPANDERS:
                    data = expand(codec.codec_id, data, most, codec.get_config())
                elif codec is not None:
                    data = ensure_contiguous_ndarray(codec.decode(data))
            return np.frombuffer(data, np.uint8)

    class SafePipeline(BatchedCodecPipeline):
        """Zarr's pipeline, with another way to decode."""

        async def decode_batch(self, chunk_bytes_and_specs: Iterable[Any]) -> Iterable[Any]:
            first, last = self.array_bytes_codec, []
            if isinstance(first, V2Codec):
                first = ExpanderV2(first.filters, first.compressor)
            for codec in self.bytes_bytes_codecs:
                last.append(Expander(codec) if name_and_settings(codec)[0] in _EXPANDERS else codec)
            plain = BatchedCodecPipeline.from_codecs([*self.array_array_codecs, first, *last])
            return await plain.decode_batch(chunk_bytes_and_specs)

    register_pipeline(SafePipeline)
    return SafePipeline
