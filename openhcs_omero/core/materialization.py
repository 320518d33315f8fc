"""Which backend a plate is read from, and which one its results are written to."""

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
    """Names of the backends for reading a plate and for writing its results."""

    read_backend: str
    materialization_backend: str


class MaterializationFlagPlanner:
    """Chooses the backends of a plate.

    Parameters
    ----------
    filemanager
        Passed to the microscope's handler, which may inspect the plate.
    materialization_backend
        "disk" or "zarr": the backend for the results of plates that are not in OMERO.

    Raises
    ------
    ConfigError
        If `materialization_backend` is neither "disk" nor "zarr".
    """

    def __init__(self, filemanager: FileManager, materialization_backend: str = Backend.DISK) -> None:
        if materialization_backend not in WRITABLE:
            raise ConfigError(
                f"materialization_backend is {materialization_backend!r}; it must be one of {', '.join(WRITABLE)}"
            )
        self.filemanager = filemanager
        self.materialization_backend = str(materialization_backend)

    def plan(self, handler: MicroscopeHandler, plate_path: PlateLike) -> BackendPlan:
        """Choose the backends of a plate; a plate in OMERO always uses OMERO for both."""
        primary = handler.get_primary_backend(plate_path, self.filemanager)
        written = self.materialization_backend
        if handler.compatible_backends == [Backend.OMERO_LOCAL]:  # no other backend understands its paths
            written = primary
        return BackendPlan(primary, written)
