"""What the handlers of all microscopes have in common: a listing of the plate, and the backends that fit it."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from openhcs_omero.errors import PlateError
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.plates.image import ImageMetadata
from openhcs_omero.plates.paths import parse_well, well_name
from openhcs_omero.plates.structure import ImageStructure, PlateStructure, WellStructure

PlateLike = str | int | Path
Plane = tuple[int, int, int]  # t, c, z, from 0


class Backend(StrEnum):
    """Names of the backends that plates are read from and written to."""

    DISK = "disk"
    ZARR = "zarr"
    VIRTUAL_WORKSPACE = "virtual_workspace"
    OMERO_LOCAL = "omero_local"


@dataclass(frozen=True)
class PlateListing:
    """What a handler knows of a plate.

    Parameters
    ----------
    structure
        Wells, sites and sizes. Of a folder, an image's `sha1` is that of its files' names, sizes and times.
    backend
        The backend that reads it.
    files
        By (well, site) and plane (t, c, z): the path for that backend. Empty where the backend reads whole sites.
    channel_names
        One per channel; None where a channel has no name.
    pixel_size
        (z, y, x) in micrometres, None where it is not known.
    """

    structure: PlateStructure
    backend: Backend
    files: Mapping[tuple[str, int], Mapping[Plane, str]] = field(default_factory=dict)
    channel_names: tuple[str | None, ...] = ()
    pixel_size: tuple[float | None, float | None, float | None] = (None, None, None)


class MicroscopeHandler(ABC):
    """Knows how the plates of one microscope are laid out. A plate is parsed once; `refresh` has it parsed anew."""

    microscope_type: str
    parser_name: str

    def __init__(self) -> None:
        self._listings: dict[str, PlateListing] = {}

    @property
    @abstractmethod
    def compatible_backends(self) -> list[Backend]:
        """The backends that these plates can be read from, the preferred one first."""

    @abstractmethod
    def parse(self, plate_path: PlateLike) -> PlateListing:
        """Find out what is in a plate.

        Raises
        ------
        PlateError
            Naming what is missing, twice there or not understood.
        """

    def get_primary_backend(self, plate_path: PlateLike, filemanager: FileManager) -> str:
        """Name of the backend that a plate is read from."""
        return self.compatible_backends[0].value

    def listing(self, plate_path: PlateLike) -> PlateListing:
        """The plate's listing, from the cache where it is there."""
        key = str(plate_path)
        if key not in self._listings:
            self._listings[key] = self.parse(plate_path)
        return self._listings[key]

    def structure(self, plate_path: PlateLike) -> PlateStructure:
        """Wells, sites and sizes of the plate."""
        return self.listing(plate_path).structure

    def refresh(self, plate_path: PlateLike) -> None:
        """Forget what is known of a plate."""
        self._listings.pop(str(plate_path), None)

    def close(self) -> None:  # noqa: B027 - files in folders are not kept open
        """Release what reading keeps open."""

    def get_channel_values(self, plate_path: PlateLike) -> dict[int, str | None]:
        """Channels from 0, as in paths, with their names."""
        listing = self.listing(plate_path)
        names = listing.channel_names
        return {c: names[c] if c < len(names) else None for c in range(listing.structure.max_c)}

    def get_z_index_values(self, plate_path: PlateLike) -> list[int]:
        """Planes of a stack, from 0."""
        return list(range(self.listing(plate_path).structure.max_z))

    def get_timepoint_values(self, plate_path: PlateLike) -> list[int]:
        """Timepoints, from 0."""
        return list(range(self.listing(plate_path).structure.max_t))

    def get_site_values(self, plate_path: PlateLike) -> list[int]:
        """Sites of a well, from 1."""
        return list(range(1, self.listing(plate_path).structure.max_sites + 1))

    def get_well_values(self, plate_path: PlateLike) -> list[str]:
        """Wells in the plate's order."""
        return list(self.listing(plate_path).structure.wells)

    def load_site(self, plate_path: PlateLike, well: str, site: int, filemanager: FileManager) -> np.ndarray:
        """Read a site.

        Returns
        -------
        ndarray
            (T, C, Z, Y, X)

        Raises
        ------
        PlateError
            If there is no such site, or a file has another size or type than the plate's first.
        """
        return self._read_site(self.listing(plate_path), well, site, filemanager)

    def _read_site(self, listing: PlateListing, well: str, site: int, filemanager: FileManager) -> np.ndarray:
        image = listing.structure.image(well, site)
        pixels = np.empty(image.shape, image.pixel_type)
        planes = listing.files[well, site]
        for (place, path), plane in zip(planes.items(), filemanager.load_batch(list(planes.values()), listing.backend)):
            pixels[place] = _alike(plane, image, path)
        return pixels

    def read_sites(self, listing: PlateListing, well: str,
                   filemanager: FileManager) -> Iterator[tuple[ImageStructure, np.ndarray]]:
        """Read the sites of a well in order; the next one is read while the caller works on this one.

        Yields
        ------
        ImageStructure, ndarray
            The site's image and its pixels, (T, C, Z, Y, X).
        """
        images = listing.structure.well(well).images
        order = sorted(images)
        with ThreadPoolExecutor(1) as reader:
            waiting = reader.submit(self._read_site, listing, well, order[0], filemanager)
            for site, following in zip(order, [*order[1:], None]):
                pixels = waiting.result()
                if following is not None:
                    waiting = reader.submit(self._read_site, listing, well, following, filemanager)
                yield images[site], pixels

    def read_plane(self, listing: PlateListing, well: str, site: int, place: Plane,
                   filemanager: FileManager) -> np.ndarray:
        """Read one plane of a site, (Y, X); raises as `load_site` does."""
        path = listing.files[well, site][place]
        return _alike(filemanager.load(path, listing.backend), listing.structure.image(well, site), path)

    def read_metadata(self, listing: PlateListing, well: str) -> dict[int, ImageMetadata]:
        """Channel names, colors and pixel sizes of a well's images, by site."""
        about = ImageMetadata(listing.channel_names, (), listing.pixel_size)
        return dict.fromkeys(listing.structure.well(well).images, about)


def _alike(plane: np.ndarray, image: ImageStructure, path: str) -> np.ndarray:
    """The plane, if it is of the image's size and type."""
    if (plane.shape, plane.dtype) != (image.shape[3:], np.dtype(image.pixel_type)):
        raise PlateError(f"{path} is {plane.shape} {plane.dtype}, but the plate's first image is "
                         f"{image.shape[3:]} {image.pixel_type}: a plate has images of one size and type")
    return plane


@dataclass(frozen=True)
class PlaneFile:
    """A file of one plane, with the numbers that the microscope gave it; `path` is that for the backend."""

    well: str
    site: int
    t: int
    c: int
    z: int
    path: str


def arrange(planes: Iterable[PlaneFile]) -> dict[tuple[str, int], dict[Plane, str]]:
    """Files by (well, site) and (t, c, z), numbered from the least that occurs in the plate on, without gaps.

    Raises
    ------
    PlateError
        If two files are the same plane, or a site lacks one that others have.
    """
    planes = list(planes)
    ranks = {axis: {value: rank for rank, value in enumerate(sorted({getattr(plane, axis) for plane in planes}))}
             for axis in ("site", "t", "c", "z")}
    files: dict[tuple[str, int], dict[Plane, str]] = {}
    for plane in planes:
        row, column = parse_well(plane.well)
        image = files.setdefault((well_name(row, column), 1 + ranks["site"][plane.site]), {})
        place = (ranks["t"][plane.t], ranks["c"][plane.c], ranks["z"][plane.z])
        if place in image:
            raise PlateError(f"{image[place]} and {plane.path} are the same plane of the same site")
        image[place] = plane.path
    shape = tuple(len(ranks[axis]) for axis in ("t", "c", "z"))
    values = {axis: list(ranks[axis]) for axis in ranks}
    for (well, site), image in files.items():
        if site > 1 and (well, site - 1) not in files:
            raise PlateError(f"well {well} has files of site {values['site'][site - 1]} and none of site "
                             f"{values['site'][site - 2]}: add them, or take the well's files out of the folder")
        for t, c, z in np.ndindex(shape):
            if (t, c, z) not in image:
                raise PlateError(
                    f"well {well} lacks the file of site {values['site'][site - 1]}, timepoint {values['t'][t]}, "
                    f"channel {values['c'][c]}, plane {values['z'][z]}, which others have: add it, or take "
                    "the well's files out of the folder")
    ordered = sorted(files, key=lambda key: (parse_well(key[0]), key[1]))
    return {key: dict(sorted(files[key].items())) for key in ordered}


def structure_of(
    folder: Path,
    handler: MicroscopeHandler,
    files: Mapping[tuple[str, int], Mapping[Plane, str]],
    size: tuple[int, int, str],
    empty_wells: Iterable[str] = (),
    format: tuple[int, int] = (0, 0),
    file_of: Callable[[str], Path] = Path,
) -> PlateStructure:
    """The structure of a plate in a folder; it has no ids.

    Parameters
    ----------
    files
        As `arrange` makes them.
    size
        Height, width and numpy dtype name of each plane.
    empty_wells
        Wells that the plate has and that no file is of.
    format
        Rows and columns of the plate; at least as many as there are wells.
    file_of
        The file on disk that a path of `files` stands for.

    Raises
    ------
    PlateError
        If there is no image at all, or a file is not there.
    """
    if not files:
        raise PlateError(f"there is no image of a plate in {folder}")
    t, c, z = (1 + max(place[axis] for place in next(iter(files.values()))) for axis in range(3))
    wells: dict[str, WellStructure] = {}
    for name in sorted({*empty_wells, *(well for well, _ in files)}, key=parse_well):
        wells[name] = WellStructure(name, *parse_well(name), {})
    for (well, site), planes in files.items():
        wells[well].images[site] = ImageStructure(
            None, site, z, c, t, size[1], size[0], size[2], _stamp(folder, planes, file_of), f"{well} site {site}")
    return PlateStructure(
        None, handler.parser_name, handler.microscope_type, wells, set(wells), max(site for _, site in files), z, c, t,
        name=folder.resolve().name, rows=max(format[0], 1 + max(well.row for well in wells.values())),
        columns=max(format[1], 1 + max(well.col for well in wells.values())))


def _stamp(folder: Path, planes: Mapping[Plane, str], file_of: Callable[[str], Path]) -> str:
    """SHA-1 of the names, sizes and times of a site's files: it changes when one of them is written."""
    digest = hashlib.sha1(usedforsecurity=False)
    for place, path in planes.items():
        file = file_of(path)
        try:
            state = file.stat()
        except OSError:
            raise PlateError(f"the file {file} is not there: is the plate's folder complete?") from None
        name = file.relative_to(folder) if file.is_relative_to(folder) else file
        digest.update(f"{place} {name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def plane_size(path: Path) -> tuple[int, int, str]:
    """Height, width and numpy dtype name of a TIFF of one plane, from its header.

    Raises
    ------
    PlateError
        If it is none.
    """
    with opened(path) as tiff:
        page: Any = tiff.pages[0]
        if len(tiff.pages) != 1 or len(page.shape) != 2 or page.dtype is None:
            raise PlateError(f"{path} is no TIFF of one grey plane: it has {len(tiff.pages)} pages {page.shape}")
        return page.shape[0], page.shape[1], page.dtype.name


def opened(path: Path) -> tifffile.TiffFile:
    """A TIFF file, to be closed; PlateError if it is none."""
    try:
        return tifffile.TiffFile(path)
    except FileNotFoundError:
        raise PlateError(f"the file {path} is not there: is the plate's folder complete?") from None
    except (OSError, ValueError) as error:  # tifffile's own error is a ValueError
        raise PlateError(f"{path} can't be read as a TIFF: {error}") from None
