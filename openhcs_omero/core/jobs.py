"""What the workflow's jobs do with OMERO: list the wells, derive the plate, estimate, process a well, attach tables."""
from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs_omero import __version__
from openhcs_omero.core.config import Settings
from openhcs_omero.core.files import read_record, write, write_if_changed
from openhcs_omero.core.plan import RUN_VARIABLE, choose_wells
from openhcs_omero.core.records import attached_files, attached_tables
from openhcs_omero.core.staging import StagedFiles
from openhcs_omero.core.steps import load_step, run_steps
from openhcs_omero.core.tables import write_rows
from openhcs_omero.errors import RightsError
from openhcs_omero.io.base import storage_registry
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.io.memory import MemoryBackend
from openhcs_omero.omero import derived
from openhcs_omero.omero.annotations import delete_text, save_text
from openhcs_omero.omero.connection import connect_job
from openhcs_omero.omero.paths import VirtualPath
from openhcs_omero.omero.pixels import ImageMetadata, NewImage, close_store, read_metadata, read_plane, read_site
from openhcs_omero.omero.plate import ImageStructure, load_plate
from openhcs_omero.omero.tables import attach_table

if TYPE_CHECKING:
    from openhcs_omero.omero.connection import BlitzGateway

ESTIMATE_PLANES = 100
THUMBNAIL = 96  # px


def marks(settings: Settings) -> dict[str, str]:
    """What is noted on everything that is written: by which run, code and configuration."""
    what = [settings.output, settings.wells, [[s.call, s.name, s.channels, s.params] for s in settings.steps]]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    return {"run": os.environ.get(RUN_VARIABLE, "unknown"), "version": __version__, "config": digest[:16]}


def list_wells(settings: Settings, plate_id: int, table: Path) -> None:
    """Write the table of the chosen wells, and a record per well where it changed; forget wells that are not chosen."""
    plate = choose_wells(load_plate(connect_job(settings.server()), plate_id), settings)
    folder = table.parent
    for name, well in plate.wells.items():
        images = [asdict(well.images[site]) for site in sorted(well.images)]
        write_if_changed(folder / "wells" / f"{name}.json", json.dumps({"well": name, "images": images}, indent=1))
    for path in [*(folder / "wells").glob("*.json"), *(folder / "processed").glob("*.*")]:
        if path.name.partition(".")[0] not in plate.wells:
            path.unlink()
    rows = [{"well": name, "row": well.row, "column": well.col, "sites": len(well.images)}
            for name, well in plate.wells.items()]
    write_rows(table, rows, delimiter="\t")


def derive(settings: Settings, plate_id: int, record: Path) -> None:
    """Make the derived plate or bring it up to date, and note its id."""
    conn = connect_job(settings.server())
    plate = choose_wells(load_plate(conn, plate_id), settings)
    derived_id = derived.derive_plate(conn, plate, settings.output, marks(settings), list(plate.wells))
    write(record, json.dumps({"derived_plate": derived_id}))


def estimate(settings: Settings, plate_id: int, position: int, channel: int, output: Path) -> None:
    """Estimate what a step wants to know of the whole plate in one channel, from sites spread evenly over it."""
    conn = connect_job(settings.server())
    plate = load_plate(conn, plate_id)
    like = next(image for _, image in choose_wells(plate, settings).images())  # other wells may have other sizes
    images = [image for _, image in plate.images() if image.shape == like.shape]
    chosen = [images[i] for i in np.linspace(0, len(images) - 1, min(ESTIMATE_PLANES, len(images))).astype(int)]
    planes = (read_plane(conn, image, image.size_z // 2, channel, 0) for image in chosen)
    step = settings.steps[position - 1]
    function = load_step(step).plate_estimate  # type: ignore[attr-defined]
    np.save(output, function(planes, **step.params))
    close_store()


def process_well(settings: Settings, plate_id: int, fingerprint: Path, derived_record: Path,
                 estimates: Sequence[Path], outputs: Mapping[str, Path]) -> None:
    """Run the steps on all sites of a well, write its derived images, and keep what was measured.

    Parameters
    ----------
    fingerprint, derived_record
        The well's record and the derived plate's.
    estimates
        `<position>_<function>_c<channel>.npy` files.
    outputs
        `record`, `features`, `objects` and `thumbnail`: the files to write.
    """
    conn = connect_job(settings.server())
    well = read_record(fingerprint) or {}
    derived_id = int((read_record(derived_record) or {})["derived_plate"])
    images = [ImageStructure(**image) for image in well["images"]]
    described = read_metadata(conn, images)
    steps = [(step, load_step(step)) for step in settings.steps]
    loaded = _load_estimates(estimates)
    place = VirtualPath(plate_id, settings.output, well["well"])
    files = StagedFiles(conn, place, [image.site for image in images])
    manager = FileManager({"omero_local": files, "disk": storage_registry["disk"], "memory": MemoryBackend()})
    new: dict[int, NewImage] = {}
    features, objects = [], []
    for image, pixels in _ahead(conn, images):
        about = described.get(image.image_id, ImageMetadata())
        metadata = _metadata(settings, plate_id, well["well"], image, about)
        pixels, results, found = run_steps(steps, pixels, manager, metadata, loaded)
        new[image.site] = _new_image(image, pixels, about)
        where = {"plate": plate_id, "well": well["well"], "site": image.site}
        features.append({**where, **results})
        objects += [{**where, **row} for row in found]
    written = derived.write_well(conn, derived_id, well["well"], new, marks(settings))
    files.attach({site: image["image_id"] for site, image in written.items()})
    write_rows(outputs["features"], features)
    write_rows(outputs["objects"], objects)
    np.save(outputs["thumbnail"], thumbnail(new[min(new)].pixels))
    ids = [[written[site]["image_id"], written[site]["sha1"]] for site in sorted(written)]
    write(outputs["record"], json.dumps({"derived_plate": derived_id, "images": ids}))


def annotate(settings: Settings, plate_id: int, derived_record: Path, tables: Sequence[Path], record: Path) -> None:
    """Attach the tables to the source plate and to the derived one, as files and those of features as OMERO.tables.

    An empty table is not attached, and taken off. Where the user may read the source plate and not annotate it, only
    the derived one gets them.
    """
    conn = connect_job(settings.server())
    derived_id = int((read_record(derived_record) or {})["derived_plate"])
    # two outputs of one plate don't replace each other's tables
    namespaces = {str(derived_id): derived.NAMESPACE, str(plate_id): f"{derived.NAMESPACE}/{settings.output}"}
    before = attached_files(conn, namespaces)
    for plate, ns in namespaces.items():
        structure = load_plate(conn, int(plate))
        try:
            for table in tables:
                data = table.read_bytes()
                if data.strip():
                    about = f"from plate_{plate_id}_{settings.output}"
                    save_text(conn, "Plate", int(plate), table.name, data, ns, about)
                elif table.name in before[plate]:
                    delete_text(conn, "Plate", int(plate), table.name, ns)
                attach_table(conn, structure, table.name, data, ns)
        except RightsError as error:
            if plate == str(derived_id):
                raise
            print(f"the tables are on the derived plate alone: {error}")
    write(record, json.dumps({"derived_plate": derived_id, "namespaces": namespaces,
                              "files": attached_files(conn, namespaces),
                              "tables": attached_tables(conn, namespaces)}, indent=1))


def _ahead(conn: BlitzGateway, images: Sequence[ImageStructure]) -> Iterator[tuple[ImageStructure, np.ndarray]]:
    """Each image with its pixels; the next ones are read while the caller works on these."""
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(read_site, conn, images[0])
        for image, following in zip(images, [*images[1:], None]):
            pixels = waiting.result()
            if following is not None:
                waiting = reader.submit(read_site, conn, following)
            yield image, pixels
        reader.submit(close_store).result()


def _load_estimates(paths: Sequence[Path]) -> dict[int, dict[int, np.ndarray]]:
    """By step's position and channel."""
    loaded: dict[int, dict[int, np.ndarray]] = {}
    for path in paths:
        position, channel = path.stem.partition("_")[0], path.stem.rpartition("_c")[2]
        loaded.setdefault(int(position), {})[int(channel)] = np.load(path)
    return loaded


def _metadata(settings: Settings, plate_id: int, well: str, image: ImageStructure,
              about: ImageMetadata) -> dict[str, Any]:
    """What a step is told about the site."""
    return {"plate_id": plate_id, "plate": str(VirtualPath(plate_id, settings.output)), "output": settings.output,
            "well": well, "site": image.site, "channels": list(about.channel_names), "pixel_size": about.pixel_size[2]}


def _new_image(image: ImageStructure, pixels: np.ndarray, about: ImageMetadata) -> NewImage:
    same = pixels.shape[1] == image.size_c  # else a step changed what the channels are
    return NewImage(image.name, pixels, about.channel_names if same else (), about.colors if same else (),
                    about.pixel_size, [("source_image", str(image.image_id))])


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """A small (C, Y, X) picture of a (T, C, Z, Y, X) image: first timepoint, maximum over z and blocks of pixels."""
    planes = pixels[0].max(axis=1)
    block = -(-max(planes.shape[1:]) // THUMBNAIL)
    y, x = (side // block * block or side for side in planes.shape[1:])
    rows, columns = max(1, y // block), max(1, x // block)
    return planes[:, :y, :x].reshape(len(planes), rows, y // rows, columns, x // columns).max(axis=(2, 4))
