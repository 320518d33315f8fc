"""Correction of uneven illumination, which is estimated once per plate and channel and corrected in every plane."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from openhcs_omero.processing.inputs import as_type, channels_of
from openhcs_omero.processing.params import Counts, FieldFraction


def estimate_illumination(planes: Iterator[np.ndarray], dark: float = 0.0, smoothing: float = 0.08) -> np.ndarray:
    """Estimate the illumination over the field from many planes of one channel.

    Cells are in different places on each plane, so the mean over many planes shows the illumination. Each plane is
    clipped at its 90th percentile and divided by its mean, so that neither bright cells nor bright wells dominate. The
    mean is smoothed with a Gaussian. CellProfiler's documentation calls this retrospective correction "regular".

    Parameters
    ----------
    planes
        (Y, X) arrays of one size, any numeric dtype; each is used once.
    dark
        Camera counts without light; subtracted first.
    smoothing
        Standard deviation of the Gaussian as a fraction of the shorter side.

    Returns
    -------
    ndarray
        (Y, X) float32 with mean 1 and a minimum of at least 0.05.

    Raises
    ------
    ValueError
        If there are no planes.
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
    dark: Counts = 0.0,
    smoothing: FieldFraction = 0.08,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Divide each plane by the plate's illumination; dtype and mean brightness are preserved.

    The illumination of a channel is the smoothed mean of up to 100 planes that are spread evenly over the plate. Each
    of them is clipped at its 90th percentile and divided by its mean.

    Parameters
    ----------
    image
        (T, C, Z, Y, X), one site.
    filemanager
        Not used.
    metadata
        Contains `plate_estimate`, set by the workflow: channel -> (Y, X) result of `estimate_illumination`.
    backend
        Not used.
    channels
        Channels to correct, from 0; default all.
    dark
        Camera counts without light; subtracted before the division and added back afterwards.
    smoothing
        Standard deviation of the Gaussian that smooths the estimate.

    Returns
    -------
    image, results
        The corrected image in the input dtype (integers are rounded and clipped), and an empty dict of results.
    """
    out = image.copy()
    for channel in channels_of(image, channels):
        light = metadata["plate_estimate"][channel]
        out[:, channel] = as_type((image[:, channel].astype(np.float32) - dark) / light + dark, image.dtype)
    return out, {}


correct_illumination.plate_estimate = estimate_illumination  # type: ignore[attr-defined]
correct_illumination.features = {}  # type: ignore[attr-defined]
