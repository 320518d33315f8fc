"""Which microscope a plate is from: from what its folder holds."""

from collections.abc import Mapping
from pathlib import Path

from openhcs_omero.errors import PlateError
from openhcs_omero.io import storage_registry
from openhcs_omero.io.base import StorageBackend
from openhcs_omero.microscopes.base import MicroscopeHandler, PlateLike
from openhcs_omero.microscopes.imagexpress import ImageXpressHandler
from openhcs_omero.microscopes.openhcs import OpenHCSHandler
from openhcs_omero.microscopes.opera_phenix import OperaPhenixHandler
from openhcs_omero.plates.paths import plate_of

# OpenHCS puts its metadata into the folders of other microscopes; the names of Phenix tell more than ImageXpress'
FOLDERS = (OpenHCSHandler, OperaPhenixHandler, ImageXpressHandler)


def handler_of(plate_path: PlateLike, registry: Mapping[str, StorageBackend] = storage_registry) -> MicroscopeHandler:
    """The handler for a plate: an id or a virtual path in OMERO, or a folder.

    Parameters
    ----------
    registry
        Backends by name; a plate in OMERO is read through its ``omero_local``.

    Raises
    ------
    OpenHCSError
        If there is no such folder, it is none of the known ones, or the plate is in OMERO and no backend for OMERO is
        registered.
    """
    if plate_of(plate_path) is not None:
        from openhcs_omero.microscopes.omero import OMEROHandler  # reading folders needs no OMERO

        return OMEROHandler(backend=registry["omero_local"])  # type: ignore[arg-type]
    folder = Path(str(plate_path))
    if not folder.is_dir():
        raise PlateError(f"there is no folder {folder}; a plate in OMERO is named by its id")
    handler = folder_handler(folder)
    if handler is not None:
        return handler
    raise PlateError(f"{folder} is no plate of a known microscope: expected openhcs_metadata.json (OpenHCS), "
                     "Index.idx.xml or Index.xml (Opera Phenix), or an .HTD file or files like <plate>_A01_s1_w1.TIF "
                     "(ImageXpress)")


def folder_handler(folder: Path) -> MicroscopeHandler | None:
    """The handler of the microscope that a folder is of; None where it is of none that is known."""
    return next((handler() for handler in FOLDERS if handler.recognises(folder)), None)
