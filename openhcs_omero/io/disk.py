"""Files on disk: images as OME-TIFF, results as the text files that their endings say."""

from pathlib import Path
from typing import Any

from openhcs_omero.errors import OpenHCSError
from openhcs_omero.io.atomic import write
from openhcs_omero.io.base import BadData, MissingFile, PathLike, StorageBackend
from openhcs_omero.io.formats import decode, encode


class DiskBackend(StorageBackend):
    """Paths are those of the filesystem."""

    def load(self, path: PathLike) -> Any:
        if Path(path).is_dir():
            raise BadData(f"{path} is a directory, not a file")
        try:
            data = Path(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise MissingFile(f"there is no file {path}") from None
        except OSError as error:
            raise OpenHCSError(f"{path} can't be read: {error.strerror}") from None
        return decode(data, path)

    def save(self, data: Any, path: PathLike) -> None:
        self.save_bytes(encode(data, path), path)

    def save_bytes(self, data: bytes, path: PathLike) -> None:
        """Write bytes as they are."""
        target = Path(path)
        if target.is_dir():
            raise BadData(f"{path} is a directory, not a file")
        self.ensure_directory(target.parent)
        try:
            write(target, data)
        except OSError as error:
            raise OpenHCSError(f"{path} can't be written: {error.strerror}") from None

    def list_files(self, directory: PathLike) -> list[str]:
        if not Path(directory).is_dir():
            raise MissingFile(f"there is no directory {directory}")
        return sorted(str(path) for path in Path(directory).rglob("*") if path.is_file())

    def exists(self, path: PathLike) -> bool:
        return Path(path).exists()

    def delete(self, path: PathLike) -> None:
        if Path(path).is_dir():
            raise BadData(f"{path} is a directory, not a file")
        try:
            Path(path).unlink()
        except (FileNotFoundError, NotADirectoryError):
            raise MissingFile(f"there is no file {path}") from None
        except OSError as error:
            raise OpenHCSError(f"{path} can't be deleted: {error.strerror}") from None

    def ensure_directory(self, directory: PathLike) -> None:
        try:
            Path(directory).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise BadData(f"{directory} can't be a directory: a file stands in its place") from None
        except OSError as error:
            raise OpenHCSError(f"the directory {directory} can't be made: {error.strerror}") from None
