"""Files on disk: images as OME-TIFF, results as text files in the format given by their ending."""

import contextlib
import stat
from pathlib import Path
from typing import Any

import numpy as np

from openhcs_omero.errors import OpenHCSError
from openhcs_omero.io.atomic import write
from openhcs_omero.io.base import BadData, FolderBackend, MissingFile, PathLike, on_disk
from openhcs_omero.io.formats import decode, encode
from openhcs_omero.plates.image import NewImage, storable

LARGEST_FILE = 2**33  # bytes; what is larger is taken for damaged or malicious


def check_regular(file: Path) -> None:
    """Check that reading a file neither blocks nor fills the memory.

    Raises
    ------
    BadData
        If it is a pipe or a device, or too large.
    FileNotFoundError
        If there is no such file.
    """
    state = file.stat()
    if not stat.S_ISREG(state.st_mode):
        raise BadData(f"{file} can't be read: it is no regular file")
    if state.st_size > LARGEST_FILE:
        raise BadData(f"{file} has {state.st_size} bytes, more than the {LARGEST_FILE} that are read at once")


class DiskBackend(FolderBackend):
    """Files on disk; paths are file system paths."""

    def load(self, path: PathLike) -> Any:
        if on_disk(path).is_dir():
            raise BadData(f"{path} is a directory, not a file")
        try:
            check_regular(Path(path))
            data = Path(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise MissingFile(f"there is no file {path}") from None
        except OSError as error:
            raise OpenHCSError(f"{path} can't be read: {error.strerror}") from None
        return decode(data, path)

    def save(self, data: Any, path: PathLike) -> None:
        self.save_bytes(encode(data, path), path)

    def save_bytes(self, data: bytes, path: PathLike) -> None:
        """Write bytes unchanged."""
        target = on_disk(path)
        if target.is_dir():
            raise BadData(f"{path} is a directory, not a file")
        self.ensure_directory(target.parent)
        try:
            write(target, data)
        except OSError as error:
            raise OpenHCSError(f"{path} can't be written: {error.strerror}") from None

    def save_site(self, image: NewImage, path: PathLike) -> list[str]:
        """Write a site as one OME-TIFF per plane."""
        pixels, site = storable(image.pixels, image.name), str(path).removesuffix(".tif")
        planes = {
            f"{site}_z{z:03d}_c{c:03d}{f'_t{t:03d}' if len(pixels) > 1 else ''}.tif": pixels[t, c, z]
            for t, c, z in np.ndindex(pixels.shape[:3])
        }
        self.save_batch(list(planes.values()), list(planes))
        return list(planes)

    def save_labels(self, image: NewImage, path: PathLike) -> list[Path]:
        """Write each labels as an OME-TIFF (T, C, Z, Y, X) beside the planes."""
        files = {f"{str(path).removesuffix('.tif')}_{name}_labels.tif": labels for name, labels in image.labels.items()}
        self.save_batch(list(files.values()), list(files))
        return [Path(file) for file in files]

    def file_of(self, path: PathLike) -> Path:
        return Path(path)

    def list_files(self, directory: PathLike) -> list[str]:
        if not on_disk(directory).is_dir():
            raise MissingFile(f"there is no directory {directory}")
        return sorted(str(path) for path in Path(directory).rglob("*") if path.is_file())

    def exists(self, path: PathLike) -> bool:
        with contextlib.suppress(BadData):
            return on_disk(path).exists()
        return False

    def delete(self, path: PathLike) -> None:
        if on_disk(path).is_dir():
            raise BadData(f"{path} is a directory, not a file")
        try:
            Path(path).unlink()
        except (FileNotFoundError, NotADirectoryError):
            raise MissingFile(f"there is no file {path}") from None
        except OSError as error:
            raise OpenHCSError(f"{path} can't be deleted: {error.strerror}") from None

    def ensure_directory(self, directory: PathLike) -> None:
        try:
            on_disk(directory).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise BadData(f"{directory} can't be a directory: there is a file with that name") from None
        except OSError as error:
            raise OpenHCSError(f"the directory {directory} can't be created: {error.strerror}") from None
