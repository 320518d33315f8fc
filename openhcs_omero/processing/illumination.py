"""Correction of uneven illumination, which is estimated once per plate and channel and corrected in every plane."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from openhcs_omero.errors import StepError
from openhcs_omero.processing.inputs import as_float, as_type, channels_of, finite_planes
from openhcs_omero.processing.params import Counts, FieldFraction

NO_PLANES = "no plane to estimate the illumination from"
LEAST = 0.05  # of the mean: what gets less light is noise
BASIC_SIDE = 128  # px; BaSiC works on planes of this size
Method = Literal["regular", "basic"]


def estimate_illumination(
    planes: Iterator[np.ndarray], method: Method = "regular", dark: float = 0.0, smoothing: float = 0.08
) -> np.ndarray:
    """Estimate the illumination over the field from many planes of one channel.

    Cells are in different places on each plane, so the mean over many planes shows the illumination. By "regular", each
    plane is clipped at its 90th percentile and divided by its mean, so that neither bright cells nor bright wells
    dominate. The mean is smoothed with a Gaussian. CellProfiler's documentation calls this retrospective correction
    "regular". By "basic", BaSiC (Peng et al., 2017) separates a smooth illumination from sparse cells.

    Parameters
    ----------
    planes
        (Y, X) arrays of one size, any numeric dtype; each is used once. Planes with NaN or infinity are left out.
    method
        How to estimate it.
    dark
        Camera counts without light; subtracted first.
    smoothing
        Standard deviation of the Gaussian as a fraction of the shorter side. "basic" does not use it.

    Returns
    -------
    ndarray
        (Y, X) float32 with mean 1 and a minimum of at least 0.05.

    Raises
    ------
    ValueError
        If there are no planes.
    StepError
        If basicpy is not installed.
    """
    lights = (np.clip(plane.astype(np.float64) - dark, 0, None) for plane in finite_planes(planes))
    return _basic(lights) if method == "basic" else _regular(lights, smoothing)


def _regular(lights: Iterator[np.ndarray], smoothing: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    total: np.ndarray | None = None
    for light in lights:
        light = np.minimum(light, np.percentile(light, 90))
        if total is None:
            total = np.zeros(light.shape)
        if light.any():
            total += light / light.mean()
    if total is None:
        raise ValueError(NO_PLANES)
    if not total.any():
        return np.ones(total.shape, np.float32)
    smooth = gaussian_filter(total, smoothing * min(total.shape), mode="mirror")
    return np.maximum(smooth / smooth.mean(), LEAST).astype(np.float32)


def _basic(lights: Iterator[np.ndarray]) -> np.ndarray:
    try:
        from basicpy import BaSiC
    except ImportError:
        raise StepError(
            "correct_illumination by `method: basic` needs the package basicpy, in an environment of its own: "
            "pip install 'openhcs-omero[basic]', then pip install --no-deps basicpy"
        ) from None
    from skimage.transform import resize

    shape: tuple[int, ...] = ()
    planes = []
    for light in lights:
        shape = light.shape
        small = tuple(min(side, BASIC_SIDE) for side in shape)
        if light.any():
            planes.append(resize(light, small, anti_aliasing=True).astype(np.float32))
    if not shape:
        raise ValueError(NO_PLANES)
    if not planes:
        return np.ones(shape, np.float32)
    # `dark` is known; and a GPU would give other last digits
    model = BaSiC(get_darkfield=False, working_size=list(planes[0].shape), device="cpu")
    model.fit(np.stack(planes))
    light = resize(np.asarray(model.flatfield, dtype=np.float64), shape, mode="edge")
    return np.maximum(light / light.mean(), LEAST).astype(np.float32)


def correct_illumination(
    image: np.ndarray,
    filemanager: Any,
    metadata: dict[str, Any],
    backend: str = "disk",
    channels: list[int] | None = None,
    method: Method = "regular",
    dark: Counts = 0.0,
    smoothing: FieldFraction = 0.08,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Divide each plane by the plate's illumination; dtype and mean brightness are preserved.

    The illumination of a channel is estimated from up to 100 planes that are spread evenly over the plate: by default,
    each of them is clipped at its 90th percentile and divided by its mean, and their mean is smoothed.

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
    method
        "regular", or "basic" for BaSiC, which needs basicpy and the extra `basic` of this package.
    dark
        Camera counts without light; subtracted before the division and added back afterwards.
    smoothing
        Standard deviation of the Gaussian that smooths the estimate of "regular".

    Returns
    -------
    image, results
        The corrected image in the input dtype (integers are rounded and clipped), and an empty dict of results.
    """
    out = image.copy()
    for channel in channels_of(image, channels):
        light = metadata["plate_estimate"][channel]
        out[:, channel] = as_type((as_float(image[:, channel]) - dark) / light + dark, image.dtype)
    return out, {}


correct_illumination.plate_estimate = estimate_illumination  # type: ignore[attr-defined]
correct_illumination.features = {}  # type: ignore[attr-defined]
