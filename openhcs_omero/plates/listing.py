"""What is known of a plate before a pixel of it is read: its structure, and where each plane is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from openhcs_omero.errors import PlateError
from openhcs_omero.plates.arrangement import Place, Plane
from openhcs_omero.plates.structure import PlateStructure


@dataclass(frozen=True)
class PlateListing:
    """What is known of a plate.

    Parameters
    ----------
    structure
        Wells, sites and sizes.
    backend
        Name of the backend that reads the plate.
    files
        By (well, site) and plane (t, c, z): the path for that backend. Empty where the backend reads whole sites.
    channel_names
        One per channel; None where a channel has no name.
    pixel_size
        (z, y, x) in micrometers, None where it is not known.
    filled
        By (well, site): the planes that were not acquired. Those without a file are black, the others repeat another
        plane of the stack.
    missing
        By well: what is missing and was not filled, in words.
    notes
        Sentences about what was filled or left out.
    """

    structure: PlateStructure
    backend: str
    files: Mapping[Place, Mapping[Plane, str]] = field(default_factory=dict)
    channel_names: tuple[str | None, ...] = ()
    pixel_size: tuple[float | None, float | None, float | None] = (None, None, None)
    filled: Mapping[Place, frozenset[Plane]] = field(default_factory=dict)
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def check_complete(self, wells: Iterable[str] | None = None) -> None:
        """Check that nothing is missing of `wells`, by default of all.

        Raises
        ------
        PlateError
            Naming what is missing of the first incomplete well, and what to do.
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
