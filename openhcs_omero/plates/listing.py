"""What is known about a plate before any pixel is read: its structure, and where each plane is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from openhcs_omero.errors import PlateError
from openhcs_omero.plates.arrangement import Place, Plane
from openhcs_omero.plates.image import Acquired, ImageMetadata
from openhcs_omero.plates.structure import PlateStructure


@dataclass(frozen=True)
class PlateListing:
    """The structure of a plate and the places of its planes.

    Parameters
    ----------
    structure
        Wells, sites and sizes.
    backend
        Name of the backend that reads the plate.
    files
        The path for that backend, by (well, site) and plane (t, c, z). Empty if the backend reads whole sites.
    channel_names
        One per channel; None if a channel has no name.
    pixel_size
        (z, y, x) in micrometers; None where unknown.
    filled
        The planes that were not acquired, by (well, site). Those without a file are black; the others repeat another
        plane of the stack.
    missing
        A description of what is missing and was not filled, by well.
    notes
        Sentences about what was filled or left out.
    colors
        (red, green, blue), one per channel; None if a channel has no color. Empty if no colors are known.
    skipped
        The sites that were left out because planes are missing, by well.
    skipped_planes
        The timepoints, channels and z planes that were left out because no site has them, with the files' numbers.
    channel_numbers
        The numbers of the channels in the names or metadata of the files; empty if they are those of the channels.
    own
        Channel names, colors and pixel size of the images that have others than the plate.
    recorded
        When and where images were taken, where the metadata say it.
    """

    structure: PlateStructure
    backend: str
    files: Mapping[Place, Mapping[Plane, str]] = field(default_factory=dict)
    channel_names: tuple[str | None, ...] = ()
    pixel_size: tuple[float | None, float | None, float | None] = (None, None, None)
    filled: Mapping[Place, frozenset[Plane]] = field(default_factory=dict)
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    colors: tuple[tuple[int, int, int] | None, ...] = ()
    skipped: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    skipped_planes: tuple[str, ...] = ()
    channel_numbers: tuple[int, ...] = ()
    own: Mapping[Place, ImageMetadata] = field(default_factory=dict)
    recorded: Mapping[Place, Acquired] = field(default_factory=dict)

    def about(self, well: str, site: int) -> ImageMetadata:
        """The metadata of an image."""
        usual = ImageMetadata(self.channel_names, self.colors, self.pixel_size)
        filled = tuple(sorted(self.filled.get((well, site), ())))
        recorded = self.recorded.get((well, site), Acquired())
        found, channels = self.own.get((well, site), usual), self.structure.image(well, site).size_c
        return replace(
            found,
            channel_names=found.channel_names[:channels],  # the plate's, of which an image may have fewer
            colors=found.colors[:channels],
            filled=filled,
            recorded=recorded,
        )

    def with_own(self, found: Mapping[Place, ImageMetadata]) -> PlateListing:
        """The same plate with the metadata of its images, of which those that the plate has are not kept."""
        usual = ImageMetadata(self.channel_names, self.colors, self.pixel_size)
        return replace(self, own={place: about for place, about in found.items() if about != usual})

    def of_acquisition(self, choice: int | str | None) -> PlateListing:
        """Return the same plate with one acquisition, see `PlateStructure.of_acquisition`, which also raises."""
        structure = self.structure.of_acquisition(choice)
        if structure is self.structure:
            return self
        chosen = next(image.acquisition for _, image in structure.images())
        renumbered: dict[Place, Place] = {}
        for name, well in self.structure.wells.items():
            taken = [site for site in sorted(well.images) if well.images[site].acquisition == chosen]
            renumbered |= {(name, site): (name, number) for number, site in enumerate(taken, 1)}
        return replace(
            self,
            structure=structure,
            files={renumbered[place]: planes for place, planes in self.files.items() if place in renumbered},
            filled={renumbered[place]: planes for place, planes in self.filled.items() if place in renumbered},
            own={renumbered[place]: about for place, about in self.own.items() if place in renumbered},
            recorded={renumbered[place]: one for place, one in self.recorded.items() if place in renumbered},
        )

    def check_complete(self, wells: Iterable[str] | None = None) -> None:
        """Check that nothing is missing from `wells`, by default from all wells.

        Raises
        ------
        PlateError
            If a well is incomplete. The message says what the first such well lacks, and what to do.
        """
        incomplete = [well for well in (self.missing if wells is None else wells) if well in self.missing]
        if not incomplete:
            return
        first, *others = incomplete
        lacks = self.missing[first]
        more = f" and {len(lacks) - 1} more" if len(lacks) > 1 else ""
        also = f" ({len(others)} other wells are incomplete, too)" if others else ""
        raise PlateError(
            f"plate {self.structure.label}: well {first} lacks {lacks[0]}{more}{also}; add the files, "
            "leave the wells out, or choose `incomplete: skip` or `incomplete: fill`"
        )


def difference(what: str, values: Sequence[tuple[str, int, Iterable[object]]]) -> Iterator[str]:
    """A sentence about the first (well, site, values) that differs from that of the first site, if any does."""
    for other_well, other_site, other in values[1:]:
        well, site, first = values[0]
        if tuple(first) != tuple(other) and {*first, *other} != {None}:
            yield (
                f"the {what} differ: {well} site {site} has {_words(first)}, "
                f"{other_well} site {other_site} has {_words(other)}"
            )
            return


def _words(values: Iterable[object]) -> str:
    return ", ".join("none" if value is None else str(value) for value in values) or "none"
