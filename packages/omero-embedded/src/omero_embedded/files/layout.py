"""The offsets of planes, rows and values in a file of pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import omero

from omero_embedded.errors import refuse
from omero_embedded.files.pyramids import level_sizes


@dataclass(frozen=True)
class Layout:
    """Offsets in the file of some pixels. Sizes are in pixels, everything else is in bytes."""

    x: int
    y: int
    z: int
    c: int
    t: int
    width: int  # of one value, in bytes

    @property
    def row(self) -> int:
        return self.x * self.width

    @property
    def plane(self) -> int:
        return self.y * self.row

    @property
    def stack(self) -> int:
        return self.z * self.plane

    @property
    def timepoint(self) -> int:
        return self.c * self.stack

    @property
    def total(self) -> int:
        return self.t * self.timepoint

    def at_level(self, level: int) -> Layout:
        """The layout of a level of a pyramid; level 0 has the whole planes."""
        width, height = level_sizes(self.x, self.y)[level]
        return replace(self, x=width, y=height)

    def offset(self, y: int = 0, z: int = 0, c: int = 0, t: int = 0) -> int:
        """The offset of a row; ApiUsageException if there is no such row."""
        for name, value, size in (("y", y, self.y), ("z", z, self.z), ("c", c, self.c), ("t", t, self.t)):
            if not 0 <= value < size:
                raise refuse(omero.ApiUsageException, f"{name} is {value}: it should be from 0 to {size - 1}.")
        return t * self.timepoint + c * self.stack + z * self.plane + y * self.row
