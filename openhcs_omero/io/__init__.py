"""Storage backends behind one interface, and the file manager that steps save through.

`disk`, `memory`, `zarr` and `virtual_workspace` are registered here; `omero_local` needs a connection and is put in by
who has one.
"""

from .base import storage_registry
from .disk import DiskBackend
from .memory import MemoryBackend
from .virtual_workspace import VirtualWorkspaceBackend
from .zarr import ZarrBackend

storage_registry["disk"] = DiskBackend()
storage_registry["memory"] = MemoryBackend()
storage_registry["zarr"] = ZarrBackend()
storage_registry["virtual_workspace"] = VirtualWorkspaceBackend()
