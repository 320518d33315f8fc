"""Results in a derived plate in OMERO, with the tables attached to it and to the source plate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs_omero.core.outputs.base import Output, Standing
from openhcs_omero.core.records import DerivedPlate
from openhcs_omero.errors import RightsError
from openhcs_omero.omero.annotations import delete_text, list_texts, save_text
from openhcs_omero.omero.derived import (
    NAMESPACE,
    delete_if_empty,
    derive_plate,
    derived_state,
    find_derived,
    note_on_plate,
)
from openhcs_omero.omero.derived_well import write_well
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.rois import check_may_outline
from openhcs_omero.omero.tables import attach_table, list_tables
from openhcs_omero.plates.image import NewImage, WellFile
from openhcs_omero.plates.labels import RoiOptions
from openhcs_omero.plates.paths import PlatePath
from openhcs_omero.plates.structure import PlateStructure

if TYPE_CHECKING:
    from openhcs_omero.io.omero_local import OMEROLocalBackend


@dataclass(frozen=True)
class OMEROWell:
    """The record of what was written for a well: id and SHA-1 of each derived image, in the order of the sites."""

    derived_plate: int
    images: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class OMEROPublished:
    """The record of what is attached to the plates, by plate id.

    Parameters
    ----------
    namespaces
        Namespaces of the attached files.
    files
        SHA-1 of each file, by name.
    tables
        The recorded state of each OMERO.table, by the name of its file.
    """

    namespaces: dict[str, str]
    files: dict[str, dict[str, str | None]]
    tables: dict[str, dict[str, str]]


class OMEROOutput(Output[OMEROWell, OMEROPublished]):
    """Writes results to the derived plate of `output` in OMERO, to annotations and to regions of interest."""

    well_type, published_type = OMEROWell, OMEROPublished
    name = "omero"

    def __init__(self, backend: OMEROLocalBackend, output: str, rois: RoiOptions) -> None:
        self.backend: OMEROLocalBackend = backend
        self._output, self._rois = output, rois

    def _record(self, source: int, derived_id: int) -> DerivedPlate:
        return DerivedPlate(derived_id, str(PlatePath(source, self._output)), source)

    def derive(self, plate: PlateStructure, marks: Mapping[str, str]) -> DerivedPlate:
        if self._rois.on == "both":
            check_may_outline(self.backend.conn, plate.plate_id)
        made = derive_plate(self.backend.conn, plate, self._output, marks, list(plate.wells))
        return self._record(plate.plate_id, made)

    def write_well(
        self,
        derived: DerivedPlate,
        well: str,
        images: Mapping[int, NewImage],
        files: Sequence[WellFile],
        marks: Mapping[str, str],
    ) -> OMEROWell:
        derived_id = int(derived.derived_plate)
        written = write_well(self.backend.conn, derived_id, well, images, marks, files, rois=self._rois)
        return OMEROWell(derived_id, tuple((written[site].image_id, written[site].sha1) for site in sorted(written)))

    def publish(
        self,
        derived: DerivedPlate,
        tables: Sequence[Path],
        about: Sequence[Path],
        wells: Sequence[OMEROWell],
        marks: Mapping[str, str],
    ) -> OMEROPublished:
        """Attach the tables to the source plate and the derived plate as files, and tables of features as OMERO.tables.

        An empty table is not attached, and an attached version of it is removed. If the user may read but not annotate
        the source plate, only the derived plate gets the tables. A derived plate without any image is deleted, because
        all of its wells failed.
        """
        conn, derived_id, source = self.backend.conn, int(derived.derived_plate), derived.source_plate
        # two outputs of one plate must not replace each other's tables
        namespaces = {str(derived_id): NAMESPACE, str(source): f"{NAMESPACE}/{self._output}"}
        before = self._files(namespaces)
        origin = f"from {derived.path.rpartition('/')[2]}"
        if not wells and delete_if_empty(conn, derived_id):
            del namespaces[str(derived_id)]
        else:
            note_on_plate(conn, derived_id, marks)
        for plate, ns in namespaces.items():
            structure = load_plate(conn, int(plate))
            own = tables if plate == str(source) else [*tables, *about]
            try:
                for table in own:
                    data = table.read_bytes()
                    if data.strip():
                        save_text(conn, "Plate", int(plate), table.name, data, ns, origin)
                    elif table.name in before[plate]:
                        delete_text(conn, "Plate", int(plate), table.name, ns)
                    if table in tables:
                        attach_table(conn, structure, table.name, data, ns)
            except RightsError as error:
                if plate == str(derived_id):
                    raise
                print(f"the tables are attached to the derived plate only: {error}")
        return OMEROPublished(namespaces, self._files(namespaces), self._tables(namespaces))

    def server_version(self) -> str | None:
        return self.backend.conn.c.sf.getConfigService().getVersion()

    def standing(self, plate: PlateStructure, records: Mapping[str, OMEROWell]) -> Standing:
        derived_id = find_derived(self.backend.conn, plate.plate_id, self._output)
        if derived_id is None:
            return Standing(None, False, [])
        wells = derived_state(self.backend.conn, derived_id)
        intact = [well for well, record in records.items() if list(record.images) == wells.get(well)]
        return Standing(self._record(plate.plate_id, derived_id), set(plate.wells) <= set(wells), intact)

    def is_published(self, record: OMEROPublished) -> bool:
        there = OMEROPublished(record.namespaces, self._files(record.namespaces), self._tables(record.namespaces))
        return there == record

    def _files(self, namespaces: Mapping[str, str]) -> dict[str, dict[str, str | None]]:
        """The files attached to the plates in OMERO within these namespaces: plate id -> name -> SHA-1."""
        return {
            plate: {file.name: file.sha1 for file in list_texts(self.backend.conn, "Plate", int(plate), ns)}
            for plate, ns in namespaces.items()
        }

    def _tables(self, namespaces: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """The OMERO.tables attached to the plates: plate id -> name of the file -> recorded state of the table."""
        return {plate: list_tables(self.backend.conn, int(plate), ns) for plate, ns in namespaces.items()}
