"""Plates as OpenHCS writes them: a folder with openhcs_metadata.json, on disk, in Zarr or as a virtual workspace.

The metadata have an entry for each subdirectory; the plate is the one marked as "main", or the first one.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from openhcs_omero.errors import PlateError, brief
from openhcs_omero.io import storage_registry
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.io.ngff import STORE
from openhcs_omero.io.virtual_workspace import (
    METADATA,
    VirtualWorkspaceBackend,
    read_acquisitions,
    read_images,
    read_openhcs_metadata,
)
from openhcs_omero.io.zarr import ZarrBackend, stored_planes
from openhcs_omero.microscopes import opera_phenix
from openhcs_omero.microscopes.base import Backend, FolderHandler, PlateLike
from openhcs_omero.microscopes.folders import check_metadata_links, folders_in, left_out, tiffs_in
from openhcs_omero.microscopes.scan import Found, list_plate
from openhcs_omero.microscopes.tiffs import plane_size
from openhcs_omero.plates.arrangement import Announced, Place, PlaneFile
from openhcs_omero.plates.image import ImageMetadata
from openhcs_omero.plates.listing import PlateListing
from openhcs_omero.plates.paths import PlanePath, parse_inside, well_name
from openhcs_omero.plates.structure import matching

_FLAT = re.compile(
    r"(?P<well>[A-Z]{1,2}\d{2,})_s(?P<site>\d+)_w(?P<c>\d+)(?:_z(?P<z>\d+))?(?:_t(?P<t>\d+))?\.tiff?", re.IGNORECASE
)

Numbers = tuple[str, int, int, int, int]  # well, site, t, c, z as in the file name


class OpenHCSHandler(FolderHandler):
    """Plates written by OpenHCS or by this software."""

    microscope_type = "OpenHCS"
    parser_name = "OpenHCSFilenameParser"

    @property
    def compatible_backends(self) -> list[Backend]:
        return [Backend.ZARR, Backend.VIRTUAL_WORKSPACE, Backend.DISK]

    @staticmethod
    def recognizes(folder: Path) -> bool:
        """Whether a folder holds an OpenHCS plate."""
        return (folder / METADATA).is_file()

    def get_primary_backend(self, plate_path: PlateLike, filemanager: FileManager) -> str:
        """The first compatible backend that the metadata name."""
        return _main(Path(str(plate_path))).backend.value

    def find(self, folder: Path) -> Found:
        main = _main(folder)
        parse = _parser(main)
        planes = []
        for path in main.paths():
            if (parsed := parse(Path(path).name)) is None:
                raise PlateError(f"{path} does not follow the naming scheme {main.parser}")
            planes.append(PlaneFile(*parsed, path if main.has(path) else None))
        if main.broken and not any(plane.path for plane in planes):
            raise PlateError(next(iter(main.broken.values())))
        known = {(plane.well, plane.site) for plane in planes}
        planes += [PlaneFile(*place, 0, 0, 0, None) for place in main.broken if place not in known]
        if not planes:
            raise PlateError(f"{folder / METADATA} names no image in {main.name!r}")
        runs, of_site = read_acquisitions(main.values)
        chosen = [] if self.acquisition in (None, "all") else matching(set(of_site.values()), self.acquisition)
        if len(chosen) == 1:  # what is missing from other acquisitions does not matter
            planes = [plane for plane in planes if of_site.get((plane.well, plane.site)) == chosen[0]]
        names = main.values.get("channels") or {}  # by the numbers in the file names
        size, images = main.values.get("pixel_size"), read_images(main.values)
        own = {place: about for place, (_, about) in images.items()}
        usual = next(iter(own.values()), ImageMetadata(pixel_size=(main.values.get("z_step"), size, size)))
        return Found(
            planes,
            Announced(every_site=True, source=METADATA),
            channel_names={plane.c: names.get(str(plane.c)) for plane in planes},
            pixel_size=usual.pixel_size,
            notes=(
                *left_out(main.unlisted(parse), planes, f"not listed in {METADATA}"),
                *(f"well {well} site {site}: {why}" for (well, site), why in main.broken.items()),
            ),
            acquisitions=of_site,
            colors=dict(enumerate(usual.colors)),
            own=own,
            shapes={place: shape for place, (shape, _) in images.items()},
            times={run.id: (run.start, run.end) for run in runs},
        )

    def parse(self, plate_path: PlateLike) -> PlateListing:
        folder = Path(str(plate_path))
        if not self.follow_links:
            check_metadata_links(folder)
        main = _main(folder)
        return list_plate(
            folder,
            (self.parser_name, self.microscope_type),
            self.find(folder),
            self.incomplete,
            main.backend,
            main.size,
            main.file_of,
            self.follow_links,
        )

    def file_of(self, listing: PlateListing, path: str) -> Path:
        return file_behind(listing.backend, path)


def file_behind(backend: str, path: str) -> Path:
    """The file on disk behind a backend's path."""
    found = storage_registry[backend]
    return found.file_of(path) if isinstance(found, ZarrBackend | VirtualWorkspaceBackend) else Path(path)


@dataclass(frozen=True)
class _Main:
    """The subdirectory that holds the plate."""

    folder: Path
    name: str
    values: Mapping[str, Any]

    @property
    def backend(self) -> Backend:
        """The backend that stores the plate: the one marked as available, or the one whose files exist."""
        marked = self.values.get("available_backends") or {}
        for backend in (Backend.ZARR, Backend.VIRTUAL_WORKSPACE, Backend.DISK):
            if marked.get(backend.value):
                return backend
        if os.path.isdir(self.root / STORE):
            return Backend.ZARR
        return Backend.VIRTUAL_WORKSPACE if self.values.get("workspace_mapping") else Backend.DISK

    @property
    def parser(self) -> str:
        """OpenHCS's name for the naming scheme of the files."""
        return str(self.values.get("source_filename_parser_name"))

    @property
    def root(self) -> Path:
        return self.folder / self.inside(self.name)

    def paths(self) -> list[str]:
        """The backend's paths of all planes."""
        if self.backend is Backend.ZARR and not os.path.isdir(self.root / STORE):
            raise PlateError(
                f"{self.folder / METADATA} says that {self.name!r} is in Zarr, but there is no {self.root / STORE}"
            )
        if self.backend is Backend.VIRTUAL_WORKSPACE:
            names = self.values.get("workspace_mapping") or {}
        else:
            names = self.values.get("image_files") or []
        if wrong := [path for path in names if not isinstance(path, str)]:
            raise PlateError(
                f"{self.folder / METADATA} names files in {self.name!r}, but {brief(wrong[0])} is not text"
            )
        listed = [str(self.folder / self.inside(path)) for path in names if path.lower().endswith((".tif", ".tiff"))]
        if self.backend is Backend.ZARR:  # also those that are listed but not there
            return [*dict.fromkeys([*self._stored[0], *(path for path in listed if _virtual(Path(path).name))])]
        return listed

    @cached_property
    def _stored(self) -> tuple[list[str], dict[Place, str]]:
        return stored_planes(self.root) if self.backend is Backend.ZARR else ([], {})

    @cached_property
    def _found(self) -> frozenset[str]:
        return frozenset(self._stored[0])

    @property
    def broken(self) -> Mapping[Place, str]:
        """Why sites in Zarr can't be read, by well and site."""
        return self._stored[1]

    def unlisted(self, parse: Callable[[str], Numbers | None]) -> list[Path]:
        """The files on disk that are named like planes, but that the metadata do not list."""
        if self.backend is not Backend.DISK or not self.root.is_dir():
            return []
        listed = {*self.paths()}
        files = [file for place in [self.root, *folders_in(self.root)] for file in tiffs_in(place)]
        return [file for file in files if str(file) not in listed and parse(file.name)]

    def inside(self, path: str) -> str:
        """Check that the path of a file or folder stays inside the plate's folder, and return it."""
        if PurePath(path).is_absolute() or ".." in PurePath(path).parts:
            raise PlateError(f"{self.folder / METADATA} names {path}, which is outside of the plate's folder")
        return path

    def file_of(self, path: str) -> Path:
        """The file on disk behind a path."""
        return file_behind(self.backend, path)

    def has(self, path: str) -> bool:
        """Whether there is a file behind a path."""
        if self.backend is Backend.ZARR:
            return path in self._found
        return os.path.isfile(self.file_of(path))  # False also for an absurd name

    def size(self, path: str) -> tuple[int, int, str]:
        """Height, width and dtype name of a plane."""
        if self.backend is not Backend.ZARR:
            return plane_size(self.file_of(path))
        return ZarrBackend().plane_size(path)


def _main(folder: Path) -> _Main:
    subdirectories = read_openhcs_metadata(folder)
    if not subdirectories:
        raise PlateError(f"{folder / METADATA} names no subdirectory")
    marked = [name for name, values in subdirectories.items() if values.get("main")]
    name = marked[0] if marked else next(iter(subdirectories))
    return _Main(folder, name, subdirectories[name])


# ---- names


def _parser(main: _Main) -> Callable[[str], Numbers | None]:
    if main.parser not in _PARSERS:
        raise PlateError(
            f"{main.folder / METADATA}: {main.name!r} has file names for {main.parser!r}, which is not "
            f"known; known are {', '.join(_PARSERS)}"
        )
    return _PARSERS[main.parser]


def _flat(name: str) -> Numbers | None:
    """A01_s001_w1_z001_t001.tif"""
    match = _FLAT.fullmatch(name)
    return match and (
        match["well"].upper(),
        int(match["site"]),
        int(match["t"] or 1),
        int(match["c"]),
        int(match["z"] or 1),
    )


def _phenix(name: str) -> Numbers | None:
    """r01c01f001p001-ch1sk1fk1fl1.tiff"""
    parsed = opera_phenix.parse_name(name)
    if parsed is None:
        return None
    row, column, site, z, c, t = parsed
    return well_name(row - 1, column - 1), site, t, c, z


def _virtual(name: str) -> Numbers | None:
    """A01_s001_z000_c000_t000.tif, as this software writes it"""
    try:
        path = parse_inside(Path(), f"{name.partition('_')[0]}/{name}")
    except ValueError:
        return None
    return (path.well, path.site, path.t or 0, path.channel, path.z) if isinstance(path, PlanePath) else None


_PARSERS: dict[str, Callable[[str], Numbers | None]] = {
    "ImageXpressFilenameParser": _flat,
    "OMEROFilenameParser": _flat,
    "SourceSchemaFilenameParser": _flat,
    "BioFormatsFilenameParser": _flat,
    "OperaPhenixFilenameParser": _phenix,
    "OpenHCSFilenameParser": _virtual,
}
