"""Plates as OME-Zarr: images in the HCS layout of NGFF 0.5, and results as files beside them.

    <plate>/plate.zarr/A/1/0/0           site 1 of well A01: an array (T, C, Z, Y, X), one chunk per plane
    <plate>/plate.zarr/A/1/0/1 ...       the same at half the size, and so on, for viewers
    <plate>/A01/A01_s001_results.json    files that are neither sites nor planes, as in the disk backend

Paths are the same as in all backends: ``<plate>/A01/A01_s001_z000_c000.tif`` is the first chunk of that array. The
layout is described at https://ngff.openmicroscopy.org/0.5 (plate, well and multiscales metadata), on Zarr v3.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from openhcs_omero.errors import OpenHCSError
from openhcs_omero.io.atomic import delete_folder, replacing
from openhcs_omero.io.base import BadData, FolderBackend, MissingFile, PathLike, on_disk
from openhcs_omero.io.disk import DiskBackend
from openhcs_omero.io.formats import check_image
from openhcs_omero.io.ngff import (
    STORE,
    Index,
    Site,
    StoredImage,
    chunk_of,
    folder_of,
    plane_path,
    position,
    stored_wells,
)
from openhcs_omero.io.planes import Planes, collect
from openhcs_omero.io.pyramid import halved, shapes
from openhcs_omero.io.zarr_chunks import check_array, open_safely
from openhcs_omero.io.zarr_labels import write_labels
from openhcs_omero.plates.image import NewImage, storable
from openhcs_omero.plates.paths import FilePath, PlanePath, SitePath, is_well, parse_inside
from openhcs_omero.plates.structure import Acquisition

if TYPE_CHECKING:
    import zarr

MOST_PLANES, LARGEST_PLANE = 10**7, 2**32  # limits for reading: planes per image, and bytes per plane


class ZarrBackend(FolderBackend):
    """Plates as OME-Zarr; paths are file system paths.

    Several processes may write wells of the same plate. A site can be saved whole or plane by plane. All planes of a
    site must have the same size and type.
    """

    def __init__(self) -> None:
        self._disk = DiskBackend()

    def load(self, path: PathLike) -> Any:
        virtual = _parse(path)
        if isinstance(virtual, FilePath):
            return self._disk.load(path)
        images = _read(_site(virtual))
        missing = sorted((images.indices() if isinstance(virtual, SitePath) else {_index(virtual)}) - images.present())
        if missing or not images.present():
            raise MissingFile(
                f"there is no plane {plane_path(images.site, missing[0])}"
                if missing and isinstance(virtual, SitePath)
                else f"there is no file {path}"
            )
        with _telling(path, "read"):
            pixels = np.asarray(images.array[... if isinstance(virtual, SitePath) else position(_index(virtual))])
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)

    def plane_size(self, path: PathLike) -> tuple[int, int, str]:
        """Height, width and dtype name of a plane, from the metadata of its site."""
        array = _read(_site(_parse(path))).array
        return array.shape[-2], array.shape[-1], array.dtype.name

    def save(self, data: Any, path: PathLike) -> None:
        self.save_batch([data], [path])

    def save_batch(self, items: Sequence[Any], paths: Sequence[PathLike]) -> None:
        """Write several files. All are checked before the first is written. Prefer this for the planes of a site."""
        if len(items) != len(paths):
            raise BadData(f"{len(items)} items can't be saved under {len(paths)} paths: give one path per item")
        sites: dict[Site, Planes | np.ndarray] = {}
        files: list[tuple[Any, PathLike]] = []
        for data, path in zip(items, paths):
            virtual = _parse(path)
            if isinstance(virtual, FilePath):
                files.append((data, path))
            else:
                collect(sites, virtual, check_image(data, path))
        for site, given in sites.items():
            _check(given, site)
        for site, given in sites.items():
            self._disk.ensure_directory(site.plate / site.well)
            with _telling(folder_of(site), "written"), _locked(site.plate):
                _write(site, given)
        for data, path in files:
            self._disk.save(data, path)

    def save_site(self, image: NewImage, path: PathLike) -> list[str]:
        """Write a site as one array, with its channels and pixel size."""
        self.save(storable(image.pixels, image.name), path)
        self.describe(path, image.channel_names, image.colors, image.pixel_size, image.acquisition)
        images = _read(_site(_parse(path)))
        return [plane_path(images.site, index) for index in sorted(images.indices())]

    def save_labels(self, image: NewImage, path: PathLike) -> list[Path]:
        """Write the labels into the group of the site's image."""
        site = _site(_parse(path))
        with _locked(site.plate), _telling(path, "written"):
            levels = len(_read(site).levels)
            return write_labels(folder_of(site), site.plate, image.labels, levels, image.pixel_size)

    def describe(
        self,
        path: PathLike,
        channel_names: Sequence[str | None],
        colors: Sequence[tuple[int, int, int] | None],
        pixel_size: tuple[float | None, float | None, float | None],
        acquisition: int | None = None,
    ) -> None:
        """Record a site's channel names, colors, pixel size and acquisition where viewers look for them.

        Saving the site again removes them.

        Parameters
        ----------
        path
            Path of the site.
        channel_names, colors
            One per channel, or none at all; a color is (red, green, blue).
        pixel_size
            (z, y, x) in micrometers.
        acquisition
            Id of the acquisition that the site is of; None if it has none.
        """
        from openhcs_omero.io import ngff_metadata

        site = _site(_parse(path))
        with _locked(site.plate), _telling(path, "written"):
            images = _read(site)
            smallest = np.asarray(_open(images.levels[-1])[...])
            names = channel_names or [None] * images.array.shape[1]
            channels = ngff_metadata.describe_channels(smallest, names, colors)
            levels, named_t = len(images.levels), images.named_t
            ngff_metadata.write_image(folder_of(site), site.name, levels, named_t, pixel_size, channels, acquisition)
            if acquisition is not None:
                ngff_metadata.describe_plate(site.plate, site.well)

    def list_acquisitions(self, directory: PathLike, acquisitions: Sequence[Acquisition]) -> None:
        from openhcs_omero.io import ngff_metadata

        with _locked(on_disk(directory)), _telling(directory, "written"):
            ngff_metadata.describe_plate(Path(directory), acquisitions=acquisitions)

    def file_of(self, path: PathLike) -> Path:
        """The file on disk that contains a plane or a file; MissingFile if there is none."""
        virtual = _parse(path)
        if isinstance(virtual, SitePath):
            raise BadData(f"{path} is a site, which is in several files")
        file = (
            Path(path) if isinstance(virtual, FilePath) else chunk_of(_read(_site(virtual)).levels[0], _index(virtual))
        )
        if not file.exists():
            raise MissingFile(f"there is no file {path}")
        return file

    def list_files(self, directory: PathLike) -> list[str]:
        top = on_disk(directory)
        if not top.is_dir():
            raise MissingFile(f"there is no directory {directory}")
        found = _planes_below(top.parent, top.name) if is_well(top.name) else []
        for folder, folders, names in os.walk(top):
            if STORE in folders:
                found += _planes_below(Path(folder))
            folders[:] = [name for name in folders if name != STORE and not name.startswith(".")]
            paths = [os.path.join(folder, name) for name in names if not name.startswith(".")]
            found += [path for path in paths if isinstance(_parsed(path), FilePath)]
        return sorted(found)

    def exists(self, path: PathLike) -> bool:
        if self._disk.exists(path) and Path(path).is_dir():
            return True
        virtual = _parsed(path)
        if virtual is None or isinstance(virtual, FilePath):
            return virtual is not None and self._disk.exists(path)
        with contextlib.suppress(MissingFile):
            present = _read(_site(virtual)).present()
            return bool(present) if isinstance(virtual, SitePath) else _index(virtual) in present
        return False

    def delete(self, path: PathLike) -> None:
        from openhcs_omero.io import ngff_metadata

        virtual = _parse(path)
        if isinstance(virtual, FilePath):
            self._disk.delete(path)
            return
        site = _site(virtual)
        with _locked(site.plate):
            images = _read(site)
            doomed = images.present() if isinstance(virtual, SitePath) else {_index(virtual)}
            if not doomed or not doomed <= images.present():
                raise MissingFile(f"there is no file {path}")
            with _telling(path, "deleted"):
                if doomed == images.present():
                    delete_folder(folder_of(site))
                    for folder in folder_of(site).parents[:3]:  # the well, the row and the store, if now empty
                        if not any(path.is_dir() for path in folder.iterdir()):
                            delete_folder(folder)
                    ngff_metadata.describe_plate(site.plate, site.well)
                else:
                    for level, index in itertools.product(images.levels, doomed):
                        chunk_of(level, index).unlink()

    def ensure_directory(self, directory: PathLike) -> None:
        self._disk.ensure_directory(directory)


# ---- paths

Named = SitePath[Path] | PlanePath[Path] | FilePath[Path]


def _parse(path: PathLike) -> Named:
    """The site, plane or file that a path names; BadData if there is none."""
    virtual = _parsed(on_disk(path))
    if virtual is None:
        raise BadData(
            f"{path} is not a file of a plate: expected <plate>/<WELL>/<WELL>_s001[_z000_c000[_t000]].tif, or a "
            "file's name with an ending in the plate, in the well or after <WELL>_s001_"
        )
    return virtual


def _parsed(path: PathLike) -> Named | None:
    """The site, plane or file that a path names, or None. The plate may be in any folder."""
    folder, name = Path(path).parent, Path(path).name
    try:
        virtual = (
            parse_inside(folder.parent, f"{folder.name}/{name}") if is_well(folder.name) else parse_inside(folder, name)
        )
    except ValueError:
        return None
    return virtual if isinstance(virtual, SitePath | PlanePath | FilePath) else None


def _site(virtual: Named) -> Site:
    """The site of an image's path."""
    if isinstance(virtual, FilePath):
        raise BadData(f"{virtual} is not an image")
    return virtual if isinstance(virtual, SitePath) else virtual.parent


def _index(virtual: PlanePath[Path]) -> Index:
    return virtual.t, virtual.channel, virtual.z


def stored_planes(root: Path) -> tuple[list[str], dict[tuple[str, int], str]]:
    """Paths of the planes of a plate, and why sites can't be read, by well and number of the site."""
    found: list[str] = []
    broken: dict[tuple[str, int], str] = {}
    for well, numbers in stored_wells(root).items():
        for site in (SitePath(root, well, number) for number in numbers):
            try:
                found += [plane_path(site, index) for index in sorted(_read(site).present())]
            except OpenHCSError as error:
                broken[well, site.site] = str(error)
    return found, broken


def _planes_below(root: Path, only: str | None = None) -> list[str]:
    """Paths of the planes of a plate or of one of its wells."""
    found = []
    for well, numbers in stored_wells(root).items():
        if only in (None, well):
            for site in (SitePath(root, well, number) for number in numbers):
                found += [plane_path(site, index) for index in _read(site).present()]
    return found


# ---- reading and writing arrays


def _open(level: Path, mode: Literal["r", "r+"] = "r") -> zarr.Array:
    import zarr

    open_safely()
    array = zarr.open_array(level, mode=mode)
    check_array(array, level)
    return array


def _read(site: Site) -> StoredImage:
    from openhcs_omero.io import ngff_metadata

    document = folder_of(site) / "zarr.json"
    if not document.exists():
        raise MissingFile(f"there is no image {site}")
    with _telling(document, "read"):
        levels, named_t = ngff_metadata.read_image(folder_of(site))
        array = _open(levels[0])
    if math.prod(array.shape[:3]) > MOST_PLANES or math.prod(array.shape[3:]) * array.dtype.itemsize > LARGEST_PLANE:
        raise BadData(f"{levels[0]} declares an image of shape {array.shape}, which is too large to be read")
    return StoredImage(site, array, levels, named_t)


def _check(given: Planes | np.ndarray, site: Site) -> None:
    """Check that the planes of a site have the same size and type, and that all or none are named with _t."""
    if isinstance(given, np.ndarray):
        return
    if len({(plane.shape, plane.dtype) for plane in given.values()}) > 1:
        raise BadData(f"{site}: all planes of a site have one size and type")
    if len({index[0] is None for index in given}) > 1:
        raise BadData(f"{site}: either all planes of a site have _t in their names, or none")


def _write(site: Site, given: Planes | np.ndarray) -> None:
    """Write the given planes of a site; existing planes stay unless they are replaced."""
    if isinstance(given, np.ndarray):
        named_t = given.shape[0] > 1
        planes = {(t if named_t else None, c, z): given[t, c, z] for t, c, z in np.ndindex(given.shape[:3])}
        _write_whole(site, planes, named_t)
        return
    try:
        images = _read(site)
        kept = images.present() - set(given)
    except MissingFile:
        kept = set()
    if not kept:
        _write_whole(site, given, any(index[0] is not None for index in given))
        return
    index, plane = next(iter(given.items()))
    if (plane.shape, plane.dtype) != (images.array.shape[3:], images.array.dtype):
        raise BadData(
            f"{plane_path(site, index)} is {plane.shape} {plane.dtype}, but the site's other planes are "
            f"{images.array.shape[3:]} {images.array.dtype}: all planes of a site have one size and type"
        )
    if (index[0] is not None) != images.named_t:
        raise BadData(f"{plane_path(site, index)}: either all planes of a site have _t in their names, or none")
    _write_planes(images.levels, given)


def _write_whole(site: Site, planes: Mapping[Index, np.ndarray], named_t: bool) -> None:
    """Write a whole site, replacing what is there."""
    import zarr

    from openhcs_omero.io import ngff_metadata

    # other readers would take a draft inside the store for a group
    with replacing(folder_of(site), draft_in=site.plate) as draft:
        sample = next(iter(planes.values()))
        sizes = [1 + max(position(index)[axis] for index in planes) for axis in range(3)]
        sides = shapes(sample.shape)
        for level, shape in enumerate(sides):
            zarr.create_array(
                draft / str(level),
                shape=(*sizes, *shape),
                chunks=(1, 1, 1, *shape),
                dtype=sample.dtype,
                fill_value=0,
                dimension_names=list(ngff_metadata.AXES),
            )
        _write_planes([draft / str(level) for level in range(len(sides))], planes)
        ngff_metadata.write_image(draft, site.name, len(sides), named_t)
    ngff_metadata.describe_plate(site.plate, site.well)


def _write_planes(levels: Sequence[Path], planes: Mapping[Index, np.ndarray]) -> None:
    """Write planes into the arrays of all levels, which grow as needed; the full size is written last."""
    import zarr

    with zarr.config.set({"array.write_empty_chunks": True}):  # a plane exists if its chunk does, even a black one
        arrays = [_open(level, "r+") for level in levels]
    for array in arrays:
        needed = [1 + max(position(index)[axis] for index in planes) for axis in range(3)]
        grown = tuple(max(sizes) for sizes in zip(needed, array.shape))
        if grown != array.shape[:3]:
            array.resize((*grown, *array.shape[3:]))
    for index, plane in planes.items():
        smaller = [plane]
        for _ in arrays[1:]:
            smaller.append(halved(smaller[-1]))
        for array, pixels in reversed(list(zip(arrays, smaller))):
            array[position(index)] = pixels


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Let only one process at a time change a plate, since its metadata list all wells."""
    if not root.is_dir():  # there is nothing to lock; the change itself reports what is missing
        yield
        return
    with _telling(root, "written"):
        lock = (root / ".plate.lock").open("w")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _telling(path: PathLike, done: str) -> Iterator[None]:
    """Report errors of the disk or of Zarr in one sentence."""
    try:
        yield
    except OpenHCSError:
        raise
    except OSError as error:
        raise OpenHCSError(f"{path} can't be {done}: {error.strerror or error}") from None
    except Exception as error:  # Zarr and its codecs raise all kinds of errors for invalid bytes
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadData(f"{path} can't be {done} as OME-Zarr: {what}") from None
