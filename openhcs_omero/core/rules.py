"""What the workflow's jobs do: list the wells, derive the plate, estimate, process a well, publish the tables."""
from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs_omero.core.config import Settings
from openhcs_omero.core.outputs.base import Record
from openhcs_omero.core.plates import Plate, choose_wells, open_plates
from openhcs_omero.core.provenance import marks
from openhcs_omero.core.records import listing_of_well, read_record
from openhcs_omero.core.steps.loading import load_step
from openhcs_omero.core.steps.running import run_steps
from openhcs_omero.core.tables import read_rows, write_rows
from openhcs_omero.errors import OpenHCSError
from openhcs_omero.io.atomic import write
from openhcs_omero.io.base import StorageRegistry
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.io.staged import StagedFiles
from openhcs_omero.plates.image import ImageMetadata, NewImage
from openhcs_omero.plates.structure import ImageStructure

if TYPE_CHECKING:
    from openhcs_omero.omero.connection import BlitzGateway
    from openhcs_omero.omero.server import Server

ESTIMATE_PLANES = 100
THUMBNAIL = 96  # px




def _open(settings: Settings, plate: str) -> Plate:
    return open_plates(settings, [plate], _connect)[0]


def _connect(server: Server) -> BlitzGateway:
    from openhcs_omero.omero.connection import connect_job  # jobs over folders need no OMERO

    return connect_job(server)


def _record(path: Path) -> Record:
    record = read_record(path)
    if record is None:
        raise OpenHCSError(f"{path} is missing or damaged: run the workflow again")
    return record


def _well_records(path: Path) -> Record:
    """The records of all wells of a plate, which a worker process reads once."""
    return _parsed(path, path.stat().st_mtime_ns if path.exists() else 0)


@functools.lru_cache(maxsize=2)
def _parsed(path: Path, _written: int) -> Record:
    return _record(path)


def derive(settings: Settings, label: str, record: Path) -> None:
    """Make the derived plate or bring it up to date, and note where it is."""
    plate = _open(settings, label)
    derived = plate.output.derive(choose_wells(plate.structure, settings), marks(settings))
    write(record, json.dumps(derived))


def estimate(settings: Settings, label: str, position: int, channel: int, output: Path) -> None:
    """Estimate what a step wants to know of the whole plate in one channel, from sites spread evenly over it."""
    plate = _open(settings, label)
    structure = plate.structure
    like = next(image for _, image in choose_wells(structure, settings).images())  # other wells may have other sizes
    sites = [(well, image.site) for well, image in structure.images() if image.shape == like.shape]
    chosen = [sites[i] for i in np.linspace(0, len(sites) - 1, min(ESTIMATE_PLANES, len(sites))).astype(int)]
    middle = (0, channel, like.size_z // 2)
    planes = (plate.plane(well, site, middle) for well, site in chosen)
    step = settings.steps[position - 1]
    function = load_step(step).plate_estimate  # type: ignore[attr-defined]
    np.save(output, function(planes, **step.params))
    plate.handler.close()


def process_well(settings: Settings, label: str, well: str, derived_record: Path, estimates: Sequence[Path],
                 outputs: Mapping[str, Path]) -> None:
    """Run the steps on all sites of a well, write its derived images, and keep what was measured.

    Parameters
    ----------
    derived_record
        The record of the derived plate.
    estimates
        `<position>_<function>_c<channel>.npy` files.
    outputs
        `record`, `features`, `objects` and `thumbnail`: the files to write.
    """
    plate = _open(settings, label)
    source, derived = _well_records(settings.folder(label) / "wells.json")[well], _record(derived_record)
    plate = replace(plate, known=listing_of_well(plate.path, source))
    described = plate.metadata(well)
    steps = [(step, load_step(step)) for step in settings.steps]
    loaded = _load_estimates(estimates)
    files = StagedFiles(plate.output.backend, derived["path"], well, list(described))
    behind = plate.output.backend
    manager = FileManager(StorageRegistry(
        {name: files if backend is behind else backend for name, backend in plate.files.registry.items()}))
    new: dict[int, NewImage] = {}
    features, objects = [], []
    for image, pixels in plate.sites(well):
        about = described[image.site]
        metadata = _metadata(settings, derived, well, image, about)
        pixels, results, found = run_steps(steps, pixels, manager, metadata, loaded, plate.output.name)
        new[image.site] = _new_image(image, pixels, about)
        where = {"plate": label, "well": well, "site": image.site}
        features.append({**where, **results})
        objects += [{**where, **row} for row in found]
    record = plate.output.write_well(derived, well, new, files.files, marks(settings))
    write_rows(outputs["features"], features)
    write_rows(outputs["objects"], objects)
    np.save(outputs["thumbnail"], thumbnail(new[min(new)].pixels))
    write(outputs["record"], json.dumps(record))


def annotate(settings: Settings, label: str, derived_record: Path, tables: Sequence[Path], record: Path) -> None:
    """Put the tables where people look for them, and note what is there then."""
    folder = record.parent
    wells = [_record(folder / "processed" / f"{row['well']}.json") for row in read_rows(folder / "wells.tsv", "\t")]
    published = _open(settings, label).output.publish(_record(derived_record), tables, wells, marks(settings))
    write(record, json.dumps(published, indent=1))


def _load_estimates(paths: Sequence[Path]) -> dict[int, dict[int, np.ndarray]]:
    """By step's position and channel."""
    loaded: dict[int, dict[int, np.ndarray]] = {}
    for path in paths:
        position, channel = path.stem.partition("_")[0], path.stem.rpartition("_c")[2]
        loaded.setdefault(int(position), {})[int(channel)] = np.load(path)
    return loaded


def _metadata(settings: Settings, derived: Record, well: str, image: ImageStructure,
              about: ImageMetadata) -> dict[str, Any]:
    """What a step is told about the site."""
    return {"plate_id": derived.get("source_plate"), "plate": derived["path"], "output": settings.output,
            "well": well, "site": image.site, "channels": list(about.channel_names), "pixel_size": about.pixel_size[2]}


def _new_image(image: ImageStructure, pixels: np.ndarray, about: ImageMetadata) -> NewImage:
    same = pixels.shape[1] == image.size_c  # else a step changed what the channels are
    return NewImage(image.name, pixels, about.channel_names if same else (), about.colors if same else (),
                    about.pixel_size, [] if image.image_id is None else [("source_image", str(image.image_id))])


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """A small (C, Y, X) picture of a (T, C, Z, Y, X) image: first timepoint, maximum over z and blocks of pixels."""
    planes = pixels[0].max(axis=1)
    block = -(-max(planes.shape[1:]) // THUMBNAIL)
    y, x = (side // block * block or side for side in planes.shape[1:])
    rows, columns = max(1, y // block), max(1, x // block)
    return planes[:, :y, :x].reshape(len(planes), rows, y // rows, columns, x // columns).max(axis=(2, 4))
