"""Thresholds between objects and background: of a site, or of a whole plate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from openhcs_omero.errors import StepError
from openhcs_omero.processing.inputs import as_float, finite_planes

SAMPLE = 2**16  # px of each plane in the threshold of a plate


def otsu_above_noise(values: np.ndarray, contrast: float) -> float:
    """Compute Otsu's threshold (Otsu, 1979), provided that it stands out from the noise.

    Otsu's threshold alone would find objects in an empty field. The background is the median of the values below the
    threshold, and the noise 1.4826 times their median absolute deviation, also where objects fill the field. Without
    objects, the threshold divides the noise or the uneven illumination, and is less than 1.5 times such a "noise" above
    the "background".

    Parameters
    ----------
    values
        Intensities, of any shape.
    contrast
        Minimum height of the threshold above the background, in units of the noise.

    Returns
    -------
    float
        Infinity if the threshold does not stand out: nothing is above it.
    """
    from skimage.filters import threshold_otsu

    if values.min() == values.max():
        return np.inf
    threshold = float(threshold_otsu(values))
    below = values[values <= threshold]
    background = float(np.median(below))
    noise = 1.4826 * float(np.median(np.abs(below - background)))
    return threshold if threshold > background + contrast * noise else np.inf


def smoothed(plane: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth a plane with a Gaussian, as (Y, X) of floats."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(as_float(plane), sigma)


def plate_threshold(planes: Iterator[np.ndarray], sigma: float, contrast: float) -> np.ndarray:
    """Compute one threshold from many planes of a channel.

    Parameters
    ----------
    planes
        (Y, X) arrays; evenly spaced pixels of each smoothed plane are used, at most 65,536. Planes
        with NaN or infinity are left out.
    sigma
        Standard deviation of the smoothing in px.
    contrast
        See `otsu_above_noise`.

    Returns
    -------
    ndarray
        float64 without axes; infinity if nothing stands out on the whole plate.

    Raises
    ------
    ValueError
        If there are no planes.
    """
    smooth = (smoothed(plane, sigma).ravel() for plane in finite_planes(planes))
    sample = [values[:: -(-values.size // SAMPLE)] for values in smooth]
    if not sample:
        raise ValueError("no plane to compute a threshold from")
    return np.array(otsu_above_noise(np.concatenate(sample), contrast))


def known_threshold(
    image: np.ndarray, metadata: Mapping[str, Any], threshold: str | float, channel: int
) -> float | None:
    """Return the threshold for a channel of a site if it is known; None if each plane has its own.

    Parameters
    ----------
    image
        (T, C, Z, Y, X).
    metadata
        The metadata of the site, with the plate's threshold of each channel as `plate_estimate`.
    threshold
        A number, "plate" or "site".
    channel
        Number of the channel, from 0.

    Raises
    ------
    StepError
        If a threshold of the plate, which is computed from single planes, is asked for z stacks.
    """
    if threshold == "site":
        return None
    if threshold == "plate":
        if image.shape[2] > 1:
            raise StepError("a threshold of the plate needs sites of one z plane: put project_z before this step")
        return float(metadata["plate_estimate"][channel])
    return float(threshold)
