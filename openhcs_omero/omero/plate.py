"""Load the structure of a plate (wells, sites, sizes and fingerprints) with one query."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from omero.gateway import BlitzGateway

from openhcs_omero.errors import PlateError
from openhcs_omero.omero import queries
from openhcs_omero.plates.paths import well_name
from openhcs_omero.plates.pixeltypes import READ_NAMES
from openhcs_omero.plates.structure import ImageStructure, PlateStructure, WellStructure, with_wells

MOST_TOLD = 10  # images and wells of which the log says why they are left out

# A real server requires a named join of the update event, and no dotted path in `select` before a left join.
_STRUCTURE = """
    select p.name, g.id, p.rows, p.columns, w.row, w.column, w.id, index(ws), ws.id, i.id, i.name, ev.id,
           px.id, px.sizeX, px.sizeY, px.sizeZ, px.sizeC, px.sizeT, pt.value, px.sha1, pa.id, pa.name,
           pa.startTime, pa.endTime
    from Plate p join p.details.group g left outer join p.wells w left outer join w.wellSamples ws
         left outer join ws.image i left outer join i.details.updateEvent ev
         left outer join i.pixels px left outer join px.pixelsType pt left outer join ws.plateAcquisition pa
    where p.id = :id order by w.row, w.column, index(ws), px.id
"""


def load_plate(conn: BlitzGateway, plate_id: int, require_images: bool = True) -> PlateStructure:
    """Load the structure of a plate from OMERO in one call.

    The plate is looked up in all groups of the user.

    Parameters
    ----------
    plate_id
        OMERO's id of the plate.
    require_images
        False also accepts a plate without wells or images, such as a new derived plate.

    Raises
    ------
    PlateError
        If there is no such plate, if the user may not see it, or if it has no wells or no images.
    """
    found = queries.rows(conn, _STRUCTURE, id=plate_id)
    if not found:
        raise PlateError(f"there is no plate {plate_id}, or this user may not see it")
    name, group_id, n_rows, n_columns = found[0][:4]
    nowhere = _without_place(found)
    found = [row for row in found if row[6] not in nowhere]
    structure = with_wells(
        PlateStructure(plate_id, "VirtualPath", "omero", {}, set(), 0, 0, 0, 0, name=name or "", group_id=group_id),
        _wells([row[4:-2] for row in found]),
    )
    if nowhere and not structure.wells:
        raise PlateError(f"plate {structure.label} can't be processed: {next(iter(nowhere.values()))}")
    if require_images:
        structure.check_images()
    wells = structure.wells.values()
    return replace(
        structure,
        rows=max(n_rows or 0, 1 + max((well.row for well in wells), default=-1)),
        columns=max(n_columns or 0, 1 + max((well.col for well in wells), default=-1)),
        times={run: (start, end) for *_, run, _, start, end in found if run is not None},
        notes=(
            *_some(nowhere.values(), "wells are left out"),
            *_some(_notes(found), "images have no pixels"),
        ),
    )


def _without_place(found: Iterable[list[Any]]) -> dict[int, str]:
    """Sentences about the wells that have no place on a plate, by the ids of the wells."""
    nowhere: dict[int, str] = {}
    for row, column, well in (row[4:7] for row in found if row[6] is not None):
        try:
            if row is None or column is None:
                raise ValueError("it has no row or no column in OMERO")
            well_name(row, column)
        except ValueError as error:
            nowhere[well] = f"well {well} has no place on the plate, and is left out with its images: {error}"
    return dict(sorted(nowhere.items()))


def _notes(found: Iterable[list[Any]]) -> Iterator[str]:
    """Sentences about images that have no pixels, as after an import that was broken off."""
    for row in found:
        if row[9] is not None and row[12] is None:
            yield (
                f"image {row[9]} ({row[10]}) of well {well_name(row[4], row[5])} has no pixels: it is left out, and "
                "the sites after it move up"
            )


def _some(sentences: Iterable[str], what: str) -> list[str]:
    """The first sentences, and how many more there are."""
    told = list(sentences)
    more = len(told) - MOST_TOLD
    return told[:MOST_TOLD] + ([f"{more} more {what}"] if more > 0 else [])


def _wells(found: Iterable[list[Any]]) -> dict[str, WellStructure]:
    wells: dict[str, WellStructure] = {}
    for (
        row,
        column,
        well_db_id,
        index,
        sample,
        image_id,
        name,
        event,
        pixels,
        x,
        y,
        z,
        c,
        t,
        pixel_type,
        sha1,
        run,
        run_name,
    ) in found:
        if well_db_id is None:
            continue
        name_of_well = well_name(row, column)
        well = wells.setdefault(name_of_well, WellStructure(name_of_well, row, column, {}, well_db_id))
        # if an image has several Pixels, OMERO shows the first
        if pixels is None or any(image.well_sample_id == sample for image in well.images.values()):
            continue
        site = len(well.images) + 1
        well.images[site] = ImageStructure(
            image_id,
            site,
            z,
            c,
            t,
            pixels_id=pixels,
            size_x=x,
            size_y=y,
            pixel_type=READ_NAMES.get(pixel_type, pixel_type),
            sha1=sha1,
            update_event=event,
            well_sample_id=sample,
            name=name or "",
            index=index,
            acquisition=None if run is None else (run, run_name or f"Run {run}"),  # as OMERO.web names it
        )
    return wells
