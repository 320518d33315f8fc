"""Measurements of objects: shape, intensity in every channel, and which object they belong to."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from openhcs_omero.errors import StepError
from openhcs_omero.plates.labels import consecutive
from openhcs_omero.processing.cellprofiler import Family, family_columns, measure_families
from openhcs_omero.processing.inputs import acquired, channel_names, channels_of, labels_of
from openhcs_omero.processing.measurements import by_timepoint, mean_and_sd

SHAPE = {
    "area": ("px", "area"),
    "perimeter": ("px", "length of the outline"),
    "major_axis": ("px", "long axis of the ellipse with the same moments"),
    "minor_axis": ("px", "short axis of the ellipse with the same moments"),
    "eccentricity": ("", "eccentricity of the ellipse with the same moments: 0 for a circle"),
    "solidity": ("", "area divided by that of the convex hull"),
}
INTENSITY = {
    "mean_intensity": "mean intensity",
    "sd_intensity": "standard deviation of the intensity within the object",
    "min_intensity": "lowest intensity",
    "max_intensity": "highest intensity",
    "total_intensity": "sum of the intensity",
}
# regionprops_table's names for ours; those of the first group exist for stacks too
_NAMES = {
    "area": "area",
    "major_axis": "axis_major_length",
    "minor_axis": "axis_minor_length",
    "solidity": "solidity",
}
_INTENSITY_NAMES = {
    "mean_intensity": "intensity_mean",
    "sd_intensity": "intensity_std",
    "min_intensity": "intensity_min",
    "max_intensity": "intensity_max",
}
_FLAT_NAMES = {"perimeter": "perimeter", "eccentricity": "eccentricity"}


def measure_objects(
    image: np.ndarray,
    filemanager: Any,
    metadata: dict[str, Any],
    backend: str = "disk",
    channels: list[int] | None = None,
    labels: Sequence[str] = ("nuclei",),
    parents: dict[str, str] | None = None,
    families: Sequence[Family] = (),
) -> tuple[np.ndarray, dict[str, Any]]:
    """Measure the objects that earlier steps found: one row per object, with its shape and intensities.

    The shape is that of scikit-image's `regionprops_table`. Labels of a single plane are measured on the maximum
    projection of a z stack; labels of a whole stack in 3D, without perimeter and eccentricity. `families` adds the
    features of CellProfiler (Stirling et al., 2021) for Cell Painting, by cp_measure.

    Parameters
    ----------
    image
        (T, C, Z, Y, X), one site; returned unchanged.
    filemanager
        Not used.
    metadata
        The metadata of the site, with the labels, which earlier steps returned.
    backend
        Not used.
    channels
        Channels whose intensity is measured, from 0; default all.
    labels
        Names of the labels to measure.
    parents
        For labels, the name of the labels that their objects belong to, such as {spots: cells}: `parent` is the number
        of the object there that covers most of the object.
    families
        Families of CellProfiler's features to add. They need the extra `cellprofiler` of this package, and images of
        integers.

    Returns
    -------
    image, results
        The unchanged image. `objects` has one row per object: its label, `parent`, centroid `y` and `x`, bounding box
        from `top` and `left` up to but not including `bottom` and `right`, all in px, whether it `touches_edge`, area,
        perimeter, axes, eccentricity, solidity; and for a channel GFP `mean_intensity_GFP` and likewise `sd_`, `min_`,
        `max_` and `total_`. Results of labels "nuclei" are their number, `nuclei_count`, and the means over them, such
        as `nuclei_area` and `nuclei_mean_intensity_c0`, with `_sd`. Without objects, means are None. Families have the
        names of CellProfiler, such as `FormFactor` and `Granularity_1_GFP` in `objects`, and `nuclei_Granularity_1_c0`.
    """
    chosen, names = channels_of(image, channels), channel_names(metadata, image.shape[1])
    rows: list[dict[str, Any]] = [{} for _ in image]
    objects: list[dict[str, Any]] = []
    for name in labels:
        array = labels_of(metadata, name)
        parent = (parents or {}).get(name)
        above = None if parent is None else labels_of(metadata, parent)
        if above is not None and above.shape != array.shape:
            raise StepError(f"the labels {parent!r} {above.shape} can't be parents of {name!r} {array.shape}")
        for t in range(len(image)):
            there = [c for c in chosen if acquired(metadata, t, c, image.shape[2])]
            found = [
                {"labels": name, "t": t, **({"channel": c} if array.shape[1] > 1 else {}), **row}
                for c in range(array.shape[1])
                for row in _rows(image[t], array[t, c], None if above is None else above[t, c], there, names, families)
            ]
            objects += found
            seen = any(acquired(metadata, t, c, image.shape[2]) for c in range(image.shape[1]))
            rows[t] |= _summary(name, found, chosen, names, families) | ({} if seen else {f"{name}_count": None})
    return image, {**by_timepoint(rows), "objects": objects}


def _rows(
    site: np.ndarray,
    labels: np.ndarray,
    parents: np.ndarray | None,
    channels: Sequence[int],
    names: Sequence[str],
    families: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """One row per object of labels (Z or 1, Y, X) on a site (C, Z, Y, X)."""
    flat = len(labels) == 1
    mask, planes = (labels[0], site.max(axis=1)) if flat else (labels, site)
    named = {names[c]: planes[c] for c in channels}
    table: dict[str, Any] = dict(object_table(mask, named))
    if families and len(table["label"]):
        table |= measure_families(consecutive(mask)[1], named, families)
    if parents is not None:
        table["parent"] = parents_of(mask, parents[0] if flat else parents)
    for values in zip(*table.values()):
        yield {column: _plain(value) for column, value in zip(table, values)}


def _plain(value: Any) -> Any:
    """A value of Python, None for what can't be computed."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def object_table(labels: np.ndarray, planes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Measure objects.

    Parameters
    ----------
    labels
        (Y, X) or (Z, Y, X), integers: 0 for background, other numbers for objects.
    planes
        Intensities of the same shape by the name of the channel.

    Returns
    -------
    dict
        Columns with one value per object, in the order of the labels: `label`, the centroid, the bounding box,
        `touches_edge`, the shape and the intensities. The solidity of an object that is too small for it is NaN.
    """
    from skimage.measure import regionprops_table

    shape = _NAMES | (_FLAT_NAMES if labels.ndim == 2 else {})
    properties = ["label", "centroid", "bbox", *shape.values(), *(_INTENSITY_NAMES.values() if planes else [])]
    stacked = np.stack(list(planes.values()), axis=-1).astype(np.float64) if planes else None
    numbers, small = consecutive(labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the convex hulls of objects of a few pixels
        found = regionprops_table(small, stacked, properties=properties)
    axes = ("z", "y", "x")[3 - labels.ndim :]
    near, far = ("front", "top", "left")[3 - labels.ndim :], ("back", "bottom", "right")[3 - labels.ndim :]
    table = {"label": numbers.astype(found["label"].dtype)}
    table |= {axis: found[f"centroid-{number}"] for number, axis in enumerate(axes)}
    table |= {edge: found[f"bbox-{number}"] for number, edge in enumerate((*near, *far))}
    sides = zip((*near[-2:], *far[-2:]), (0, 0, *labels.shape[-2:]))
    table["touches_edge"] = np.any([table[edge] == limit for edge, limit in sides], axis=0)
    table |= {ours: found[theirs].astype(float) for ours, theirs in shape.items()}
    line = table["minor_axis"] == 0  # an object on a line has no convex hull
    table["solidity"] = np.where(line, np.nan, table["solidity"])
    for number, name in enumerate(planes):
        table |= {f"{ours}_{name}": found[f"{theirs}-{number}"] for ours, theirs in _INTENSITY_NAMES.items()}
        table[f"total_intensity_{name}"] = table[f"mean_intensity_{name}"] * table["area"]
    return table


def parents_of(labels: np.ndarray, parents: np.ndarray) -> list[int | None]:
    """Find the object that covers most of each object.

    Parameters
    ----------
    labels, parents
        Integer arrays of one shape: 0 for background.

    Returns
    -------
    list
        For each object, in the order of `labels`, a number in `parents`; None if no object covers any of its pixels.
    """
    pairs, counts = np.unique(np.stack([labels, parents])[:, (labels > 0) & (parents > 0)], axis=1, return_counts=True)
    best = {int(label): int(parent) for label, parent in pairs[:, np.argsort(counts, kind="stable")].T}
    return [best.get(int(number)) for number in np.unique(labels[labels > 0])]


def _summary(
    name: str,
    rows: Sequence[dict[str, Any]],
    channels: Sequence[int],
    names: Sequence[str],
    families: Sequence[str],
) -> dict[str, float | None]:
    """The number of the objects of a site, and the means over them."""
    extra = list(family_columns(families))
    columns = {key: key for key in [*SHAPE, *(key for key, by_channel in extra if not by_channel)]}
    measured = [*INTENSITY, *(key for key, by_channel in extra if by_channel)]
    columns |= {f"{key}_c{c}": f"{key}_{names[c]}" for c in channels for key in measured}
    found: dict[str, float | None] = {f"{name}_count": len(rows)}
    for key, column in columns.items():
        values = [row[column] for row in rows if row.get(column) is not None]
        found |= mean_and_sd(f"{name}_{key}", values)
    return found


def _features(
    labels: Sequence[str] = ("nuclei",), families: Sequence[str] = (), **others: Any
) -> dict[str, dict[str, str]]:
    """The declaration of the results for params."""
    declared: dict[str, dict[str, str]] = {}
    for name in labels:
        per_object = {"statistic": "objects", "count": f"{name}_count"}
        declared[f"{name}_count"] = {"statistic": "count", "description": f"number of {name}"}
        for key, (unit, text) in SHAPE.items():
            declared[f"{name}_{key}"] = {**per_object, "unit": unit, "description": f"{name}: {text}"}
        for key, text in INTENSITY.items():
            declared[f"{name}_{key}_c{{channel}}"] = {
                **per_object,
                "unit": "counts",
                "description": f"{name}: {text}",
            }
        for key, by_channel in family_columns(families):
            column = f"{name}_{key}_c{{channel}}" if by_channel else f"{name}_{key}"
            declared[column] = {**per_object, "description": f"{name}: {key} of CellProfiler"}
    return declared


measure_objects.features = _features  # type: ignore[attr-defined]
