"""The NGFF 0.5 metadata of plates, wells and images, which ome-zarr-models validates when they are written and read.

Importing this module takes a second, since it imports Zarr: import it only in functions that read or write a plate.
"""

from __future__ import annotations

import colorsys
import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from ome_zarr_models.common.image_label_types import Color as LabelColor
from ome_zarr_models.common.omero import Channel, Omero, Window
from ome_zarr_models.v05.axes import Axis
from ome_zarr_models.v05.base import BaseOMEAttrs
from ome_zarr_models.v05.hcs import HCSAttrs
from ome_zarr_models.v05.image import ImageAttrs
from ome_zarr_models.v05.image_label import ImageLabelAttrs
from ome_zarr_models.v05.image_label_types import Label, Property, Source
from ome_zarr_models.v05.labels import LabelsAttrs
from ome_zarr_models.v05.multiscales import Dataset, Multiscale
from ome_zarr_models.v05.plate import Acquisition as PlateAcquisition
from ome_zarr_models.v05.plate import Column, Plate, Row, WellInPlate
from ome_zarr_models.v05.well import WellAttrs
from ome_zarr_models.v05.well_types import WellImage, WellMeta
from pydantic import ValidationError

from openhcs_omero.io import ngff
from openhcs_omero.io.atomic import write_if_changed
from openhcs_omero.io.base import BadData
from openhcs_omero.plates.paths import SitePath
from openhcs_omero.plates.structure import Acquisition

Color = tuple[int, int, int]  # red, green, blue
PixelSize = tuple[float | None, float | None, float | None]  # z, y, x in micrometers

AXES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}  # the types by name
_VERSION: Final = "0.5"  # of NGFF
_NAMESPACE = "openhcs_omero"  # our own attributes, beside NGFF's "ome"


class LabeledChannel(Channel):
    """A channel with what viewers show next to it. The specification leaves these fields open."""

    label: str
    active: bool = True


class Viewed(Omero):
    """How viewers show an image."""

    channels: list[LabeledChannel]  # type: ignore[assignment]  # pydantic writes the fields of the declared type


class ViewedImage(ImageAttrs):
    """An image, and how viewers show its channels."""

    omero: Viewed | None = None


class ObjectProperty(Property):
    """What is known about an object."""

    pixels: int


def read_image(folder: Path) -> tuple[list[Path], bool]:
    """Read the metadata of an image.

    Returns
    -------
    The folders of its arrays, the full-size one first, and whether the paths of its planes have _t.

    Raises
    ------
    BadData
        They are not valid.
    """
    document = folder / "zarr.json"
    attributes = json.loads(document.read_text())["attributes"]
    try:
        image = ImageAttrs.model_validate(attributes["ome"])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadData(f"{document} can't be read as OME-Zarr: {place}: {first['msg']}") from None
    paths = [PurePosixPath(dataset.path) for dataset in image.multiscales[0].datasets]
    if outside := [path for path in paths if path.is_absolute() or ".." in path.parts]:
        raise BadData(f"{document} names {outside[0]}, which is outside of the image")
    levels = [folder / path for path in paths]
    return levels, bool(attributes[_NAMESPACE]["named_t"])


def write_image(
    folder: Path,
    name: str,
    levels: int,
    named_t: bool,
    pixel_size: PixelSize = (None, None, None),
    channels: Sequence[LabeledChannel] = (),
    acquisition: int | None = None,
) -> None:
    """Write the metadata of an image, whose arrays are in the folders 0, 1, ... and half as large each time.

    The metadata of its well say which acquisition it is of; here, `acquisition` is noted for `describe_plate`.
    """
    viewed = Viewed(channels=list(channels)) if channels else None
    image = ViewedImage(version=_VERSION, multiscales=[_multiscale(name, levels, pixel_size)], omero=viewed)
    own = {"named_t": named_t} if acquisition is None else {"named_t": named_t, "acquisition": acquisition}
    _write_group(folder, image, {_NAMESPACE: own})


def _multiscale(name: str, levels: int, pixel_size: PixelSize) -> Multiscale:
    sizes = dict(zip("zyx", pixel_size))
    z, y, x = (size or 1.0 for size in pixel_size)
    return Multiscale(
        name=name,
        axes=[
            Axis(name=axis, type=kind, unit="micrometer" if sizes.get(axis) else None) for axis, kind in AXES.items()
        ],
        datasets=tuple(
            Dataset.build(path=str(level), scale=[1.0, 1.0, z, y * 2.0**level, x * 2.0**level], translation=None)
            for level in range(levels)
        ),
    )


def write_labels_image(folder: Path, name: str, levels: int, pixel_size: PixelSize, objects: Mapping[int, int]) -> None:
    """Write the metadata of labels, whose arrays are as those of an image.

    Parameters
    ----------
    objects
        Number of pixels of each object, by its label. Each object has a color of its own.
    """
    image_label = Label(
        version=_VERSION,
        colors=tuple(
            LabelColor.model_validate({"label-value": value, "rgba": (*_color(number), 255)})
            for number, value in enumerate(objects)
        ),
        properties=tuple(
            ObjectProperty.model_validate({"label-value": value, "pixels": pixels}) for value, pixels in objects.items()
        ),
        source=Source(image="../../"),
    )
    attributes = {"version": _VERSION, "multiscales": [_multiscale(name, levels, pixel_size)]}
    _write_group(folder, ImageLabelAttrs.model_validate({**attributes, "image-label": image_label}))


def write_list_of_labels(folder: Path, names: Sequence[str]) -> None:
    """Write the metadata of the group that holds the labels of an image."""
    _write_group(folder, LabelsAttrs(version=_VERSION, labels=list(names)))


def _color(number: int) -> Color:
    """A color for an object that differs from those of the objects before: hues a golden section apart."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.75, 1)
    return round(255 * red), round(255 * green), round(255 * blue)


def describe_channels(
    smallest: np.ndarray, names: Sequence[str | None], colors: Sequence[Color | None]
) -> list[LabeledChannel]:
    """What viewers need to know about channels: name, color, and the values shown as black and as full color.

    Parameters
    ----------
    smallest
        The pixels (T, C, Z, Y, X) of the image at its smallest level.
    names, colors
        One per channel; colors may be fewer.
    """
    channels = []
    for c, (name, color) in enumerate(zip_longest(names, colors)):
        values = smallest[:, c][np.isfinite(smallest[:, c])]
        start, end = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
        limits = np.iinfo(smallest.dtype) if smallest.dtype.kind in "iu" else None
        low, high = (float(limits.min), float(limits.max)) if limits else (start, max(end, start + 1))
        channels.append(
            LabeledChannel(
                label=name or f"channel {c}",
                color="{:02X}{:02X}{:02X}".format(*(color or (255, 255, 255))),
                window=Window(min=low, max=high, start=start, end=max(end, start + 1)),
            )
        )
    return channels


def describe_plate(root: Path, well: str | None = None, acquisitions: Sequence[Acquisition] | None = None) -> None:
    """Update the metadata of the plate, of its rows and of a well to the images that exist.

    Parameters
    ----------
    root
        Folder of the plate.
    well
        The well whose images have changed; None if none has.
    acquisitions
        The acquisitions of the plate; None keeps those that its metadata list.
    """
    store, stored = root / ngff.STORE, ngff.stored_wells(root)
    if not stored:
        (store / "zarr.json").unlink(missing_ok=True)
        return
    places = {well: ngff.folder_of(SitePath(root, well, 1)).parent.relative_to(store) for well in stored}
    if well in stored:
        names = [str(number - 1) for number in stored[well]]
        marks = {name: read_mark(store / places[well] / name) or {} for name in names}
        write_well(store / places[well], [(name, mark.get("acquisition")) for name, mark in marks.items()])
    rows = list(dict.fromkeys(place.parts[0] for place in places.values()))
    columns = sorted({place.parts[1] for place in places.values()}, key=int)
    paths = [place.as_posix() for place in places.values()]
    runs = _listed_acquisitions(store) if acquisitions is None else acquisitions
    write_plate(store, root.name, (rows, columns), paths, max(map(len, stored.values())), runs)


def _listed_acquisitions(store: Path) -> list[Acquisition]:
    """The acquisitions in the metadata of a plate that `write_plate` wrote."""
    try:
        listed = json.loads((store / "zarr.json").read_text())["attributes"]["ome"]["plate"].get("acquisitions")
    except (OSError, KeyError):
        return []
    runs = [PlateAcquisition.model_validate(run) for run in listed or ()]
    return [Acquisition(run.id, run.name or "", run.maximumfieldcount or 1, run.starttime, run.endtime) for run in runs]


def write_well(folder: Path, images: Sequence[tuple[str, int | None]], own: dict[str, object] | None = None) -> None:
    """Write the metadata of a well.

    Parameters
    ----------
    folder
        Folder of the well.
    images
        The path and the id of the acquisition of each image.
    own
        This software's own attributes.
    """
    listed = [WellImage(path=path, acquisition=run) for path, run in images]
    attributes = WellAttrs(version=_VERSION, well=WellMeta(images=listed, version=_VERSION))
    _write_group(folder, attributes, {_NAMESPACE: own} if own else None)


def write_plate(
    store: Path,
    name: str,
    grid: tuple[Sequence[str], Sequence[str]],
    wells: Sequence[str],
    most_sites: int,
    acquisitions: Sequence[Acquisition] = (),
    own: dict[str, object] | None = None,
) -> None:
    """Write the metadata of a plate and of its rows.

    Parameters
    ----------
    store
        Folder of the plate.
    name
        Name of the plate.
    grid
        Names of its rows and columns.
    wells
        Paths of the wells that have images, such as "A/1".
    most_sites
        The largest number of images of a well.
    acquisitions
        The acquisitions of the images.
    own
        This software's own attributes.
    """
    rows, columns = grid
    for row in dict.fromkeys(path.partition("/")[0] for path in wells):
        _write_group(store / row)
    plate = Plate(
        name=name,
        version=_VERSION,
        field_count=most_sites,
        acquisitions=[
            PlateAcquisition(
                id=run.id, name=run.name, maximumfieldcount=run.most_sites, starttime=run.start, endtime=run.end
            )
            for run in acquisitions
        ]
        or None,
        rows=[Row(name=row) for row in rows],
        columns=[Column(name=column) for column in columns],
        wells=[
            WellInPlate(path=path, rowIndex=rows.index(row), columnIndex=columns.index(column))
            for path, (row, column) in zip(wells, (path.split("/") for path in wells))
        ],
    )
    _write_group(store, HCSAttrs(version=_VERSION, plate=plate), {_NAMESPACE: own} if own else None)


def mark_group(folder: Path, own: dict[str, object]) -> None:
    """Make a folder a Zarr group that has this software's own attributes only."""
    _write_group(folder, None, {_NAMESPACE: own})


def read_mark(folder: Path) -> dict[str, Any] | None:
    """This software's own attributes of a group; None if it is no group, or has none."""
    try:
        mark = json.loads((folder / "zarr.json").read_text())["attributes"][_NAMESPACE]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return mark if isinstance(mark, dict) else None


def _write_group(folder: Path, described: BaseOMEAttrs | None = None, own: dict[str, object] | None = None) -> None:
    """Write the metadata document of a Zarr v3 group if it changes."""
    attributes = (
        {"ome": described.model_dump(mode="json", exclude_none=True, by_alias=True, serialize_as_any=True)}
        if described
        else {}
    )
    document = {"zarr_format": 3, "node_type": "group", "attributes": {**attributes, **(own or {})}}
    write_if_changed(folder / "zarr.json", json.dumps(document, indent=2))
