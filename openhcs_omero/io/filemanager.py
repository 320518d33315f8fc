"""One interface to all backends: each call of a FileManager goes to the backend that it names."""

from collections.abc import MutableMapping, Sequence
from typing import Any

from openhcs_omero.io.base import PathLike, StorageBackend, storage_registry


class FileManager:
    """Load and save through the backends of a registry.

    Parameters
    ----------
    registry
        Backends by name; by default those of this process. ``backend="omero"`` means ``"omero_local"``.
    """

    def __init__(self, registry: MutableMapping[str, StorageBackend] = storage_registry) -> None:
        self.registry = registry

    def _backend(self, name: str) -> StorageBackend:
        return self.registry["omero_local" if name == "omero" else name]

    def load(self, path: PathLike, backend: str) -> Any:
        """Read the file at `path`."""
        return self._backend(backend).load(path)

    def save(self, data: Any, path: PathLike, backend: str) -> None:
        """Write `data` to `path`."""
        self._backend(backend).save(data, path)

    def load_batch(self, paths: Sequence[PathLike], backend: str) -> list[Any]:
        """Read several files, in the order of `paths`."""
        return self._backend(backend).load_batch(paths)

    def save_batch(self, items: Sequence[Any], paths: Sequence[PathLike], backend: str) -> None:
        """Write several files. Prefer this, or saving the whole site, for planes of one image."""
        self._backend(backend).save_batch(items, paths)

    def list_files(self, directory: PathLike, backend: str) -> list[str]:
        """List the paths of all files in `directory` and below."""
        return self._backend(backend).list_files(directory)

    def exists(self, path: PathLike, backend: str) -> bool:
        """Whether `path` is an existing file or directory."""
        return self._backend(backend).exists(path)

    def delete(self, path: PathLike, backend: str) -> None:
        """Delete the file at `path`."""
        self._backend(backend).delete(path)

    def ensure_directory(self, directory: PathLike, backend: str) -> None:
        """Create `directory` if it does not exist."""
        self._backend(backend).ensure_directory(directory)
