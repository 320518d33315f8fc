"""Where the results of a plate go: into a derived plate in OMERO, or into a folder that is a plate itself.

    results/plate_day_1_processed/openhcs_metadata.json               makes it a plate, as OpenHCS has them
    results/plate_day_1_processed/images/A01/A01_s001_z000_c000.tif   on disk
    results/plate_day_1_processed/zarr/plate.zarr/A/1/0               in Zarr

What an output notes of its doings is a record, a dict that goes into a file as JSON; from the records it can tell
later what is still there as it was written.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs_omero.core.outputs.base import Output, Record, Standing
from openhcs_omero.errors import RightsError
from openhcs_omero.omero.annotations import delete_text, list_texts, save_text
from openhcs_omero.omero.derived import (
    NAMESPACE,
    delete_if_empty,
    derive_plate,
    derived_state,
    find_derived,
    note_on_plate,
    write_well,
)
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.tables import attach_table, list_tables
from openhcs_omero.plates.image import NewImage, WellFile
from openhcs_omero.plates.paths import PlatePath
from openhcs_omero.plates.structure import PlateStructure

if TYPE_CHECKING:
    from openhcs_omero.io.omero_local import OMEROLocalBackend


class OMEROOutput(Output):
    """The derived plate of `output` in OMERO, and annotations."""

    name = "omero"

    def __init__(self, backend: OMEROLocalBackend, output: str) -> None:
        self.backend: OMEROLocalBackend = backend
        self._output = output

    def _record(self, source: int, derived_id: int) -> Record:
        return {"derived_plate": derived_id, "source_plate": source, "path": str(PlatePath(source, self._output))}

    def derive(self, plate: PlateStructure, marks: Mapping[str, str]) -> Record:
        made = derive_plate(self.backend.conn, plate, self._output, marks, list(plate.wells))
        return self._record(plate.plate_id, made)

    def write_well(self, derived: Record, well: str, images: Mapping[int, NewImage], files: Sequence[WellFile],
                   marks: Mapping[str, str]) -> Record:
        written = write_well(self.backend.conn, derived["derived_plate"], well, images, marks, files)
        ids = [[written[site].image_id, written[site].sha1] for site in sorted(written)]
        return {"derived_plate": derived["derived_plate"], "images": ids}

    def publish(self, derived: Record, tables: Sequence[Path], about: Sequence[Path], wells: Sequence[Record],
                marks: Mapping[str, str]) -> Record:
        """Attach the tables to the source plate and to the derived one, as files and those of features as OMERO.tables.

        An empty table is not attached, and an attached one is removed. If the user may read the source plate and not
        annotate it, only the derived one gets them. A derived plate without any image is deleted: all wells failed.
        """
        conn, derived_id, source = self.backend.conn, derived["derived_plate"], derived["source_plate"]
        # two outputs of one plate don't replace each other's tables
        namespaces = {str(derived_id): NAMESPACE, str(source): f"{NAMESPACE}/{self._output}"}
        before = self._files(namespaces)
        origin = f"from {derived['path'].rpartition('/')[2]}"
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
                print(f"the tables are on the derived plate alone: {error}")
        return {"namespaces": namespaces, "files": self._files(namespaces), "tables": self._tables(namespaces)}

    def server_version(self) -> str | None:
        return self.backend.conn.c.sf.getConfigService().getVersion()

    def standing(self, plate: PlateStructure, records: Mapping[str, Record]) -> Standing:
        derived_id = find_derived(self.backend.conn, plate.plate_id, self._output)
        if derived_id is None:
            return Standing(None, False, [])
        wells = derived_state(self.backend.conn, derived_id)
        intact = [well for well, record in records.items()
                  if record.get("images") and [tuple(image) for image in record["images"]] == wells.get(well)]
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
