"""Uneven illumination: estimated once per plate and channel, taken out of every plane."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np


def estimate_illumination(planes: Iterator[np.ndarray], dark: float = 0.0, smoothing: float = 0.08) -> np.ndarray:
    """The light over the field, from many planes of one channel.

    Cells lie elsewhere on each plane, so the mean over many planes shows the light. Each plane is cut off at its 90th
    percentile and divided by its mean, so that neither bright cells nor bright wells outweigh the others; the mean is
    smoothed with a Gaussian. It is the retrospective correction that CellProfiler's documentation calls "regular".

    Parameters
    ----------
    planes
        (Y, X) arrays of one size, any numeric dtype; each is looked at once.
    dark
        Counts that the camera gives without light, taken off first.
    smoothing
        Standard deviation of the Gaussian as a part of the shorter side.

    Returns
    -------
    ndarray
        (Y, X) float32 with mean 1, nowhere below 0.05.

    Raises
    ------
    ValueError
        Where there is no plane.
    """
    from scipy.ndimage import gaussian_filter

    total: np.ndarray | None = None
    for plane in planes:
        light = np.clip(plane.astype(np.float64) - dark, 0, None)
        light = np.minimum(light, np.percentile(light, 90))
        if total is None:
            total = np.zeros(light.shape)
        if light.any():
            total += light / light.mean()
    if total is None:
        raise ValueError("no plane to estimate the illumination from")
    if not total.any():
        return np.ones(total.shape, np.float32)
    smooth = gaussian_filter(total, smoothing * min(total.shape), mode="mirror")
    return np.maximum(smooth / smooth.mean(), 0.05).astype(np.float32)


def correct_illumination(
    image: np.ndarray,
    filemanager: Any,
    metadata: dict[str, Any],
    backend: str = "disk",
    channels: list[int] | None = None,
    dark: float = 0.0,
    smoothing: float = 0.08,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Divide each plane by the plate's illumination, keeping dtype and mean brightness.

    Parameters
    ----------
    image
        (T, C, Z, Y, X), one site.
    metadata
        `plate_estimate`: channel -> (Y, X) function of `estimate_illumination`, which the workflow puts there.
    channels
        Channels to correct; default all.
    dark
        Counts that the camera gives without light: taken off, the rest divided, put on again.
    smoothing
        Of the estimate, see `estimate_illumination`; nothing here depends on it.

    Returns
    -------
    image, results
        The corrected image in the dtype that came in (rounded and clipped where that is an integer), and no results.
    """
    out = image.copy()
    for channel in channels if channels is not None else range(image.shape[1]):
        light = metadata["plate_estimate"][channel]
        even = (image[:, channel].astype(np.float32) - dark) / light + dark
        if np.issubdtype(image.dtype, np.integer):
            limits = np.iinfo(image.dtype)
            even = np.clip(np.rint(even), limits.min, limits.max)
        out[:, channel] = even.astype(image.dtype)
    return out, {}


correct_illumination.plate_estimate = estimate_illumination  # type: ignore[attr-defined]
correct_illumination.features = {}  # type: ignore[attr-defined]
