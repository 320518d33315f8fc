"""Projection of z stacks to a single plane."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from openhcs_omero.processing.inputs import acquired, as_float, as_type, check_no_labels, finite_channels
from openhcs_omero.processing.measurements import by_timepoint

FOCUS_SIGMA = 1.5  # px


def project_z(
    image: np.ndarray,
    filemanager: Any,
    metadata: dict[str, Any],
    backend: str = "disk",
    method: Literal["max", "mean", "best_focus"] = "max",
) -> tuple[np.ndarray, dict[str, Any]]:
    """Project each z stack to one plane: the maximum, the mean, or the plane in best focus.

    The best focus of each channel and timepoint is the plane with the largest variance of the Laplacian of Gaussian
    (Pech-Pacheco et al., 2000). If no plane stands out, it is the middle plane. Planes that were not acquired are left
    out.

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
    method
        How the planes are combined.

    Returns
    -------
    image, results
        The projected image, (T, C, 1, Y, X), in the input dtype; means of integers are rounded. With "best_focus",
        `best_z_c0` is the chosen plane of channel 0, from 0, and likewise for other channels. It is None if no plane
        stands out, as in a site without any structure.
    """
    check_no_labels(metadata, "a projection")
    if method == "best_focus":
        finite_channels(image, None)
    out = np.zeros((*image.shape[:2], 1, *image.shape[3:]), image.dtype)
    rows: list[dict[str, Any]] = [{} for _ in image]
    for t, c in np.ndindex(image.shape[:2]):
        there = acquired(metadata, t, c, image.shape[2])
        stack = image[t, c, there]
        if method == "best_focus":
            best = best_focus(stack) if there else None
            rows[t][f"best_z_c{c}"] = None if best is None else there[best]
            stack = stack[[len(stack) // 2 if best is None else best]] if there else stack
        if there:
            flat = stack.mean(axis=0, dtype=np.float64) if method == "mean" else stack.max(axis=0)
            out[t, c, 0] = as_type(flat, image.dtype)
    return out, by_timepoint(rows)


def best_focus(stack: np.ndarray) -> int | None:
    """Find the plane in best focus.

    Parameters
    ----------
    stack
        (Z, Y, X), at least one plane.

    Returns
    -------
    int or None
        The plane with the largest variance of the Laplacian of Gaussian; 0 for a single plane. None if this variance
        is not larger than that of the worst plane by more than chance: by five standard errors of a variance, where
        the smoothing leaves one independent value per 10 px.
    """
    from scipy.ndimage import gaussian_laplace

    if len(stack) == 1:
        return 0
    focus = np.array([gaussian_laplace(as_float(plane), FOCUS_SIGMA).var() for plane in stack])
    chance = 5 * np.sqrt(2 * 10 / stack[0].size)
    return int(focus.argmax()) if focus.max() > (1 + chance) * focus.min() else None


project_z.features = {  # type: ignore[attr-defined]
    "best_z_c{channel}": {"unit": "planes", "description": "z plane in best focus, from 0"},
}
