"""Results in a derived plate in OMERO, with the tables attached to it and to the source plate."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs_omero.core.outputs.base import ImageId, Output, Standing, WellNote
from openhcs_omero.core.records import DerivedPlate
from openhcs_omero.errors import RightsError
from openhcs_omero.omero.annotations import delete_text, list_texts, save_text, texts_of
from openhcs_omero.omero.attachments import delete_attachments, list_attachments
from openhcs_omero.omero.copying import delete_surplus_acquisitions, derived_acquisitions
from openhcs_omero.omero.derived import (
    delete_if_empty,
    derive_plate,
    derived_state,
    find_derived,
    note_on_plate,
    plates_of,
)
from openhcs_omero.omero.derived_well import clear_wells, write_well
from openhcs_omero.omero.marks import NAMESPACE
from openhcs_omero.omero.omero_tables import attach_table, tables_of_plates
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.queries import DeletionRefused
from openhcs_omero.omero.rois import check_may_outline, delete_rois_of_plate
from openhcs_omero.omero.tags import read_tags, set_tags
from openhcs_omero.omero.well_pairs import read_pairs, set_pairs
from openhcs_omero.plates.image import NewImage, WellFile
from openhcs_omero.plates.labels import RoiOptions
from openhcs_omero.plates.paths import PlatePath
from openhcs_omero.plates.structure import PlateStructure

if TYPE_CHECKING:
    from openhcs_omero.io.omero_local import OMEROLocalBackend


TABLE_BYTES = 2**30
"""The size of a CSV file that becomes an OMERO.table, which takes the server minutes."""


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


@dataclass(frozen=True)
class _Target:
    """A plate that files are attached to.

    Parameters
    ----------
    namespace
        Namespace of the files.
    prefix
        Put before their names: the source plate has the files of all outputs.
    derived
        Whether it is the derived plate.
    """

    plate_id: int
    namespace: str
    prefix: str
    derived: bool

    @contextmanager
    def if_permitted(self) -> Iterator[None]:
        """Stop attaching if the user may not annotate the source plate; the derived plate is the user's own."""
        try:
            yield
        except RightsError as error:
            if self.derived:
                raise
            print(f"the tables are attached to the derived plate only: {error}")


class OMEROOutput(Output[OMEROWell, OMEROPublished]):
    """Writes results to the derived plate of `output` in OMERO, to annotations and to regions of interest."""

    well_type, published_type = OMEROWell, OMEROPublished
    name = "omero"

    def __init__(
        self, backend: OMEROLocalBackend, output: str, rois: RoiOptions, acquisition: int | str | None = None
    ) -> None:
        self.backend: OMEROLocalBackend = backend
        self._output, self._rois, self._acquisition = output, rois, acquisition
        self._is_derived = False  # as far as is known

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

    def has_images(self, derived: DerivedPlate, well: str) -> bool:
        return bool(derived_state(self.backend.conn, int(derived.derived_plate)).get(well))

    def attach_tables(self, derived: DerivedPlate, tables: Sequence[Path]) -> list[str]:
        """Attach tables of features and of objects to both plates as OMERO.tables, unless they are too large."""
        notes: list[str] = []
        for target in self._targets(derived):
            structure = self._structure(target)
            said: list[str] = []
            with target.if_permitted():
                for table in tables:
                    name, large = target.prefix + table.name, table.stat().st_size > TABLE_BYTES
                    if large:
                        said.append(f"{name} is not an OMERO.table, because it has more than {TABLE_BYTES >> 30} GB")
                    attach_table(
                        self.backend.conn, structure, name, b"" if large else table, target.namespace, said.append
                    )
            notes += [note.removeprefix(target.prefix) for note in said]
        return list(dict.fromkeys(notes))  # they are the same for both plates

    def publish(
        self,
        derived: DerivedPlate,
        tables: Sequence[Path],
        about: Sequence[Path],
        wells: Mapping[str, OMEROWell | None],
        marks: Mapping[str, str],
        notes: Mapping[str, WellNote],
        on_source: bool = False,
    ) -> OMEROPublished:
        """Attach the files to the source plate and the derived plate.

        On the source plate the names of the files start with that of the output. An empty table is not attached, and an
        attached version of it is removed. If the user may read but not annotate the source plate, only the derived
        plate gets the files. If all wells failed, a derived plate without any image is deleted.
        """
        conn, targets, derived_id = self.backend.conn, self._targets(derived), int(derived.derived_plate)
        paired = {str(target.plate_id) for target in targets if target.derived or on_source}
        source_id, failed = targets[1].plate_id, [well for well, record in wells.items() if record is None]
        if len(failed) == len(wells):
            if delete_if_empty(conn, derived_id):
                delete_attachments(conn, list_attachments(conn, source_id, self._output))
            return self._published({str(target.plate_id): target.namespace for target in targets}, paired)
        clear_wells(conn, derived_id, failed)
        note_on_plate(conn, derived_id, marks)
        chosen = self._structure(targets[1])
        wanted = [number for number, _ in chosen.acquisitions()]
        delete_surplus_acquisitions(conn, derived_id, chosen.group_id, wanted, NAMESPACE)
        outlined = [well for well in wells if well not in failed] if self._rois.on == "both" else []
        delete_rois_of_plate(conn, chosen.group_id, f"plate_{source_id}_{self._output}", outlined)
        for target in targets:
            with target.if_permitted():
                self._attach_files(target, [*tables, *about] if target.derived else tables, derived)
                structure = self._structure(target)
                if target.derived or on_source:
                    set_pairs(conn, structure, {well: note.treatment for well, note in notes.items()})
                if target.derived:
                    set_tags(conn, derived_id, _tagged(structure, notes))
        current = {targets[1].prefix + table.name for table in tables if table.stat().st_size}
        outdated = [one for one in list_attachments(conn, source_id, self._output) if one.file_name not in current]
        delete_attachments(conn, outdated)
        return self._published({str(target.plate_id): target.namespace for target in targets}, paired)

    def _structure(self, target: _Target) -> PlateStructure:
        """The plate as it is now; of the source plate the chosen acquisition, whose sites the tables number."""
        structure = load_plate(self.backend.conn, target.plate_id, require_images=False)
        return structure if target.derived else structure.of_acquisition(self._acquisition)

    def _attach_files(self, target: _Target, files: Sequence[Path], derived: DerivedPlate) -> None:
        conn, origin = self.backend.conn, f"from {derived.path.rpartition('/')[2]}"
        there = {text.name for text in list_texts(conn, "Plate", target.plate_id, target.namespace)}
        for file in files:
            name = target.prefix + file.name
            if file.stat().st_size:
                save_text(conn, "Plate", target.plate_id, name, file, target.namespace, origin)
            elif name in there:
                delete_text(conn, "Plate", target.plate_id, name, target.namespace)

    def clean_up(self, source: PlateStructure) -> None:
        """Delete this user's attachments on the source plate whose derived plate was deleted, in OMERO.web for example.

        Attachments are published after their derived plate was created, so none of a running workflow is deleted.
        """
        conn = self.backend.conn
        assert source.plate_id is not None
        there = list_attachments(conn, source.plate_id)
        outputs = {one.output for one in there} - ({self._output} if self._is_derived else set())
        gone = {output for output in outputs if not plates_of(conn, source.plate_id, output)}
        try:
            for output in gone:
                delete_rois_of_plate(conn, int(source.group_id or 0), f"plate_{source.plate_id}_{output}")
            delete_attachments(conn, [one for one in there if one.output in gone])
        except DeletionRefused as error:  # the run itself does not need this
            print(f"attachments of deleted plates stay on plate {source.plate_id}: {error}", file=sys.stderr)

    def _targets(self, derived: DerivedPlate) -> list[_Target]:
        """The derived plate and the source plate."""
        assert derived.source_plate is not None
        return [
            _Target(int(derived.derived_plate), NAMESPACE, "", True),
            _Target(derived.source_plate, f"{NAMESPACE}/{self._output}", f"{self._output}_", False),
        ]

    def images(self, record: OMEROWell) -> list[ImageId]:
        return [ImageId(f"site {number}", *image) for number, image in enumerate(record.images, 1)]

    def user(self) -> str:
        user = self.backend.conn.getUser()
        return str(user.getFullName() or user.getName())

    def server_version(self) -> str | None:
        return self.backend.conn.c.sf.getConfigService().getVersion()

    def standing(self, plate: PlateStructure, records: Mapping[str, OMEROWell]) -> Standing:
        derived_id = find_derived(self.backend.conn, plate.plate_id, self._output)
        self._is_derived = derived_id is not None
        if derived_id is None:
            return Standing(None, False, [])
        wells = derived_state(self.backend.conn, derived_id)
        intact = [well for well, record in records.items() if list(record.images) == wells.get(well)]
        runs = {number for number, _ in plate.acquisitions()}
        present = derived_acquisitions(self.backend.conn, derived_id, NAMESPACE) if runs else {}
        whole = set(plate.wells) <= set(wells) and runs <= set(present)
        return Standing(self._record(plate.plate_id, derived_id), whole, intact)

    def is_published(self, record: OMEROPublished) -> bool:
        # without a plate map or hits, nothing was written that could be lost, and OMERO need not be asked
        paired = {plate: pairs for plate, pairs in record.pairs.items() if pairs}
        return self._published(record.namespaces, paired, bool(record.tags)) == replace(record, pairs=paired)

    def _published(self, namespaces: dict[str, str], paired: Collection[str], tagged: bool = True) -> OMEROPublished:
        """What is on the plates now, of what this software publishes; `paired` are those with a plate map."""
        conn = self.backend.conn
        by_id = {int(plate): ns for plate, ns in namespaces.items()}
        derived_id = next((plate for plate, ns in by_id.items() if ns == NAMESPACE), None)
        texts = texts_of(conn, "Plate", list(by_id), by_id)
        return OMEROPublished(
            namespaces,
            {str(plate): {file.name: file.sha1 for file in files} for plate, files in texts.items()},
            {str(plate): tables for plate, tables in tables_of_plates(conn, by_id).items()},
            {plate: read_pairs(conn, int(plate)) for plate in sorted(paired)},
            read_tags(conn, derived_id) if tagged and derived_id is not None else {},
        )


def _tagged(derived: PlateStructure, notes: Mapping[str, WellNote]) -> dict[str, list[int]]:
    """The ids of the images with each tag; wells without images have none."""
    tagged: dict[str, list[int]] = {}
    for name, note in notes.items():
        images = derived.wells[name].images if name in derived.wells else {}
        for tag, sites in note.tags.items():
            chosen = [image.image_id for site, image in images.items() if sites is None or site in sites]
            tagged.setdefault(tag, []).extend(chosen)
    return tagged
