"""Masks: regions of interest that say which pixels belong to an object."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from omero.gateway import BlitzGateway

from openhcs_omero.omero import queries
from openhcs_omero.plates.labels import LARGEST_LABEL, Labels, compact

OTHERS = "masks"  # name of the labels of regions that are not named like "nuclei 12"
_NAMED = re.compile(r"([A-Za-z0-9_.-]+) ([1-9][0-9]{0,9})")


@dataclass(frozen=True)
class Mask:
    """A mask of a region of interest.

    Parameters
    ----------
    roi
        OMERO's id of the region, which may have several masks.
    name
        Name of the region.
    y, x
        Position of the first pixel.
    inside
        Array (Y, X) of bool.
    t, c, z
        The plane, from 0; None for all.
    """

    roi: int
    name: str
    y: int
    x: int
    inside: np.ndarray
    t: int | None = None
    c: int | None = None
    z: int | None = None


def mask_versions(conn: BlitzGateway, image_ids: Sequence[int]) -> dict[int, list[list[int]]]:
    """The ids of the masks of images and of the events that last changed them, by image; in one call per 10,000."""
    found: dict[int, list[list[int]]] = {}
    for ids in queries.pages(image_ids):
        for image, *version in queries.rows(
            conn,
            """
            select i.id, m.id, ev.id from Mask m join m.roi r join r.image i join m.details.updateEvent ev
            where i.id in (:ids) order by i.id, m.id""",
            ids=ids,
        ):
            found.setdefault(image, []).append(version)
    return found


def read_masks(conn: BlitzGateway, image_id: int) -> list[Mask]:
    """Read the masks of an image, in the order of their regions of interest."""
    shapes = queries.query(conn).findAllByQuery(
        "select m from Mask m join fetch m.roi r where r.image.id = :id order by r.id, m.id",
        queries.parameters(id=image_id),
        queries.context(conn, queries.ALL_GROUPS),
    )
    masks = []
    for shape in shapes:
        width, height = round(shape.width.val), round(shape.height.val)
        bits = np.unpackbits(np.frombuffer(shape.bytes, np.uint8), count=width * height)  # one bit per pixel
        place = (None if index is None else index.val for index in (shape.theT, shape.theC, shape.theZ))
        name = "" if shape.roi.name is None else shape.roi.name.val
        inside = bits.reshape(height, width).astype(bool)
        masks.append(Mask(shape.roi.id.val, name, round(shape.y.val), round(shape.x.val), inside, *place))
    return masks


def labels_of(masks: Sequence[Mask], shape: tuple[int, int, int, int, int]) -> tuple[Labels, int]:
    """Draw masks as labels.

    Regions with names like "nuclei 12", which this software gives, become the label 12 of "nuclei". All others are
    counted from 1, in "masks".

    Parameters
    ----------
    masks
        The masks of an image.
    shape
        (T, C, Z, Y, X) of the image.

    Returns
    -------
    labels
        By name, (T, C or 1, Z, Y, X). Where regions overlap, the later one is drawn.
    hidden : int
        The number of pixels that more than one region of the same name claims.
    """
    found: dict[str, np.ndarray] = {}
    others: dict[int, int] = {}
    hidden = 0
    for mask in masks:
        named = _NAMED.fullmatch(mask.name)
        name = named[1] if named else OTHERS
        value = int(named[2]) if named else others.setdefault(mask.roi, 1 + len(others))
        if name not in found:
            channels = shape[1] if any(other.c is not None for other in masks) else 1
            found[name] = np.zeros((shape[0], channels, *shape[2:]), np.uint32)
        hidden += _draw(found[name], mask, min(value, LARGEST_LABEL))
    return {name: compact(pixels) for name, pixels in found.items()}, hidden


def _draw(labels: np.ndarray, mask: Mask, value: int) -> int:
    """Draw a mask; returns the number of pixels that had another label."""
    top, left = max(mask.y, 0), max(mask.x, 0)
    inside = mask.inside[top - mask.y : labels.shape[3] - mask.y, left - mask.x : labels.shape[4] - mask.x]
    planes = tuple(slice(None) if index is None else slice(index, index + 1) for index in (mask.t, mask.c, mask.z))
    place = labels[(*planes, slice(top, top + inside.shape[0]), slice(left, left + inside.shape[1]))]
    covered = np.broadcast_to(inside, place.shape)
    hidden = int(np.count_nonzero(covered & (place != 0) & (place != value)))
    place[covered] = value
    return hidden
