"""Labels: integer images of the objects that steps find, and what is done with them in OMERO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

LARGEST_LABEL = 2**31 - 1  # of OMERO.tables, TIFF viewers and NGFF, all of which keep labels as integers

Labels = Mapping[str, np.ndarray]
"""By name, (T, C, Z, Y, X) of integers: 0 for background, other numbers for objects. C and Z may be 1, for all."""


@dataclass(frozen=True)
class RoiOptions:
    """How objects become regions of interest in OMERO.

    Parameters
    ----------
    on
        "derived" for the derived images alone, "both" for the source images too.
    shape
        "masks", which are the labels pixel by pixel, or "polygons", which are their outlines.
    """

    on: Literal["derived", "both"] = "derived"
    shape: Literal["masks", "polygons"] = "masks"


DERIVED_MASKS = RoiOptions()


def check_labels(name: str, labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Check labels against the shape (T, C, Z, Y, X) of their site.

    Returns
    -------
    ndarray
        The labels, in the smallest of uint16 and uint32 that holds them.

    Raises
    ------
    ValueError
        If they are not integers from 0 to `LARGEST_LABEL`, or their shape does not fit.
    """
    expected = f"(T, C or 1, Z or 1, Y, X) of an image {shape}"
    is_masked = isinstance(labels, np.ma.MaskedArray)
    if not isinstance(labels, np.ndarray) or is_masked or labels.dtype.kind not in "iu":
        kind = "masked array" if is_masked else getattr(labels, "dtype", type(labels).__name__)
        raise ValueError(f"labels {name!r} of type {kind}; labels are an array of integers, {expected}")
    if not fits(labels, shape):
        raise ValueError(f"labels {name!r} of shape {labels.shape}, which must be {expected}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > LARGEST_LABEL:
        raise ValueError(f"labels {name!r} with numbers from {low} to {high}; labels are from 0 to {LARGEST_LABEL}")
    return compact(labels)


def fits(labels: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether labels are (T, C or 1, Z or 1, Y, X) of an image of that shape (T, C, Z, Y, X)."""
    return labels.ndim == 5 and all(
        size == wanted or (axis in (1, 2) and size == 1) for axis, (size, wanted) in enumerate(zip(labels.shape, shape))
    )


def compact(labels: np.ndarray) -> np.ndarray:
    """Labels in the smallest of uint16 and uint32 that holds them."""
    return labels.astype(np.promote_types(np.uint16, np.min_scalar_type(int(labels.max()))), copy=False)


def consecutive(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of objects in their order, and labels with 1, 2, 3 ... in their places.

    Programs that list all numbers up to the largest one would run out of memory otherwise.
    """
    known = np.unique(labels)
    known = known[known != 0]
    if not len(known) or known[-1] == len(known):
        return known, labels
    return known, np.where(labels == 0, 0, np.searchsorted(known, labels) + 1).astype(np.int32)
