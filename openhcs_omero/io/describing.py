"""Describing a plate in OMERO, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from openhcs_omero.io.omero_local import OMEROLocalBackend
from openhcs_omero.omero.derived import list_derived
from openhcs_omero.omero.near import ways
from openhcs_omero.omero.pixels import read_metadata
from openhcs_omero.plates.paths import FilePath, PlatePath, parse_path


def describe_plate(backend: OMEROLocalBackend, place: PlatePath) -> Iterator[tuple[str, str]]:
    """Yield lines about a plate in OMERO, each with a label and a text; they fit on a screen."""
    plate = backend.plate_structure(place.plate_id, place.output)
    filled = plate.wells_with_images()
    images = [image for _, image in plate.images()]
    yield "plate", f"{place}  {plate.name}"
    yield "OMERO id", str(plate.plate_id)
    yield "wells", _wells_in_words(list(plate.wells), filled, plate.rows, plate.columns)
    sites = sorted({len(plate.wells[name].images) for name in filled})
    yield "sites", f"{' or '.join(map(str, sites)) or 'none'} per well, {len(images)} in all"
    kinds = Counter((image.shape, image.pixel_type) for image in images)
    for ((t, c, z, y, x), pixel_type), count in kinds.items():
        many = f"  ({count} sites)" if len(kinds) > 1 else ""
        yield "image size", f"{x} x {y} pixels, {pixel_type}; z {z}, channels {c}, timepoints {t}{many}"
    for acquisition, title in plate.acquisitions():
        yield "acquisition", f"{title}  (id {acquisition})"
    if images:
        about = read_metadata(backend.conn, images[:1])[images[0].image_id]
        for number, name in enumerate(about.channel_names):
            yield f"channel {number}", name or "(no name)"
        size = about.pixel_size[1]
        yield "pixel size", "unknown" if size is None else f"{size:g} µm"
        for way, count in ways(backend.conn, images).items():
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


def _wells_in_words(wells: Sequence[str], filled: Sequence[str], rows: int, columns: int) -> str:
    if not wells:
        return f"none of {rows} x {columns}"
    empty = f", {len(wells) - len(filled)} of them without images" if len(filled) < len(wells) else ""
    return f"{len(wells)} of {rows} x {columns}, {wells[0]} to {wells[-1]}{empty}"
