"""OME-Zarr of any origin, in a folder or on S3: the metadata of plates, wells and images, and their planes.

NGFF 0.4 (Zarr v2) and 0.5 (Zarr v3), as described at https://ngff.openmicroscopy.org. ome-zarr-models validates the
metadata and Zarr reads the pixels. This software's own plates are written by `ZarrBackend`.

A plane has the path ``<image>?t=0&c=1&z=2``, where <image> is the folder or address of the image's group and the
indices are those of the image's array.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from openhcs_omero.errors import OpenHCSError, brief
from openhcs_omero.io.base import BadData, MissingFile, PathLike, VirtualBackend
from openhcs_omero.io.s3 import DOCUMENTS, LARGEST_DOCUMENT, describe_objects, open_s3_store
from openhcs_omero.io.zarr_chunks import check_array, open_safely
from openhcs_omero.plates.paths import in_s3

if TYPE_CHECKING:
    import zarr
    from ome_zarr_models.common.plate import PlateBase
    from ome_zarr_models.common.well_types import WellImage
    from pydantic import BaseModel

Plane = tuple[int, int, int]  # t, c, z
Color = tuple[int, int, int]  # red, green, blue
PixelSize = tuple[float | None, float | None, float | None]  # z, y, x in micrometers
Model = TypeVar("Model", bound="BaseModel")

AXES = "tczyx"
VERSIONS = {2: "0.4", 3: "0.5"}  # of NGFF, by the version of Zarr
# what is larger is taken for damaged or malicious
MOST_PLANES, LARGEST_PLANE, LARGEST_CHUNK, LARGEST_IMAGE = 10**6, 2**32, 2**34, 2**40  # bytes, but for the first
_MICROMETERS = {
    "angstrom": 1e-4,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "micron": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
}
_IDENTITY = {"type": "identity"}
_PLANE = re.compile(r"(?P<image>.+)\?t=(?P<t>\d+)&c=(?P<c>\d+)&z=(?P<z>\d+)", re.DOTALL)


@dataclass(frozen=True)
class Image:
    """An image's metadata and its array at full size.

    Parameters
    ----------
    path
        Folder or address of the image's group.
    array
        The array, with the axes `axes`, each of which is one of t, c, z, y and x.
    level
        Path of the array in the group.
    attributes
        NGFF's attributes of the group.
    pixel_size
        (z, y, x) in micrometers; None where the metadata name no unit.
    """

    path: str
    array: zarr.Array
    axes: tuple[str, ...]
    level: str
    attributes: Mapping[str, Any]
    pixel_size: PixelSize

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """(T, C, Z, Y, X); axes that the array does not have have the size 1."""
        sizes = dict(zip(self.axes, self.array.shape))
        t, c, z, y, x = (sizes.get(axis, 1) for axis in AXES)
        return t, c, z, y, x

    def channels(self) -> list[tuple[str | None, Color | None]]:
        """The name and color of each channel; None where the metadata have none."""
        viewed = self.attributes.get("omero")
        listed = viewed.get("channels") if isinstance(viewed, dict) else None
        count = self.shape[1]
        known = [_channel(item) for item in listed[:count]] if isinstance(listed, list) else []
        return known + [(None, None)] * (count - len(known))

    def plane_path(self, plane: Plane) -> str:
        t, c, z = plane
        return f"{self.path}?t={t}&c={c}&z={z}"

    def stored(self) -> tuple[set[Plane], str]:
        """The planes of which anything is stored, and text that changes when the image does.

        Zarr reads chunks that are not stored as a constant. Whole planes of that kind were never written.
        """
        files = files_of(f"{self.path}/{self.level}")
        metadata = self.array.metadata
        sizes = dict(zip(self.axes, self.array.shards or self.array.chunks))
        self._check_chunks(files)
        planes: set[Plane] = set()
        for name in files:
            if name not in DOCUMENTS and (position := _chunk_position(name, len(self.axes))) is not None:
                at = dict(zip(self.axes, position))
                ranges = [
                    range(at.get(axis, 0) * sizes.get(axis, 1), min(size, (at.get(axis, 0) + 1) * sizes.get(axis, 1)))
                    for axis, size in zip("tcz", self.shape)
                ]
                planes.update((t, c, z) for t in ranges[0] for c in ranges[1] for z in ranges[2])
        about = json.dumps([self.attributes, metadata.to_dict()], sort_keys=True, default=str)
        return planes, f"{about} {sorted(files.items())}"

    def _check_chunks(self, files: Mapping[str, tuple[Any, ...]]) -> None:
        """Refuse a chunk that is stored in far more bytes than it can need: to read it would fill the memory."""
        most = 2 * math.prod(self.array.shards or self.array.chunks) * self.array.dtype.itemsize + LARGEST_DOCUMENT
        for name, (size, *_) in files.items():
            if size > most:
                raise BadData(f"{self.path}/{self.level}/{name} has {size} bytes, too many for a part of this image")

    def read(self, planes: Sequence[Plane]) -> list[np.ndarray]:
        """Read planes (Y, X), in this machine's byte order."""
        dtype = self.array.dtype.newbyteorder("=")
        with _reading(self.path):
            if len(set(planes)) == math.prod(self.shape[:3]):
                block = _ordered(np.asarray(self.array[...]), self.axes).astype(dtype, copy=False)
                return [block[plane] for plane in planes]
            read = []
            for plane in planes:
                at = dict(zip("tcz", plane))
                pixels = np.asarray(self.array[tuple(at.get(axis, slice(None)) for axis in self.axes)])
                yx = tuple(axis for axis in self.axes if axis in "yx")
                read.append((pixels if yx == ("y", "x") else pixels.T).astype(dtype, copy=False))
            return read


class OMEZarrBackend(VirtualBackend):
    """Reads planes of OME-Zarr images; see the module for their paths."""

    def load(self, path: PathLike) -> np.ndarray:
        return self.load_batch([path])[0]

    def load_batch(self, paths: Sequence[PathLike]) -> list[np.ndarray]:
        """Read several planes. All planes of an image are read in one go."""
        wanted: dict[str, dict[str, Plane]] = {}
        for path in map(str, paths):
            image, plane = parse_plane(path)
            wanted.setdefault(image, {})[path] = plane
        found: dict[str, np.ndarray] = {}
        for image, planes in wanted.items():
            opened = read_image(image)
            for plane in planes.values():
                if not all(index < size for index, size in zip(plane, opened.shape)):
                    raise MissingFile(f"there is no plane {opened.plane_path(plane)}")
            found |= zip(planes, opened.read(list(planes.values())))
        return [found[str(path)] for path in paths]

    def list_files(self, directory: PathLike) -> list[str]:
        """List the planes that are stored of an image."""
        image = read_image(str(directory))
        return [image.plane_path(plane) for plane in sorted(image.stored()[0])]

    def generate_filename(self, metadata: Mapping[str, Any]) -> str:
        """The path of a plane; `metadata` has the keys image, t, c and z."""
        return "{image}?t={t}&c={c}&z={z}".format(**metadata)


def parse_plane(path: str) -> tuple[str, Plane]:
    """The path of a plane's image, and the plane."""
    match = _PLANE.fullmatch(path)
    if match is None:
        raise BadData(f"{path} is no plane of an OME-Zarr image: expected <image>?t=0&c=0&z=0")
    return match["image"], (int(match["t"]), int(match["c"]), int(match["z"]))


# ---- metadata


def read_plate(path: str) -> tuple[PlateBase, str]:
    """Read the metadata of a plate, and the version of NGFF.

    Raises
    ------
    MissingFile
        If there is no Zarr group.
    BadData
        If it is no plate, or one of a version that is not known.
    """
    from ome_zarr_models.common.plate import PlateBase

    group = open_group(path)
    ome = _attributes(group, path)
    if "plate" not in ome:
        what = "a single image" if "multiscales" in ome else "Zarr"
        if "bioformats2raw.layout" in {*ome, *group.attrs}:
            what = "a collection of images, as bioformats2raw writes it with --no-hcs"
        raise BadData(f"{path} is {what}, not a plate: an OME-Zarr plate has the HCS layout, with `plate` metadata")
    version = _check_version(group, ome, ome["plate"], path)
    return _valid(PlateBase, ome["plate"], path), version


def read_well(path: str) -> list[WellImage]:
    """Read which images a well has; raises as `read_plate`."""
    from ome_zarr_models.common.well_types import WellImage
    from pydantic import BaseModel

    class AnyImage(WellImage):
        path: str  # Fractal names images "0_registered", which the specification forbids

    class Well(BaseModel):
        images: list[AnyImage]

    group = open_group(path)
    ome = _attributes(group, path)
    if "well" not in ome:
        raise BadData(f"{path} has no `well` metadata")
    _check_version(group, ome, ome["well"], path)
    images = _valid(Well, ome["well"], path).images
    for image in images:
        _inside(image.path, path)
    return list(images)


def unlisted(path: str, kind: str, listed: Iterable[str]) -> list[str]:
    """The names of the groups in a folder that have metadata of a kind, such as "well", and are not among `listed`."""
    names = sorted({*groups_in(path)} - {*listed})
    return [name for name in names if kind in _attributes_or_none(f"{path}/{name}")]


def groups_in(path: str) -> list[str]:
    """The names of the folders in a folder that may be groups."""
    return sorted(
        entry.name
        for entry in os.scandir(path)
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
    )


def _attributes_or_none(path: str) -> Mapping[str, Any]:
    if documents_in(Path(path)):
        with contextlib.suppress(OpenHCSError):
            return _attributes(open_group(path), path)
    return {}


def read_image(path: str) -> Image:
    """Read the metadata of an image.

    Raises
    ------
    MissingFile
        If there is no such group, or its array is missing.
    BadData
        If the metadata are not valid, contradict the array, or declare more than any microscope acquires.
    """
    import zarr
    from ome_zarr_models.v05.multiscales import Multiscale

    group = open_group(path)
    ome = _attributes(group, path)
    if not (isinstance(ome.get("multiscales"), list) and ome["multiscales"]):
        raise BadData(f"{path} is no image: it has no `multiscales` metadata")
    described = ome["multiscales"][0]
    _check_version(group, ome, described, path)
    scales = _valid(Multiscale, _without_identity(described), path)
    axes = tuple(str(axis.name).lower() for axis in scales.axes)  # iohub writes T, C, Z, Y, X
    if not {"y", "x"} <= set(axes) <= set(AXES):
        raise BadData(f"{path} has the axes {', '.join(axes)}: an image has y and x, and may have t, c and z")
    level = _inside(scales.datasets[0].path, path)
    if not in_s3(path):
        _check_documents(Path(path) / level)
    with _reading(f"{path}/{level}"):
        array = group[level]
    if not isinstance(array, zarr.Array):
        raise BadData(f"{path}/{level} is no array")
    _check_type(array, f"{path}/{level}")
    if array.ndim != len(axes):
        raise BadData(f"{path} has {len(axes)} axes ({', '.join(axes)}), but its array has {array.ndim} dimensions")
    scaled = _IDENTITY not in described["datasets"][0]["coordinateTransformations"] or scales.coordinateTransformations
    size = _pixel_size(scales, axes) if scaled else (None, None, None)
    image = Image(path, array, axes, level, ome, size)
    _check_size(image)
    check_array(array, f"{path}/{level}")
    return image


def open_group(path: str) -> zarr.Group:
    """Open a Zarr group in a folder or at an S3 address; raises as `read_plate`."""
    import zarr

    if not in_s3(path):
        _check_documents(Path(path))
    open_safely()
    with _reading(path):
        store = open_s3_store(path) if in_s3(path) else zarr.storage.LocalStore(path, read_only=True)
        return zarr.open_group(store, mode="r", use_consolidated=False)


def files_of(path: str) -> dict[str, tuple[Any, ...]]:
    """The files of an array, by their paths in it, each with values that change when it is written."""
    if in_s3(path):
        with _reading(path):
            return describe_objects(path)
    found: dict[str, tuple[Any, ...]] = {}
    for folder, _, names in os.walk(path):
        for name in names:
            file = Path(folder, name)
            if file.is_file():
                state = file.stat()
                found[file.relative_to(path).as_posix()] = (state.st_size, state.st_mtime_ns)
    return found


def documents_in(folder: Path) -> list[Path]:
    """The metadata documents of a group or array, also those that are links to nowhere."""
    return [folder / name for name in DOCUMENTS if os.path.lexists(folder / name)]


def links_in(path: str) -> list[Path]:
    """The symbolic links in a folder."""
    entries = (Path(folder, name) for folder, folders, names in os.walk(path) for name in [*folders, *names])
    return [entry for entry in entries if entry.is_symlink()]


def _attributes(group: zarr.Group, path: str) -> dict[str, Any]:
    """NGFF's attributes of a group: below "ome" since 0.5."""
    attributes = dict(group.attrs)
    ome = attributes.get("ome", attributes) if group.metadata.zarr_format == 3 else attributes
    if not isinstance(ome, dict):
        raise BadData(f"{path} has no valid OME-Zarr metadata: `ome` is {brief(ome, 50)}")
    return ome


def _check_version(group: zarr.Group, ome: Mapping[str, Any], part: Any, path: str) -> str:
    """Check the version of NGFF, which may be missing, and return it."""
    expected = VERSIONS[group.metadata.zarr_format]
    version = ome.get("version") or (part.get("version") if isinstance(part, dict) else None) or expected
    if str(version) != expected:
        raise BadData(
            f"{path} is OME-Zarr {version} in Zarr v{group.metadata.zarr_format}: versions 0.4 (in Zarr v2) and 0.5 "
            "(in Zarr v3) are read"
        )
    return expected


def _valid(model: type[Model], values: Any, path: str) -> Model:
    from pydantic import ValidationError

    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        what = " ".join(f"{place}: {first['msg']}".removeprefix(": ").split())
        raise BadData(f"{path} has no valid OME-Zarr metadata: {what}") from None


def _without_identity(described: Any) -> Any:
    """Replace the transformation "identity", which iohub wrote and no version of NGFF allows, by a scale of 1."""
    if not isinstance(described, dict) or not isinstance(described.get("datasets"), list):
        return described
    ones = [{"type": "scale", "scale": [1.0] * len(described.get("axes") or [])}]
    datasets = [
        {**dataset, "coordinateTransformations": ones}
        if isinstance(dataset, dict) and dataset.get("coordinateTransformations") == [_IDENTITY]
        else dataset
        for dataset in described["datasets"]
    ]
    plain = {**described, "datasets": datasets}
    if plain.get("coordinateTransformations") in ([_IDENTITY], []):
        del plain["coordinateTransformations"]
    return plain


def _pixel_size(scales: Any, axes: Sequence[str]) -> PixelSize:
    """(z, y, x) in micrometers, from the transformations of the image and of its first level."""
    size = dict.fromkeys(axes, 1.0)
    for transformation in (*scales.datasets[0].coordinateTransformations, *(scales.coordinateTransformations or ())):
        for axis, factor in zip(axes, getattr(transformation, "scale", [])):
            size[axis] *= factor
    units = {str(axis.name).lower(): _MICROMETERS.get(str(axis.unit)) for axis in scales.axes}
    known = {axis: value * (units[axis] or 0) for axis, value in size.items()}
    z, y, x = (known[axis] if known.get(axis, 0) > 0 and math.isfinite(known[axis]) else None for axis in "zyx")
    return z, y, x


def _channel(described: Any) -> tuple[str | None, Color | None]:
    label, color = (described.get("label"), described.get("color")) if isinstance(described, dict) else (None, None)
    digits = re.fullmatch(r"#?([0-9A-Fa-f]{6})", color) if isinstance(color, str) else None
    red, green, blue = bytes.fromhex(digits[1]) if digits else (0, 0, 0)
    return label if isinstance(label, str) and label else None, (red, green, blue) if digits else None


def _check_type(array: zarr.Array, path: str) -> None:
    with contextlib.suppress(TypeError):  # for types that numpy does not have
        if array.dtype.kind in "biufc":
            return
    described = array.metadata.to_dict()
    kind = described.get("data_type", described.get("dtype"))
    raise BadData(f"{path} has pixels of type {brief(kind, 50)}, which are no numbers")


def _check_size(image: Image) -> None:
    shape, array = image.shape, image.array
    item = array.dtype.itemsize
    chunk = math.prod(array.shards or array.chunks) * item
    if (
        math.prod(shape[:3]) > MOST_PLANES
        or math.prod(shape[3:]) * item > LARGEST_PLANE
        or math.prod(shape) * item > LARGEST_IMAGE
        or chunk > LARGEST_CHUNK
    ):
        raise BadData(
            f"{image.path} declares an image of {' x '.join(map(str, array.shape))} ({array.dtype}) in chunks of "
            f"{' x '.join(map(str, array.shards or array.chunks))}, which is too large to be read"
        )
    if 0 in shape:
        raise BadData(f"{image.path} declares an image of {' x '.join(map(str, array.shape))}, which is empty")


def _check_documents(folder: Path) -> None:
    """Refuse metadata documents that are no files, which could block a reader forever, or that are too large."""
    for document in documents_in(folder):
        if not os.path.isfile(document) or document.stat().st_size > LARGEST_DOCUMENT:
            raise BadData(f"{document} is no file of metadata, or too large for one")


def _inside(part: str, path: str) -> str:
    """Check that a path in the metadata of a group stays in the group, and return it."""
    if part.startswith("/") or not part or {"..", "."} & set(part.split("/")) or "\\" in part:
        raise BadData(f"{path} names {part!r}, which is outside of it")
    return part


def _chunk_position(name: str, ndim: int) -> tuple[int, ...] | None:
    """Position of a chunk in the grid, from its key: "c/0/1/2", "0/1/2", "0.1.2"; None if it is no such key."""
    numbers = re.split(r"[./]", name.removeprefix("c/").removeprefix("c."))
    if len(numbers) != ndim or not all(number.isascii() and number.isdigit() for number in numbers):
        return None
    return tuple(map(int, numbers))


def _ordered(pixels: np.ndarray, axes: Sequence[str]) -> np.ndarray:
    """Arrange an array with the given axes as (T, C, Z, Y, X)."""
    there = [axis for axis in AXES if axis in axes]
    moved = pixels.transpose([axes.index(axis) for axis in there])
    return moved[tuple(slice(None) if axis in axes else None for axis in AXES)]


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    """Report errors of Zarr, of its codecs, of the disk and of S3 in one sentence."""
    try:
        yield
    except OpenHCSError:
        raise
    except (FileNotFoundError, KeyError):
        raise MissingFile(f"there is no {path}") from None
    except OSError as error:
        raise OpenHCSError(f"{path} can't be read: {error.strerror or _first_line(error)}") from None
    except Exception as error:  # Zarr, its codecs and the clients of S3 raise errors of all kinds
        raise BadData(f"{path} can't be read as OME-Zarr: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
