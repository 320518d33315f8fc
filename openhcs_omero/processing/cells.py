"""Counting and measuring nuclei."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from openhcs_omero.plates.labels import consecutive
from openhcs_omero.processing.inputs import acquired, finite_channels
from openhcs_omero.processing.measurements import by_timepoint, mean_and_sd
from openhcs_omero.processing.metadata import construct_path
from openhcs_omero.processing.params import NoiseLevels, Pixels, Threshold
from openhcs_omero.processing.thresholds import known_threshold, otsu_above_noise, plate_threshold, smoothed

SMOOTHING = 16  # diameters of nuclei per standard deviation of the smoothing


def label_cells(
    plane: np.ndarray, diameter: float = 20.0, contrast: float = 6.0, threshold: float | None = None
) -> np.ndarray:
    """Label the nuclei of a plane.

    The smoothed plane is segmented at Otsu's threshold (Otsu, 1979). Touching nuclei are separated by a watershed on
    the distance to the edge, seeded at the peaks of the distance. If the threshold does not exceed the background by
    more than `contrast` times the noise, the plane has no nuclei: Otsu's threshold alone would find some in an empty
    field.

    Parameters
    ----------
    plane
        (Y, X), any numeric dtype.
    diameter
        Typical diameter of a nucleus in px; objects with less than a quarter of the corresponding area are left out.
    contrast
        Minimum height of the threshold above the background, in units of the noise, see `otsu_above_noise`.
    threshold
        Used in place of Otsu's threshold; `contrast` then has no effect.

    Returns
    -------
    ndarray
        (Y, X) int32: 0 for background, 1..n for nuclei.
    """
    from scipy import ndimage
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    smooth = smoothed(plane, diameter / SMOOTHING)
    if threshold is None:
        threshold = otsu_above_noise(smooth, contrast)
    mask = ndimage.binary_fill_holes(smooth > threshold)
    if not mask.any():
        return np.zeros(plane.shape, np.int32)
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), diameter / SMOOTHING)
    parts, _ = ndimage.label(mask)
    peaks = peak_local_max(distance, min_distance=max(1, round(diameter / 3)), labels=parts, exclude_border=False)
    seeds = np.zeros(plane.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-distance, seeds, mask=mask)
    return _renumbered(labels, least_area=np.pi * diameter**2 / 16)


def _renumbered(labels: np.ndarray, least_area: float) -> np.ndarray:
    """Remove the objects that are too small, and number the others 1..n."""
    keep = np.bincount(labels.ravel()) >= least_area
    keep[0] = False
    return (np.cumsum(keep) * keep).astype(np.int32)[labels]


def measure_cells(labels: np.ndarray, plane: np.ndarray) -> list[dict[str, Any]]:
    """Measure the objects of a label image.

    Parameters
    ----------
    labels
        (Y, X), integers: 0 for background, other numbers for objects.
    plane
        (Y, X), the intensities; any numeric dtype.

    Returns
    -------
    list of dict
        One row per object: label, centroid y and x (px), area (px), mean and total intensity, eccentricity.
    """
    from skimage.measure import regionprops

    numbers, small = consecutive(labels)
    return [
        {
            "label": int(number),
            "y": float(cell.centroid[0]),
            "x": float(cell.centroid[1]),
            "area": float(cell.area),
            "mean_intensity": float(cell.intensity_mean),
            "total_intensity": float(cell.intensity_mean * cell.area),
            "eccentricity": float(cell.eccentricity),
        }
        for number, cell in zip(numbers, regionprops(small, intensity_image=plane))
    ]


def segment_cells(
    image: np.ndarray,
    filemanager: Any,
    metadata: dict[str, Any],
    backend: str = "disk",
    channels: list[int] | None = None,
    diameter: Pixels = 20.0,
    contrast: NoiseLevels = 6.0,
    threshold: Threshold = "site",
) -> tuple[np.ndarray, dict[str, Any]]:
    """Find, count and measure the nuclei of a site; a z stack is first reduced to its maximum projection.

    The smoothed plane is segmented at a threshold, by default Otsu's (Otsu, 1979). Touching nuclei are separated by a
    watershed on the distance to the edge.

    Parameters
    ----------
    image
        (T, C, Z, Y, X), one site.
    filemanager
        Not used.
    metadata
        The metadata of the site.
    backend
        Not used.
    channels
        Channels with nuclei, from 0; default all.
    diameter
        Typical diameter of a nucleus. Objects with less than a quarter of the corresponding area are left out.
    contrast
        Minimum height of Otsu's threshold above the background. Below it, there are no nuclei.
    threshold
        "site": Otsu's threshold of each plane. "plate": one for all sites, from pixels of up to 100 sites that are
        spread evenly over the plate, first timepoint, as the earlier steps return them; it needs sites of one z plane.
        Or a number.

    Returns
    -------
    image, results
        The unchanged image. `labels` has an array (T, 1, 1, Y, X) for each channel, which holds for every z: "nuclei"
        if there is only one channel, else "nuclei_c1" for channel 1 and likewise for others. The results of channel 1
        are `cells_c1`, the number of nuclei; `cell_area_c1` and `cell_intensity_c1`, the means of their area and
        intensity, each with its standard deviation, `_sd`; and likewise for other channels. `objects` has one row per
        nucleus. Without nuclei, means are None.
    """
    found, results, objects = _count(image, metadata, channels, diameter, contrast, threshold)
    names = {channel: "nuclei" if len(found) == 1 else f"nuclei_c{channel}" for channel in found}
    return image, {
        **results,
        "objects": [{"labels": names[row["channel"]], **row} for row in objects],
        "labels": {names[channel]: labels[:, None, None] for channel, labels in found.items()},
    }


def cell_counting_cpu(
    image: np.ndarray,
    filemanager: Any,
    metadata: dict[str, Any],
    backend: str = "disk",
    channels: list[int] | None = None,
    diameter: Pixels = 20.0,
    contrast: NoiseLevels = 6.0,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Count and measure the nuclei of a site; a z stack is first reduced to its maximum projection.

    `segment_cells` does the same and leaves the image as it is.

    Parameters
    ----------
    image
        (T, C, Z, Y, X), one site.
    filemanager
        Saves the labels and the counts with the site (`construct_path`): labeled.tif, (T, C, 1, Y, X) of the segmented
        channels, uint16 or uint32, and results.json.
    metadata
        The metadata of the site.
    backend
        The backend to save to: "disk", "zarr", "memory" or "omero".
    channels
        Channels with nuclei, from 0; default all.
    diameter
        Typical diameter of a nucleus. Objects with less than a quarter of the corresponding area are left out.
    contrast
        Minimum height of Otsu's threshold above the background. Below it, there are no nuclei.

    Returns
    -------
    image, results
        The image, in which labels (0 for background, 1..n; the same in every z) replace the segmented channels. Other
        channels keep their values; the dtype is widened if the labels need it. The results of channel 1 are `cells_c1`,
        the number of nuclei; `cell_area_c1` and `cell_intensity_c1`, the means of their area and intensity;
        `cell_area_c1_sd` and `cell_intensity_c1_sd`, the standard deviations; and likewise for other channels.
        `objects` has one row per nucleus. Without nuclei, means and standard deviations are None. With several
        timepoints, each value is a list with one value per timepoint.
    """
    found, results, objects = _count(image, metadata, channels, diameter, contrast)
    most = np.min_scalar_type(max((int(labels.max()) for labels in found.values()), default=0))
    labeled = image.astype(np.promote_types(np.promote_types(image.dtype, np.uint16), most))
    for channel, labels in found.items():
        labeled[:, channel] = labels[:, None]
    kept = np.stack(list(found.values()), axis=1)[:, :, None].astype(np.promote_types(np.uint16, most))
    filemanager.save(kept, construct_path(metadata, "labeled"), backend=backend)
    filemanager.save(results, construct_path(metadata, "results.json"), backend=backend)
    return labeled, {**results, "objects": objects}


def estimate_threshold(
    planes: Iterator[np.ndarray], diameter: float = 20.0, contrast: float = 6.0, threshold: str | float = "plate"
) -> np.ndarray:
    """Compute the threshold of a plate for `segment_cells`, see `plate_threshold`; `threshold` is not used."""
    return plate_threshold(planes, diameter / SMOOTHING, contrast)


def _count(
    image: np.ndarray,
    metadata: dict[str, Any],
    channels: list[int] | None,
    diameter: float,
    contrast: float,
    threshold: str | float = "site",
) -> tuple[dict[int, np.ndarray], dict[str, Any], list[dict[str, Any]]]:
    """The labels (T, Y, X) by channel, the results, and one row per nucleus. Nothing is counted in missing planes."""
    rows: list[dict[str, Any]] = [{} for _ in image]
    objects: list[dict[str, Any]] = []
    found = {}
    for channel in finite_channels(image, channels):
        planes = image[:, channel].max(axis=1)
        known = known_threshold(image, metadata, threshold, channel)
        found[channel] = np.stack([label_cells(plane, diameter, contrast, known) for plane in planes])
        for t, (row, labels, plane) in enumerate(zip(rows, found[channel], planes)):
            cells = measure_cells(labels, plane)
            row[f"cells_c{channel}"] = len(cells) if acquired(metadata, t, channel, image.shape[2]) else None
            row |= mean_and_sd(f"cell_area_c{channel}", [cell["area"] for cell in cells])
            row |= mean_and_sd(f"cell_intensity_c{channel}", [cell["mean_intensity"] for cell in cells])
            objects += [{"channel": channel, "t": t, **cell} for cell in cells]
    return found, by_timepoint(rows), objects


_FEATURES = {
    "cells_c{channel}": {"statistic": "count", "description": "number of nuclei"},
    "cell_area_c{channel}": {
        "statistic": "objects",
        "count": "cells_c{channel}",
        "unit": "px",
        "description": "area of the nuclei",
    },
    "cell_intensity_c{channel}": {
        "statistic": "objects",
        "count": "cells_c{channel}",
        "unit": "counts",
        "description": "mean intensity of the nuclei",
    },
}
for _step in (segment_cells, cell_counting_cpu):
    _step.features = _FEATURES  # type: ignore[attr-defined]
segment_cells.plate_estimate = estimate_threshold  # type: ignore[attr-defined]
segment_cells.plate_estimate_if = {"threshold": "plate"}  # type: ignore[attr-defined]
cell_counting_cpu.makes_labels = True  # type: ignore[attr-defined]
