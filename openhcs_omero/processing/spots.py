"""Bright spots: puncta, vesicles, foci."""

from __future__ import annotations

from typing import Any

import numpy as np

from openhcs_omero.errors import StepError
from openhcs_omero.processing.inputs import acquired, as_float, channel_names, finite_channels, labels_of
from openhcs_omero.processing.measurements import by_timepoint, mean_and_sd
from openhcs_omero.processing.params import NoiseLevels, Pixels


def find_spots(plane: np.ndarray, sigma: float = 1.5, threshold: float = 10.0) -> tuple[np.ndarray, np.ndarray]:
    """Find the bright spots on a plane.

    A spot is a local maximum of the scale-normalized Laplacian of Gaussian (Lindeberg, 1998) that is more than
    `threshold` times the noise of the plane. A uniform or sloping background gives a response of zero. The noise is
    1.4826 times the median absolute deviation of the response itself, so the result depends on neither exposure nor bit
    depth.

    Parameters
    ----------
    plane
        (Y, X), any numeric dtype.
    sigma
        Standard deviation of the spots in px; their radius is about 1.4 times this.
    threshold
        Minimum height, in standard deviations of the noise.

    Returns
    -------
    places, heights
        (n, 2) int, the y and x of each spot in px; and (n,) of floats, its response in the plane's intensity units.
    """
    from scipy.ndimage import gaussian_laplace, maximum_filter

    values = as_float(plane)
    response = -(sigma**2) * gaussian_laplace(values, sigma)
    response -= np.median(response)  # the sampled kernel does not sum exactly to zero
    noise = 1.4826 * float(np.median(np.abs(response)))
    floor = max(
        threshold * noise, 1e-5 * float(np.abs(values).max())
    )  # rounding errors in a noise-free plane are not spots
    peaks = (response == maximum_filter(response, 2 * max(1, round(sigma)) + 1)) & (response > floor)
    places = np.argwhere(peaks)
    return places, response[peaks]


def count_spots(
    image: np.ndarray,
    filemanager: Any,
    metadata: dict[str, Any],
    backend: str = "disk",
    channels: list[int] | None = None,
    sigma: Pixels = 1.5,
    threshold: NoiseLevels = 10.0,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Count the bright spots of a site; a z stack is first reduced to its maximum projection.

    A spot is a local maximum of the scale-normalized Laplacian of Gaussian (Lindeberg, 1998) that stands out from the
    noise.

    Parameters
    ----------
    image
        (T, C, Z, Y, X), one site; returned unchanged.
    filemanager
        Not used.
    metadata
        The metadata of the site.
    backend
        Not used.
    channels
        Channels to count in, from 0; default all.
    sigma
        Standard deviation of the spots; their radius is about 1.4 times this.
    threshold
        Minimum height of a spot.

    Returns
    -------
    image, results
        The unchanged image. The results of channel 0 are `spots_c0`, the number of spots; `spot_height_c0`, their mean
        height; and `spot_height_c0_sd`, the standard deviation; and likewise for other channels. Without spots, the
        mean and the standard deviation are None. With several timepoints, each value is a list with one value per
        timepoint.
    """
    rows: list[dict[str, float | None]] = [{} for _ in image]
    for channel in finite_channels(image, channels):
        for t, (row, stack) in enumerate(zip(rows, image[:, channel])):
            _, heights = find_spots(stack.max(axis=0), sigma, threshold)
            row[f"spots_c{channel}"] = len(heights) if acquired(metadata, t, channel, image.shape[2]) else None
            row |= mean_and_sd(f"spot_height_c{channel}", heights)
    return image, by_timepoint(rows)


count_spots.features = {  # type: ignore[attr-defined]
    "spots_c{channel}": {"statistic": "count", "description": "number of bright spots"},
    "spot_height_c{channel}": {
        "statistic": "objects",
        "count": "spots_c{channel}",
        "unit": "counts",
        "description": "height of the spots over their surroundings",
    },
}


def count_spots_per_cell(
    image: np.ndarray,
    filemanager: Any,
    metadata: dict[str, Any],
    backend: str = "disk",
    channels: list[int] | None = None,
    labels: str = "cells",
    sigma: Pixels = 1.5,
    threshold: NoiseLevels = 10.0,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Count the bright spots in each cell; z stacks are first reduced to their maximum projection.

    A spot is a local maximum of the scale-normalized Laplacian of Gaussian (Lindeberg, 1998) that stands out from the
    noise. It belongs to the cell at its center.

    Parameters
    ----------
    image
        (T, C, Z, Y, X), one site; returned unchanged.
    filemanager
        Not used.
    metadata
        The metadata of the site, with the labels of the cells, which an earlier step returned.
    backend
        Not used.
    channels
        Channels to count in, from 0; default all.
    labels
        Name of the cells' labels.
    sigma
        Standard deviation of the spots; their radius is about 1.4 times this.
    threshold
        Minimum height of a spot.

    Returns
    -------
    image, results
        The unchanged image. The results of channel 0 are `spots_per_cell_c0`, the mean number of spots, None without
        cells; `spots_per_cell_c0_sd`, the standard deviation; `spot_cells_c0`, the number of cells; and
        `spots_inside_c0` and `spots_outside_c0`, the numbers of spots in cells and elsewhere; and likewise for other
        channels. `objects` has one row per cell, with `spots_GFP` and the mean height `spot_height_GFP` for a channel
        GFP.
    """
    cells, names = labels_of(metadata, labels), channel_names(metadata, image.shape[1])
    if cells.shape[1:3] != (1, 1):
        raise StepError(f"the labels {labels!r} differ between channels or z: spots per cell need (T, 1, 1, Y, X)")
    rows: list[dict[str, Any]] = [{} for _ in image]
    objects = [_numbers_of(plane[0, 0]) for plane in cells]
    for channel in finite_channels(image, channels):
        for t, (row, stack) in enumerate(zip(rows, image[:, channel])):
            numbers, there = objects[t]["label"], bool(acquired(metadata, t, channel, image.shape[2]))
            places, heights = find_spots(stack.max(axis=0), sigma, threshold)
            inside = cells[t, 0, 0][tuple(places.T)]
            spots = np.array([(inside == number).sum() for number in numbers], int)
            means = [float(heights[inside == number].mean()) if spot else None for number, spot in zip(numbers, spots)]
            objects[t][f"spots_{names[channel]}"] = [int(spot) if there else None for spot in spots]
            objects[t][f"spot_height_{names[channel]}"] = means
            row[f"spot_cells_c{channel}"] = len(numbers) if there else None
            row |= mean_and_sd(f"spots_per_cell_c{channel}", spots if there else [])
            row[f"spots_inside_c{channel}"] = int((inside > 0).sum()) if there else None
            row[f"spots_outside_c{channel}"] = int((inside == 0).sum()) if there else None
    found = [
        {"labels": labels, "t": t, **dict(zip(columns, values))}
        for t, columns in enumerate(objects)
        for values in zip(*columns.values())
    ]
    return image, {**by_timepoint(rows), "objects": found}


def _numbers_of(labels: np.ndarray) -> dict[str, list[Any]]:
    """The numbers of the objects, as the first column of their table."""
    return {"label": np.unique(labels[labels > 0]).tolist()}


count_spots_per_cell.features = {  # type: ignore[attr-defined]
    "spots_per_cell_c{channel}": {
        "statistic": "objects",
        "count": "spot_cells_c{channel}",
        "description": "bright spots per cell",
    },
    "spot_cells_c{channel}": {"statistic": "count", "description": "number of cells that spots were counted in"},
    "spots_inside_c{channel}": {"statistic": "count", "description": "number of bright spots in cells"},
    "spots_outside_c{channel}": {"statistic": "count", "description": "number of bright spots outside of cells"},
}
