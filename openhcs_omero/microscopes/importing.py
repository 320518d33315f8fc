"""Import of a folder into OMERO."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.microscopes.base import FolderHandler
from openhcs_omero.microscopes.detect import folder_handler
from openhcs_omero.microscopes.scan import check_files
from openhcs_omero.plates.arrangement import Incomplete
from openhcs_omero.plates.listing import PlateListing

if TYPE_CHECKING:
    from openhcs_omero.omero.connection import BlitzGateway
    from openhcs_omero.omero.importing import Progress


def import_folder(
    conn: BlitzGateway,
    folder: Path | str,
    name: str | None = None,
    pattern: str | None = None,
    progress: Progress | None = None,
    incomplete: Incomplete = "error",
) -> int:
    """Make a plate of a folder of images in the connection's group.

    All files are checked before anything is created.

    Parameters
    ----------
    folder
        A folder that `handler_of` knows a handler for.
    name
        Of the plate, by default the folder's.
    pattern
        What the names of the files mean, see `openhcs_omero.plates.filenames.named_planes`.
    progress
        Called with the number of images that are done and that of all, from (0, all) on.
    incomplete
        What to do about planes that are missing: "error", "skip" the site, or "fill" with black planes.

    Returns
    -------
    int
        Id of the plate.

    Raises
    ------
    PlateError
        Naming the file or the well: a name that does not match, two files of one plane, a missing plane or site, a
        file that is no TIFF of one plane or is cut short, files of different size or type. Nothing is created then.
    """
    from openhcs_omero.omero.importing import import_plate

    handler, listing = scan(folder, pattern, incomplete)
    for note in listing.notes:
        print(note, file=sys.stderr)
    return import_plate(
        conn, folder, listing, partial(handler.read_sites, listing, filemanager=FileManager()), name, progress
    )


def scan(
    folder: Path | str, pattern: str | None = None, incomplete: Incomplete = "error"
) -> tuple[FolderHandler, PlateListing]:
    """The handler and the listing of a folder all files of which are good; raises as `import_folder` does."""
    handler = folder_handler(Path(folder), pattern, incomplete)
    listing = handler.listing(folder)
    listing.check_complete()
    if listing.backend != "zarr":
        check_files(listing, partial(handler.file_of, listing))
    return handler, listing
