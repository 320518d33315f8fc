"""The planes of an imported plate that were not acquired: its annotation says of which images, for steps to know."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from omero.gateway import BlitzGateway

from openhcs_omero.errors import PlateError
from openhcs_omero.omero import queries
from openhcs_omero.plates.arrangement import Place, Plane
from openhcs_omero.plates.structure import PlateStructure

NAMESPACE = "openhcs_omero/import"
_KEY = "filled_planes"


def filled_pairs(filled: Mapping[int, Iterable[Plane]]) -> list[tuple[str, str]]:
    """The pairs of the plate's annotation that say which planes (t, c, z) were not acquired, by image id."""
    images: dict[tuple[Plane, ...], list[int]] = {}
    for image, planes in filled.items():
        images.setdefault(tuple(sorted(planes)), []).append(image)
    return [(_KEY, json.dumps({"planes": planes, "images": ids})) for planes, ids in images.items() if planes]


def read_filled(conn: BlitzGateway, plate: PlateStructure) -> dict[Place, frozenset[Plane]]:
    """Read which planes (t, c, z) of a plate's images were not acquired, by (well, site), in one call.

    Raises
    ------
    PlateError
        If the annotation that says so can't be read.
    """
    found: dict[int, frozenset[Plane]] = {}
    for [value] in queries.rows(
        conn,
        "select pair.value from MapAnnotation a join a.mapValue pair, PlateAnnotationLink l "
        "where l.child.id = a.id and l.parent.id = :id and a.ns = :ns and pair.name = :name",
        id=plate.plate_id,
        ns=NAMESPACE,
        name=_KEY,
    ):
        try:
            about = json.loads(value)
            planes = frozenset((int(t), int(c), int(z)) for t, c, z in about["planes"])
            found |= {int(image): planes for image in about["images"]}
        except (ValueError, TypeError, KeyError):
            raise PlateError(
                f"plate {plate.label} has an annotation {_KEY} ({NAMESPACE}) that can't be read: delete it, or import "
                "the plate again"
            ) from None
    return {(well, image.site): found[image.image_id] for well, image in plate.images() if image.image_id in found}
