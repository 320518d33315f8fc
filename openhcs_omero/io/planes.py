"""Collect images that are saved plane by plane, or site by site, into sites."""

from __future__ import annotations

import numpy as np

from openhcs_omero.io.base import BadData
from openhcs_omero.plates.image import objects
from openhcs_omero.plates.paths import PlanePath, Plate, PlatePath, SitePath
from openhcs_omero.plates.structure import ImageStructure

PlaneIndex = tuple[int | None, int, int]  # t, channel, z; t is None if there is one timepoint
Planes = dict[PlaneIndex, np.ndarray]
ImagePath = SitePath[PlatePath] | PlanePath[PlatePath]


def planes_of(image: ImageStructure) -> list[PlaneIndex]:
    """All planes of an image as paths name them; t is None if there is only one timepoint."""
    return [
        (t if image.size_t > 1 else None, c, z)
        for t in range(image.size_t)
        for c in range(image.size_c)
        for z in range(image.size_z)
    ]


def collect(
    sites: dict[SitePath[Plate], Planes | np.ndarray], path: SitePath[Plate] | PlanePath[Plate], image: np.ndarray
) -> None:
    """Add an image to the images to save for its site, after checking that it fits its path.

    Parameters
    ----------
    sites
        What to save, by site: planes, or the array (T, C, Z, Y, X) of the whole site. Changed in place.
    path
        Path of a site or plane.
    image
        Array (T, C, Z, Y, X) for a site, (Y, X) for a plane.
    """
    axes, ndim = ("(T, C, Z, Y, X)", 5) if isinstance(path, SitePath) else ("(Y, X)", 2)
    if image.ndim != ndim:
        raise BadData(f"{path} is a {path.kind} with the axes {axes}, but this array has the shape {image.shape}")
    if isinstance(path, SitePath):
        if path in sites:
            raise BadData(f"{path} is given twice, or together with its planes")
        sites[path] = image
        return
    planes = sites.setdefault(path.parent, {})
    index = (path.t, path.channel, path.z)
    if isinstance(planes, np.ndarray) or index in planes:
        raise BadData(f"{path} is given twice, or together with its site")
    planes[index] = image


def stack(site: SitePath, planes: Planes) -> np.ndarray:
    """Arrange planes as the (T, C, Z) object array of a new image, after checking that they are complete."""
    timepoints = {t for t, _, _ in planes}
    if (None in timepoints and len(timepoints) > 1) or timepoints == {0}:
        raise BadData(f"{site}: names of planes have _t if there are several timepoints, and only then")
    sizes = [1 + max(index[axis] or 0 for index in planes) for axis in range(3)]
    for t, c, z in np.ndindex(*sizes):
        index = (None if None in timepoints else t, c, z)
        if index not in planes:
            hole = PlanePath(site.plate, site.well, site.site, z, c, index[0])
            raise BadData(
                f"{hole} is missing: images in OMERO must be complete, so save it with the others in one save_batch"
            )
    kinds = {(plane.shape, plane.dtype.name) for plane in planes.values()}
    if len(kinds) > 1:
        raise BadData(f"{site}: all planes of a site have one size and type, these are {sorted(kinds)}")
    ordered = [planes[index] for index in sorted(planes, key=lambda index: (index[0] or 0, *index[1:]))]
    return objects(ordered, tuple(sizes))
