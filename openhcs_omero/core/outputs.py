"""Where the results of a plate go: into a derived plate in OMERO, or into a folder that is a plate itself.

    results/plate_day_1_processed/openhcs_metadata.json               makes it a plate, as OpenHCS has them
    results/plate_day_1_processed/images/A01/A01_s001_z000_c000.tif   on disk
    results/plate_day_1_processed/zarr/plate.zarr/A/1/0               in Zarr

What an output notes of its doings is a record, a dict that goes into a file as JSON; from the records it can tell
later what is still there as it was written.
"""
from __future__ import annotations

import hashlib
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs_omero.core.files import write
from openhcs_omero.errors import RightsError
from openhcs_omero.io.disk import DiskBackend
from openhcs_omero.io.virtual_workspace import METADATA
from openhcs_omero.io.zarr import ZarrBackend
from openhcs_omero.omero.annotations import delete_text, list_texts, save_text
from openhcs_omero.omero.derived import NAMESPACE, derive_plate, derived_state, find_derived, write_well
from openhcs_omero.omero.paths import VirtualPath
from openhcs_omero.omero.pixels import NewImage, storable
from openhcs_omero.omero.plate import PlateStructure, load_plate
from openhcs_omero.omero.tables import attach_table, list_tables

if TYPE_CHECKING:
    from openhcs_omero.core.staging import StagedFiles
    from openhcs_omero.io.base import StorageBackend
    from openhcs_omero.io.omero_local import OMEROLocalBackend

Record = dict[str, Any]
SUBFOLDERS = {"disk": "images", "zarr": "zarr"}  # of a folder that is a plate, by backend


@dataclass(frozen=True)
class Standing:
    """What is there of a plate's results.

    Parameters
    ----------
    derived
        The record of the derived plate as it is now; None where there is none.
    complete
        Whether it has a place for each of the wells.
    intact
        The wells whose images and files are as their records say.
    """

    derived: Record | None
    complete: bool
    intact: Collection[str]


class Output(ABC):
    """Where the results of a plate go.

    The record of a derived plate has `derived_plate` (OMERO's id, or a folder) and `path`, below which steps save their
    files.
    """

    backend: StorageBackend
    name: str
    """The backend's, as steps are told."""

    @abstractmethod
    def derive(self, plate: PlateStructure, marks: Mapping[str, str]) -> Record:
        """Make the derived plate with the wells of `plate`, or bring it up to date."""

    @abstractmethod
    def write_well(self, derived: Record, well: str, images: Mapping[int, NewImage], files: StagedFiles,
                   marks: Mapping[str, str]) -> Record:
        """Write a well's images by site, and the files that the steps saved, in the place of what is there."""

    @abstractmethod
    def publish(self, derived: Record, tables: Sequence[Path], wells: Sequence[Record],
                marks: Mapping[str, str]) -> Record:
        """Put the tables where people look for them, when all wells are written.

        Parameters
        ----------
        wells
            The records of the wells.

        Returns
        -------
        dict
            `files`: names of attached files and their hashes, by id of the plate.
        """

    @abstractmethod
    def standing(self, plate: PlateStructure, records: Mapping[str, Record]) -> Standing:
        """What is there, compared with the records of wells."""

    @abstractmethod
    def is_published(self, record: Record) -> bool:
        """Whether what `publish` noted is there as it was."""


class OMEROOutput(Output):
    """The derived plate of `output` in OMERO, and annotations."""

    name = "omero"

    def __init__(self, backend: OMEROLocalBackend, output: str) -> None:
        self.backend: OMEROLocalBackend = backend
        self._output = output

    def _record(self, source: int, derived_id: int) -> Record:
        return {"derived_plate": derived_id, "source_plate": source, "path": str(VirtualPath(source, self._output))}

    def derive(self, plate: PlateStructure, marks: Mapping[str, str]) -> Record:
        made = derive_plate(self.backend.conn, plate, self._output, marks, list(plate.wells))
        return self._record(plate.plate_id, made)

    def write_well(self, derived: Record, well: str, images: Mapping[int, NewImage], files: StagedFiles,
                   marks: Mapping[str, str]) -> Record:
        written = write_well(self.backend.conn, derived["derived_plate"], well, images, marks)
        for path, data in files.files.items():
            place = VirtualPath.parse(path)
            if place.site is None:
                self.backend.save(data, path)
            else:
                save_text(self.backend.conn, "Image", written[place.site]["image_id"], str(place.name), data)
        ids = [[written[site]["image_id"], written[site]["sha1"]] for site in sorted(written)]
        return {"derived_plate": derived["derived_plate"], "images": ids}

    def publish(self, derived: Record, tables: Sequence[Path], wells: Sequence[Record],
                marks: Mapping[str, str]) -> Record:
        """Attach the tables to the source plate and to the derived one, as files and those of features as OMERO.tables.

        An empty table is not attached, and taken off. Where the user may read the source plate and not annotate it,
        only the derived one gets them.
        """
        conn, derived_id, source = self.backend.conn, str(derived["derived_plate"]), str(derived["source_plate"])
        # two outputs of one plate don't replace each other's tables
        namespaces = {derived_id: NAMESPACE, source: f"{NAMESPACE}/{self._output}"}
        before = self._files(namespaces)
        for plate, ns in namespaces.items():
            structure = load_plate(conn, int(plate))
            try:
                for table in tables:
                    data = table.read_bytes()
                    if data.strip():
                        about = f"from {derived['path'].rpartition('/')[2]}"
                        save_text(conn, "Plate", int(plate), table.name, data, ns, about)
                    elif table.name in before[plate]:
                        delete_text(conn, "Plate", int(plate), table.name, ns)
                    attach_table(conn, structure, table.name, data, ns)
            except RightsError as error:
                if plate == derived_id:
                    raise
                print(f"the tables are on the derived plate alone: {error}")
        return {"namespaces": namespaces, "files": self._files(namespaces), "tables": self._tables(namespaces)}

    def standing(self, plate: PlateStructure, records: Mapping[str, Record]) -> Standing:
        derived_id = find_derived(self.backend.conn, plate.plate_id, self._output)
        if derived_id is None:
            return Standing(None, False, [])
        wells = derived_state(self.backend.conn, derived_id)
        intact = [well for well, record in records.items()
                  if [tuple(image) for image in record.get("images", [])] == wells.get(well)]
        return Standing(self._record(plate.plate_id, derived_id), set(plate.wells) <= set(wells), intact)

    def is_published(self, record: Record) -> bool:
        namespaces = record["namespaces"]
        return self._files(namespaces) == record["files"] and self._tables(namespaces) == record.get("tables")

    def _files(self, namespaces: Mapping[str, str]) -> dict[str, dict[str, str | None]]:
        """The files that OMERO has on the plates, by plate id and namespace: name -> SHA-1."""
        return {plate: {file.name: file.sha1 for file in list_texts(self.backend.conn, "Plate", int(plate), ns)}
                for plate, ns in namespaces.items()}

    def _tables(self, namespaces: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """The OMERO.tables of these files: the file's name -> what is noted of the table."""
        return {plate: list_tables(self.backend.conn, int(plate), ns) for plate, ns in namespaces.items()}


class FolderOutput(Output):
    """A folder that is a plate: the workflow's own about the source plate.

    Parameters
    ----------
    backend
        What writes the images.
    name
        Its name, and in the plate that of the folder with the images.
    source
        Path of the source plate.
    """

    def __init__(self, backend: StorageBackend, name: str, folder: Path, source: str) -> None:
        self.backend, self.name = backend, name
        self._folder, self._source = folder, source
        self._images = folder / SUBFOLDERS[name]
        self._disk = DiskBackend()
        self._derived = {"derived_plate": str(folder), "path": str(self._images)}

    def derive(self, plate: PlateStructure, marks: Mapping[str, str]) -> Record:
        for other in set(SUBFOLDERS.values()) - {self._images.name}:  # what another backend wrote
            if (self._folder / other).exists():
                (self._folder / METADATA).unlink(missing_ok=True)
                shutil.rmtree(self._folder / other)
        self.backend.ensure_directory(self._images)
        for path in self.backend.list_files(self._images):
            if Path(path).relative_to(self._images).parts[0] not in plate.wells:
                self.backend.delete(path)
        return self._derived

    def write_well(self, derived: Record, well: str, images: Mapping[int, NewImage], files: StagedFiles,
                   marks: Mapping[str, str]) -> Record:
        planes: dict[str, np.ndarray] = {}
        for site, image in images.items():
            pixels = storable(image.pixels, image.name)
            place = f"{self._images}/{well}/{well}_s{site:03d}"
            several = len(pixels) > 1
            own = {f"{place}_z{z:03d}_c{c:03d}{f'_t{t:03d}' if several else ''}.tif": pixels[t, c, z]
                   for t, c, z in np.ndindex(pixels.shape[:3])}
            if isinstance(self.backend, ZarrBackend):  # a site is one array, replaced as a whole
                self.backend.save(pixels, f"{place}.tif")
                self.backend.describe(f"{place}.tif", image.channel_names, image.colors, image.pixel_size)
            else:
                self.backend.save_batch(list(own.values()), list(own))
            planes |= own
        for path, data in files.files.items():  # beside the images, files are files on every backend
            self._disk.save_bytes(data, path)
        written = [*planes, *files.files]
        for path in set(self.backend.list_files(f"{self._images}/{well}")) - set(written):
            self.backend.delete(path)
        first = images[min(images)]
        return {"planes": [self._relative(path) for path in planes],
                "files": {self._relative(file): _state(file) for file in map(self._file_of, written)},
                "channels": list(first.channel_names), "pixel_size": list(first.pixel_size)}

    def publish(self, derived: Record, tables: Sequence[Path], wells: Sequence[Record],
                marks: Mapping[str, str]) -> Record:
        """Write the metadata that make the folder a plate; the tables are in it already."""
        first = wells[0]
        about = {
            "microscope_handler_name": "openhcs_omero", "source_filename_parser_name": "OpenHCSFilenameParser",
            "pixel_size": first["pixel_size"][2], "z_step": first["pixel_size"][0],
            "channels": {str(c): name for c, name in enumerate(first["channels"])},
            "image_files": [path for well in wells for path in well["planes"]],
            "available_backends": {self.name: True}, "main": True,
            "openhcs_omero": {"source_plate": self._source, **marks},
        }
        write(self._folder / METADATA, json.dumps({"subdirectories": {self._images.name: about}}, indent=1))
        return {"files": {}, "metadata": self._metadata_hash()}

    def standing(self, plate: PlateStructure, records: Mapping[str, Record]) -> Standing:
        intact = [well for well, record in records.items()
                  if record.get("files") and all(_state(self._folder / file) == state
                                                 for file, state in record["files"].items())]
        return Standing(self._derived if self._images.is_dir() else None, True, intact)

    def is_published(self, record: Record) -> bool:
        return record.get("metadata") == self._metadata_hash()

    def _metadata_hash(self) -> str | None:
        path = self._folder / METADATA
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None

    def _file_of(self, path: str) -> Path:
        return self.backend.file_of(path) if isinstance(self.backend, ZarrBackend) else Path(path)

    def _relative(self, path: str | Path) -> str:
        return Path(path).relative_to(self._folder).as_posix()


def _state(file: Path) -> list[int] | None:
    """What changes when a file is written; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
