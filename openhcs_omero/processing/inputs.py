"""What steps ask about a site: its channels, the planes that were acquired, and the labels of earlier steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from openhcs_omero.errors import StepError


def channels_of(image: np.ndarray, channels: Sequence[int] | None) -> list[int]:
    """Return the chosen channels of an image; None chooses all.

    Parameters
    ----------
    image
        (T, C, Z, Y, X).
    channels
        Numbers of channels, from 0.

    Raises
    ------
    StepError
        If the image lacks one of them.
    """
    count = image.shape[1]
    for channel in channels or ():
        if not 0 <= channel < count:
            known = "0" if count == 1 else f"0 to {count - 1}"
            raise StepError(f"there is no channel {channel}: the image has {count} channels, {known}")
    return list(range(count) if channels is None else channels)


def channel_names(metadata: Mapping[str, Any], count: int) -> list[str]:
    """Return names of channels for the columns of tables: ``GFP``, or ``c0`` if the channel has no name of its own.

    Parameters
    ----------
    metadata
        The metadata of a site; `channels` are the names, None where unknown.
    count
        Number of channels of the image.
    """
    known = list(metadata.get("channels") or ())
    known = [str(name or "").replace("/", "_") for name in known] if len(known) == count else [""] * count
    return [name if name and known.count(name) == 1 else f"c{number}" for number, name in enumerate(known)]


def acquired(metadata: Mapping[str, Any], t: int, channel: int, count: int) -> list[int]:
    """Return the z planes, of `count`, that were acquired; black planes replace the others.

    Parameters
    ----------
    metadata
        The metadata of a site; `filled` lists the (t, c, z) of black planes.
    t, channel
        Timepoint and channel, from 0.
    count
        Number of z planes.
    """
    missing = {tuple(plane) for plane in metadata.get("filled") or ()}
    return [z for z in range(count) if (t, channel, z) not in missing]


def labels_of(metadata: Mapping[str, Any], name: str) -> np.ndarray:
    """Return labels of an earlier step, (T, C or 1, Z or 1, Y, X).

    Raises
    ------
    StepError
        If no earlier step returned labels of that name.
    """
    labels: Mapping[str, np.ndarray] = metadata.get("labels") or {}
    if name not in labels:
        known = f"the labels so far are {', '.join(labels)}" if labels else "no earlier step returned labels"
        raise StepError(f"there are no labels {name!r}: {known}")
    return labels[name]


def check_no_labels(metadata: Mapping[str, Any], what: str) -> None:
    """Check that no objects were found yet, because `what` would move the image under them.

    Raises
    ------
    StepError
        If an earlier step returned labels.
    """
    if metadata.get("labels"):
        raise StepError(f"{what} comes before steps that find objects: move it up")


def as_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert values to a dtype; integers are rounded and clipped to the limits of the dtype, so none wraps around."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(dtype)
