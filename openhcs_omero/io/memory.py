"""Files in memory, for steps that pass on results and for tests."""

from pathlib import PurePosixPath
from typing import Any

import numpy as np

from openhcs_omero.io.base import BadData, MissingFile, PathLike, StorageBackend
from openhcs_omero.io.formats import check_image, decode, encode, is_image_format


class MemoryBackend(StorageBackend):
    """Files in memory. Paths are only names; data are copied when saved and loaded, as on a disk."""

    def __init__(self) -> None:
        self._files: dict[PurePosixPath, np.ndarray | bytes] = {}
        self._directories: set[PurePosixPath] = set()

    def load(self, path: PathLike) -> Any:
        data = self._files[self._file(path)]
        return decode(data, path) if isinstance(data, bytes) else data.copy()

    def save(self, data: Any, path: PathLike) -> None:
        value = check_image(data, path).copy() if is_image_format(path) else encode(data, path)
        place = PurePosixPath(path)
        if place in self._directories:
            raise BadData(f"{path} is a directory, not a file")
        self.ensure_directory(place.parent)
        self._files[place] = value

    def list_files(self, directory: PathLike) -> list[str]:
        place = PurePosixPath(directory)
        if place not in self._directories:
            raise MissingFile(f"there is no directory {directory}")
        return sorted(str(path) for path in self._files if place in path.parents)

    def exists(self, path: PathLike) -> bool:
        return PurePosixPath(path) in self._files or PurePosixPath(path) in self._directories

    def delete(self, path: PathLike) -> None:
        del self._files[self._file(path)]

    def ensure_directory(self, directory: PathLike) -> None:
        place = PurePosixPath(directory)
        for part in (place, *place.parents):
            if part in self._files:
                raise BadData(f"{directory} can't be a directory: there is a file with that name")
        self._directories.update((place, *place.parents))

    def _file(self, path: PathLike) -> PurePosixPath:
        place = PurePosixPath(path)
        if place in self._directories:
            raise BadData(f"{path} is a directory, not a file")
        if place not in self._files:
            raise MissingFile(f"there is no file {path}")
        return place
