"""Bright spots: puncta, vesicles, foci."""
from __future__ import annotations

from typing import Any

import numpy as np


def find_spots(plane: np.ndarray, sigma: float = 1.5, threshold: float = 10.0) -> tuple[np.ndarray, np.ndarray]:
    """Places and heights of the bright spots on a plane.

    A spot is a local maximum of the scale-normalised Laplacian of Gaussian (Lindeberg, 1998), which a slope or an even
    background leaves at zero, that stands `threshold` times above the plane's noise. The noise is the response's own
    spread, 1.4826 times its median absolute deviation, so neither exposure nor bit depth matter.

    Parameters
    ----------
    plane
        (Y, X), any numeric dtype.
    sigma
        The spots' standard deviation in px (their radius is about 1.4 times that).
    threshold
        Least height, in standard deviations of the noise.

    Returns
    -------
    places, heights
        (n, 2) int y and x, and (n,) float32 response in the plane's intensity units.
    """
    from scipy.ndimage import gaussian_laplace, maximum_filter

    response = -(sigma**2) * gaussian_laplace(plane.astype(np.float32), sigma)
    response -= np.median(response)  # the sampled kernel does not quite sum to zero
    noise = 1.4826 * float(np.median(np.abs(response)))
    floor = max(threshold * noise, 1e-5 * float(plane.max()))  # in a plane without noise, rounding is no spot
    peaks = (response == maximum_filter(response, 2 * max(1, round(sigma)) + 1)) & (response > floor)
    places = np.argwhere(peaks)
    return places, response[peaks]


def count_spots(image: np.ndarray, filemanager: Any, metadata: dict[str, Any], backend: str = "disk",
                channels: list[int] | None = None, sigma: float = 1.5,
                threshold: float = 10.0) -> tuple[np.ndarray, dict[str, Any]]:
    """Count the bright spots of a site; a z stack is projected (maximum) first.

    Parameters
    ----------
    image
        (T, C, Z, Y, X), one site; returned as it came.
    channels
        Channels to count in; default all.
    sigma, threshold
        See `find_spots`.

    Returns
    -------
    image, results
        Per channel `spots_c0`, their number, and `spot_height_c0`, their mean height (0 where there is none). Where
        there are several timepoints the keys end in `_t0`, `_t1`, ...
    """
    results: dict[str, float] = {}
    for channel in channels if channels is not None else range(image.shape[1]):
        for t, stack in enumerate(image[:, channel]):
            key = f"c{channel}" if len(image) == 1 else f"c{channel}_t{t}"
            _, heights = find_spots(stack.max(axis=0), sigma, threshold)
            count = len(heights)
            results[f"spots_{key}"] = count
            results[f"spot_height_{key}"] = float(heights.mean()) if count else 0.0
    return image, results
