"""Storage backends behind one interface, and the file manager that steps save through.

`disk` and `memory` are registered here; `omero_local` needs a connection and is put in by who has one.
"""

from .base import storage_registry
from .disk import DiskBackend
from .memory import MemoryBackend

storage_registry["disk"] = DiskBackend()
storage_registry["memory"] = MemoryBackend()
