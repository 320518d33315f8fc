"""CellProfiler's measurements of objects (Stirling et al., 2021) by cp_measure, which is an extra."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from openhcs_omero.errors import StepError

ShapeFamily = Literal["sizeshape", "feret", "zernike"]
ChannelFamily = Literal["intensity", "texture", "granularity", "radial_distribution", "radial_zernikes"]
Family = ShapeFamily | ChannelFamily


def measure_families(
    labels: np.ndarray, planes: Mapping[str, np.ndarray], families: Sequence[str]
) -> dict[str, np.ndarray]:
    """Measure objects with families of cp_measure's features.

    Parameters
    ----------
    labels
        (Y, X), integers: 0 for background, other numbers for at least one object.
    planes
        Intensities, (Y, X) of integers, by the name of the channel.
    families
        The families.

    Returns
    -------
    dict
        float64 columns with one value per object, in the order of the labels: of features of the shape under
        CellProfiler's names, such as ``FormFactor``; of others with the name of the channel, such as
        ``Intensity_MeanIntensity_GFP``.

    Raises
    ------
    StepError
        If cp_measure is not installed, the labels are those of a stack, or the intensities are no integers.
    """
    functions, mask = _functions(), labels.astype(np.int32)
    if labels.ndim != 2:
        raise StepError("families of cp_measure are for labels of one z plane: put project_z before this step")
    if any(not np.issubdtype(plane.dtype, np.integer) for plane in planes.values()):
        raise StepError("families of cp_measure need images of integers, as cameras record them")
    found: dict[str, np.ndarray] = {}
    for family in families:
        if family in get_args(ShapeFamily):
            found |= functions[family](mask, None)
            continue
        for name, plane in planes.items():
            found |= {f"{key}_{name}": values for key, values in functions[family](mask, plane).items()}
    return {key: np.asarray(values, float) for key, values in found.items()}


def _functions() -> Mapping[str, Any]:
    try:
        from cp_measure.bulk import get_core_measurements
    except ImportError:
        raise StepError(
            "families of features need cp_measure, which is not installed: pip install 'openhcs-omero[cellprofiler]'"
        ) from None
    return get_core_measurements()


@functools.cache
def features_of(family: str) -> tuple[str, ...]:
    """The names of a family's features; raises StepError if cp_measure is not installed."""
    y, x = np.mgrid[0:48, 0:48]
    disk = ((y - 24) ** 2 + (x - 24) ** 2 < 196).astype(np.int32)
    plane = np.random.default_rng(0).integers(0, 1000, disk.shape).astype(np.uint16)
    return tuple(_functions()[family](disk, plane))


def family_columns(families: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Yield the features of families, and whether there is one per channel."""
    for family in families:
        for name in features_of(family):
            yield name, family in get_args(ChannelFamily)
