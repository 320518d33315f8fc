"""Bright spots: puncta, vesicles, foci."""

from __future__ import annotations

from typing import Any

import numpy as np

from openhcs_omero.processing.measurements import by_timepoint, mean_and_sd


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


def count_spots(
    image: np.ndarray,
    filemanager: Any,
    metadata: dict[str, Any],
    backend: str = "disk",
    channels: list[int] | None = None,
    sigma: float = 1.5,
    threshold: float = 10.0,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Count the bright spots of a site; a z stack is projected (maximum) first.

    Parameters
    ----------
    image
        (T, C, Z, Y, X), one site; returned unchanged.
    channels
        Channels to count in; default all.
    sigma, threshold
        See `find_spots`.

    Returns
    -------
    image, results
        Per channel `spots_c0`, the number of spots, `spot_height_c0`, their mean height, and `spot_height_c0_sd`, its
        standard deviation. Without spots, height and deviation are None. With several timepoints each of them is a
        list, one value per timepoint.
    """
    rows: list[dict[str, float | None]] = [{} for _ in image]
    for channel in channels if channels is not None else range(image.shape[1]):
        for row, stack in zip(rows, image[:, channel]):
            _, heights = find_spots(stack.max(axis=0), sigma, threshold)
            row[f"spots_c{channel}"] = len(heights)
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
