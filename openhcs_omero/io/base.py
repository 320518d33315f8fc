"""The interface of storage backends, and the registry that finds a backend by name."""

import contextlib
import os
from abc import ABC, abstractmethod
from collections import UserDict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from openhcs_omero.errors import OpenHCSError
from openhcs_omero.plates.image import NewImage
from openhcs_omero.plates.structure import Acquisition

PathLike = str | PurePath


class MissingFile(OpenHCSError, FileNotFoundError):
    """The path does not exist."""


class BadData(OpenHCSError, ValueError):
    """The data saved or read do not fit their path, or the path is not valid for the backend."""


class MissingBackend(OpenHCSError, KeyError):
    """No backend with that name is registered."""

    __str__ = OpenHCSError.__str__  # KeyError's would quote the message


def on_disk(path: PathLike) -> Path:
    """The path as one of a file on disk.

    Raises
    ------
    BadData
        If it is below ``/omero``, where all paths are virtual. Otherwise root would create a folder of that name.
    """
    if f"/{os.path.abspath(path).lstrip('/')}/".startswith("/omero/"):
        raise BadData(f"{path} is a path in OMERO, and not one on disk: name the backend omero, or another folder")
    return Path(path)


class StorageBackend(ABC):
    """A place that keeps images and files under paths.

    The ending of the path says which type is saved and loaded: ``.tif`` is an image, an array (Y, X) or
    (T, C, Z, Y, X); ``.json`` is a dict or a list; ``.csv`` and ``.tsv`` are a pandas DataFrame; ``.txt`` is a str. All
    endings except ``.tif`` also accept bytes, or the `Path` of a file on this machine, which is copied.

    All backends raise the same errors: `MissingFile` if the path does not exist, and `BadData` if the data do not fit
    the path or the path is not valid.
    """

    @abstractmethod
    def load(self, path: PathLike) -> Any:
        """Read the image or file at `path`; the ending determines the type of the result."""

    @abstractmethod
    def save(self, data: Any, path: PathLike) -> None:
        """Write `data` to `path` atomically, replacing what is there. Missing directories are created."""

    @abstractmethod
    def list_files(self, directory: PathLike) -> list[str]:
        """List the paths of all files in `directory` and below, sorted."""

    @abstractmethod
    def exists(self, path: PathLike) -> bool:
        """Whether `path` is an existing file or directory."""

    @abstractmethod
    def delete(self, path: PathLike) -> None:
        """Delete the file at `path`; directories are refused."""

    @abstractmethod
    def ensure_directory(self, directory: PathLike) -> None:
        """Create `directory` and its parents if they do not exist."""

    def load_batch(self, paths: Sequence[PathLike]) -> list[Any]:
        """Read several files, in the order of `paths`."""
        return [self.load(path) for path in paths]

    def save_batch(self, items: Sequence[Any], paths: Sequence[PathLike]) -> None:
        """Write several files."""
        if len(items) != len(paths):
            raise BadData(f"{len(items)} items can't be saved under {len(paths)} paths: give one path per item")
        for data, path in zip(items, paths):
            self.save(data, path)


class FolderBackend(StorageBackend):
    """A backend that writes whole plates into folders on this machine."""

    @abstractmethod
    def save_site(self, image: NewImage, path: PathLike) -> list[str]:
        """Write a site with its metadata, replacing what is there; returns the paths of its planes."""

    @abstractmethod
    def save_labels(self, image: NewImage, path: PathLike) -> list[Path]:
        """Write the labels of a site after its image, replacing those that are there.

        Returns the files that change with them.
        """

    @abstractmethod
    def file_of(self, path: PathLike) -> Path:
        """The file on disk that contains a plane or a file."""

    def list_acquisitions(self, directory: PathLike, acquisitions: Sequence[Acquisition]) -> None:
        """Record the acquisitions of a plate with images, if the format has a place for them."""


class VirtualBackend(StorageBackend):
    """A backend without a file system: it generates its paths from metadata on demand.

    A subclass must implement `list_files`, which lists the paths, and `generate_filename`, which names them. To be
    readable it also implements `load`. It is read-only unless it overrides the methods that write.
    """

    @abstractmethod
    def generate_filename(self, metadata: Mapping[str, Any]) -> str:
        """The virtual path of what `metadata` describes."""

    def load(self, path: PathLike) -> Any:
        raise BadData(f"{path} can't be read: {type(self).__name__} only lists files")

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
        return BadData(f"{path} can't be written: {type(self).__name__} is read-only; save to disk or zarr")


class StorageRegistry(UserDict[str, StorageBackend]):
    """Backends by name. Most register themselves; `omero_local`, which needs a connection, must be added."""

    def __missing__(self, name: str) -> StorageBackend:
        if name == "omero_local":
            raise MissingBackend(
                "the backend 'omero_local' is not registered: it needs a connection, so do "
                "storage_registry['omero_local'] = OMEROLocalBackend(omero_conn=conn) first"
            )
        known = ", ".join(sorted(self.data)) or "none"
        raise MissingBackend(f"there is no storage backend {name!r}; registered are: {known}")


storage_registry = StorageRegistry()
