"""From which backend a plate is read, and to which its results are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from openhcs_omero.errors import ConfigError
from openhcs_omero.microscopes.base import Backend

if TYPE_CHECKING:
    from openhcs_omero.io.filemanager import FileManager
    from openhcs_omero.microscopes.base import MicroscopeHandler, PlateLike

WRITABLE = (Backend.DISK, Backend.ZARR)


@dataclass(frozen=True)
class BackendPlan:
    """Names of the backends that a plate is read from and its results are written to."""

    read_backend: str
    materialization_backend: str


class MaterializationFlagPlanner:
    """Chooses the backends of a plate.

    Parameters
    ----------
    filemanager
        Passed to the microscope's handler, which may look into the plate.
    materialization_backend
        "disk" or "zarr": to what plates that are not in OMERO are written.

    Raises
    ------
    ConfigError
        If it is neither.
    """

    def __init__(self, filemanager: FileManager, materialization_backend: str = Backend.DISK) -> None:
        if materialization_backend not in WRITABLE:
            raise ConfigError(
                f"materialization_backend is {materialization_backend!r}; it must be one of {', '.join(WRITABLE)}"
            )
        self.filemanager = filemanager
        self.materialization_backend = str(materialization_backend)

    def plan(self, handler: MicroscopeHandler, plate_path: PlateLike) -> BackendPlan:
        """The backends of a plate. One in OMERO is read from and written to OMERO, whatever is configured."""
        primary = handler.get_primary_backend(plate_path, self.filemanager)
        written = self.materialization_backend
        if handler.compatible_backends == [Backend.OMERO_LOCAL]:  # no other backend knows its paths
            written = primary
        return BackendPlan(primary, written)
