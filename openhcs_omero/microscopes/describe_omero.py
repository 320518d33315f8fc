"""Describing a plate in OMERO, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from openhcs_omero.io.omero_local import OMEROLocalBackend
from openhcs_omero.microscopes.base import Backend
from openhcs_omero.microscopes.describe import describe, in_words
from openhcs_omero.omero.derived import list_derived
from openhcs_omero.omero.filled import read_filled
from openhcs_omero.omero.near import ways
from openhcs_omero.omero.pixels import read_metadata
from openhcs_omero.plates.image import ImageMetadata
from openhcs_omero.plates.listing import PlateListing, difference
from openhcs_omero.plates.paths import FilePath, PlatePath, parse_path


def describe_plate(backend: OMEROLocalBackend, place: PlatePath) -> dict[str, Any]:
    """Describe a plate in OMERO, with the keys of `describe_folder`, but "plate" and "omero_id" for "folder"."""
    structure = backend.plate_structure(place.plate_id, place.output)
    filled = {} if place.output else read_filled(backend.conn, structure)
    listing = PlateListing(structure, Backend.OMERO_LOCAL, filled=filled, notes=structure.notes)
    images = list(structure.images())
    if images:
        known = read_metadata(backend.conn, [image for _, image in images])
        about = [(well, image.site, known.get(image.image_id, ImageMetadata())) for well, image in images]
        first = about[0][2]
        notes = (
            *structure.notes,
            *difference("channel names", [(well, site, one.channel_names) for well, site, one in about]),
            *difference("pixel sizes", [(well, site, one.pixel_size) for well, site, one in about]),
        )
        listing = replace(listing, channel_names=first.channel_names, pixel_size=first.pixel_size, notes=notes)
    return {"plate": str(place), "omero_id": structure.plate_id, **describe(listing)}


def describe_in_words(backend: OMEROLocalBackend, place: PlatePath) -> Iterator[tuple[str, str]]:
    """Yield lines about a plate in OMERO, each with a label and a text; they fit on a screen."""
    plate = describe_plate(backend, place)
    yield "plate", f"{place}  {' '.join(plate['name'].split())}"
    yield "OMERO id", str(plate["omero_id"])
    yield from in_words(plate)
    images = [image for _, image in backend.plate_structure(place.plate_id, place.output).images()]
    for way, count in ways(backend.conn, images).items() if images else ():
        yield "read", f"{count} image{'s' if count > 1 else ''} {way}"
    if place.output is None:
        for output, derived_id in list_derived(backend.conn, place.plate_id).items():
            yield "derived plate", f"{place}_{output}  OMERO id {derived_id}"
    yield from _files(backend, place)


def _files(backend: OMEROLocalBackend, place: PlatePath) -> Iterator[tuple[str, str]]:
    """The files attached to the plate itself, and how often each name is attached to wells and images."""
    files = [path for name in backend.list_files(str(place)) if isinstance(path := parse_path(name), FilePath)]
    for file in files:
        if isinstance(file.parent, PlatePath):
            yield "file", str(file)
    inside = Counter((file.parent.kind, file.name) for file in files if not isinstance(file.parent, PlatePath))
    for (kind, name), count in sorted(inside.items()):
        yield "files", f"{name} of {count} {kind}{'s' if count > 1 else ''}"
