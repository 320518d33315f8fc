"""The layout of a plate in OME-Zarr (NGFF 0.5): the folders of wells and images, and the files of their planes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from openhcs_omero.plates.paths import PlanePath, SitePath, is_well, parse_well, well_name

if TYPE_CHECKING:
    import zarr


STORE = "plate.zarr"
Index = tuple[int | None, int, int]  # t, channel, z of a plane as in its path; t is None if the path has no _t
Site = SitePath[Path]


def folder_of(site: Site) -> Path:
    """The folder of a site's image in the store."""
    return site.plate / STORE / path_of(site.well) / str(site.site - 1)


def path_of(well: str) -> str:
    """The path of a well in the store: A/1 for A01."""
    row, column = parse_well(well)
    return f"{well_name(row, 0).removesuffix('01')}/{column + 1}"


def plane_path(site: Site, index: Index) -> str:
    """The path of a plane."""
    t, c, z = index
    return str(Path(str(PlanePath(site.plate, site.well, site.site, z, c, t))))


@dataclass(frozen=True)
class StoredImage:
    """The stored image of a site: the full-size array, and the folders of all levels."""

    site: Site
    array: zarr.Array
    levels: list[Path]
    named_t: bool

    def indices(self) -> set[Index]:
        """All planes that fit in the array."""
        t, c, z = self.array.shape[:3]
        return {(i if self.named_t else None, j, k) for i, j, k in np.ndindex(t, c, z)}

    def present(self) -> set[Index]:
        """The planes that were saved, that is, whose chunks exist."""
        return {index for index in self.indices() if chunk_of(self.levels[0], index).exists()}


def position(index: Index) -> tuple[int, int, int]:
    """The position (t, c, z) of a plane in the array."""
    return index[0] or 0, index[1], index[2]


def chunk_of(level: Path, index: Index) -> Path:
    """The file of a plane, by Zarr v3's default chunk key encoding."""
    return level.joinpath("c", *map(str, position(index)), "0", "0")


def stored_wells(root: Path) -> dict[str, list[int]]:
    """The wells of a plate that have images, in plate order, with the numbers of their sites."""
    found: dict[tuple[int, int], list[int]] = {}
    for field in (root / STORE).glob("*/*/*/zarr.json"):
        letters, column, number = field.parts[-4:-1]
        if number.isdecimal() and is_well(f"{letters}{int(column):02d}" if column.isdecimal() else ""):
            found.setdefault(parse_well(letters + column), []).append(int(number) + 1)
    return {well_name(*place): sorted(found[place]) for place in sorted(found)}
