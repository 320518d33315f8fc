"""Importing a folder into OMERO."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.microscopes.base import FolderHandler, MicroscopeHandler
from openhcs_omero.microscopes.detect import folder_handler
from openhcs_omero.microscopes.scan import check_files
from openhcs_omero.plates.arrangement import Incomplete
from openhcs_omero.plates.listing import PlateListing

if TYPE_CHECKING:
    from openhcs_omero.omero.connection import BlitzGateway
    from openhcs_omero.omero.plate_import import Progress


def import_folder(
    conn: BlitzGateway,
    folder: Path | str,
    name: str | None = None,
    pattern: str | None = None,
    progress: Progress | None = None,
    incomplete: Incomplete = "error",
) -> int:
    """Import a folder of images as a plate into the connection's group.

    All files are checked before anything is created.

    Parameters
    ----------
    conn
        The connection.
    folder
        A folder that `handler_of` finds a handler for, or the address of an OME-Zarr plate on S3.
    name
        Name of the plate; by default, the name of the folder.
    pattern
        Pattern for the file names, see `openhcs_omero.plates.filenames.named_planes`.
    progress
        Called with the number of finished images and the total, starting with (0, total).
    incomplete
        What to do about missing planes: "error", "skip" the site, or "fill" with black planes.

    Returns
    -------
    int
        Id of the plate.

    Raises
    ------
    PlateError
        If a file name does not match, two files hold the same plane, a plane or site is missing, a file is truncated or
        not a TIFF, or files of a site differ in size or type. The message names the file or the well, and nothing
        is created.
    """
    from openhcs_omero.omero.plate_import import import_plate

    handler, listing = scan(folder, pattern, incomplete)
    for note in listing.notes:
        print(note, file=sys.stderr)
    read = partial(handler.read_sites, listing, filemanager=FileManager())
    return import_plate(conn, folder, listing, read, partial(handler.read_metadata, listing), name, progress)


def scan(
    folder: Path | str, pattern: str | None = None, incomplete: Incomplete = "error"
) -> tuple[MicroscopeHandler, PlateListing]:
    """Find the handler and the listing of a folder and check all of its files; raises as `import_folder` does."""
    handler = folder_handler(folder, pattern, incomplete)
    listing = handler.listing(folder)
    listing.check_complete()
    listing.structure.check_types()
    if isinstance(handler, FolderHandler) and listing.backend != "zarr":
        check_files(listing, partial(handler.file_of, listing))
    return handler, listing
