"""OME-Zarr (NGFF 0.5) metadata of plates, wells and images, and the paths of their arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs_omero.io.atomic import write_if_changed
from openhcs_omero.plates.paths import PlanePath, SitePath, is_well, parse_well, well_name

if TYPE_CHECKING:
    import zarr


STORE = "plate.zarr"
VERSION = "0.5"  # of NGFF
_AXES = (
    {"name": "t", "type": "time"},
    {"name": "c", "type": "channel"},
    {"name": "z", "type": "space"},
    {"name": "y", "type": "space"},
    {"name": "x", "type": "space"},
)
Color = tuple[int, int, int]  # red, green, blue
Index = tuple[int | None, int, int]  # t, channel, z of a plane as in its path; t is None if the path has no _t
Site = SitePath[Path]


def folder_of(site: Site) -> Path:
    """The folder of a site's image in the store."""
    row, column = parse_well(site.well)
    letters = well_name(row, 0).removesuffix("01")
    return site.plate / STORE / letters / str(column + 1) / str(site.site - 1)


def plane_path(site: Site, index: Index) -> str:
    """The path of a plane."""
    t, c, z = index
    return str(Path(str(PlanePath(site.plate, site.well, site.site, z, c, t))))


@dataclass(frozen=True)
class _Images:
    """The stored image of a site: the full-size array, and the folders of all levels."""

    site: Site
    array: zarr.Array
    levels: list[Path]
    named_t: bool

    def indices(self) -> set[Index]:
        """All planes that fit in the array."""
        t, c, z = self.array.shape[:3]
        return {(i if self.named_t else None, j, k) for i, j, k in np.ndindex(t, c, z)}

    def present(self) -> set[Index]:
        """The planes that were saved, that is, whose chunks exist."""
        return {index for index in self.indices() if _chunk(self.levels[0], _key(index)).exists()}


def _key(index: Index) -> tuple[int, int, int]:
    """The position of a plane in the array."""
    return index[0] or 0, index[1], index[2]


def _chunk(level: Path, key: tuple[int, int, int]) -> Path:
    """The file of a plane, by Zarr v3's default chunk key encoding."""
    return level.joinpath("c", *map(str, key), "0", "0")


def _stored(root: Path) -> dict[str, list[int]]:
    """The wells of a plate that have images, in plate order, with the numbers of their sites."""
    found: dict[tuple[int, int], list[int]] = {}
    for field in (root / STORE).glob("*/*/*/zarr.json"):
        letters, column, number = field.parts[-4:-1]
        if number.isdecimal() and is_well(f"{letters}{int(column):02d}" if column.isdecimal() else ""):
            found.setdefault(parse_well(letters + column), []).append(int(number) + 1)
    return {well_name(*place): sorted(found[place]) for place in sorted(found)}


def _multiscale(name: str, levels: int, pixel_size: Sequence[float | None] = (None, None, None)) -> dict[str, Any]:
    z, y, x = (size or 1.0 for size in pixel_size)
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0, z, y * 2.0**level, x * 2.0**level]}],
        }
        for level in range(levels)
    ]
    units = [{} if size is None else {"unit": "micrometer"} for size in (None, None, *pixel_size)]
    return {"name": name, "axes": [{**axis, **unit} for axis, unit in zip(_AXES, units)], "datasets": datasets}


def _channels(images: _Images, names: Sequence[str | None], colors: Sequence[Color | None]) -> list[dict[str, Any]]:
    """What viewers need to know about channels: name, color, and the values shown as black and as full color."""
    import zarr

    smallest = np.asarray(zarr.open_array(images.levels[-1], mode="r")[...])
    channels = []
    for c, (name, color) in enumerate(zip_longest(names, colors)):
        values = smallest[:, c][np.isfinite(smallest[:, c])]
        start, end = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
        limits = np.iinfo(smallest.dtype) if smallest.dtype.kind in "iu" else None
        low, high = (float(limits.min), float(limits.max)) if limits else (start, max(end, start + 1))
        channels.append(
            {
                "label": name or f"channel {c}",
                "active": True,
                "color": "{:02X}{:02X}{:02X}".format(*(color or (255, 255, 255))),
                "window": {"min": low, "max": high, "start": start, "end": max(end, start + 1)},
            }
        )
    return channels


def _describe_plate(root: Path) -> None:
    """Update the metadata of the plate, rows and wells to the images that exist."""
    store, stored = root / STORE, _stored(root)
    if not stored:
        (store / "zarr.json").unlink(missing_ok=True)
        return
    places = {well: folder_of(SitePath(root, well, 1)).parent.relative_to(store) for well in stored}
    rows = list(dict.fromkeys(place.parts[0] for place in places.values()))
    columns = sorted({place.parts[1] for place in places.values()}, key=int)
    for well, place in places.items():
        images = [{"path": str(number - 1)} for number in stored[well]]
        _write_group(store / place, {"ome": {"version": VERSION, "well": {"images": images, "version": VERSION}}})
    for row_name in rows:
        _write_group(store / row_name, {})
    wells = [
        {"path": place.as_posix(), "rowIndex": rows.index(place.parts[0]), "columnIndex": columns.index(place.parts[1])}
        for place in places.values()
    ]
    _write_group(
        store,
        {
            "ome": {
                "version": VERSION,
                "plate": {
                    "name": root.name,
                    "version": VERSION,
                    "field_count": max(map(len, stored.values())),
                    "rows": [{"name": name} for name in rows],
                    "columns": [{"name": name} for name in columns],
                    "wells": wells,
                },
            }
        },
    )


def _write_group(folder: Path, attributes: Mapping[str, Any]) -> None:
    """Write the metadata document of a Zarr v3 group if it changes."""
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    write_if_changed(folder / "zarr.json", json.dumps(document, indent=2))
