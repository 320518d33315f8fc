"""What steps ask about a site: its channels, the planes that were acquired, and the labels of earlier steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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


def finite_channels(image: np.ndarray, channels: Sequence[int] | None) -> list[int]:
    """Return the chosen channels as `channels_of` does, if all their pixels are finite numbers.

    Raises
    ------
    StepError
        If the image lacks a channel, or a channel has NaN or infinity, which would spread over its surroundings.
    """
    chosen = channels_of(image, channels)
    for channel in chosen:
        if image.dtype.kind == "f" and not np.isfinite(image[:, channel]).all():
            raise StepError(f"channel {channel} has pixels that are NaN or infinite: replace them in an earlier step")
    return chosen


def finite_planes(planes: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the planes, (Y, X), for an estimate of a plate, without those that have NaN or infinity in them."""
    return (plane for plane in planes if plane.dtype.kind != "f" or np.isfinite(plane).all())


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


def as_float(pixels: np.ndarray) -> np.ndarray:
    """Convert pixels to float32, or to float64 if float32 has too few digits for their type."""
    return pixels.astype(np.result_type(pixels.dtype, np.float32), copy=False)


def as_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert values to a dtype; integers are rounded and clipped to the limits of the dtype, so none wraps around."""
    if np.issubdtype(dtype, np.integer) and values.dtype != dtype:
        limits, values = np.iinfo(dtype), np.rint(values)
        most = values.dtype.type(limits.max)
        if int(most) > limits.max:  # float32 has 2**31, and nothing between that and 2**31 - 128
            most = np.nextafter(most, values.dtype.type(0))
        values = np.clip(values, limits.min, most)
    return values.astype(dtype)
