"""Registration: channels, cycles and timepoints that are shifted against each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from openhcs_omero.errors import StepError
from openhcs_omero.processing.inputs import acquired, as_float, as_type, check_no_labels, finite_channels
from openhcs_omero.processing.measurements import by_timepoint
from openhcs_omero.processing.params import Correlation, Upsampling

DETAILS = 1.0, 8.0  # px


def find_shift(reference: np.ndarray, plane: np.ndarray, upsample: int = 1) -> tuple[np.ndarray, float]:
    """Find how far a plane must be moved to lie on a reference.

    The shift is the peak of the phase correlation (Kuglin and Hines, 1975), which uneven illumination does not affect.
    Where the planes overlap after it, the peak of the upsampled cross-correlation gives the fraction of a pixel
    (Guizar-Sicairos, Thurman and Fienup, 2008), which is more precise on noisy planes. A Hann window keeps the edges of
    the field from matching each other.

    Parameters
    ----------
    reference, plane
        (Y, X), any numeric dtype.
    upsample
        Steps per pixel.

    Returns
    -------
    shift, correlation
        (y, x) in px; and Pearson's correlation of the details after the shift, where the planes overlap: about 0 for
        planes that have nothing in common but the illumination. Details are a difference of Gaussians of 1 and 8 px.
    """
    from skimage.filters import difference_of_gaussians
    from skimage.registration import phase_cross_correlation

    if reference.min() == reference.max() or plane.min() == plane.max():
        return np.zeros(2), 0.0
    shift = phase_cross_correlation(_windowed(reference), _windowed(plane))[0]
    parts = [each[part] for each, part in _overlap(reference, plane, shift.astype(int))]
    if min(parts[0].shape) < 8 or any(part.min() == part.max() for part in parts):
        return shift, 0.0
    if upsample > 1:
        rest = phase_cross_correlation(*map(_windowed, parts), upsample_factor=upsample, normalization=None)[0]
        shift = shift + np.clip(rest, -1, 1)
    details = [difference_of_gaussians(as_float(part), *DETAILS) for part in parts]
    inner = tuple(slice(trim, -trim) for side in parts[0].shape for trim in [min(8, side // 4)])  # filters need room
    return shift, float(np.corrcoef(*(detail[inner].ravel() for detail in details))[0, 1])


def _windowed(plane: np.ndarray) -> np.ndarray:
    """A plane without its mean, which falls off to 0 at the edges."""
    from skimage.filters import window

    return (plane - plane.mean(dtype=np.float64)) * window("hann", plane.shape)


def _overlap(reference: np.ndarray, plane: np.ndarray, shift: np.ndarray) -> list[tuple[np.ndarray, Any]]:
    """The part of each plane that the other one covers after the shift."""
    ends = list(zip(shift, plane.shape))
    kept = tuple(slice(max(0, int(move)), size + min(0, int(move))) for move, size in ends)
    taken = tuple(slice(max(0, -int(move)), size - max(0, int(move))) for move, size in ends)
    return [(reference, kept), (plane, taken)]


def move(stack: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Move planes (..., Y, X) by (y, x) px, linearly interpolated; what comes in from outside the field is 0."""
    from scipy.ndimage import shift as moved

    full = (0,) * (stack.ndim - 2) + tuple(shift)
    return as_type(moved(as_float(stack), full, order=1, mode="constant", cval=0.0), stack.dtype)


def align_channels(
    image: np.ndarray,
    filemanager: Any,
    metadata: dict[str, Any],
    backend: str = "disk",
    channels: list[int] | None = None,
    reference_channel: int = 0,
    cycle_channels: list[list[int]] | None = None,
    upsample: Upsampling = 1,
    least_correlation: Correlation = 0.4,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Move channels, or cycles of channels, onto a reference channel.

    The shift in y and x is the peak of the phase correlation (Kuglin and Hines, 1975) of maximum projections. It can be
    found where both channels show the same structures, such as DAPI of two cycles. A channel whose shift is not known,
    because it has too little in common with the reference, stays where it is.

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
        Channels to move, each by itself, from 0; default all but the reference.
    reference_channel
        The channel that does not move.
    cycle_channels
        Lists of channels that move together, one per cycle of staining: the first one of each list, such as DAPI of
        that cycle, is compared with the reference. Use it in place of `channels`.
    upsample
        Steps per pixel: 1 finds whole pixels and moves without interpolation, 10 finds tenths.
    least_correlation
        Pearson's correlation of details that the reference and the moved channel must reach, or the shift is not known.

    Returns
    -------
    image, results
        The aligned image in the input dtype, with 0 where pixels moved in from outside the field. For each channel that
        was compared, such as 3: `shift_y_c3` and `shift_x_c3`, in px; None if they are not known; and
        `shift_correlation_c3`. With several timepoints, each value is a list with one value per timepoint.
    """
    check_no_labels(metadata, "an alignment")
    if channels is not None and cycle_channels is not None:
        raise StepError("an alignment takes channels or cycle_channels, but got both")
    [reference] = finite_channels(image, [reference_channel])
    others = [channel for channel in finite_channels(image, channels) if channel != reference]
    groups = [finite_channels(image, group) for group in cycle_channels or [[channel] for channel in others]]
    out, rows = image.copy(), []
    for t, site in enumerate(image):
        row: dict[str, Any] = {}
        for group in groups:
            there = all(acquired(metadata, t, channel, image.shape[2]) for channel in (reference, group[0]))
            planes = (site[reference].max(axis=0), site[group[0]].max(axis=0)) if there else None
            shift, correlation = _known_shift(planes, upsample, least_correlation)
            row |= _named(shift, "shift", f"_c{group[0]}")
            row[f"shift_correlation_c{group[0]}"] = correlation
            if shift is not None:
                out[t, group] = move(site[group], shift)
        rows.append(row)
    return out, by_timepoint(rows)


def align_timepoints(
    image: np.ndarray,
    filemanager: Any,
    metadata: dict[str, Any],
    backend: str = "disk",
    reference_channel: int = 0,
    upsample: Upsampling = 1,
    least_correlation: Correlation = 0.4,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Move every timepoint onto the first one, to correct a drift.

    The shift in y and x is the peak of the phase correlation (Kuglin and Hines, 1975) of maximum projections. A
    timepoint whose shift is not known, because it has too little in common with the first one, stays where it is.

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
    reference_channel
        The channel that is compared; all channels move.
    upsample
        Steps per pixel: 1 finds whole pixels and moves without interpolation, 10 finds tenths.
    least_correlation
        Pearson's correlation of details that the first and the moved timepoint must reach, or the shift is not known.

    Returns
    -------
    image, results
        The aligned image in the input dtype, with 0 where pixels moved in from outside the field. `drift_y` and
        `drift_x`, the shifts in px, are None if they are not known; `drift_correlation` is the correlation. With
        several timepoints, each value is a list with one value per timepoint.
    """
    check_no_labels(metadata, "an alignment")
    [channel] = finite_channels(image, [reference_channel])
    there = [bool(acquired(metadata, t, channel, image.shape[2])) for t in range(len(image))]
    planes = image[:, channel].max(axis=1)
    out, rows = image.copy(), []
    for t, plane in enumerate(planes):
        pair = (planes[0], plane) if there[0] and there[t] else None
        shift, correlation = _known_shift(pair, upsample, least_correlation)
        rows.append({**_named(shift, "drift"), "drift_correlation": correlation})
        if shift is not None and t:
            out[t] = move(image[t], shift)
    return out, by_timepoint(rows)


def _known_shift(
    planes: tuple[np.ndarray, np.ndarray] | None, upsample: int, least: float
) -> tuple[np.ndarray | None, float | None]:
    """The shift of a plane onto its reference, None if they have too little in common, and the correlation."""
    if planes is None:
        return None, None
    shift, correlation = find_shift(*planes, upsample=upsample)
    return (shift if correlation >= least else None), correlation


def _named(shift: np.ndarray | None, name: str, suffix: str = "") -> dict[str, float | None]:
    """The results of a shift."""
    return {
        f"{name}_{axis}{suffix}": None if shift is None else float(shift[number]) for number, axis in enumerate("yx")
    }


align_channels.features = {  # type: ignore[attr-defined]
    "shift_y_c{channel}": {"unit": "px", "description": "shift that aligned the channel, down"},
    "shift_x_c{channel}": {"unit": "px", "description": "shift that aligned the channel, to the right"},
    "shift_correlation_c{channel}": {"description": "correlation of the channel with the reference after the shift"},
}
align_timepoints.features = {  # type: ignore[attr-defined]
    "drift_y": {"unit": "px", "description": "shift that aligned the timepoint, down"},
    "drift_x": {"unit": "px", "description": "shift that aligned the timepoint, to the right"},
    "drift_correlation": {"description": "correlation of the timepoint with the first one after the shift"},
}
