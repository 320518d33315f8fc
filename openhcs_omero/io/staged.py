"""Hold the files that steps save for a well until they are written together with the well's images."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Any

from openhcs_omero.io.base import BadData, PathLike, StorageBackend
from openhcs_omero.io.formats import decode, encode
from openhcs_omero.plates.image import WellFile
from openhcs_omero.plates.paths import FilePath, parse_inside


class StagedFiles(StorageBackend):
    """The backend that steps use: it reads existing files, and holds saved files until the well's images are written.

    Files written at once would be attached to the images of the previous run.

    Parameters
    ----------
    behind
        The backend that the images are written to.
    plate
        Path of the derived plate.
    well, sites
        The only well, and the only sites of it, that files can be saved for.
    """

    def __init__(self, behind: StorageBackend, plate: str, well: str, sites: Collection[int]) -> None:
        self._behind = behind
        self._plate, self._well, self._sites = plate, well, sites
        self._kept: dict[str, WellFile] = {}

    @property
    def files(self) -> list[WellFile]:
        """The saved files."""
        return list(self._kept.values())

    @property
    def kept(self) -> dict[str, WellFile]:
        """The saved files by path."""
        return dict(self._kept)

    def restore(self, files: Mapping[str, WellFile]) -> None:
        """Take files that were saved before, as `kept` returned them."""
        self._kept |= files

    def save(self, data: Any, path: PathLike) -> None:
        well = f"{self._plate}/{self._well}"
        elsewhere = BadData(
            f"a step can't save {path}: it works on {well}, which has the sites {', '.join(map(str, self._sites))}"
        )
        if not str(path).startswith(f"{well}/"):
            raise elsewhere
        try:
            place = parse_inside(PurePath(self._plate), str(path).removeprefix(f"{self._plate}/"))
        except ValueError:
            raise BadData(
                f"{path} can't be saved: expected {well}/<name> or {well}/{self._well}_s001_<name>, the name "
                "with an ending"
            ) from None
        site = getattr(place.parent if isinstance(place, FilePath) else place, "site", None)
        if site not in (None, *self._sites):
            raise elsewhere
        if not isinstance(place, FilePath):
            raise BadData(f"a step can't save {path}: the workflow writes the image that the steps return")
        self._kept[str(path)] = WellFile(site, place.name, encode(data, str(path), "zlib"))

    def load(self, path: PathLike) -> Any:
        if str(path) in self._kept:
            return decode(self._kept[str(path)].data, str(path))
        return self._behind.load(path)

    def list_files(self, directory: PathLike) -> list[str]:
        inside = {path for path in self._kept if path.startswith(f"{str(directory).rstrip('/')}/")}
        there = self._behind.list_files(directory) if self._behind.exists(directory) or not inside else []
        return sorted(inside | set(there))

    def exists(self, path: PathLike) -> bool:
        return str(path) in self._kept or self._behind.exists(path)

    def delete(self, path: PathLike) -> None:
        if self._kept.pop(str(path), None) is None:
            raise BadData(f"a step can't delete {path}: it may delete only what it has saved itself")

    def ensure_directory(self, directory: PathLike) -> None:
        """Do nothing: directories are created when the files are written."""
