"""Results in a folder, which is a plate that OpenHCS and this software can read.

results/plate_day_1_processed/openhcs_metadata.json               makes the folder an OpenHCS plate
results/plate_day_1_processed/images/A01/A01_s001_z000_c000.tif   with the backend "disk"
results/plate_day_1_processed/zarr/plate.zarr/A/1/0               with the backend "zarr"
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs_omero.core.outputs.base import ImageId, Output, Standing, WellNote
from openhcs_omero.core.records import DerivedPlate
from openhcs_omero.io.atomic import write
from openhcs_omero.io.disk import DiskBackend
from openhcs_omero.io.virtual_workspace import METADATA, DescribedImage, acquisitions_for_openhcs, images_for_openhcs
from openhcs_omero.plates.image import ImageMetadata, NewImage, WellFile
from openhcs_omero.plates.structure import PlateStructure

if TYPE_CHECKING:
    from openhcs_omero.io.base import FolderBackend

SUBFOLDERS = {"disk": "images", "zarr": "zarr"}  # of the plate's folder, by backend


@dataclass(frozen=True)
class FolderWell:
    """The record of what was written for a well; all paths are relative to the plate's folder.

    Parameters
    ----------
    planes
        Paths of the planes.
    files
        Size and modification time of each file that holds planes or was saved by a step, by path.
    images
        Numbers of timepoints, channels and z planes; channel names, colors and pixel size; by site.
    acquisitions
        Ids of the acquisitions that the images are of, by site.
    """

    planes: tuple[str, ...]
    files: dict[str, tuple[int, int] | None]
    images: dict[int, DescribedImage]
    acquisitions: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class FolderPublished:
    """The hash of the metadata that make a folder a plate; None without a plate. Nothing is attached to a folder."""

    metadata: str | None
    files: dict[str, dict[str, str]] = field(default_factory=dict)


class FolderOutput(Output[FolderWell, FolderPublished]):
    """Writes results to the workflow's folder for the source plate, which becomes a plate itself.

    Parameters
    ----------
    backend
        The backend that writes the images.
    name
        Name of the backend, which determines the subfolder for the images.
    folder
        The workflow's folder for the source plate.
    source
        Path of the source plate.
    """

    well_type, published_type = FolderWell, FolderPublished

    def __init__(self, backend: FolderBackend, name: str, folder: Path, source: str) -> None:
        self.backend: FolderBackend = backend
        self.name = name
        self._folder, self._source = folder, source
        self._images = folder / SUBFOLDERS[name]
        self._disk = DiskBackend()

    def derive(self, plate: PlateStructure, marks: Mapping[str, str]) -> DerivedPlate:
        for other in set(SUBFOLDERS.values()) - {self._images.name}:  # written by another backend
            if (self._folder / other).exists():
                (self._folder / METADATA).unlink(missing_ok=True)
                shutil.rmtree(self._folder / other)
        self.backend.ensure_directory(self._images)
        for well, path in self._files():
            if well not in plate.wells:
                self.backend.delete(path)
        return self._derived(plate)

    def _derived(self, plate: PlateStructure) -> DerivedPlate:
        return DerivedPlate(str(self._folder), str(self._images), acquisitions=plate.described_acquisitions())

    def _files(self) -> list[tuple[str, str]]:
        """The well and the path of each file."""
        paths = self.backend.list_files(self._images) if self._images.is_dir() else []
        return [(Path(path).relative_to(self._images).parts[0], path) for path in paths]

    def _files_of(self, wells: Collection[str]) -> list[str]:
        return [path for well, path in self._files() if well in wells]

    def write_well(
        self,
        derived: DerivedPlate,
        well: str,
        images: Mapping[int, NewImage],
        files: Sequence[WellFile],
        marks: Mapping[str, str],
    ) -> FolderWell:
        folder = f"{self._images}/{well}"
        planes = [
            path
            for site, image in images.items()
            for path in self.backend.save_site(image, f"{folder}/{well}_s{site:03d}.tif")
        ]
        beside = []
        for file in files:  # files are stored as plain files next to the images, whatever the backend
            start = "" if file.site is None else f"{well}_s{file.site:03d}_"
            beside.append(f"{folder}/{start}{file.name}")
            self._disk.save_bytes(file.data, beside[-1])
        labels = [
            path
            for site, image in images.items()
            for path in self.backend.save_labels(image, f"{folder}/{well}_s{site:03d}.tif")
        ]
        written = [*planes, *beside]
        for path in set(self.backend.list_files(folder)) - {*written, *map(str, labels)}:
            self.backend.delete(path)
        self.backend.list_acquisitions(self._images, derived.acquisitions)
        return FolderWell(
            tuple(map(self._relative, planes)),
            {self._relative(file): _state(file) for file in (*map(self.backend.file_of, written), *labels)},
            {
                site: (
                    image.pixels.shape[:3],
                    ImageMetadata(tuple(image.channel_names), tuple(image.colors), image.pixel_size),
                )
                for site, image in images.items()
            },
            {site: image.acquisition for site, image in images.items() if image.acquisition is not None},
        )

    def images(self, record: FolderWell) -> list[ImageId]:
        return [ImageId(path) for path in record.planes]

    def has_images(self, derived: DerivedPlate, well: str) -> bool:
        return bool(self._files_of({well}))

    def publish(
        self,
        derived: DerivedPlate,
        tables: Sequence[Path],
        about: Sequence[Path],
        wells: Mapping[str, FolderWell | None],
        marks: Mapping[str, str],
        notes: Mapping[str, WellNote],
        on_source: bool = False,
    ) -> FolderPublished:
        """Write the metadata that make the folder a plate; the tables are there, and say what `notes` does."""
        good = [record for record in wells.values() if record]
        if not good:
            return FolderPublished(self._metadata_hash())
        images = {(well, site): about for well, one in wells.items() if one for site, about in one.images.items()}
        _, first = next(iter(images.values()))
        runs = acquisitions_for_openhcs(
            derived.acquisitions, {well: record.acquisitions for well, record in wells.items() if record}
        )
        metadata = {
            "microscope_handler_name": "openhcs_omero",
            "source_filename_parser_name": "OpenHCSFilenameParser",
            "pixel_size": first.pixel_size[2],
            "z_step": first.pixel_size[0],
            "channels": {str(c): name for c, name in enumerate(first.channel_names)},
            "image_files": [path for record in good for path in record.planes],
            "available_backends": {self.name: True},
            "main": True,
            "openhcs_omero": {
                "source_plate": self._source,
                "acquisitions": runs,
                "images": images_for_openhcs(images),
                **marks,
            },
        }
        write(self._folder / METADATA, json.dumps({"subdirectories": {self._images.name: metadata}}, indent=1))
        for path in self._files_of({well for well, record in wells.items() if record is None}):
            self.backend.delete(path)
        return FolderPublished(self._metadata_hash())

    def standing(self, plate: PlateStructure, records: Mapping[str, FolderWell]) -> Standing:
        intact = [
            well
            for well, record in records.items()
            if all(_state(self._folder / file) == state for file, state in record.files.items())
        ]
        return Standing(self._derived(plate) if self._images.is_dir() else None, True, intact)

    def is_published(self, record: FolderPublished) -> bool:
        return record.metadata == self._metadata_hash()

    def _metadata_hash(self) -> str | None:
        path = self._folder / METADATA
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None

    def _relative(self, path: str | Path) -> str:
        return Path(path).relative_to(self._folder).as_posix()


def _state(file: Path) -> tuple[int, int] | None:
    """A value that changes when a file is written; None if the file does not exist."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
