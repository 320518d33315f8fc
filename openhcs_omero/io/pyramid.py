"""Images at several sizes: each level is half as large as the one before, for viewers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

SMALLEST = 256  # px; images are halved until their longer side is at most this
LARGEST_CHUNK = 2048  # px; larger planes are stored in tiles
TILE = 1024  # px


def shapes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shapes (Y, X) of a plane at all levels, the full size first."""
    found = [shape]
    while max(found[-1]) > SMALLEST:
        found.append(tuple((side + 1) // 2 for side in found[-1]))
    return found


def halved(pixels: np.ndarray) -> np.ndarray:
    """Halve the size of planes, (..., Y, X): means of 2 x 2 pixels, rounded half to even. An odd edge is repeated."""
    odd = [side % 2 for side in pixels.shape[-2:]]
    if any(odd):
        pixels = np.pad(pixels, [(0, 0)] * (pixels.ndim - 2) + [(0, side) for side in odd], mode="edge")
    integers = pixels.dtype.kind in "iu"
    if not integers or pixels.dtype.itemsize > 4:
        quarters = [pixels[..., y::2, x::2] for y in (0, 1) for x in (0, 1)]
        mean = np.mean(np.stack(quarters), axis=0, dtype=np.float64)
        return (np.rint(mean) if integers else mean).astype(pixels.dtype)
    wide: type[np.signedinteger] = np.int32 if pixels.dtype.itemsize < 4 else np.int64
    rows = np.add(pixels[..., ::2, :], pixels[..., 1::2, :], dtype=wide)
    total = np.asarray(rows[..., ::2] + rows[..., 1::2])
    # a quarter of the sum, rounded half to even: 1 is added before halving twice, and once more if the result is odd
    total += ((total >> 2) & 1) + 1
    total >>= 2
    return total.astype(pixels.dtype)


def write_levels(folder: Path, pixels: np.ndarray, axes: tuple[str, ...]) -> list[np.ndarray]:
    """Write an image at all sizes, as the Zarr arrays 0, 1, ... of a folder.

    Parameters
    ----------
    folder
        Folder of the image's group.
    pixels
        (T, C, Z, Y, X).
    axes
        Names of the axes.

    Returns
    -------
    list of ndarray
        The pixels of all levels.
    """
    import zarr
    from zarr.codecs import BloscCodec

    levels = list(_levels(pixels))
    for number, level in enumerate(levels):
        tile = tuple(side if side <= LARGEST_CHUNK else TILE for side in level.shape[3:])
        array = zarr.create_array(
            folder / str(number),
            shape=level.shape,
            chunks=(1, 1, 1, *tile),
            dtype=level.dtype,
            compressors=BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=level.dtype.itemsize),
            fill_value=0,
            dimension_names=list(axes),
            config={"write_empty_chunks": True},  # a plane that is black is there all the same
        )
        array[...] = level
    return levels


def _levels(pixels: np.ndarray) -> Iterator[np.ndarray]:
    yield pixels
    for _ in shapes(pixels.shape[3:])[1:]:
        pixels = halved(pixels)
        yield pixels
