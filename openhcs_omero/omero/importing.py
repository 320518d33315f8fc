"""Import of a plate: a folder of TIFFs, a plane each, becomes a plate in OMERO.

All files are checked before anything is created. Then the images of well after well are written, which no well shows
yet, and at last the plate with its wells in one save that shows all of them: there is no half a plate at any time. An
import that fails deletes its images. One that is killed can't; its images have its folder in their mark, and the next
import of the folder by the same user deletes them first.
"""

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import omero
from omero.gateway import BlitzGateway
from omero.model import ImageI, PlateI, WellI, WellSampleI
from omero.rtypes import rint, rstring

from openhcs_omero.errors import PlateError
from openhcs_omero.microscopes.named_tiffs import Layout, _read, scan
from openhcs_omero.omero import queries
from openhcs_omero.omero.writing import discard, map_annotation, write_well_images
from openhcs_omero.plates.image import NewImage
from openhcs_omero.plates.paths import well_name

NAMESPACE = "openhcs_omero/import"
FOLDER_MARK = "imported_from"
FORMATS = ((8, 12), (16, 24), (32, 48))  # rows and columns of plates of 96, 384 and 1536 wells


Progress = Callable[[int, int], None]




def import_folder(
    conn: BlitzGateway,
    folder: Path | str,
    name: str | None = None,
    pattern: str | None = None,
    progress: Progress | None = None,
    layout: Layout | None = None,
) -> int:
    """Make a plate of a folder of images in the connection's group.

    Parameters
    ----------
    folder
        The TIFFs in it are read, not those in folders below it; other files are left out.
    name
        Of the plate, by default the folder's.
    pattern
        Regular expression for the files' whole names, with or without their ending, with named groups: well, or row
        and column; and site, channel, z, t as far as there are several. Without it the file names of `PATTERNS` are
        understood.
    progress
        Called with the number of images that are done and that of all, from (0, all) on.
    layout
        What is in the folder, where that is known; then `pattern` is not used.

    Returns
    -------
    int
        Id of the plate.

    Raises
    ------
    PlateError
        Naming the file or the well: a name that does not match, two files of one plane, a missing plane or site, a
        file that is no TIFF of one plane or is cut short, files of different size or type. Nothing is created then.
    """
    layout = layout or scan(Path(folder), pattern)
    group_id = queries.current_group(conn)
    mark = f"{socket.gethostname()}:{Path(folder).resolve()}"
    with queries.writing(f"into group {group_id}"):
        _delete_leftovers(conn, mark, group_id)
    report = progress or (lambda done, of: None)
    report(0, layout.sites)
    wells: dict[tuple[int, int], list[int]] = {}
    try:
        for place, images in _images(layout, mark):
            written = write_well_images(conn, images, NAMESPACE, group_id)
            wells[place] = [image.image_id for image in written]
            report(sum(len(ids) for ids in wells.values()), layout.sites)
        plate = _plate(name or Path(folder).resolve().name, wells, mark)
        with queries.writing("a plate"):
            return queries.update(conn).saveAndReturnObject(plate, queries.context(conn, group_id)).id.val
    except BaseException as error:
        # where the plate was saved and only the answer was lost, OMERO refuses to delete its images
        discard(conn, [image for ids in wells.values() for image in ids], group_id)
        if isinstance(error, KeyboardInterrupt):  # it may have cut off the answer with the last images' ids
            with contextlib.suppress(Exception):
                _delete_leftovers(conn, mark, group_id)
        if isinstance(error, omero.ValidationException):
            raise PlateError(f"the images of {folder} were deleted while they were imported: let only one import "
                             "work on a folder at a time") from None
        raise


def _images(layout: Layout, mark: str) -> Iterator[tuple[tuple[int, int], list[NewImage]]]:
    """Each well's images, read when their turn comes."""
    for place in sorted(layout.files):
        images = []
        for site, planes in sorted(layout.files[place].items()):
            pixels = np.empty(layout.shape, layout.dtype)
            for plane, path in planes.items():
                pixels[plane] = _read(path, layout)
            images.append(NewImage(f"{well_name(*place)} site {site}", pixels, channel_names=layout.channels,
                                   pixel_size=layout.pixel_size, annotations=[(FOLDER_MARK, mark)]))
        yield place, images


def _plate(name: str, wells: Mapping[tuple[int, int], list[int]], mark: str) -> PlateI:
    """The plate that shows the images, not saved."""
    rows, columns = (1 + max(place[axis] for place in wells) for axis in (0, 1))
    plate = PlateI()
    plate.name = rstring(name)
    plate.rowNamingConvention, plate.columnNamingConvention = rstring("letter"), rstring("number")
    size = next(((r, c) for r, c in FORMATS if rows <= r and columns <= c), (rows, columns))
    plate.rows, plate.columns = map(rint, size)
    for (row, column), images in wells.items():
        well = WellI()
        well.row, well.column = rint(row), rint(column)
        for image in images:
            sample = WellSampleI()
            sample.image = ImageI(image, False)
            well.addWellSample(sample)
        plate.addWell(well)
    plate.linkAnnotation(map_annotation(NAMESPACE, [(FOLDER_MARK, mark)]))
    return plate


def _delete_leftovers(conn: BlitzGateway, mark: str, group_id: int) -> None:
    """Delete what an import of the folder left behind that was killed: its images that no well and no dataset shows."""
    annotations = queries.rows(
        conn, "select a.id from MapAnnotation a join a.mapValue mv "
              "where a.ns = :ns and mv.name = :name and mv.value = :value and a.details.owner.id = :me",
        group_id, ns=NAMESPACE, name=FOLDER_MARK, value=mark, me=conn.getUserId())
    found = annotations and queries.rows(
        conn, "select distinct i.id from ImageAnnotationLink l join l.parent i left outer join i.wellSamples ws "
              "left outer join i.datasetLinks d where l.child.id in (:ids) and ws.id is null and d.id is null",
        group_id, ids=[row[0] for row in annotations])
    queries.delete(conn, group_id, Image=[row[0] for row in found])


# ---- what is in the folder

























# ---- TIFF







