"""What the workflow asks of every place that results go to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from openhcs_omero.core.records import DerivedPlate
from openhcs_omero.plates.image import NewImage, WellFile
from openhcs_omero.plates.structure import PlateStructure

if TYPE_CHECKING:
    from openhcs_omero.io.base import StorageBackend


WellT = TypeVar("WellT")
PublishedT = TypeVar("PublishedT")


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

    derived: DerivedPlate | None
    complete: bool
    intact: Collection[str]


class Output(ABC, Generic[WellT, PublishedT]):
    """Where the results of a plate go.

    An output notes in records what it did. From the records it can tell later what is still there as it was written.
    """

    well_type: type[WellT]
    """The record of a well."""
    published_type: type[PublishedT]
    """The record of what was published; its `files` are the names and hashes of attached files, by id of the plate."""
    backend: StorageBackend
    name: str
    """The backend's, as steps are told."""

    @abstractmethod
    def derive(self, plate: PlateStructure, marks: Mapping[str, str]) -> DerivedPlate:
        """Make the derived plate with the wells of `plate`, or bring it up to date."""

    @abstractmethod
    def write_well(
        self,
        derived: DerivedPlate,
        well: str,
        images: Mapping[int, NewImage],
        files: Sequence[WellFile],
        marks: Mapping[str, str],
    ) -> WellT:
        """Replace a well's images, and write the files that the steps saved."""

    @abstractmethod
    def publish(
        self,
        derived: DerivedPlate,
        tables: Sequence[Path],
        about: Sequence[Path],
        wells: Sequence[WellT],
        marks: Mapping[str, str],
    ) -> PublishedT:
        """Put the tables where people look for them, when the wells are written.

        Parameters
        ----------
        tables
            What was measured.
        about
            Other files about the results, for the derived plate alone.
        wells
            The records of the wells that have results.
        """

    def server_version(self) -> str | None:
        """Version of the OMERO server that the results go to; None if they go to a folder."""
        return None

    @abstractmethod
    def standing(self, plate: PlateStructure, records: Mapping[str, WellT]) -> Standing:
        """What is there, compared with the records of wells."""

    @abstractmethod
    def is_published(self, record: PublishedT) -> bool:
        """Whether what `publish` noted is there as it was."""
