"""The quality of images: focus, saturation, background, and sites that are empty or have debris.

References
----------
Bray, Fraser, Hasaka and Carpenter, Workflow and metrics for image quality control in large-scale high-content screens,
Journal of Biomolecular Screening 17, 266 (2012): the slope of the power spectrum as a measure of focus.
Immerkaer, Fast noise variance estimation, Computer Vision and Image Understanding 64, 300 (1996): noise from
differences between neighbors.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import pandas as pd

from openhcs_omero.analysis.wells import MAD_TO_SD

SPECTRUM_SIDE = 1024  # px; the spectrum is that of the central part of larger planes
SIGNAL_TO, NOISE_FROM = 0.25, 0.45  # cycles per px
CONTRAST_ROWS = 256
EMPTY_BELOW = 6.0  # times the noise
KEYS = ["plate", "well", "site"]
OVERALL = ("focus_z", "saturated", "dark", "debris_z", "empty")
"""Columns about a whole site: the worst of its channels; `empty` is 1 if all channels are."""
BY_CHANNEL = (
    "focus",
    "focus_z",
    "saturated",
    "dark",
    "background",
    "p01",
    "p50",
    "p99",
    "contrast",
    "debris_z",
)
"""Columns about one channel, such as ``focus_c0``."""
_COLUMN = re.compile(rf"({'|'.join(OVERALL)})|({'|'.join(BY_CHANNEL)})_c(\d+)|acquired_s")


def is_image_column(name: str) -> bool:
    """Whether a name is that of a column of image_qc.csv that a condition may use."""
    return _COLUMN.fullmatch(name) is not None


def channel_of(name: str) -> int | None:
    """The channel of a column such as ``focus_c0``; None for a column about the whole site."""
    match = _COLUMN.fullmatch(name)
    return None if match is None or match[3] is None else int(match[3])


def measure_site(pixels: np.ndarray, filled: Collection[tuple[int, int, int]] = ()) -> dict[str, float]:
    """Measure the quality of a site's image.

    Parameters
    ----------
    pixels
        (T, C, Z, Y, X).
    filled
        (t, c, z) of planes that were not acquired, which are left out.

    Returns
    -------
    dict
        For each channel c with planes, the median over timepoints of the values of its sharpest z plane: `focus_c`, the
        slope of the power spectrum; `p01_c`, `p50_c`, `p99_c` and `p999_c`, percentiles; `background_c`, the 5th
        percentile; and `contrast_c`, how far the brightest pixels stand out, in units of the noise. Over all planes:
        `lowest_c`, `highest_c`, and `at_lowest_c` and `at_highest_c`, the fractions of pixels with these values.
    """
    found: dict[str, float] = {}
    skipped = set(filled)
    for c in range(pixels.shape[1]):
        stacks = [
            [pixels[t, c, z] for z in range(pixels.shape[2]) if (t, c, z) not in skipped] for t in range(len(pixels))
        ]
        planes = [plane for stack in stacks for plane in stack]
        if not planes:
            continue
        sharpest = [max(map(_measure_plane, stack), key=lambda values: values["focus"]) for stack in stacks if stack]
        values: dict[str, float] = {name: float(np.median([one[name] for one in sharpest])) for name in sharpest[0]}
        for name, extreme in (("lowest", np.min), ("highest", np.max)):
            values[name] = float(extreme([extreme(plane) for plane in planes]))
            values[f"at_{name}"] = float(np.mean([np.mean(plane == values[name]) for plane in planes]))
        found |= {f"{name}_c{c}": value for name, value in values.items()}
    return found


def _measure_plane(plane: np.ndarray) -> dict[str, float]:
    plane = plane.astype("float32")
    p01, background, p50, p99, p999 = (float(value) for value in np.percentile(plane, [1, 5, 50, 99, 99.9]))
    return {
        "focus": spectrum_slope(plane),
        "background": background,
        "p01": p01,
        "p50": p50,
        "p99": p99,
        "p999": p999,
        "contrast": contrast(plane),
    }


def spectrum_slope(plane: np.ndarray) -> float:
    """The slope of log power over log spatial frequency (Bray 2012), without the camera's noise.

    Blurred images have less power at high frequencies, and so a more negative slope. The noise has the same power at
    all frequencies and would hide that: its power is taken from the highest frequencies and subtracted. What remains is
    at least a hundredth of it. -inf for a constant plane.

    Parameters
    ----------
    plane
        (Y, X).
    """
    from scipy import fft

    top, left = (max(side - SPECTRUM_SIDE, 0) // 2 for side in plane.shape)
    part = plane[top : top + SPECTRUM_SIDE, left : left + SPECTRUM_SIDE].astype("float32")
    power = np.abs(fft.rfft2(part - part.mean())) ** 2
    high, inside, bins = _frequencies(part.shape)
    noise = float(power[high].mean())
    count = np.bincount(bins)
    mean = np.bincount(bins, weights=power[inside])[count > 0] / count[count > 0]
    signal = np.maximum(mean - noise, 0.01 * noise)
    if len(signal) < 3 or not (signal > 0).all():
        return float("-inf")
    return float(np.polyfit(np.log(np.flatnonzero(count)), np.log(signal), 1)[0])


@functools.lru_cache(maxsize=2)
def _frequencies(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a spectrum is noise, where it is signal, and the bins, in cycles per plane, of the latter."""
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
    bins = np.rint(frequency * min(shape)).astype(int)
    inside = (bins >= 1) & (frequency <= SIGNAL_TO)
    return frequency > NOISE_FROM, inside, bins[inside]


def contrast(plane: np.ndarray) -> float:
    """How far the brightest thousandth of a plane lies above its median, in units of the noise.

    Slow changes over the field, a quadratic surface, are subtracted. The noise is 1.4826 MAD of differences between
    neighbors. About 3 for noise alone; 0 for a constant plane. Of large planes, it is that of evenly spaced rows.

    Parameters
    ----------
    plane
        (Y, X).
    """
    plane = plane[:: -(-len(plane) // CONTRAST_ROWS)]
    terms, inverse = _surface(plane.shape)
    flat = plane.ravel() - (inverse @ plane.ravel()) @ terms
    difference = np.diff(plane, axis=1)
    noise = MAD_TO_SD * float(np.median(np.abs(difference - np.median(difference)))) / np.sqrt(2)
    middle, bright = np.percentile(flat, [50, 99.9])
    if bright <= middle:
        return 0.0
    return float(bright - middle) / noise if noise > 0 else float("inf")


@functools.lru_cache(maxsize=2)
def _surface(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The terms of a quadratic surface over a plane, (6, pixels), and what gives their least squares coefficients."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, side, dtype="float32") for side in shape), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * y, x**2, y**2]).reshape(6, -1)
    inverse = np.linalg.pinv((terms @ terms.T).astype("float64")) @ terms
    return terms, inverse.astype("float32")


def compare_sites(sites: pd.DataFrame, channels: Iterable[int]) -> pd.DataFrame:
    """Compare the sites of one plate, and summarize their channels.

    Parameters
    ----------
    sites
        One row per site: `plate`, `well`, `site`, what `measure_site` returns, `acquired` in seconds if it is known,
        and `reason`, why a site has no values, else empty.
    channels
        The channels, from 0.

    Returns
    -------
    DataFrame
        The keys, the columns `OVERALL` and `acquired_s`, the columns `BY_CHANNEL` of each channel, and `reason`.

        `saturated` and `dark` are the fractions of pixels that have the highest and the lowest value of the channel on
        the plate: a camera's limits, whatever its bit depth. `focus_z` and `debris_z` are robust z scores among the
        sites of the plate that are not empty: of the slope of the power spectrum, and of the logarithm of the 99.9th
        percentile above the background. `acquired_s` is in seconds since the first site of the plate. What can't be
        computed is missing.
    """
    made: dict[str, Any] = {key: sites[key] for key in KEYS}
    by_channel: dict[str, pd.Series] = {}
    channels = list(channels)
    for c in channels:
        found = {
            name: pd.to_numeric(sites.get(f"{name}_c{c}", pd.Series(np.nan, sites.index)), errors="coerce")
            for name in (*BY_CHANNEL, "p999", "lowest", "highest", "at_lowest", "at_highest")
        }
        found = {name: values.astype(float) for name, values in found.items()}
        spread = found["highest"].max() > found["lowest"].min()
        for name, end, limit in (("saturated", "highest", "max"), ("dark", "lowest", "min")):
            at_end = (found[end] == getattr(found[end], limit)()) & spread
            found[name] = found[f"at_{end}"].where(at_end, 0.0).where(found[end].notna())
        seen = (found["contrast"] >= EMPTY_BELOW).to_numpy()
        found["focus_z"] = robust_z(found["focus"], seen)
        height = (found["p999"] - found["background"]).clip(lower=0)
        found["debris_z"] = robust_z(height.where(height > 0).map(np.log), seen)
        by_channel |= {f"{name}_c{c}": found[name] for name in BY_CHANNEL}
    for name, worst in (("focus_z", "min"), ("saturated", "max"), ("dark", "max"), ("debris_z", "max")):
        made[name] = getattr(pd.DataFrame({c: by_channel[f"{name}_c{c}"] for c in channels}), worst)(axis=1)
    heights = pd.DataFrame({c: by_channel[f"contrast_c{c}"] for c in channels}).max(axis=1)
    made["empty"] = (heights < EMPTY_BELOW).astype(float).where(heights.notna())
    made["acquired_s"] = _since_first(sites)
    return pd.DataFrame({**made, **by_channel, "reason": sites["reason"]})


def robust_z(values: pd.Series, reference: np.ndarray) -> pd.Series:
    """(value - median) / (1.4826 MAD) of the reference, missing outside of it; all missing if the MAD is 0."""
    usable = reference & np.isfinite(values.to_numpy())
    chosen = values[usable]
    median = chosen.median()
    spread = MAD_TO_SD * (chosen - median).abs().median()
    if not spread > 0:
        return pd.Series(np.nan, values.index)
    return ((values - median) / spread).where(usable)


def _since_first(sites: pd.DataFrame) -> pd.Series:
    acquired = pd.to_numeric(sites.get("acquired", pd.Series(np.nan, sites.index)), errors="coerce").astype(float)
    return acquired - acquired.min()
