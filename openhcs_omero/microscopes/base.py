"""The base of all microscope handlers: a listing of the plate, and the backends that can read it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path

import numpy as np

from openhcs_omero.errors import OpenHCSError, PlateError
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.microscopes import tiffs
from openhcs_omero.microscopes.folders import check_metadata_links, other_images, unread_folders
from openhcs_omero.microscopes.scan import Found, as_read, list_plate
from openhcs_omero.plates.arrangement import Incomplete, Place, Plane
from openhcs_omero.plates.image import ImageMetadata
from openhcs_omero.plates.listing import PlateListing
from openhcs_omero.plates.structure import ImageStructure, PlateStructure

PlateLike = str | int | Path


class Backend(StrEnum):
    """Names of the backends that plates are read from and written to."""

    DISK = "disk"
    ZARR = "zarr"
    OME_ZARR = "ome_zarr"
    VIRTUAL_WORKSPACE = "virtual_workspace"
    OMERO_LOCAL = "omero_local"


class MicroscopeHandler(ABC):
    """Knows the layout of the plates of one microscope. A plate is parsed once; `refresh` makes it be parsed again."""

    microscope_type: str
    parser_name: str
    acquisition: int | str | None = None
    """Id or name of the acquisition to read, "all", or None for the only one."""

    def __init__(self) -> None:
        self._listings: dict[str, PlateListing] = {}

    @property
    @abstractmethod
    def compatible_backends(self) -> list[Backend]:
        """The backends that can read these plates, the preferred one first."""

    @abstractmethod
    def parse(self, plate_path: PlateLike) -> PlateListing:
        """Find out what is in a plate.

        Raises
        ------
        PlateError
            If something is missing, duplicated or not understood; the message names it.
        """

    def get_primary_backend(self, plate_path: PlateLike, filemanager: FileManager) -> str:
        """The name of the backend that a plate is read from."""
        return self.compatible_backends[0].value

    def listing(self, plate_path: PlateLike) -> PlateListing:
        """The plate's listing, from the cache if possible."""
        key = str(plate_path)
        if key not in self._listings:
            self._listings[key] = self.parse(plate_path).of_acquisition(self.acquisition)
        return self._listings[key]

    def structure(self, plate_path: PlateLike) -> PlateStructure:
        """The wells, sites and sizes of the plate."""
        return self.listing(plate_path).structure

    def refresh(self, plate_path: PlateLike) -> None:
        """Forget what is known about a plate."""
        self._listings.pop(str(plate_path), None)

    def check_complete(self, plate_path: PlateLike, wells: Iterable[str]) -> None:  # noqa: B027 - OMERO has no holes
        """Check that no planes of `wells` are missing; raises the errors of `PlateListing.check_complete`."""

    def notes(self, plate_path: PlateLike) -> tuple[str, ...]:
        """Sentences about planes that were filled or left out."""
        return ()

    def close(self) -> None:  # noqa: B027 - files in folders are not kept open
        """Release the resources that reading keeps open."""

    def get_channel_values(self, plate_path: PlateLike) -> dict[int, str | None]:
        """The channels, numbered from 0 as in paths, with their names."""
        listing = self.listing(plate_path)
        names = listing.channel_names
        return {c: names[c] if c < len(names) else None for c in range(listing.structure.max_c)}

    def channel_names(self, plate_path: PlateLike, chosen: PlateStructure) -> tuple[str | None, ...]:
        """The names of the channels, by number, in the wells of `chosen`; None for a channel without a name.

        Raises
        ------
        PlateError
            If the images name their channels differently.
        """
        listing = self.listing(plate_path)
        named = [(well, image.site, listing.about(well, image.site).channel_names) for well, image in chosen.images()]
        return common_names(plate_path, named)

    def get_z_index_values(self, plate_path: PlateLike) -> list[int]:
        """The z indices of a stack, from 0."""
        return list(range(self.listing(plate_path).structure.max_z))

    def get_timepoint_values(self, plate_path: PlateLike) -> list[int]:
        """The timepoints, from 0."""
        return list(range(self.listing(plate_path).structure.max_t))

    def get_site_values(self, plate_path: PlateLike) -> list[int]:
        """The sites of a well, from 1."""
        return list(range(1, self.listing(plate_path).structure.max_sites + 1))

    def get_well_values(self, plate_path: PlateLike) -> list[str]:
        """The wells in the plate's order."""
        return list(self.listing(plate_path).structure.wells)

    def load_site(self, plate_path: PlateLike, well: str, site: int, filemanager: FileManager) -> np.ndarray:
        """Read a site.

        Parameters
        ----------
        plate_path
            The plate.
        well
            Name of the well.
        site
            Number of the site, from 1.
        filemanager
            Gives access to the backends.

        Returns
        -------
        ndarray
            (T, C, Z, Y, X)

        Raises
        ------
        PlateError
            If the site does not exist, or a file differs in size or type from the first file of the site.
        """
        return self._read_site(self.listing(plate_path), well, site, filemanager)

    def _read_site(self, listing: PlateListing, well: str, site: int, filemanager: FileManager) -> np.ndarray:
        image, planes = listing.structure.image(well, site), listing.files[well, site]
        black = set(np.ndindex(image.shape[:3])) - set(planes)
        if black - listing.filled.get((well, site), frozenset()):
            listing.check_complete([well])
            raise PlateError(f"well {well} lacks planes of site {site}")
        pixels = np.zeros(image.shape, image.pixel_type) if black else np.empty(image.shape, image.pixel_type)
        places: dict[str, list[Plane]] = {}  # one file may fill several planes of a stack
        for place, path in planes.items():
            places.setdefault(path, []).append(place)
        for path, plane in zip(places, self._load(filemanager, listing, list(places))):
            for place in places[path]:
                pixels[place] = _alike(plane, image, path)
        return pixels

    def read_sites(
        self, listing: PlateListing, well: str, filemanager: FileManager
    ) -> Iterator[tuple[ImageStructure, np.ndarray]]:
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

    def _load(self, filemanager: FileManager, listing: PlateListing, paths: list[str]) -> list[np.ndarray]:
        """Load the planes at these paths; raises PlateError if one can't be read."""
        try:
            if any(tiffs.split(path)[1] for path in paths):
                planes = tiffs.read_parts(paths)
                return [planes[path] for path in paths]
            return filemanager.load_batch(paths, listing.backend)
        except OpenHCSError as error:
            raise PlateError(str(error)) from None

    def read_plane(
        self, listing: PlateListing, well: str, site: int, place: Plane, filemanager: FileManager
    ) -> np.ndarray:
        """Read one plane, (Y, X), of a site; `place` is its (t, c, z). Raises the errors of `load_site`."""
        image, path = listing.structure.image(well, site), listing.files[well, site].get(place)
        if path is not None:
            return _alike(self._load(filemanager, listing, [path])[0], image, path)
        if place not in listing.filled.get((well, site), frozenset()):
            listing.check_complete([well])
            raise PlateError(f"well {well} has no plane {place} of site {site}")
        return np.zeros(image.shape[3:], image.pixel_type)

    def read_metadata(self, listing: PlateListing, well: str) -> dict[int, ImageMetadata]:
        """Read the channel names, colors and pixel sizes of a well's images, by site."""
        return {site: listing.about(well, site) for site in listing.structure.well(well).images}

    def read_dates(self, listing: PlateListing) -> dict[Place, float]:
        """Read when images were acquired, in seconds since 1970, by (well, site) where it is known."""
        return {
            place: recorded.date / 1000 for place, recorded in listing.recorded.items() if recorded.date is not None
        }


def common_names(
    plate_path: PlateLike, named: Iterable[tuple[str, int, tuple[str | None, ...]]]
) -> tuple[str | None, ...]:
    """The names of the channels of images, given as (well, site, names), if all have the same; PlateError if not."""
    found: dict[tuple[str | None, ...], str] = {}
    for well, site, names in named:
        found.setdefault(names, f"{well} site {site}")
    (names, where), *others = found.items()
    if others:
        different, elsewhere = others[0]
        raise PlateError(
            f"channels can't be named in plate {plate_path}, whose images name them differently: {where} has "
            f"{', '.join(map(str, names))}, but {elsewhere} has {', '.join(map(str, different))}: give numbers"
        )
    return names


def _alike(plane: np.ndarray, image: ImageStructure, path: str) -> np.ndarray:
    """Check that a plane has the size and type of its image, and return it."""
    plane = as_read(plane, image.pixel_type, path)
    if (plane.shape, plane.dtype) != (image.shape[3:], np.dtype(image.pixel_type)):
        raise PlateError(
            f"{path} is {plane.shape} {plane.dtype}, but the first plane of the site is "
            f"{image.shape[3:]} {image.pixel_type}: the planes of a site have one size and type"
        )
    return plane


class FilesHandler(MicroscopeHandler):
    """A handler for plates outside of OMERO, which may be incomplete.

    Parameters
    ----------
    incomplete
        What to do about missing planes, see `openhcs_omero.plates.arrangement.arrange`.
    follow_links
        Whether symbolic links may point outside the folder.
    """

    def __init__(self, incomplete: Incomplete = "error", follow_links: bool = False) -> None:
        super().__init__()
        self.incomplete, self.follow_links = incomplete, follow_links

    @staticmethod
    @abstractmethod
    def recognizes(folder: Path) -> bool:
        """Whether a folder holds a plate of this microscope."""

    def check_complete(self, plate_path: PlateLike, wells: Iterable[str]) -> None:
        self.listing(plate_path).check_complete(wells)

    def notes(self, plate_path: PlateLike) -> tuple[str, ...]:
        return self.listing(plate_path).notes


class FolderHandler(FilesHandler):
    """A handler for plates in folders, with one file per plane.

    Subclasses describe their folders with `recognizes` and `find`; the scanner does the rest.
    """

    @property
    def compatible_backends(self) -> list[Backend]:
        return [Backend.DISK]

    @abstractmethod
    def find(self, folder: Path) -> Found:
        """Collect what the folder says about its plate.

        Raises
        ------
        PlateError
            If the folder can't be understood.
        """

    def parse(self, plate_path: PlateLike) -> PlateListing:
        folder = Path(str(plate_path))
        if not folder.is_dir():
            raise PlateError(f"there is no folder {folder}")
        if not self.follow_links:
            check_metadata_links(folder)
        found = self.find(folder)
        others = other_images(folder)
        found.notes = (*found.notes, *unread_folders(folder, found.planes), *[others] * bool(others))
        return list_plate(
            folder,
            (self.parser_name, self.microscope_type),
            found,
            self.incomplete,
            follow_links=self.follow_links,
        )

    def file_of(self, listing: PlateListing, path: str) -> Path:
        """The file on disk behind a path of the listing."""
        return tiffs.file_of(path)
