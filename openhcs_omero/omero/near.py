"""Read pixels directly from the server's data folder, on a machine that can see it.

No file is trusted: pixels are used only if they have the SHA-1 that the server stores for them. There are two kinds of
files. Pixels that were sent to the server are in ``Pixels/``, in the same format as over the wire or, if their planes
are large, as pyramids. Pixels of imported files are only in the original files, below ``ManagedRepository/``. TIFFs are
read there. The server's SHA-1 of such an image covers its planes ordered by timepoint, channel and z, in the file's
byte order (ManagedImportRequestI.parseData in OMERO.blitz).
"""

import contextlib
import hashlib
import logging
import mmap
import os
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import tifffile
from omero.gateway import BlitzGateway

from openhcs_omero.errors import PlateError
from openhcs_omero.omero import queries
from openhcs_omero.omero.connection import server_of
from openhcs_omero.plates.compressions import unread_compression
from openhcs_omero.plates.pixeltypes import OMERO_NAMES
from openhcs_omero.plates.structure import ImageStructure, is_pyramid

log = logging.getLogger(__name__)

OWN, ORIGINAL = "Pixels", "ManagedRepository"  # folders in the data folder
_SHA1 = re.compile(r"[0-9a-f]{40}")
_TIFF = re.compile(r"\.tiff?$", re.IGNORECASE)

_lock = threading.Lock()
_warned = False
_right: set[tuple[Any, ...]] = set()  # files under Pixels/ whose SHA-1 was right, by `_identity`
_Key = tuple[str, int]  # a server and the id of an object there
_places: dict[_Key, tuple[int, int] | None] = {}  # an image's fileset and its number in it; None if it has none
_filesets: dict[_Key, list[tuple[str, int | None]]] = {}  # paths below the managed repository, and sizes


class NotNear(Exception):
    """Why an image is read over Ice; the message names no single image, so that equal reasons can be counted."""


class BadMount(NotNear):
    """Why an image is read over Ice although its files should be readable here: something is set up wrong."""


def data_dir_of(conn: BlitzGateway) -> Path | None:
    """Path of the server's data folder on this machine; None if this machine does not see it."""
    server = server_of(conn)
    return Path(server.data_dir) if server is not None and server.data_dir is not None else None


def open_near(conn: BlitzGateway, image: ImageStructure, keep: bool = False) -> np.ndarray | None:
    """Read all pixels of an image from the data folder.

    A warning is logged, once per process, for the first image whose files are not as they should be.

    Parameters
    ----------
    image
        The image.
    keep
        True returns a copy in memory. False may return a memory map of the file, to be used at once, before the file
        can change.

    Returns
    -------
    numpy.ndarray or None
        Array (T, C, Z, Y, X) in any byte order; None if the pixels are not in the data folder.
    """
    data_dir = data_dir_of(conn)
    if data_dir is None:
        return None
    try:
        return _checked(conn, image, data_dir, keep)
    except BadMount as reason:
        _warn(data_dir, image, reason)
    except NotNear:
        pass
    return None


def _warn(data_dir: Path, image: ImageStructure, reason: BadMount) -> None:
    global _warned
    with _lock:
        if _warned:
            return
        _warned = True
    log.warning(
        "image %s is read over the network, and not from %s: %s. So is every other image there that can't be "
        "verified; this is reported once.",
        image.image_id,
        data_dir,
        reason,
    )


def ways(conn: BlitzGateway, images: Sequence[ImageStructure]) -> Counter[str]:
    """Count how many images are read which way, by a description of the way.

    In each folder the pixels of one image are read and checked; for the others only the files are checked.
    """
    data_dir = data_dir_of(conn)
    if data_dir is None:
        return Counter({"over the network": len(images)})
    _find(conn, images)
    found: Counter[str] = Counter()
    first: dict[str, ImageStructure] = {}
    for image in images:
        try:
            folder = _look(conn, image, data_dir)
        except NotNear as reason:
            found[f"over the network: {reason}"] += 1
        else:
            found[f"from {data_dir / folder}"] += 1
            first.setdefault(f"from {data_dir / folder}", image)
    for way, image in first.items():
        try:
            _checked(conn, image, data_dir)
        except NotNear as reason:
            found[
                f"{way} where they are the server's, else over the network; image {image.image_id} is not: {reason}"
            ] = found.pop(way)
    return found


def _look(conn: BlitzGateway, image: ImageStructure, data_dir: Path) -> str:
    """The folder of the image's files, if they exist and have the right size; raises as `_checked` does."""
    _check_kind(image, data_dir)
    size = _own_size(data_dir, image)
    if size is not None:
        if not is_pyramid(image):
            _check_own(size, image)
        return OWN
    _originals(conn, image, data_dir)
    return ORIGINAL


def _checked(conn: BlitzGateway, image: ImageStructure, data_dir: Path, keep: bool = False) -> np.ndarray:
    """The image's pixels, verified against the server's SHA-1; raises NotNear."""
    _check_kind(image, data_dir)
    if _own_size(data_dir, image) is not None:
        pixels, identity = _read_own(data_dir, image, keep)
        if keep or identity not in _right:
            if hashlib.sha1(pixels.data).hexdigest() != image.sha1:
                raise BadMount(f"its file under {OWN}/ is not the server's")
            _right.add(identity)
        return pixels
    pixels = _read_original(*_originals(conn, image, data_dir), image)
    for order in (pixels.dtype, pixels.dtype.newbyteorder(">")):
        if hashlib.sha1(pixels.astype(order, copy=False).data).hexdigest() == image.sha1:
            return pixels
    raise BadMount("its original files don't have the SHA-1 that the server found when they were imported")


def _check_kind(image: ImageStructure, data_dir: Path) -> None:
    if image.pixel_type not in OMERO_NAMES:
        raise NotNear(f"pixels of type {image.pixel_type} can't be processed")
    if not _SHA1.fullmatch(image.sha1 or ""):
        raise NotNear("the server has no SHA-1 of them")
    with _reading(data_dir):
        there = (data_dir / OWN).is_dir() or (data_dir / ORIGINAL).is_dir()
    if not there:
        raise BadMount(f"{data_dir} is no data folder of an OMERO server: it has no folder {OWN}")


@contextlib.contextmanager
def _reading(data_dir: Path) -> Iterator[None]:
    """Turn errors of the file system, such as a stale mount or a forbidden folder, into BadMount."""
    try:
        yield
    except OSError as error:
        raise BadMount(f"{data_dir} can't be read ({error.strerror or error})") from None


# ---- pixels that were sent to the server


def pixels_file(data_dir: Path, pixels_id: int) -> Path:
    """Path where OMERO keeps pixels: ``Pixels/7``, ``Pixels/Dir-001/1007``, ``Pixels/Dir-001/Dir-234/1234567``."""
    folders: list[str] = []
    rest = pixels_id
    while rest > 999:
        rest //= 1000
        folders.insert(0, f"Dir-{rest % 1000:03d}")
    return data_dir.joinpath(OWN, *folders, str(pixels_id))


def own_file(data_dir: Path, image: ImageStructure) -> Path:
    """Path where OMERO keeps the pixels of an image that was sent to the server."""
    path = pixels_file(data_dir, image.pixels_id)
    return path.with_name(f"{path.name}_pyramid") if is_pyramid(image) else path


def _read_pyramid(path: Path, image: ImageStructure) -> np.ndarray:
    """Read the whole planes of a pyramid, a TIFF with one page per plane in the order of OMERO's pixels."""
    block = np.empty(image.shape, np.dtype(image.pixel_type).newbyteorder(">"))
    planes = list(np.ndindex(block.shape[:3]))
    try:
        with tifffile.TiffFile(path) as tiff:
            pages = [page for page in tiff.pages if not page.is_reduced]  # type: ignore[union-attr]
            if len(pages) != len(planes) or any(page.shape != block.shape[3:] for page in pages):
                raise BadMount(f"its pyramid under {OWN}/ has other planes than the image")
            for plane, page in zip(planes, pages):
                block[plane] = page.asarray()
    except BadMount:
        raise
    except Exception as error:  # tifffile passes on whatever its decoders raise
        raise BadMount(f"its pyramid under {OWN}/ can't be read ({type(error).__name__})") from None
    return block


def _own_size(data_dir: Path, image: ImageStructure) -> int | None:
    with _reading(data_dir):
        try:
            return own_file(data_dir, image).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None


def _check_own(size: int, image: ImageStructure) -> None:
    if size != int(np.prod(image.shape)) * np.dtype(image.pixel_type).itemsize:
        raise BadMount(f"its file under {OWN}/ has another size than the server's")


def _read_own(data_dir: Path, image: ImageStructure, keep: bool) -> tuple[np.ndarray, tuple[Any, ...]]:
    """The whole file, big-endian, as a memory map or with `keep` as a copy; and its identity before reading."""
    path = own_file(data_dir, image)
    with _reading(data_dir), path.open("rb") as file:
        status = os.fstat(file.fileno())
        if is_pyramid(image) and file.read(4) in (b"MM\0*", b"II*\0", b"MM\0+", b"II+\0"):
            return _read_pyramid(path, image), _identity(path, status, image)
        file.seek(0)
        _check_own(status.st_size, image)  # also rejects an empty file, which can't be mapped
        data = (
            file.read()
            if keep
            else mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0), mmap.PROT_READ)
        )
    _check_own(len(data), image)
    pixels = np.frombuffer(data, np.dtype(image.pixel_type).newbyteorder(">")).reshape(image.shape)
    return pixels, _identity(path, status, image)


def _identity(path: Path, status: os.stat_result, image: ImageStructure) -> tuple[Any, ...]:
    """A value that changes when the file is replaced or written to, or when the server has other pixels."""
    return str(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, image.sha1


# ---- pixels in imported original files


def _originals(conn: BlitzGateway, image: ImageStructure, data_dir: Path) -> tuple[list[Path], int]:
    """The TIFFs that the image was imported from, and the image's number in them."""
    _find(conn, [image])
    place = _places.get((_server(conn), image.image_id))
    if place is None:
        raise BadMount(f"it has no file under {OWN}/")
    return _tiffs(_filesets.get((_server(conn), place[0]), []), data_dir), place[1]


def _find(conn: BlitzGateway, images: Sequence[ImageStructure]) -> None:
    """Query the original files of these images and of all others in their wells, only once, since they never change."""
    server = _server(conn)
    with _lock:
        unknown = [image.well_sample_id for image in images if (server, image.image_id) not in _places]
        places: dict[_Key, tuple[int, int] | None] = {}
        for ids in queries.pages(unknown):
            for image_id, fileset_id, series in queries.rows(
                conn,
                """
                    select distinct i.id, fs.id, i.series from WellSample ws join ws.well w join w.wellSamples other
                    join other.image i left outer join i.fileset fs where ws.id in (:ids)""",
                ids=ids,
            ):
                places[server, image_id] = None if fileset_id is None else (fileset_id, series or 0)
        filesets = {place[0] for place in places.values() if place is not None}
        _find_files(conn, server, sorted(found for found in filesets if (server, found) not in _filesets))
        _places.update(places)


def _find_files(conn: BlitzGateway, server: str, filesets: Sequence[int]) -> None:
    for ids in queries.pages(filesets):
        files: dict[_Key, list[tuple[str, int | None]]] = {}
        for fileset_id, path, name, size in queries.rows(
            conn,
            """
                select fs.id, f.path, f.name, f.size from Fileset fs join fs.usedFiles e join e.originalFile f
                where fs.id in (:ids) order by fs.id, index(e)""",
            ids=ids,
        ):
            files.setdefault((server, fileset_id), []).append((f"{path}{name}", size))
        _filesets.update(files)


def _server(conn: BlitzGateway) -> str:
    server = server_of(conn)
    return server.address if server else ""


def _tiffs(files: Iterable[tuple[str, int | None]], data_dir: Path) -> list[Path]:
    """The TIFFs among the files of a fileset, after a check that all exist with the sizes that the server has."""
    found = []
    for name, size in files:
        if not _TIFF.search(name):
            continue
        path = data_dir / ORIGINAL / name.lstrip("/")
        if ".." in PurePosixPath(name).parts:
            raise NotNear("the path of its original files leads outside the repository")
        try:
            there = path.stat().st_size
        except OSError:
            raise BadMount(f"its original files are not under {ORIGINAL}/") from None
        if there != size:
            raise BadMount(f"its original files under {ORIGINAL}/ have another size than the server's")
        found.append(path)
    if not found:
        raise NotNear("its original files are not TIFFs")
    return found


def _read_original(paths: Sequence[Path], series: int, image: ImageStructure) -> np.ndarray:
    """What are most likely the image's pixels: contiguous, in the byte order of the file."""
    try:
        with tifffile.TiffFile(paths[0]) as tiff:
            if len(paths) == 1 or tiff.is_ome:
                return _from_series(tiff, series, image)
        return _from_planes(paths, series, image)
    except NotNear:
        raise
    except OSError as error:
        raise BadMount(f"its original TIFFs can't be read ({error.strerror or error})") from None
    except Exception as error:  # tifffile passes on whatever its decoders raise
        raise NotNear(f"its original TIFFs can't be read ({type(error).__name__})") from None


def _from_series(tiff: tifffile.TiffFile, number: int, image: ImageStructure) -> np.ndarray:
    """Read a series of an OME-TIFF, or of a TIFF with pages along one axis."""
    if number >= len(tiff.series):
        raise NotNear("its original TIFF has fewer images than the server found in it")
    series: Any = tiff.series[number]
    _check_page(series.keyframe)
    _check_compression(filter(None, series.pages))
    axes = series.axes
    if unknown := [axis for axis in axes if axis not in "TCZYX"]:
        long = [axis for axis, size in zip("TCZ", image.shape) if size > 1]
        if len(unknown) > 1 or len(long) > 1 or set(axes) & set("TCZ"):
            raise NotNear("its original TIFF does not say which plane is which")
        axes = axes.replace(unknown[0], long[0] if long else "T")
    pixels = series.asarray()
    order = [axes.index(axis) for axis in "TCZYX" if axis in axes]
    sizes = dict(zip(axes, pixels.shape))
    if tuple(sizes.get(axis, 1) for axis in "TCZYX") != image.shape:
        raise NotNear("its original TIFF has another shape than the image")
    return _as_stored(pixels.transpose(order).reshape(image.shape), tiff, image)


def _from_planes(paths: Sequence[Path], number: int, image: ImageStructure) -> np.ndarray:
    """Read files with one plane each. Their names say which belong to the image, number `number` by well and site."""
    from openhcs_omero.plates.arrangement import arrange
    from openhcs_omero.plates.filenames import named_planes

    try:
        arranged = arrange(named_planes(paths).planes)
    except PlateError:
        raise NotNear("the names of its original TIFFs don't say which plane is which") from None
    sites = [] if arranged.missing or arranged.filled else list(arranged.files.values())
    if number >= len(sites) or set(sites[number]) != set(np.ndindex(*image.shape[:3])):
        raise NotNear("its original TIFFs don't have one file per plane")
    planes = {}
    for index, path in sites[number].items():
        with tifffile.TiffFile(path) as tiff:
            if len(tiff.pages) != 1:
                raise NotNear("its original TIFFs don't have one file per plane")
            _check_page(tiff.pages[0])
            _check_compression(tiff.pages)
            planes[index] = _as_stored(tiff.asarray(), tiff, image)
    return np.stack([planes[index] for index in sorted(planes)]).reshape(image.shape)


def _check_page(page: Any) -> None:
    if page.samplesperpixel != 1 or page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        raise NotNear("its original TIFFs are in color")
    if page.is_tiled:  # the server's SHA-1 covers the tiles one after the other
        raise NotNear("its original TIFFs are tiled")


def _check_compression(pages: Iterable[Any]) -> None:
    if any(map(unread_compression, pages)):
        raise NotNear("its original TIFFs are compressed in a way that is not read")


def _as_stored(pixels: np.ndarray, tiff: tifffile.TiffFile, image: ImageStructure) -> np.ndarray:
    if pixels.dtype.newbyteorder("=") != np.dtype(image.pixel_type) or pixels.shape[-2:] != image.shape[-2:]:
        raise NotNear("its original TIFFs have planes of another size or type than the image")
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(tiff.byteorder))
