"""The structure of a plate, in OMERO or in a folder: wells, sites, sizes and fingerprints."""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from openhcs_omero.errors import PlateError
from openhcs_omero.plates.paths import PlanePath, PlatePath
from openhcs_omero.plates.pixeltypes import READABLE

PYRAMID_PLANE = 3192 * 3192  # pixels; OMERO stores larger planes as pyramids, which are read and written by tiles

# an id that only OMERO knows: an int, or None for a plate in a folder; code that talks to OMERO assumes an int
OMEROId = Any


@dataclass(frozen=True)
class Acquisition:
    """One of the times that a plate was imaged.

    Parameters
    ----------
    id
        Its id in OMERO or in the metadata of the plate.
    name
        Its name.
    most_sites
        The largest number of images that a well has of it.
    start, end
        When it began and ended, in milliseconds since 1970; None if unknown.
    """

    id: int
    name: str
    most_sites: int
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True)
class ImageStructure:
    """A site's image.

    Values that only OMERO knows are None for an image in a folder.

    Parameters
    ----------
    image_id
        OMERO's id of the image.
    site
        Number of the site, from 1, in the order of the well's samples.
    size_z, size_c, size_t, size_x, size_y
        Numbers of z planes, channels and timepoints; width and height in pixels.
    pixel_type
        numpy dtype name, such as "uint16"; "bool" is read as uint8. OMERO's name, such as "complex", for a type that
        can't be processed.
    sha1
        Hexadecimal hash that changes when the image does. OMERO computes it over all bytes; it is "Pending..." until
        they are written. In a folder, it is the hash of the names, sizes and times of the files.
    name
        The image's name.
    pixels_id, well_sample_id
        OMERO's ids of the image's pixels and of its well sample.
    update_event
        Id of the event that last changed the image in OMERO.
    index
        Index of OMERO's well sample, from 0; there are gaps where samples were deleted.
    acquisition
        Id and name of the image's plate acquisition; None if it has none.
    """

    image_id: OMEROId
    site: int
    size_z: int
    size_c: int
    size_t: int
    size_x: int
    size_y: int
    pixel_type: str
    sha1: str
    name: str
    pixels_id: OMEROId = None
    well_sample_id: OMEROId = None
    update_event: OMEROId = None
    index: OMEROId = None
    acquisition: tuple[int, str] | None = None

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """The shape of the image's pixels, (T, C, Z, Y, X)."""
        return self.size_t, self.size_c, self.size_z, self.size_y, self.size_x


@dataclass(frozen=True)
class WellStructure:
    """A well and its images by site. `well_db_id` is OMERO's id of the well; None in a folder."""

    well_id: str
    row: int
    col: int
    images: dict[int, ImageStructure]
    well_db_id: OMEROId = None

    def fingerprint(self) -> dict[str, Any]:
        """The ids, pixel hashes and update events of the images, by site: this changes when the images change."""
        images = [self.images[site] for site in sorted(self.images)]
        return {
            "well": self.well_id,
            "images": [[image.image_id, image.sha1, image.update_event] for image in images],
        }


@dataclass(frozen=True)
class PlateStructure:
    """A plate and its wells by name, in the plate's order, including wells without images.

    The ids of the plate and of its group in OMERO are None for a plate in a folder. `times` are the start and the end
    of its acquisitions, in milliseconds since 1970; None where unknown. `notes` are sentences about what was left out.
    """

    plate_id: OMEROId
    parser_name: str
    microscope_type: str
    wells: dict[str, WellStructure]
    all_well_ids: set[str]
    max_sites: int
    max_z: int
    max_c: int
    max_t: int
    name: str = ""
    group_id: OMEROId = None
    rows: int = 0
    columns: int = 0
    times: Mapping[int, tuple[int | None, int | None]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The plate's name for people: its OMERO id, or the name of its folder."""
        return str(self.plate_id or self.name)

    def images(self) -> Iterator[tuple[str, ImageStructure]]:
        """Iterate over the (well, image) of every site, well by well."""
        for name, well in self.wells.items():
            for site in sorted(well.images):
                yield name, well.images[site]

    def wells_with_images(self) -> list[str]:
        return [name for name, well in self.wells.items() if well.images]

    def only(self, wells: Collection[str]) -> PlateStructure:
        """Return the same plate with only the wells `wells`.

        Raises
        ------
        PlateError
            If one of them is not in the plate.
        """
        for well in wells:
            self.well(well)
        return with_wells(self, {name: well for name, well in self.wells.items() if name in wells})

    def acquisitions(self) -> list[tuple[int, str]]:
        """The ids and names of the acquisitions that have images, sorted by id."""
        return sorted({image.acquisition for _, image in self.images() if image.acquisition is not None})

    def described_acquisitions(self) -> tuple[Acquisition, ...]:
        """The acquisitions that have images, with all that is known about them, sorted by id."""
        counts: Counter[int] = Counter()
        for well in self.wells.values():
            counts |= Counter(image.acquisition[0] for image in well.images.values() if image.acquisition)
        return tuple(
            Acquisition(number, name, counts[number], *self.times.get(number, (None, None)))
            for number, name in self.acquisitions()
        )

    @functools.cached_property
    def acquisition_labels(self) -> dict[int, str]:
        """What the tables call the acquisitions, by id: the name, with the id added if several have the same name."""
        names = Counter(name for _, name in self.acquisitions())
        return {number: name if names[name] == 1 else f"{name} ({number})" for number, name in self.acquisitions()}

    def of_acquisition(self, choice: int | str | None = None) -> PlateStructure:
        """Return the same plate with only the images of one acquisition; its sites are counted from 1.

        Parameters
        ----------
        choice
            Id or name of the acquisition; None for the only one; "all" for all images, numbered as in the plate.

        Raises
        ------
        PlateError
            If there are several acquisitions and none is chosen, or if not exactly one has that id or name.
        """
        if choice == "all":
            return self
        known = self.acquisitions()
        listed = ", ".join(f"{number} ({name})" for number, name in known) or "none"
        if choice is None:
            if len({image.acquisition for _, image in self.images()}) <= 1:
                return self
            others = "" if all(image.acquisition for _, image in self.images()) else ", and images of no acquisition"
            raise PlateError(
                f"plate {self.label} was imaged several times: it has the acquisitions {listed}{others}; "
                "choose one by `acquisition`, or process each by `acquisition: all`"
            )
        chosen = matching(known, choice)
        if len(chosen) != 1:
            raise PlateError(f"plate {self.label} has {len(chosen) or 'no'} acquisitions {choice!r}: it has {listed}")
        if all(image.acquisition == chosen[0] for _, image in self.images()):
            return self
        wells = {}
        for name, well in self.wells.items():
            images = [well.images[site] for site in sorted(well.images) if well.images[site].acquisition == chosen[0]]
            renumbered = {site: replace(image, site=site) for site, image in enumerate(images, 1)}
            wells[name] = replace(well, images=renumbered)
        return with_wells(self, wells)

    def well(self, name: str) -> WellStructure:
        """The well with that name; PlateError if there is none."""
        if name not in self.wells:
            raise PlateError(f"plate {self.label} has no well {name!r}: it has {_some(self.wells)}")
        return self.wells[name]

    def image(self, well: str, site: int) -> ImageStructure:
        """The image of a site of a well; PlateError if there is none."""
        images = self.well(well).images
        if site not in images:
            has = f"it has sites 1 to {len(images)}" if images else "it has none"
            raise PlateError(f"well {well} of plate {self.label} has no site {site}: {has}")
        return images[site]

    def fingerprint(self) -> str:
        """The SHA-256 of the fingerprints of all wells, in hexadecimal."""
        wells = [well.fingerprint() for well in self.wells.values()]
        return hashlib.sha256(json.dumps(wells, sort_keys=True).encode()).hexdigest()

    def check_images(self) -> None:
        """Check that the plate has wells, and that some have images; PlateError if not."""
        if not self.wells:
            raise PlateError(f"plate {self.label} ({self.name}) has no wells")
        if not self.wells_with_images():
            raise PlateError(f"plate {self.label} ({self.name}) has wells but no images in them")

    def check_types(self, wells: Collection[str] | None = None) -> None:
        """Check that all images, or those of `wells`, can be processed.

        Raises
        ------
        PlateError
            If a site has an unsupported pixel type. The message names the site.
        """
        if problems := self.type_problems(wells):
            raise PlateError(f"plate {self.label}: {problems[0]}")

    def wells_of_other_types(self) -> set[str]:
        """The wells with an image that can't be processed."""
        return {well for well, image in self.images() if image.pixel_type not in READABLE}

    def type_problems(self, wells: Collection[str] | None = None) -> list[str]:
        """Sentences about the pixel types, of all images or those of `wells`, that can't be processed: one per type."""
        wrong: dict[str, tuple[str, ImageStructure]] = {}
        for well, image in (self if wells is None else self.only(wells)).images():
            if image.pixel_type not in READABLE:
                wrong.setdefault(image.pixel_type, (well, image))
        return [
            f"{_described(*example)}; pixels of this type can't be processed, only {', '.join(READABLE)}"
            for example in wrong.values()
        ]

    def kinds(self) -> list[str]:
        """Describe the sizes and types of the images, one entry per kind, with an example each."""
        examples = {(image.shape, image.pixel_type): (well, image) for well, image in reversed(list(self.images()))}
        return [_described(*example) for example in reversed(examples.values())]

    def list_paths(self, well: str | None = None, plate: PlatePath | None = None) -> list[str]:
        """List the virtual paths of all planes of the plate or of one well, by well, site, timepoint, channel and z.

        Parameters
        ----------
        well
            Name of a well; None for all wells.
        plate
            The path of the plate if it is not ``/omero/plate_<id>``, that is, the path of a derived plate.
        """
        if plate is None and self.plate_id is None:
            raise PlateError(f"plate {self.label} is in a folder: its planes have no paths in OMERO")
        plate = plate or PlatePath(self.plate_id)
        listed = self.only([well]) if well is not None else self
        return [
            str(PlanePath(plate, name, image.site, z, c, t if image.size_t > 1 else None))
            for name, image in listed.images()
            for t in range(image.size_t)
            for c in range(image.size_c)
            for z in range(image.size_z)
        ]


def matching(acquisitions: Iterable[tuple[int, str]], choice: int | str) -> list[tuple[int, str]]:
    """The acquisitions, given by id and name, that have this id or name."""
    return [run for run in acquisitions if choice in run or str(choice) == str(run[0])]


def is_pyramid(image: ImageStructure) -> bool:
    """Whether OMERO stores the image as a pyramid."""
    return image.size_x * image.size_y > PYRAMID_PLANE


def _described(well: str, image: ImageStructure) -> str:
    t, c, z, y, x = image.shape
    return f"{well} site {image.site} is {x} x {y} pixels, {z} z, {c} channels, {t} timepoints, {image.pixel_type}"


def _some(wells: Collection[str]) -> str:
    names = list(wells)
    return ", ".join(names) if len(names) <= 6 else f"{len(names)} wells from {names[0]} to {names[-1]}"


def with_wells(plate: PlateStructure, wells: dict[str, WellStructure]) -> PlateStructure:
    """Return the same plate with other wells, and with the sizes computed from them."""
    images = [image for well in wells.values() for image in well.images.values()]
    return replace(
        plate,
        wells=wells,
        all_well_ids=set(wells),
        max_sites=max((len(well.images) for well in wells.values()), default=0),
        max_z=max((image.size_z for image in images), default=0),
        max_c=max((image.size_c for image in images), default=0),
        max_t=max((image.size_t for image in images), default=0),
    )
