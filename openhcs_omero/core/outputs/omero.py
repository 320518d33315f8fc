"""Results in a derived plate in OMERO, with the tables attached to it and to the source plate."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs_omero.core.outputs.base import ImageId, Output, Standing, WellNote
from openhcs_omero.core.records import DerivedPlate
from openhcs_omero.errors import RightsError
from openhcs_omero.omero.annotations import delete_text, list_texts, save_text
from openhcs_omero.omero.copying import delete_surplus_acquisitions, derived_acquisitions
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
from openhcs_omero.omero.tags import read_tags, set_tags
from openhcs_omero.omero.well_pairs import read_pairs, set_pairs
from openhcs_omero.plates.image import NewImage, WellFile
from openhcs_omero.plates.labels import RoiOptions
from openhcs_omero.plates.paths import PlatePath
from openhcs_omero.plates.structure import PlateStructure

if TYPE_CHECKING:
    from openhcs_omero.io.omero_local import OMEROLocalBackend

FILES_ONLY = ("normalised.csv",)
"""Tables that are no OMERO.tables: several columns per feature can exceed the limit of about 800 columns."""


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
    pairs
        The key-value pairs of the plate map on each well.
    tags
        The ids of the derived plate's tagged images, by tag.
    """

    namespaces: dict[str, str]
    files: dict[str, dict[str, str | None]]
    tables: dict[str, dict[str, str]]
    pairs: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    tags: dict[str, list[int]] = field(default_factory=dict)


class OMEROOutput(Output[OMEROWell, OMEROPublished]):
    """Writes results to the derived plate of `output` in OMERO, to annotations and to regions of interest."""

    well_type, published_type = OMEROWell, OMEROPublished
    name = "omero"

    def __init__(
        self, backend: OMEROLocalBackend, output: str, rois: RoiOptions, acquisition: int | str | None = None
    ) -> None:
        self.backend: OMEROLocalBackend = backend
        self._output, self._rois, self._acquisition = output, rois, acquisition

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
        notes: Mapping[str, WellNote],
        on_source: bool = False,
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
        plates = {plate: load_plate(conn, int(plate)) for plate in namespaces}
        chosen = plates[str(source)].of_acquisition(self._acquisition)
        plates[str(source)] = chosen  # the tables number the sites of the chosen acquisition
        if str(derived_id) in plates:
            wanted = [number for number, _ in chosen.acquisitions()]
            delete_surplus_acquisitions(conn, derived_id, chosen.group_id, wanted, NAMESPACE)
        for plate, ns in namespaces.items():
            own = tables if plate == str(source) else [*tables, *about]
            try:
                for table in own:
                    data = table.read_bytes()
                    if data.strip():
                        save_text(conn, "Plate", int(plate), table.name, data, ns, origin)
                    elif table.name in before[plate]:
                        delete_text(conn, "Plate", int(plate), table.name, ns)
                    if table in tables and table.name not in FILES_ONLY:
                        attach_table(conn, plates[plate], table.name, data, ns)
                if plate == str(derived_id) or on_source:
                    set_pairs(conn, plates[plate], {well: note.treatment for well, note in notes.items()})
                if plate == str(derived_id):
                    set_tags(conn, derived_id, _tagged(plates[plate], notes))
            except RightsError as error:
                if plate == str(derived_id):
                    raise
                print(f"the tables are attached to the derived plate only: {error}")
        paired = {plate for plate in namespaces if plate == str(derived_id) or on_source}
        return self._published(namespaces, paired)

    def images(self, record: OMEROWell) -> list[ImageId]:
        return [ImageId(f"site {number}", *image) for number, image in enumerate(record.images, 1)]

    def user(self) -> str:
        user = self.backend.conn.getUser()
        return str(user.getFullName() or user.getName())

    def server_version(self) -> str | None:
        return self.backend.conn.c.sf.getConfigService().getVersion()

    def standing(self, plate: PlateStructure, records: Mapping[str, OMEROWell]) -> Standing:
        derived_id = find_derived(self.backend.conn, plate.plate_id, self._output)
        if derived_id is None:
            return Standing(None, False, [])
        wells = derived_state(self.backend.conn, derived_id)
        intact = [well for well, record in records.items() if list(record.images) == wells.get(well)]
        runs = {number for number, _ in plate.acquisitions()}
        present = derived_acquisitions(self.backend.conn, derived_id, NAMESPACE) if runs else {}
        whole = set(plate.wells) <= set(wells) and runs <= set(present)
        return Standing(self._record(plate.plate_id, derived_id), whole, intact)

    def is_published(self, record: OMEROPublished) -> bool:
        return self._published(record.namespaces, record.pairs) == record

    def _published(self, namespaces: dict[str, str], paired: Collection[str]) -> OMEROPublished:
        """What is on the plates now, of what this software publishes; `paired` are those with a plate map."""
        conn = self.backend.conn
        derived_id = next((int(plate) for plate, ns in namespaces.items() if ns == NAMESPACE), None)
        return OMEROPublished(
            namespaces,
            self._files(namespaces),
            self._tables(namespaces),
            {plate: read_pairs(conn, int(plate)) for plate in sorted(paired)},
            {} if derived_id is None else read_tags(conn, derived_id),
        )

    def _files(self, namespaces: Mapping[str, str]) -> dict[str, dict[str, str | None]]:
        """The files attached to the plates in OMERO within these namespaces: plate id -> name -> SHA-1."""
        return {
            plate: {file.name: file.sha1 for file in list_texts(self.backend.conn, "Plate", int(plate), ns)}
            for plate, ns in namespaces.items()
        }

    def _tables(self, namespaces: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """The OMERO.tables attached to the plates: plate id -> name of the file -> recorded state of the table."""
        return {plate: list_tables(self.backend.conn, int(plate), ns) for plate, ns in namespaces.items()}


def _tagged(derived: PlateStructure, notes: Mapping[str, WellNote]) -> dict[str, list[int]]:
    """The ids of the images with each tag; wells without images have none."""
    tagged: dict[str, list[int]] = {}
    for name, note in notes.items():
        images = derived.wells[name].images if name in derived.wells else {}
        for tag, sites in note.tags.items():
            chosen = [image.image_id for site, image in images.items() if sites is None or site in sites]
            tagged.setdefault(tag, []).extend(chosen)
    return tagged
