"""What every storage backend can do, and the registry that finds one by name."""

import contextlib
from abc import ABC, abstractmethod
from collections import UserDict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from openhcs_omero.errors import OpenHCSError
from openhcs_omero.plates.image import NewImage

PathLike = str | PurePath


class MissingFile(OpenHCSError, FileNotFoundError):
    """There is nothing under the path."""


class BadData(OpenHCSError, ValueError):
    """What is to be saved or was read does not fit its path, or the path is no path of the backend."""


class MissingBackend(OpenHCSError, KeyError):
    """No backend of that name is registered."""

    __str__ = OpenHCSError.__str__  # KeyError's puts it in quotes


class StorageBackend(ABC):
    """A place where images and files are kept under paths.

    A path that ends in ``.tif`` takes an image, (Y, X) or (T, C, Z, Y, X), and gives back the same array; ``.json``
    a dict or a list, ``.csv`` and ``.tsv`` a pandas DataFrame, ``.txt`` a str; any ending but ``.tif`` takes bytes, or
    the `Path` of a file on this machine, which is copied.

    All backends raise the same errors: `MissingFile` for what is not there, `BadData` for data that does not fit
    the path or a path that is none.
    """

    @abstractmethod
    def load(self, path: PathLike) -> Any:
        """Read what is under `path`; its ending says of what type it is."""

    @abstractmethod
    def save(self, data: Any, path: PathLike) -> None:
        """Write `data` under `path` in the place of what is there; all of it or nothing. Directories are made."""

    @abstractmethod
    def list_files(self, directory: PathLike) -> list[str]:
        """Paths of all files in `directory` and below it, sorted."""

    @abstractmethod
    def exists(self, path: PathLike) -> bool:
        """Whether there is a file or a directory under `path`."""

    @abstractmethod
    def delete(self, path: PathLike) -> None:
        """Delete the file under `path`; a directory is refused."""

    @abstractmethod
    def ensure_directory(self, directory: PathLike) -> None:
        """Make `directory` and its parents where they are not there yet."""

    def load_batch(self, paths: Sequence[PathLike]) -> list[Any]:
        """Read several files, in the order of `paths`."""
        return [self.load(path) for path in paths]

    def save_batch(self, items: Sequence[Any], paths: Sequence[PathLike]) -> None:
        """Write several files."""
        if len(items) != len(paths):
            raise BadData(f"{len(items)} items can't be saved under {len(paths)} paths: there must be as many")
        for data, path in zip(items, paths):
            self.save(data, path)


class FolderBackend(StorageBackend):
    """A backend over folders of this machine, into which whole plates are written."""

    @abstractmethod
    def save_site(self, image: NewImage, path: PathLike) -> list[str]:
        """Write a site in the place of what is there, with what is known of its pixels; the paths of its planes."""

    @abstractmethod
    def file_of(self, path: PathLike) -> Path:
        """The file that a plane or a file is in."""


class VirtualBackend(StorageBackend):
    """A backend without a file system: it makes its paths from metadata, on demand.

    A subclass has to say what there is (`list_files`) and what it is called (`generate_filename`). It can be read when
    it has `load` too, and it is read-only unless it overrides the methods that write.
    """

    @abstractmethod
    def generate_filename(self, metadata: Mapping[str, Any]) -> str:
        """Virtual path of what `metadata` describes."""

    def load(self, path: PathLike) -> Any:
        raise BadData(f"{path} can't be read: {type(self).__name__} only lists what there is")

    def exists(self, path: PathLike) -> bool:
        with contextlib.suppress(MissingFile):
            if str(path) in self.list_files(PurePath(path).parent):
                return True
        with contextlib.suppress(MissingFile):
            self.list_files(path)  # a directory
            return True
        return False

    def save(self, data: Any, path: PathLike) -> None:
        raise self._read_only(path)

    def delete(self, path: PathLike) -> None:
        raise self._read_only(path)

    def ensure_directory(self, directory: PathLike) -> None:
        raise self._read_only(directory)

    def _read_only(self, path: PathLike) -> BadData:
        return BadData(f"{path} is not written to: {type(self).__name__} is read-only, so save to disk or zarr")


class StorageRegistry(UserDict[str, StorageBackend]):
    """Backends by name. Those that need nothing register themselves, `omero_local` has to be put in."""

    def __missing__(self, name: str) -> StorageBackend:
        if name == "omero_local":
            raise MissingBackend(
                "the backend 'omero_local' is not registered: it needs a connection, so do "
                "storage_registry['omero_local'] = OMEROLocalBackend(omero_conn=conn) first"
            )
        known = ", ".join(sorted(self.data)) or "none"
        raise MissingBackend(f"there is no storage backend {name!r}; registered are: {known}")


storage_registry = StorageRegistry()
