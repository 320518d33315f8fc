"""Describing a plate, in a folder or in OMERO, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from openhcs_omero.microscopes.detect import folder_handler
from openhcs_omero.plates.arrangement import Incomplete
from openhcs_omero.plates.listing import PlateListing


def describe_folder(folder: Path | str, pattern: str | None = None, incomplete: Incomplete = "error") -> dict[str, Any]:
    """Describe the plate in a folder as it would be processed or imported.

    Missing planes are listed and do not raise an error here.

    Parameters
    ----------
    folder
        The folder, or the address of an OME-Zarr plate on S3.
    pattern
        Pattern for the file names; None reads the microscope's metadata.
    incomplete
        What to do about missing planes: "error", "skip" or "fill".

    Returns
    -------
    dict
        See `describe`.

    Raises
    ------
    PlateError
        If the folder is not a plate that can be understood.
    """
    return {"folder": str(folder), **describe(folder_handler(folder, pattern, incomplete).listing(folder))}


def describe(listing: PlateListing) -> dict[str, Any]:
    """Describe a plate as it would be processed, by numbers, text, lists and dicts."""
    plate = listing.structure
    images = [image for _, image in plate.images()]
    kinds = Counter((image.shape, image.pixel_type) for image in images)
    names = [*listing.channel_names, *[None] * plate.max_c][: plate.max_c]
    return {
        "name": plate.name,
        "microscope": plate.microscope_type,
        "read_with": listing.backend,
        "format": [plate.rows, plate.columns],
        "wells": plate.wells_with_images(),
        "empty_wells": [name for name, well in plate.wells.items() if not well.images],
        "sites": {name: sorted(well.images) for name, well in plate.wells.items() if well.images},
        "images": [
            {"count": count, "timepoints": t, "channels": c, "planes": z, "height": y, "width": x, "type": pixel_type}
            for ((t, c, z, y, x), pixel_type), count in kinds.items()
        ],
        "acquisitions": [asdict(acquisition) for acquisition in plate.described_acquisitions()],
        "channels": names,
        "channel_numbers": [*listing.channel_numbers, *range(len(listing.channel_numbers), plate.max_c)],
        "pixel_size": dict(zip("zyx", listing.pixel_size)),
        "missing": {well: list(lacks) for well, lacks in listing.missing.items()},
        "problems": plate.type_problems(),
        "notes": list(listing.notes),
        "skipped": {well: list(sites) for well, sites in listing.skipped.items()},
        "skipped_planes": list(listing.skipped_planes),
        "filled_planes": sum(map(len, listing.filled.values())),
    }


def in_words(plate: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Convert the result of `describe` to lines, each with a label and a text."""
    if "folder" in plate:
        yield "folder", plate["folder"]
        yield "microscope", plate["microscope"]
    wells, empty = plate["wells"], plate["empty_wells"]
    span = f", {wells[0]} to {wells[-1]}" if wells else ""
    yield (
        "wells",
        (
            f"{len(wells)} with images of {plate['format'][0]} x {plate['format'][1]}{span}"
            + (f"; {len(empty)} without images" if empty else "")
        ),
    )
    counts = sorted({len(sites) for sites in plate["sites"].values()})
    total = sum(map(len, plate["sites"].values()))
    yield "sites", f"{' or '.join(map(str, counts)) or 'none'} per well, {total} in all"
    for kind in plate["images"]:
        many = f"  ({kind['count']} sites)" if len(plate["images"]) > 1 else ""
        yield (
            "image size",
            (
                f"{kind['width']} x {kind['height']} pixels, {kind['type']}; z {kind['planes']}, channels "
                f"{kind['channels']}, timepoints {kind['timepoints']}{many}"
            ),
        )
    for number, (name, in_files) in enumerate(zip(plate["channels"], plate["channel_numbers"])):
        yield (
            f"channel {number}",
            f"{name or '(no name)'}{'' if in_files == number else f'  ({in_files} in the files)'}",
        )
    for acquisition in plate["acquisitions"]:
        yield "acquisition", f"{acquisition['name']}  (id {acquisition['id']})"
    size = plate["pixel_size"]["x"]
    yield "pixel size", "unknown" if size is None else f"{size:g} µm"
    if plate["filled_planes"]:
        yield "filled", f"{plate['filled_planes']} of the planes were not acquired"
    for note in plate["notes"]:
        yield "note", note
    for problem in plate["problems"]:
        yield "problem", problem
    for well, lacks in plate["missing"].items():
        yield "missing", f"well {well} lacks {'; '.join(lacks)}"
    if plate["missing"]:
        yield "missing", "choose `incomplete: skip` or `incomplete: fill`, or other wells, to go on without these files"
