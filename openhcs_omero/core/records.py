"""The workflow's own files about a plate: dataclasses that are stored as JSON.

state.json             what the head process learned about the plate (state.py)
wells.json             by well: its images, their ids and hashes, and its files; the well's job reads this
wells.tsv              the chosen wells, one row per well
derived.json           where the results go
processed/<WELL>.zip   what the well's job found (well_file.py)
annotations.json       what is attached to the plates (outputs/)
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from openhcs_omero.plates.image import Acquired, ImageMetadata
from openhcs_omero.plates.listing import PlateListing
from openhcs_omero.plates.structure import Acquisition, ImageStructure, PlateStructure, WellStructure, with_wells

Kind = TypeVar("Kind")


def to_json(record: Any, kind: Any = None, indent: int | None = None) -> str:
    """Convert a record to JSON; `kind` is needed for records of a generic type such as ``dict[str, WellRecord]``."""
    adapter: TypeAdapter[Any] = _adapter(kind or type(record))  # type: ignore[arg-type]  # types are hashable
    return adapter.dump_json(record, indent=indent).decode()


def read_record(path: Path, kind: type[Kind]) -> Kind | None:
    """Read a record from a JSON file; None if the file is missing, damaged or a record of another kind."""
    try:
        return parse_record(path.read_bytes(), kind)
    except OSError:
        return None


def parse_record(content: bytes, kind: type[Kind]) -> Kind | None:
    """Parse a record; None if it is damaged or of another kind."""
    adapter: TypeAdapter[Kind] = _adapter(kind)  # type: ignore[arg-type]  # types are hashable
    try:
        return adapter.validate_json(content)
    except ValueError:  # pydantic's errors are ValueErrors
        return None


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@dataclass(frozen=True)
class WellRecord:
    """Everything that a well's job needs for reading the well; changes when the well's images do.

    For a plate in a folder, this includes the files, channel names and pixel size. For a plate in OMERO, the job asks
    the server for the channel names and pixel size.

    Parameters
    ----------
    row, column
        Position of the well, from 0.
    plate_id
        OMERO id of the plate; None for a folder.
    images
        In the order of the sites.
    files
        (t, c, z, path) of each plane, by site. Paths are relative to the plate's folder, so that it can be moved.
    filled
        (t, c, z) of the planes that were not acquired, by site.
    colors
        Colors of the channels.
    own
        Channel names, colors and pixel size of images that have others, by site.
    recorded
        When and where images were taken, by site.
    """

    well: str
    row: int
    column: int
    plate_id: int | None
    backend: str
    images: tuple[ImageStructure, ...]
    files: dict[int, tuple[tuple[int, int, int, str], ...]] = field(default_factory=dict)
    channel_names: tuple[str | None, ...] = ()
    pixel_size: tuple[float | None, float | None, float | None] = (None, None, None)
    filled: dict[int, tuple[tuple[int, int, int], ...]] = field(default_factory=dict)
    colors: tuple[tuple[int, int, int] | None, ...] = ()
    own: dict[int, ImageMetadata] = field(default_factory=dict)
    recorded: dict[int, Acquired] = field(default_factory=dict)

    @classmethod
    def of(cls, plate_path: str, listing: PlateListing, well: str) -> WellRecord:
        """Make the record of a well from the plate's listing; acquisitions are named as in the tables."""
        structure, labels = listing.structure.wells[well], listing.structure.acquisition_labels
        images = tuple(_labeled(structure.images[site], labels) for site in sorted(structure.images))
        filled = {
            site: tuple(sorted(planes)) for site in structure.images if (planes := listing.filled.get((well, site)))
        }
        plate_id, backend = listing.structure.plate_id, str(listing.backend)
        record = cls(well, structure.row, structure.col, plate_id, backend, images, filled=filled)
        if not listing.files:
            return record
        files = {
            site: tuple((*place, _inside(plate_path, path)) for place, path in listing.files[well, site].items())
            for site in structure.images
        }
        return replace(
            record,
            files=files,
            channel_names=listing.channel_names,
            pixel_size=listing.pixel_size,
            colors=listing.colors,
            own={site: listing.own[well, site] for site in structure.images if (well, site) in listing.own},
            recorded={
                site: listing.recorded[well, site] for site in structure.images if (well, site) in listing.recorded
            },
        )


def recorded_listing(records: Mapping[str, WellRecord], plate_path: str) -> PlateListing:
    """The listing of a plate, limited to the wells with these records."""
    first = next(iter(records.values()))
    wells = {
        well: WellStructure(well, record.row, record.column, {image.site: image for image in record.images})
        for well, record in records.items()
    }
    structure = PlateStructure(first.plate_id, "", "", {}, set(), 0, 0, 0, 0, name=Path(plate_path).name)
    return PlateListing(
        with_wells(structure, wells),
        first.backend,
        {
            (well, site): {(t, c, z): os.path.join(plate_path, path) for t, c, z, path in planes}
            for well, record in records.items()
            for site, planes in record.files.items()
        },
        first.channel_names,
        first.pixel_size,
        {(well, site): frozenset(planes) for well, record in records.items() for site, planes in record.filled.items()},
        colors=first.colors,
        own={(well, site): about for well, record in records.items() for site, about in record.own.items()},
        recorded={(well, site): when for well, record in records.items() for site, when in record.recorded.items()},
    )


def _labeled(image: ImageStructure, labels: dict[int, str]) -> ImageStructure:
    if image.acquisition is None:
        return image
    return replace(image, acquisition=(image.acquisition[0], labels[image.acquisition[0]]))


def _inside(plate_path: str, path: str) -> str:
    return str(Path(path).relative_to(plate_path)) if Path(path).is_relative_to(plate_path) else path


@dataclass(frozen=True)
class DerivedPlate:
    """Where the results of a plate go.

    Parameters
    ----------
    derived_plate
        OMERO id of the derived plate, or its folder.
    path
        Path of the derived plate, below which steps save their files.
    source_plate
        OMERO id of the source plate; None if the results go to a folder.
    acquisitions
        Those of a plate in a folder; in OMERO, the derived plate has them already.
    """

    derived_plate: int | str
    path: str
    source_plate: int | None = None
    acquisitions: tuple[Acquisition, ...] = ()
