"""Export a plate of OMERO as an OME-Zarr plate: NGFF 0.5, in the HCS layout.

Several processes export a well at a time. A well is written next to the plate and then moved into it, so it is
complete or not there; the metadata that make the folder a plate are written last. An export that was interrupted
continues: wells that are complete and have not changed in OMERO since are kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path

from openhcs_omero.errors import ConnectError, OpenHCSError, PlateError
from openhcs_omero.io.atomic import delete_folder, replacing
from openhcs_omero.io.ngff import path_of
from openhcs_omero.io.omero_local import OMEROLocalBackend
from openhcs_omero.io.zarr_image import write_image
from openhcs_omero.io.zarr_labels import write_labels
from openhcs_omero.omero.identity import leave_warnings_to_parent
from openhcs_omero.omero.lost import went_away
from openhcs_omero.omero.masks import labels_of, mask_versions, read_masks
from openhcs_omero.omero.pixels import close_store, read_metadata, read_sites
from openhcs_omero.plates.image import ImageMetadata
from openhcs_omero.plates.paths import PlatePath, well_name
from openhcs_omero.plates.structure import ImageStructure, PlateStructure, WellStructure

Progress = Callable[[int, int], None]
PROCESSES = 4  # by default, if the machine has as many CPUs
PARTS = ".parts"  # wells that are not complete yet


@dataclass(frozen=True)
class _Job:
    """What a process needs to export a well."""

    backend: OMEROLocalBackend
    store: Path
    well: WellStructure
    about: Mapping[int, ImageMetadata]
    masked: frozenset[int]  # ids of the images that have masks
    digest: str


def export_plate(
    backend: OMEROLocalBackend, place: PlatePath, target: Path, progress: Progress, processes: int | None = None
) -> list[str]:
    """Export a plate with all of its acquisitions.

    Parameters
    ----------
    backend
        The backend of the server.
    place
        The plate.
    target
        The folder to write, such as OUT.zarr. It does not exist, is empty, or has an earlier export of the plate.
    progress
        Called with the numbers of finished and of all images.
    processes
        How many processes read and write at once; by default four, or as many as this machine has CPUs.

    Returns
    -------
    list of str
        Sentences about what the export could not keep.

    Raises
    ------
    OpenHCSError
        If the plate does not exist or has images that can't be read, if the target holds something else, or if
        another export writes there. Wells that were finished stay.
    """
    from openhcs_omero.io.ngff_metadata import mark_group

    plate = backend.plate_structure(place.plate_id, place.output)
    plate.check_images()
    plate.check_types()
    own: dict[str, object] = {"exported_from": f"{backend.server.address}{place}"}
    with _claimed(target, own):
        if not (target / "zarr.json").exists():
            mark_group(target, own)
        jobs = _jobs(backend, target, plate)
        waiting = [job for job in jobs if not _is_done(job)]
        total = sum(len(job.well.images) for job in jobs)
        done = total - sum(len(job.well.images) for job in waiting)
        progress(done, total)
        notes = []
        for job, said in _exported(waiting, processes or min(PROCESSES, os.cpu_count() or 1)):
            done += len(job.well.images)
            notes += said
            progress(done, total)
        _finish(target, plate, own)
    return notes


@contextlib.contextmanager
def _claimed(target: Path, own: Mapping[str, object]) -> Iterator[None]:
    """Create the target, or check that it has an earlier export of the same plate; keep other exports out."""
    from openhcs_omero.io.ngff_metadata import read_mark

    if target.exists() and not target.is_dir():
        raise OpenHCSError(f"{target} is a file: name a folder that does not exist")
    target.mkdir(parents=True, exist_ok=True)
    folder = os.open(target, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OpenHCSError(f"another export is writing into {target}") from None
        if any(path.name != PARTS for path in target.iterdir()):
            source = (read_mark(target) or {}).get("exported_from")
            if source != own["exported_from"]:
                what = f"has an export of {source}" if source else "is not empty, and no export of a plate"
                raise OpenHCSError(f"{target} {what}: name a folder that does not exist")
        shutil.rmtree(target / PARTS, ignore_errors=True)  # of an export that was killed
        yield
    finally:
        shutil.rmtree(target / PARTS, ignore_errors=True)
        os.close(folder)


def _jobs(backend: OMEROLocalBackend, store: Path, plate: PlateStructure) -> list[_Job]:
    """The wells that have images, each with a digest that changes when the well does."""
    images = [image for _, image in plate.images()]
    about = read_metadata(backend.conn, images)
    masks = mask_versions(backend.conn, [image.image_id for image in images])
    jobs = []
    for well in plate.wells.values():
        if well.images:
            ids = [image.image_id for image in well.images.values()]
            known = {number: about.get(number, ImageMetadata()) for number in ids}
            runs = [image.acquisition for image in well.images.values()]
            state = [well.fingerprint(), [asdict(one) for one in known.values()], runs, [masks.get(n) for n in ids]]
            digest = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
            jobs.append(_Job(backend, store, well, known, frozenset(ids) & masks.keys(), digest))
    return jobs


def _is_done(job: _Job) -> bool:
    from openhcs_omero.io.ngff_metadata import read_mark

    return (read_mark(job.store / path_of(job.well.well_id)) or {}).get("digest") == job.digest


def _exported(jobs: Sequence[_Job], processes: int) -> Iterator[tuple[_Job, list[str]]]:
    """Export wells in several processes; yields each when it is finished, with what could not be kept."""
    if not jobs:
        return
    # Zarr's and Ice's threads don't survive a fork of this process; one that has only imported them can be forked
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "openhcs_omero.io.ngff_metadata"])
    pool = ProcessPoolExecutor(min(processes, len(jobs)), context, initializer=_begin)
    try:
        waiting: dict[Future[list[str]], _Job] = {pool.submit(_export_well, job): job for job in jobs}
        while waiting:
            finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield waiting.pop(future), future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Prepare a process: it ends with its parent, even if that is killed, and leaves Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leave_warnings_to_parent()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _export_well(job: _Job) -> list[str]:
    """Export a well in a process of the pool. Only errors that can be pickled leave it."""
    try:
        return _write_well(job)
    except OpenHCSError as error:
        raise PlateError(f"well {job.well.well_id}: {error}") from None
    except OSError:
        raise
    except Exception as error:
        if gone := went_away(error):
            raise ConnectError(gone) from None
        raise PlateError(f"well {job.well.well_id} was not exported: {type(error).__name__}: {error}") from None


def _write_well(job: _Job) -> list[str]:
    from openhcs_omero.io.ngff_metadata import write_well

    images = [job.well.images[site] for site in sorted(job.well.images)]
    notes: list[str] = []
    with replacing(job.store / path_of(job.well.well_id), draft_in=job.store / PARTS) as draft:
        for image, pixels in read_sites(job.backend.conn, images):
            about = job.about[image.image_id]
            levels = write_image(draft / str(image.site - 1), image.name, pixels, about)
            if image.image_id in job.masked:
                notes += _write_labels(draft / str(image.site - 1), job, image, levels)
        listed = [(str(image.site - 1), image.acquisition[0] if image.acquisition else None) for image in images]
        write_well(draft, listed, {"digest": job.digest})
    close_store()
    return notes


def _write_labels(folder: Path, job: _Job, image: ImageStructure, levels: int) -> list[str]:
    """Write the masks of an image as labels; returns a sentence about pixels that several masks claim."""
    labels, hidden = labels_of(read_masks(job.backend.conn, image.image_id), image.shape)
    write_labels(folder, job.store / PARTS, labels, levels, job.about[image.image_id].pixel_size)
    where = f"well {job.well.well_id} site {image.site}"
    return [f"{where}: masks overlap in {hidden} pixels, which have the label of the last one"] if hidden else []


def _finish(store: Path, plate: PlateStructure, own: dict[str, object]) -> None:
    """Write the metadata that make the folder a plate, then delete wells that the plate does not have any more."""
    from openhcs_omero.io.ngff_metadata import write_plate

    filled = plate.wells_with_images()
    wells = [path_of(name) for name in filled]
    rows_used = max(plate.rows, 1 + max(well.row for well in plate.wells.values()))
    columns_used = max(plate.columns, 1 + max(well.col for well in plate.wells.values()))
    rows = [path_of(well_name(row, 0)).partition("/")[0] for row in range(rows_used)]
    columns = [str(column + 1) for column in range(columns_used)]
    runs = plate.described_acquisitions()
    write_plate(store, plate.name or plate.label, (rows, columns), wells, plate.max_sites, runs, own)
    for folder in store.glob("*/*/"):
        if folder.relative_to(store).as_posix() not in wells and not folder.parent.name.startswith("."):
            delete_folder(folder)
