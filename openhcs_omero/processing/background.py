"""Subtraction of the background."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from openhcs_omero.processing.inputs import as_float, as_type, finite_channels
from openhcs_omero.processing.params import Pixels


def subtract_background(
    image: np.ndarray,
    filemanager: Any,
    metadata: dict[str, Any],
    backend: str = "disk",
    channels: list[int] | None = None,
    method: Literal["top_hat", "rolling_ball"] = "top_hat",
    radius: Pixels = 50.0,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Subtract from each plane what is wider than the objects.

    "top_hat" subtracts the morphological opening with a square of 2 radius + 1 px. "rolling_ball" subtracts the surface
    that a ball reaches when it rolls under the intensities (Sternberg, 1983). As in ImageJ, a ball of more
    than 10 px rolls under the minima of blocks of pixels.

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
        Channels to correct, from 0; default all.
    method
        How the background is estimated.
    radius
        Half of the square's side, or radius of the ball; larger than the radius of the objects.

    Returns
    -------
    image, results
        The image without background, in the input dtype and never below 0; and an empty dict of results.
    """
    out = image.copy()
    for channel in finite_channels(image, channels):
        for t, z in np.ndindex(len(image), image.shape[2]):
            plane = as_float(image[t, channel, z])
            out[t, channel, z] = as_type(np.clip(plane - _background(plane, method, radius), 0, None), image.dtype)
    return out, {}


def _background(plane: np.ndarray, method: str, radius: float) -> np.ndarray:
    """The background of a plane, (Y, X) of floats."""
    from scipy.ndimage import grey_opening

    return _ball(plane, radius) if method == "rolling_ball" else grey_opening(plane, 2 * round(radius) + 1)


def _ball(plane: np.ndarray, radius: float) -> np.ndarray:
    """The surface that a ball reaches: like ImageJ, roll a large ball under block minima, and interpolate."""
    from skimage.measure import block_reduce
    from skimage.restoration import ellipsoid_kernel, rolling_ball
    from skimage.transform import resize

    shrink = 1 if radius <= 10 else 2 if radius <= 30 else 4 if radius <= 100 else 8
    padded = np.pad(plane, [(0, -side % shrink) for side in plane.shape], mode="edge")
    kernel = ellipsoid_kernel((max(3, round(2 * radius / shrink)),) * 2, 2 * radius)
    rolled = rolling_ball(block_reduce(padded, shrink, np.min), kernel=kernel, workers=1)
    smooth = resize(rolled, padded.shape, order=1, mode="edge", anti_aliasing=False, preserve_range=True)
    return smooth[: plane.shape[0], : plane.shape[1]]


subtract_background.features = {}  # type: ignore[attr-defined]
