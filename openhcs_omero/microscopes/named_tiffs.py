"""Folders of TIFFs whose names say which plane each of them is."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from openhcs_omero.errors import OpenHCSError, PlateError
from openhcs_omero.plates.filenames import (
    _THUMBNAIL,
    _TIFF,
    _arrange,
    _parse_names,
)
from openhcs_omero.plates.image import storable


@dataclass(frozen=True)
class Layout:
    """Which file holds which plane.

    Parameters
    ----------
    files
        By well (row, column, from 0), site (from 1) and plane (t, c, z, from 0).
    channels
        Names of the channels; None where one has none.
    shape
        (T, C, Z, Y, X) of every site.
    dtype
        Of every file.
    pixel_size
        (z, y, x) in micrometres; None where it is not known.
    load
        Reads a file's plane; None for TIFFs.
    """

    files: dict[tuple[int, int], dict[int, dict[tuple[int, int, int], Path]]]
    channels: tuple[str | None, ...]
    shape: tuple[int, int, int, int, int]
    dtype: np.dtype
    pixel_size: tuple[float | None, float | None, float | None] = (None, None, None)
    load: Callable[[Path], np.ndarray] | None = None

    @property
    def sites(self) -> int:
        return sum(len(sites) for sites in self.files.values())


def scan(folder: Path, pattern: str | None = None) -> Layout:
    """Find out which file holds which plane, and check all of them; raises as `import_folder` does."""
    if not folder.is_dir():
        raise PlateError(f"{folder} is not a folder")
    paths = sorted(path for path in folder.iterdir()
                   if path.is_file() and _TIFF.search(path.name) and not _THUMBNAIL.search(path.name))
    if not paths:
        raise PlateError(f"there is no TIFF in {folder}")
    named = _parse_names(paths, pattern)
    files, channels = _arrange(named)
    t, c, z, y, x, dtype = *_extent(files), *_common_size(paths)
    storable(np.zeros((1, 1, 1, y, x), dtype), paths[0].name)
    return Layout(files, channels, (t, c, z, y, x), dtype)


def _extent(files: Mapping) -> tuple[int, int, int]:
    """Numbers of timepoints, channels and z planes."""
    planes = next(iter(next(iter(files.values())).values()))
    t, c, z = (1 + max(plane[axis] for plane in planes) for axis in range(3))
    return t, c, z


def _common_size(paths: list[Path]) -> tuple[int, int, np.dtype]:
    """Height, width and dtype that all files have."""
    first = None
    for path in paths:
        size = _header(path)
        first = first or size
        if size != first:
            raise PlateError(f"the files differ in size or type: {paths[0].name} is {_size(first)}, {path.name} is "
                             f"{_size(size)}; a plate has images of one size and type")
    assert first is not None
    return first


def _size(size: tuple[int, int, np.dtype]) -> str:
    return f"{size[1]} x {size[0]} {size[2].name}"


def _header(path: Path) -> tuple[int, int, np.dtype]:
    """Height, width and dtype of a TIFF of one plane, all of whose bytes are there."""
    try:
        with tifffile.TiffFile(path) as tiff:
            if len(tiff.pages) != 1:
                raise PlateError(f"{path.name} has {len(tiff.pages)} planes; a file of one plane is expected")
            page: Any = tiff.pages[0]
            if len(page.shape) != 2 or page.dtype is None:
                raise PlateError(f"{path.name} is no grey image: its shape is {page.shape}")
            end = max(o + n for o, n in zip(page.dataoffsets, page.databytecounts))
            if end > path.stat().st_size or not sum(page.databytecounts):
                raise PlateError(f"{path.name} is cut short: {path.stat().st_size} bytes of {end}")
            if page.compression != tifffile.COMPRESSION.NONE:  # whether it can be read shows only in reading it
                page.asarray()
            return page.shape[0], page.shape[1], page.dtype.newbyteorder("=")
    except PlateError:
        raise
    except Exception as error:  # tifffile raises what its decoders raise
        raise PlateError(f"{path.name} can't be read as a TIFF: {error}") from None


def _read(path: Path, layout: Layout) -> np.ndarray:
    try:
        plane = layout.load(path) if layout.load else tifffile.imread(path)
    except OpenHCSError:
        raise
    except Exception as error:
        raise PlateError(f"{path.name} can't be read as a TIFF: {error}") from None
    if plane.shape != layout.shape[3:] or plane.dtype.newbyteorder("=") != layout.dtype:
        raise PlateError(f"{path.name} is {plane.shape} {plane.dtype}, but the plate's first file is "
                         f"{layout.shape[3:]} {layout.dtype}: a plate has images of one size and type")
    return plane
