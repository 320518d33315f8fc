"""Bright spots: puncta, vesicles, foci."""

from __future__ import annotations

from typing import Any

import numpy as np

from openhcs_omero.processing.measurements import by_timepoint, mean_and_sd


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
        (n, 2) int, the y and x of each spot in px; and (n,) float32, its response in the plane's intensity units.
    """
    from scipy.ndimage import gaussian_laplace, maximum_filter

    response = -(sigma**2) * gaussian_laplace(plane.astype(np.float32), sigma)
    response -= np.median(response)  # the sampled kernel does not sum exactly to zero
    noise = 1.4826 * float(np.median(np.abs(response)))
    floor = max(threshold * noise, 1e-5 * float(plane.max()))  # rounding errors in a noise-free plane are not spots
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
    """Count the bright spots of a site; a z stack is first reduced to its maximum projection.

    Parameters
    ----------
    image
        (T, C, Z, Y, X), one site; returned unchanged.
    channels
        Channels to count in, from 0; default all.
    sigma, threshold
        See `find_spots`.

    Returns
    -------
    image, results
        The unchanged image. The results of channel 0 are `spots_c0`, the number of spots; `spot_height_c0`, their mean
        height; and `spot_height_c0_sd`, the standard deviation; and likewise for other channels. Without spots, the
        mean and the standard deviation are None. With several timepoints, each value is a list with one value per
        timepoint.
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
