"""Detecting the microscope of a plate from the contents of its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from openhcs_omero.errors import PlateError, first_of
from openhcs_omero.io import storage_registry
from openhcs_omero.io.base import StorageBackend
from openhcs_omero.microscopes.base import FilesHandler, MicroscopeHandler, PlateLike
from openhcs_omero.microscopes.cellvoyager import CellVoyagerHandler
from openhcs_omero.microscopes.folders import folders_in
from openhcs_omero.microscopes.imagexpress import ImageXpressHandler
from openhcs_omero.microscopes.incell import InCellHandler
from openhcs_omero.microscopes.named_tiffs import NamedTIFFHandler
from openhcs_omero.microscopes.ome_tiff_plates import OMETIFFHandler
from openhcs_omero.microscopes.ome_zarr import OMEZarrHandler
from openhcs_omero.microscopes.openhcs import OpenHCSHandler
from openhcs_omero.microscopes.opera_phenix import OperaPhenixHandler
from openhcs_omero.plates.arrangement import Incomplete
from openhcs_omero.plates.filenames import PATTERNS
from openhcs_omero.plates.paths import in_s3, plate_of

# The order matters: OpenHCS puts its metadata into the folders of other microscopes, and the file names of Phenix are
# more specific than those of ImageXpress
FOLDERS: tuple[type[FilesHandler], ...] = (
    OpenHCSHandler,
    OMEZarrHandler,
    OperaPhenixHandler,
    CellVoyagerHandler,
    InCellHandler,
    OMETIFFHandler,
    ImageXpressHandler,
    NamedTIFFHandler,
)


def handler_of(
    plate_path: PlateLike,
    registry: Mapping[str, StorageBackend] = storage_registry,
    pattern: str | None = None,
    incomplete: Incomplete = "error",
    follow_links: bool = False,
    acquisition: int | str | None = None,
) -> MicroscopeHandler:
    """Choose the handler for a plate.

    Parameters
    ----------
    plate_path
        An id or a virtual path in OMERO, a folder, or the address of an OME-Zarr plate on S3.
    registry
        Backends by name; a plate in OMERO is read through ``omero_local``.
    pattern
        Pattern for the file names in a folder; None reads the microscope's metadata.
    incomplete
        What to do about planes missing from a folder: "error", "skip" or "fill".
    follow_links
        Whether symbolic links in a folder may point outside it.
    acquisition
        Id or name of the acquisition, or "all", for a plate that was imaged several times.

    Raises
    ------
    OpenHCSError
        If the folder does not exist or is not from a known microscope, or if the plate is in OMERO and no backend for
        OMERO is registered.
    """
    if plate_of(plate_path) is not None:
        from openhcs_omero.microscopes.omero import OMEROHandler  # reading folders needs no OMERO

        return OMEROHandler(registry["omero_local"], acquisition)  # type: ignore[arg-type]
    handler = folder_handler(str(plate_path), pattern, incomplete, follow_links)
    handler.acquisition = acquisition
    return handler


def folder_handler(
    path: Path | str, pattern: str | None = None, incomplete: Incomplete = "error", follow_links: bool = False
) -> FilesHandler:
    """Choose the handler for a plate in a folder or on S3 with all its acquisitions; see `handler_of`."""
    handler = _folder_handler(path, pattern, incomplete, follow_links)
    handler.acquisition = "all"
    return handler


def _folder_handler(path: Path | str, pattern: str | None, incomplete: Incomplete, follow_links: bool) -> FilesHandler:
    if in_s3(path):
        return OMEZarrHandler(incomplete)
    folder = Path(path)
    if not folder.is_dir():
        raise PlateError(f"there is no folder {folder}; a plate in OMERO is named by its id")
    if pattern is not None:
        return NamedTIFFHandler(incomplete, follow_links, pattern)
    for kind in FOLDERS:
        if kind.recognizes(folder):
            return kind(incomplete, follow_links)
    inside = [path for path in folders_in(folder)[:100] if any(kind.recognizes(path) for kind in FOLDERS)]
    if len(inside) == 1:
        raise PlateError(f"{folder} is not a plate, but the folder {inside[0].name} in it is one: name {inside[0]}")
    if inside:
        names = first_of([path.name for path in inside])
        raise PlateError(
            f"{folder} is not a plate, but {len(inside)} folders in it are ({names}): name each, as {inside[0]}"
        )
    raise PlateError(
        f"{folder} is not a plate of a known microscope: expected openhcs_metadata.json (OpenHCS), "
        "Index.idx.xml or Index.xml (Opera Phenix), MeasurementData.mlf (CellVoyager), an .xdce file (IN "
        "Cell), zarr.json or .zattrs (OME-Zarr), a .companion.ome file (OME-TIFF), an .HTD file or files like "
        "<plate>_A01_s1_w1.TIF (ImageXpress), or "
        f"only TIFFs with names like {' or '.join(PATTERNS)}; for other names give a "
        "`pattern`"
    )
