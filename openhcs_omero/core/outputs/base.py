"""The interface of every place that results are written to."""

from __future__ import annotations

import getpass
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
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
class ImageId:
    """An image that was read or written.

    Parameters
    ----------
    name
        Well and site, such as "A01, site 1".
    image_id
        OMERO's id of the image; None for an image in a folder.
    sha1
        OMERO's SHA-1 of the pixels; None for an image in a folder.
    """

    name: str
    image_id: int | None = None
    sha1: str | None = None


@dataclass(frozen=True)
class Standing:
    """The current state of a plate's results.

    Parameters
    ----------
    derived
        The record of the derived plate as it is now; None if the derived plate does not exist.
    complete
        Whether the derived plate has a place for every well.
    intact
        The wells whose images and files match their records.
    """

    derived: DerivedPlate | None
    complete: bool
    intact: Collection[str]


@dataclass(frozen=True)
class WellNote:
    """What people see on a well of the derived plate besides its images.

    Parameters
    ----------
    treatment
        What the plate map says about the well: column -> text.
    tags
        Name of a tag -> the sites that have it; None for all sites.
    """

    treatment: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, Collection[int] | None] = field(default_factory=dict)


class Output(ABC, Generic[WellT, PublishedT]):
    """Where the results of a plate go.

    An output keeps records of what it wrote, and uses them later to tell what still exists unchanged.
    """

    well_type: type[WellT]
    """The record of a well."""
    published_type: type[PublishedT]
    """The record of what was published; its `files` are the names and hashes of attached files, by id of the plate."""
    backend: StorageBackend
    name: str
    """The name of the backend, which steps get."""

    @abstractmethod
    def derive(self, plate: PlateStructure, marks: Mapping[str, str]) -> DerivedPlate:
        """Create the derived plate with the wells of `plate`, or update it."""

    @abstractmethod
    def write_well(
        self,
        derived: DerivedPlate,
        well: str,
        images: Mapping[int, NewImage],
        files: Sequence[WellFile],
        marks: Mapping[str, str],
    ) -> WellT:
        """Replace the images of a well, and write the files that the steps saved.

        Parameters
        ----------
        derived
            The record of the derived plate.
        well
            Name of the well.
        images
            Images by site.
        files
            The files that the steps saved.
        marks
            Notes about the run, stored with what is written.

        Returns
        -------
        WellT
            The record of what was written.
        """

    @abstractmethod
    def has_images(self, derived: DerivedPlate, well: str) -> bool:
        """Whether a well has images, which earlier runs wrote."""

    def attach_tables(self, derived: DerivedPlate, tables: Sequence[Path]) -> list[str]:
        """Put tables of measurements where other programs filter and plot them; call this after the wells are written.

        Returns
        -------
        list of str
            A sentence about everything that is left out or split.
        """
        return []

    @abstractmethod
    def publish(
        self,
        derived: DerivedPlate,
        tables: Sequence[Path],
        about: Sequence[Path],
        wells: Mapping[str, WellT | None],
        marks: Mapping[str, str],
        notes: Mapping[str, WellNote],
        on_source: bool = False,
    ) -> PublishedT:
        """Publish the files where people look for them; call this after the tables are attached.

        The images that earlier runs wrote for failed wells are removed, because the tables no longer have these wells.
        If all wells failed, nothing is published, and the results of earlier runs stay as they are.

        Parameters
        ----------
        tables
            The measurements.
        about
            Other files about the results, only for the derived plate.
        wells
            The records of all wells; None for a failed one.
        notes
            What people see on the wells, by well.
        on_source
            Whether the wells of the source plate get the treatments, too.
        """

    def clean_up(self, source: PlateStructure) -> None:
        """Remove what is left of derived plates of `source` that people have deleted."""

    @abstractmethod
    def images(self, record: WellT) -> list[ImageId]:
        """The images in the record of a well, for the RO-Crate."""

    def user(self) -> str:
        """The name of the person who runs the workflow."""
        try:
            return getpass.getuser()
        except (KeyError, OSError):  # in containers, the user id may have no name
            return f"user {os.getuid()}"

    def server_version(self) -> str | None:
        """The version of the OMERO server that receives the results; None for a folder."""
        return None

    @abstractmethod
    def standing(self, plate: PlateStructure, records: Mapping[str, WellT]) -> Standing:
        """Compare the results that exist with the records of the wells."""

    @abstractmethod
    def is_published(self, record: PublishedT) -> bool:
        """Whether everything that `publish` recorded still exists unchanged."""
