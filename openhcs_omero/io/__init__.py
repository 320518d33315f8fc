"""Storage backends behind one interface, and the file manager that steps save through.

`disk`, `memory`, `zarr`, `ome_zarr` and `virtual_workspace` are registered here. `omero_local` needs a connection, so
the code that has one registers it.
"""

from openhcs_omero.io.base import storage_registry
from openhcs_omero.io.disk import DiskBackend
from openhcs_omero.io.memory import MemoryBackend
from openhcs_omero.io.ome_zarr import OMEZarrBackend
from openhcs_omero.io.virtual_workspace import VirtualWorkspaceBackend
from openhcs_omero.io.zarr import ZarrBackend

storage_registry["disk"] = DiskBackend()
storage_registry["memory"] = MemoryBackend()
storage_registry["zarr"] = ZarrBackend()
storage_registry["virtual_workspace"] = VirtualWorkspaceBackend()
storage_registry["ome_zarr"] = OMEZarrBackend()
