"""Whole cells around nuclei."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt, Unit

from openhcs_omero.errors import StepError
from openhcs_omero.processing.cells import measure_cells
from openhcs_omero.processing.inputs import acquired, finite_channels, labels_of
from openhcs_omero.processing.measurements import by_timepoint, mean_and_sd
from openhcs_omero.processing.params import NoiseLevels, Pixels, Threshold
from openhcs_omero.processing.thresholds import known_threshold, otsu_above_noise, plate_threshold, smoothed


def label_whole_cells(
    plane: np.ndarray, nuclei: np.ndarray, threshold: float, distance: float | None = None
) -> np.ndarray:
    """Label the cell around each nucleus.

    The nuclei are the seeds of a watershed on the inverted intensities, which is limited to pixels above the threshold
    and to the nuclei themselves: cells that touch are divided along the dark valley between them. Pixels above the
    threshold that no nucleus reaches belong to no cell.

    Parameters
    ----------
    plane
        (Y, X) of floats, a smoothed stain of the cells.
    nuclei
        (Y, X) integers: 0 for background, other numbers for nuclei.
    threshold
        Intensity between background and cells.
    distance
        Largest distance of a cell's pixels from the nearest nucleus in px; None for no limit.

    Returns
    -------
    ndarray
        (Y, X) int32; a cell has the number of its nucleus.
    """
    from scipy.ndimage import distance_transform_edt
    from skimage.segmentation import watershed

    mask = plane > threshold
    if distance is not None and nuclei.any():
        mask &= distance_transform_edt(nuclei == 0) <= distance
    return watershed(-plane, nuclei.astype(np.int32), mask=mask | (nuclei > 0))


def segment_whole_cells(
    image: np.ndarray,
    filemanager: Any,
    metadata: dict[str, Any],
    backend: str = "disk",
    channels: list[int] | None = None,
    nuclei: str = "nuclei",
    smoothing: Pixels = 1.5,
    contrast: NoiseLevels = 3.0,
    threshold: Threshold = "site",
    distance: Annotated[float | None, Gt(0), Unit("px")] = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Find the cell around each nucleus in a channel that stains cells; z stacks are first reduced to their maximum.

    A seeded watershed on the inverted intensities (Meyer and Beucher, 1990) starts at the nuclei and stays above a
    threshold. Cells that touch are divided along the dark valley between them. Where the stain does not rise above the
    threshold, the cell is its nucleus.

    Parameters
    ----------
    image
        (T, C, Z, Y, X), one site.
    filemanager
        Not used.
    metadata
        The metadata of the site, with the labels of the nuclei, which an earlier step returned.
    backend
        Not used.
    channels
        The channel that stains the cells; exactly one.
    nuclei
        Name of the nuclei's labels.
    smoothing
        Standard deviation of the Gaussian that the plane is smoothed with.
    contrast
        Minimum height of Otsu's threshold above the background. Below it, cells are as large as their nuclei.
    threshold
        "site": Otsu's threshold of each plane. "plate": one for all sites, from pixels of up to 100 sites that are
        spread evenly over the plate, first timepoint, as the earlier steps return them; it needs sites of one z plane.
        Or a number.
    distance
        Largest distance of a cell's pixels from its nucleus; null for no limit.

    Returns
    -------
    image, results
        The unchanged image. The labels "cells", (T, 1, 1, Y, X), have the numbers of the nuclei. The results of channel
        0 are `whole_cells_c0`, the number of cells; `whole_cell_area_c0` and `whole_cell_intensity_c0`, the means of
        their area and intensity, each with its standard deviation, `_sd`. `objects` has one row per cell, with its
        nucleus as `parent`. Without cells, means are None.
    """
    if channels is None or len(channels) != 1:
        raise StepError("whole cells are found in one channel: write its name or number, such as channels: [GFP]")
    [channel] = finite_channels(image, channels)
    seeds = labels_of(metadata, nuclei)
    if seeds.shape[1:3] != (1, 1):
        raise StepError(f"the labels {nuclei!r} differ between channels or z: whole cells need (T, 1, 1, Y, X)")
    known = known_threshold(image, metadata, threshold, channel)
    rows, objects, found = [], [], []
    for t, stack in enumerate(image[:, channel]):
        plane = stack.max(axis=0)
        smooth = smoothed(plane, smoothing)
        limit = otsu_above_noise(smooth, contrast) if known is None else known
        there = bool(acquired(metadata, t, channel, image.shape[2]))
        found.append(label_whole_cells(smooth, seeds[t, 0, 0] * there, limit, distance))
        cells = measure_cells(found[-1], plane)
        row: dict[str, float | None] = {f"whole_cells_c{channel}": len(cells) if there else None}
        row |= mean_and_sd(f"whole_cell_area_c{channel}", [cell["area"] for cell in cells])
        row |= mean_and_sd(f"whole_cell_intensity_c{channel}", [cell["mean_intensity"] for cell in cells])
        rows.append(row)
        objects += [{"labels": "cells", "t": t, "parent": cell["label"], **cell} for cell in cells]
    labels = np.stack(found)[:, None, None]
    return image, {**by_timepoint(rows), "objects": objects, "labels": {"cells": labels}}


def estimate_threshold(
    planes: Iterator[np.ndarray], smoothing: float = 1.5, contrast: float = 3.0, **others: Any
) -> np.ndarray:
    """Compute the threshold of a plate for `segment_whole_cells`, see `plate_threshold`."""
    return plate_threshold(planes, smoothing, contrast)


segment_whole_cells.features = {  # type: ignore[attr-defined]
    "whole_cells_c{channel}": {"statistic": "count", "description": "number of cells"},
    "whole_cell_area_c{channel}": {
        "statistic": "objects",
        "count": "whole_cells_c{channel}",
        "unit": "px",
        "description": "area of the cells",
    },
    "whole_cell_intensity_c{channel}": {
        "statistic": "objects",
        "count": "whole_cells_c{channel}",
        "unit": "counts",
        "description": "mean intensity of the cells",
    },
}
segment_whole_cells.plate_estimate = estimate_threshold  # type: ignore[attr-defined]
segment_whole_cells.plate_estimate_if = {"threshold": "plate"}  # type: ignore[attr-defined]
