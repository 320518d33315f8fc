"""Import a plate into OMERO from what a reader returns.

The images are written first, some wells at a time, without being linked to a well. Then one save creates the plate with
its wells and makes all images visible, so a half-imported plate never exists. An import that fails deletes its images.
One that is killed can't, but its images are marked with their folder, and the next import of that folder by the same
user starts by deleting them.
"""

import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import omero
from omero.gateway import BlitzGateway
from omero.model import ImageI, PlateAcquisitionI, PlateI, WellI, WellSampleI
from omero.rtypes import rint, rstring, rtime

from openhcs_omero.errors import PlateError
from openhcs_omero.omero import queries
from openhcs_omero.omero.filled import NAMESPACE, filled_pairs
from openhcs_omero.omero.marks import hidden_images
from openhcs_omero.omero.writing import discard, length, map_annotation, write_well_images
from openhcs_omero.plates.arrangement import Plane
from openhcs_omero.plates.dyes import color_of
from openhcs_omero.plates.image import ImageMetadata, NewImage
from openhcs_omero.plates.listing import PlateListing
from openhcs_omero.plates.paths import in_s3, plate_format, well_name
from openhcs_omero.plates.structure import ImageStructure

FOLDER_MARK = "imported_from"
BATCH = 4 * 2**20  # bytes of pixels that are written together: small images take as long to announce as to write

Progress = Callable[[int, int], None]
Reader = Callable[[str], Iterable[tuple[ImageStructure, np.ndarray]]]
_WellImages = tuple[str, list[NewImage]]


def import_plate(
    conn: BlitzGateway,
    folder: Path | str,
    listing: PlateListing,
    read: Reader,
    describe: Callable[[str], Mapping[int, ImageMetadata]],
    name: str | None = None,
    progress: Progress | None = None,
) -> int:
    """Create a plate in the connection's group.

    Parameters
    ----------
    folder
        The folder or address on S3 that the images come from. Leftovers of a killed import of this folder are deleted.
    listing
        What is in the folder.
    read
        Function that reads the images of the well with the given name: structure and pixels (T, C, Z, Y, X), by site.
    describe
        Function that reads the metadata of the images of a well, by site.
    name
        Name of the plate; by default that of the folder.
    progress
        Called with the number of finished images and the number of all images, starting with (0, all).

    Returns
    -------
    int
        Id of the plate.

    Raises
    ------
    PlateError
        If an image can't be read or written. Nothing is left in OMERO then.
    """
    group_id = queries.current_group(conn)
    mark = str(folder) if in_s3(folder) else f"{socket.gethostname()}:{Path(folder).resolve()}"
    with queries.writing(f"into group {group_id}"):
        _delete_leftovers(conn, mark, group_id)
    filled = listing.structure.wells_with_images()
    report, total = progress or (lambda done, of: None), sum(1 for _ in listing.structure.images())
    report(0, total)
    wells: dict[tuple[int, int], list[int]] = {}
    try:
        for batch in _batches((well, list(_images(read(well), describe(well), mark))) for well in filled):
            images = [image for _, some in batch for image in some]
            written = iter(write_well_images(conn, images, NAMESPACE, group_id))
            for well, some in batch:
                place = listing.structure.wells[well]
                wells[place.row, place.col] = [next(written).image_id for _ in some]
            report(sum(len(ids) for ids in wells.values()), total)
        plate = _plate(name or listing.structure.name, wells, listing, mark)
        with queries.writing("a plate"):
            return queries.update(conn).saveAndReturnObject(plate, queries.context(conn, group_id)).id.val
    except BaseException as error:
        # if the plate was saved and only the reply was lost, OMERO refuses to delete its images
        discard(conn, [image for ids in wells.values() for image in ids], group_id)
        if isinstance(error, KeyboardInterrupt):  # it may have cut off the reply with the last images' ids
            with contextlib.suppress(Exception):
                _delete_leftovers(conn, mark, group_id)
        if isinstance(error, omero.ValidationException):
            raise PlateError(
                f"the images of {folder} were deleted while they were imported: let only one import "
                "work on a folder at a time"
            ) from None
        raise


def _batches(wells: Iterable[_WellImages]) -> Iterator[list[_WellImages]]:
    """Put wells together until their images have `BATCH` bytes."""
    batch: list[_WellImages] = []
    size = 0
    for well, images in wells:
        batch.append((well, images))
        size += sum(image.pixels.size * image.pixels.flat[0].nbytes for image in images if image.pixels.size)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _images(
    read: Iterable[tuple[ImageStructure, np.ndarray]], described: Mapping[int, ImageMetadata], mark: str
) -> Iterator[NewImage]:
    """The images of a well, ready to be written."""
    for image, pixels in read:
        about = described[image.site]
        names = tuple(name or f"channel {c}" for c, name in enumerate(about.channel_names))
        known = about.colors or [None] * len(names)
        colors = tuple(color or color_of(name) for color, name in zip(known, names))
        yield NewImage(
            image.name, pixels, names, colors, about.pixel_size, [(FOLDER_MARK, mark)], acquired=about.recorded
        )


def _plate(name: str, wells: Mapping[tuple[int, int], list[int]], listing: PlateListing, mark: str) -> PlateI:
    """The unsaved plate that shows the images."""
    plate = PlateI()
    plate.name = rstring(name)
    plate.rowNamingConvention, plate.columnNamingConvention = rstring("letter"), rstring("number")
    plate.rows, plate.columns = map(rint, plate_format(listing.structure.rows, listing.structure.columns))
    filled: dict[int, frozenset[Plane]] = {}
    runs: dict[tuple[int, str], PlateAcquisitionI] = {}
    for run in listing.structure.described_acquisitions():
        made = runs[run.id, run.name] = PlateAcquisitionI()
        made.name, made.maximumFieldCount = rstring(run.name), rint(run.most_sites)
        made.startTime, made.endTime = (time if time is None else rtime(time) for time in (run.start, run.end))
        plate.addPlateAcquisition(made)
    for (row, column), images in wells.items():
        well = WellI()
        well.row, well.column = rint(row), rint(column)
        found = listing.structure.wells[well_name(row, column)].images
        for image, site in zip(images, sorted(found), strict=True):
            filled[image] = listing.filled.get((well_name(row, column), site), frozenset())
            sample = WellSampleI()
            sample.image = ImageI(image, False)
            sample.posX, sample.posY = map(length, listing.about(well_name(row, column), site).recorded.position)
            acquisition = found[site].acquisition
            if acquisition is not None:
                sample.plateAcquisition = runs[acquisition]
            well.addWellSample(sample)
        plate.addWell(well)
    plate.linkAnnotation(map_annotation(NAMESPACE, [(FOLDER_MARK, mark), *filled_pairs(filled)]))
    return plate


def _delete_leftovers(conn: BlitzGateway, mark: str, group_id: int) -> None:
    """Delete what a killed import of the folder left behind: images with its mark that are in no well or dataset."""
    queries.delete(conn, group_id, Image=hidden_images(conn, group_id, NAMESPACE, FOLDER_MARK, mark))
