"""The files that steps save about a well: kept until its images stand in OMERO, then attached to them."""
from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from openhcs_omero.io.base import BadData, PathLike, StorageBackend
from openhcs_omero.io.formats import decode, encode
from openhcs_omero.omero.annotations import save_text
from openhcs_omero.omero.paths import VirtualPath

if TYPE_CHECKING:
    from openhcs_omero.io.omero_local import OMEROLocalBackend
    from openhcs_omero.omero.connection import BlitzGateway


class StagedFiles(StorageBackend):
    """What `backend="omero"` is for a step: reads OMERO, and keeps what is saved until the well's images are written.

    Were the files attached at once, the images that they belong to would be those of the last run.

    Parameters
    ----------
    well
        Path of the derived well; files can be saved to it and to its sites, and nowhere else.
    sites
        The sites that it has.
    """

    def __init__(self, conn: BlitzGateway, well: VirtualPath, sites: Collection[int]) -> None:
        self._conn = conn
        self._well, self._sites = well, sites
        self._files: dict[str, bytes] = {}

    @cached_property
    def _omero(self) -> OMEROLocalBackend:
        from openhcs_omero.io.omero_local import OMEROLocalBackend

        return OMEROLocalBackend(omero_conn=self._conn)

    def attach(self, images: Mapping[int, int]) -> None:
        """Attach all files; `images` are the ids of the well's derived images by site."""
        for path, data in self._files.items():
            place = VirtualPath.parse(path)
            if place.site is None:
                self._omero.save(data, path)
            else:
                save_text(self._conn, "Image", images[place.site], str(place.name), data)

    def save(self, data: Any, path: PathLike) -> None:
        try:
            place = VirtualPath.parse(str(path))
        except ValueError as error:
            raise BadData(f"{path} can't be saved: {error}") from None
        if place.kind != "file":
            raise BadData(f"a step can't save {path}: the workflow writes the image that the steps return")
        if replace(place, site=None, name=None) != self._well or place.site not in (None, *self._sites):
            raise BadData(f"a step can't save {path}: it works on {self._well}, which has the sites "
                          f"{', '.join(map(str, self._sites))}")
        self._files[str(place)] = encode(data, str(path), "zlib")

    def load(self, path: PathLike) -> Any:
        if str(path) in self._files:
            return decode(self._files[str(path)], str(path))
        return self._omero.load(path)

    def list_files(self, directory: PathLike) -> list[str]:
        inside = {path for path in self._files if path.startswith(f"{str(directory).rstrip('/')}/")}
        return sorted(inside | set(self._omero.list_files(directory)))

    def exists(self, path: PathLike) -> bool:
        return str(path) in self._files or self._omero.exists(path)

    def delete(self, path: PathLike) -> None:
        if self._files.pop(str(path), None) is None:
            raise BadData(f"a step can't delete {path}: it may delete only what it has saved itself")

    def ensure_directory(self, directory: PathLike) -> None:
        """Nothing to be made: virtual directories are there."""
