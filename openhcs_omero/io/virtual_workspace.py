"""OpenHCS's virtual workspaces: flat names for files that are in a microscope's own folder structure.

    <plate>/openhcs_metadata.json   {"subdirectories": {".": {"workspace_mapping": {
                                        "A01_s001_w1_z001_t001.tif": "TimePoint_1/ZStep_1/plate_A01_s1_w1.TIF"}}}}

Names and files are both relative to the plate's folder. This backend only reads workspaces.
"""

import functools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from openhcs_omero.errors import brief
from openhcs_omero.io.base import BadData, MissingFile, PathLike, VirtualBackend, on_disk
from openhcs_omero.io.disk import DiskBackend
from openhcs_omero.plates.arrangement import MOST_PLANES
from openhcs_omero.plates.image import ImageMetadata
from openhcs_omero.plates.structure import Acquisition

Kind = TypeVar("Kind")
DescribedImage = tuple[tuple[int, int, int], ImageMetadata]
"""Numbers of timepoints, channels and z planes of an image; its channel names, colors and pixel size."""

METADATA = "openhcs_metadata.json"
LARGEST_METADATA = 500_000_000  # bytes; a plane takes about 150
_KINDS: dict[str, tuple[type, str]] = {
    "image_files": (list, "a list of files"),
    "workspace_mapping": (dict, "a mapping of names to files"),
    "available_backends": (dict, "a mapping of backends to true or false"),
    "channels": (dict, "a mapping of numbers to names"),
}


class VirtualWorkspaceBackend(VirtualBackend):
    """Read virtual workspaces. A path is the folder of a plate followed by a name in its workspace."""

    def __init__(self) -> None:
        self._disk = DiskBackend()

    def load(self, path: PathLike) -> Any:
        return self._disk.load(self.file_of(path))

    def file_of(self, path: PathLike) -> Path:
        """The file that a name stands for; MissingFile if there is none."""
        folder = next((place for place in on_disk(path).parents if (place / METADATA).is_file()), None)
        file = folder and _mapping(folder).get(Path(path).relative_to(folder).as_posix())
        if not (folder and file):
            raise MissingFile(f"there is no file {path} in a virtual workspace")
        return folder / file

    def list_files(self, directory: PathLike) -> list[str]:
        top = on_disk(directory)
        folder = next((place for place in (top, *top.parents) if (place / METADATA).is_file()), None)
        if folder is None:
            raise MissingFile(f"{directory} is not in a virtual workspace: no folder above it has a file {METADATA}")
        names = [folder / name for name in _mapping(folder)]
        return sorted(str(path) for path in names if path.is_relative_to(top))

    def exists(self, path: PathLike) -> bool:
        try:
            return self.file_of(path).exists()
        except MissingFile:
            return Path(path).is_dir()
        except BadData:  # a path in OMERO
            return False

    def generate_filename(self, metadata: Mapping[str, Any]) -> str:
        """OpenHCS's name of the plane given by `well`, `site` (from 1), `channel`, `z` and `t` (from 0)."""
        try:
            well, site, c, z = (metadata[key] for key in ("well", "site", "channel", "z"))
            t = metadata.get("t") or 0
            return f"{well}_s{site:03d}_w{c + 1}_z{z + 1:03d}_t{t + 1:03d}.tif"
        except (KeyError, TypeError, ValueError) as error:
            raise BadData(f"no name can be built from {dict(metadata)}: {error}") from None


def read_openhcs_metadata(folder: Path) -> dict[str, dict[str, Any]]:
    """Read OpenHCS's metadata of a plate, by name of the subdirectory.

    Raises
    ------
    MissingFile
        If the plate has no metadata file.
    BadData
        If the file is not valid metadata.
    """
    path = folder / METADATA
    if path.is_file() and path.stat().st_size > LARGEST_METADATA:
        raise BadData(f"{path} is too large for a file of metadata: more than {LARGEST_METADATA // 10**6} MB")
    document = DiskBackend().load(path)
    subdirectories = document.get("subdirectories") if isinstance(document, dict) else None
    if not isinstance(subdirectories, dict) or not all(isinstance(value, dict) for value in subdirectories.values()):
        raise BadData(f'{path} has no mapping "subdirectories", as OpenHCS writes it')
    for name, values in subdirectories.items():
        for key, (kind, what) in _KINDS.items():
            if values.get(key) is not None and not isinstance(values[key], kind):
                raise BadData(f"{path}: {key} of {name!r} is {brief(values[key], 80)}, but must be {what}")
    return subdirectories


def acquisitions_for_openhcs(
    acquisitions: Iterable[Acquisition], sites: Mapping[str, Mapping[int, int]]
) -> list[dict[str, Any]]:
    """Describe acquisitions for this software's own part of OpenHCS's metadata.

    Parameters
    ----------
    acquisitions
        The acquisitions.
    sites
        Id of the acquisition by well and site.
    """
    return [
        asdict(run)
        | {
            "sites": {
                well: mine
                for well, ids in sites.items()
                if (mine := [site for site, number in ids.items() if number == run.id])
            }
        }
        for run in acquisitions
    ]


def read_acquisitions(values: Mapping[str, Any]) -> tuple[list[Acquisition], dict[tuple[str, int], tuple[int, str]]]:
    """The acquisitions in the metadata of a subdirectory, and the id and name of that of each (well, site).

    Raises
    ------
    BadData
        If they are not as `acquisitions_for_openhcs` describes them.
    """
    found = _own_part(values, "acquisitions", _Listed)
    of_site = {(well, site): (run.id, run.name) for run in found for well, mine in run.sites.items() for site in mine}
    return [Acquisition(run.id, run.name, run.most_sites, run.start, run.end) for run in found], of_site


def _own_part(values: Mapping[str, Any], key: str, kind: type[Kind]) -> list[Kind]:
    """Read a list in this software's own part of the metadata; empty if there is none."""
    own = values.get("openhcs_omero")
    listed = own.get(key) if isinstance(own, dict) else None
    try:
        return TypeAdapter(list[kind]).validate_python(listed or [])  # type: ignore[valid-type]
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BadData(f"{METADATA}: {key} can't be read: {place}: {brief(first['msg'], 80)}") from None


@dataclass(frozen=True)
class _Listed(Acquisition):
    sites: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class DescribedImages:
    """Images that are alike: their shape (T, C, Z), channel names, colors and pixel size (z, y, x); sites by well."""

    shape: tuple[int, int, int]
    channels: tuple[str | None, ...]
    colors: tuple[tuple[int, int, int] | None, ...]
    pixel_size: tuple[float | None, float | None, float | None]
    sites: dict[str, list[int]] = field(default_factory=dict)


def images_for_openhcs(images: Mapping[tuple[str, int], DescribedImage]) -> list[dict[str, Any]]:
    """Describe images, by well and site, for this software's own part of OpenHCS's metadata."""
    kinds: dict[tuple[Any, ...], DescribedImages] = {}
    for (well, site), (shape, about) in images.items():
        key = shape, about.channel_names, about.colors, about.pixel_size
        kinds.setdefault(key, DescribedImages(*key)).sites.setdefault(well, []).append(site)
    return [asdict(kind) for kind in kinds.values()]


def read_images(values: Mapping[str, Any]) -> dict[tuple[str, int], DescribedImage]:
    """The shapes and metadata of images, by well and site, in the metadata of a subdirectory.

    Raises
    ------
    BadData
        If they are not as `images_for_openhcs` describes them.
    """
    kinds = _own_part(values, "images", DescribedImages)
    if wrong := [kind.shape for kind in kinds if min(kind.shape) < 1 or math.prod(kind.shape) > MOST_PLANES]:
        raise BadData(f"{METADATA}: an image can't have the shape {wrong[0]}")
    return {
        (well, site): (kind.shape, ImageMetadata(kind.channels, kind.colors, kind.pixel_size))
        for kind in kinds
        for well, sites in kind.sites.items()
        for site in sites
    }


def _mapping(folder: Path) -> dict[str, str]:
    """The workspace of a plate: file by name, for all of its subdirectories.

    Raises
    ------
    BadData
        If a name is mapped to anything but a file below the plate's folder.
    """
    state = (folder / METADATA).stat()
    return _read_mapping(folder, state.st_mtime_ns, state.st_size)


@functools.lru_cache(8)
def _read_mapping(folder: Path, *state: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for values in read_openhcs_metadata(folder).values():
        mapping = values.get("workspace_mapping") or {}
        strange = [name for name, file in mapping.items() if not isinstance(file, str)]
        if strange:
            raise BadData(
                f"{folder / METADATA}: {strange[0]} is mapped to {json.dumps(mapping[strange[0]])[:80]}; "
                "only names of TIFF files are supported"
            )
        outside = [file for file in mapping.values() if PurePath(file).is_absolute() or ".." in PurePath(file).parts]
        if outside:
            raise BadData(f"{folder / METADATA} names {outside[0]}, which is outside of the plate's folder")
        found |= mapping
    return found
