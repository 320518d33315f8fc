"""What is in the folder of a microscope, as the import into OMERO wants it."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.microscopes.base import Plane
from openhcs_omero.microscopes.detect import folder_handler
from openhcs_omero.microscopes.named_tiffs import Layout
from openhcs_omero.plates.image import storable
from openhcs_omero.plates.paths import parse_well


def microscope_layout(folder: Path) -> Layout | None:
    """The layout of a folder that a microscope or OpenHCS wrote; None where it is of none that is known.

    Raises
    ------
    OpenHCSError
        If it is of one, and something in it is missing, twice there or not understood.
    """
    handler = folder_handler(folder) if folder.is_dir() else None
    if handler is None:
        return None
    listing, files = handler.listing(folder), FileManager()
    first = next(image for _, image in listing.structure.images())
    placed: dict[tuple[int, int], dict[int, dict[Plane, Path]]] = {}
    for (well, site), planes in listing.files.items():
        placed.setdefault(parse_well(well), {})[site] = {place: Path(path) for place, path in planes.items()}
    storable(np.zeros((1, 1, 1, *first.shape[3:]), first.pixel_type), str(folder))
    return Layout(placed, listing.channel_names, first.shape, np.dtype(first.pixel_type), listing.pixel_size,
                  lambda path: files.load(path, listing.backend))
