"""Write the wells of derived plates: all images of a well become visible in one save, which is the commit point.

The images are first written without being linked to a well. One save of the well then links them, and the images that
they replace are deleted last. Every image carries the mark of its derived plate and well from the moment it is created.
Leftovers of a killed process can therefore be recognized: marked images that are in no well. The next process that
writes the well deletes them.

Only one process at a time should write a well. If two do, the well ends up with all images of one of them, and the
other process gets an error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import omero
from omero.gateway import BlitzGateway
from omero.model import (
    FileAnnotationI,
    ImageAnnotationLinkI,
    ImageI,
    WellI,
    WellSampleI,
)
from omero.rtypes import rint

from openhcs_omero.errors import PlateError
from openhcs_omero.omero import queries
from openhcs_omero.omero.annotations import NAMESPACE as FILES
from openhcs_omero.omero.annotations import save_text
from openhcs_omero.omero.copying import derived_acquisitions, place_sample
from openhcs_omero.omero.derived import delete_hidden
from openhcs_omero.omero.marks import NAMESPACE, PLATE_MARK, WELL_MARK, read_mark
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.rois import delete_rois, make_rois, replace_rois, save_rois
from openhcs_omero.omero.writing import WrittenImage, discard, missing, write_well_images
from openhcs_omero.plates.image import Acquired, NewImage, WellFile
from openhcs_omero.plates.labels import DERIVED_MASKS, RoiOptions
from openhcs_omero.plates.paths import parse_well, well_name

_marks: WeakKeyDictionary[Any, dict[int, tuple[int, dict[str, str]]]] = WeakKeyDictionary()  # by client and plate


def write_well(
    conn: BlitzGateway,
    derived_id: int,
    well_name: str,
    sites: Mapping[int, NewImage],
    marks: Mapping[str, str],
    files: Sequence[WellFile] = (),
    whole: bool = True,
    rois: RoiOptions = DERIVED_MASKS,
) -> dict[int, WrittenImage]:
    """Replace the images of a well of a derived plate, and attach files to them and to the well.

    If the process is killed at any moment, the well has either all of the earlier images or all of the new ones. The
    files of the new images become visible together with them. Leftovers of earlier processes are deleted.

    Parameters
    ----------
    derived_id
        Id of the derived plate.
    well_name
        Name of the well.
    sites
        The images by site, counted from 1 without gaps.
    marks
        Names and values to record on every image, besides its own `annotations`, source plate, output, well and site.
    files
        Files of the well or of one of `sites`; each replaces the file of the same name.
    whole
        False keeps the sites that are not in `sites`, and moves the files of replaced images to the new ones.
    rois
        How the `labels` of the images become regions of interest.

    Returns
    -------
    dict
        The written images by site.

    Raises
    ------
    PlateError
        If the plate or well does not exist, is not derived or may not be written by this user; if the sites have a gap;
        or if another process wrote the same well at the same time. The well then still shows its earlier images, or
        those of the other process.
    """
    place = _place(conn, derived_id, well_name)
    runs = _acquisitions(conn, derived_id, sites.values())
    order = sorted(sites)
    if not order or order[0] < 1 or (whole and order != list(range(1, len(order) + 1))):
        raise PlateError(f"the sites of well {well_name} must count from 1 without a gap, not be {order}")
    images = [replace(sites[site], annotations=_image_pairs(place, site, marks, sites[site])) for site in order]
    written = dict(zip(order, write_well_images(conn, images, NAMESPACE, place.group_id)))
    try:
        for file in files:
            if file.site is not None:
                save_text(conn, "Image", written[file.site].image_id, file.name, file.data)
        drawn = ((written[site].image_id, make_rois(sites[site].labels, rois.shape)) for site in order)
        save_rois(conn, place.group_id, drawn)
        with queries.writing(f"well {place.well} of derived plate {derived_id}"):
            shown = {
                site: _Shown(written[site].image_id, sites[site].acquired, runs[sites[site].acquisition])
                for site in order
            }
            well_id = _commit(conn, place, shown, None if whole else files)
    except BaseException:
        # if the save succeeded and only its reply was lost, OMERO refuses: images in a well can't be deleted this way
        discard(conn, [image.image_id for image in written.values()], place.group_id)
        raise
    delete_hidden(conn, place.group_id, WELL_MARK, place.mark)
    for file in files:
        if file.site is None:
            save_text(conn, "Well", well_id, file.name, file.data)
    if rois.on == "both":
        sources = {image.source_image: image for image in sites.values() if image.source_image is not None}
        drawn = ((source, make_rois(image.labels, rois.shape)) for source, image in sources.items())
        replace_rois(conn, place.group_id, drawn, place.mark)
    return written


def clear_wells(conn: BlitzGateway, derived_id: int, wells: Sequence[str]) -> None:
    """Delete the images of wells of a derived plate, and the files and regions of interest that belong to them.

    All images go in one deletion, which is the commit point and comes last. The wells stay.
    """
    plate = load_plate(conn, derived_id, require_images=False)
    there = [plate.wells[name] for name in wells if name in plate.wells]
    if not there:
        return
    files = queries.rows(
        conn,
        "select distinct a.id from FileAnnotation a, WellAnnotationLink l where l.child.id = a.id "
        "and l.parent.id in (:ids) and a.ns = :ns and a.details.owner.id = :me",
        plate.group_id,
        ids=[well.well_db_id for well in there],
        ns=FILES,
        me=conn.getUserId(),
    )
    for well in there:
        if well.images:
            delete_rois(conn, plate.group_id, _place(conn, derived_id, well.well_id).mark)  # those on the source images
    queries.delete_existing(conn, plate.group_id, "FileAnnotation", [row[0] for row in files])
    samples = [image.well_sample_id for well in there for image in well.images.values()]
    queries.delete_existing(conn, plate.group_id, "WellSample", samples)


def _image_pairs(place: _Place, site: int, marks: Mapping[str, str], image: NewImage) -> list[tuple[str, str]]:
    own = {**place.pairs, WELL_MARK: place.mark, "well": place.well, "site": str(site)}
    if image.source_image is not None:
        own["source_image"] = str(image.source_image)
    return list({**{key: str(value) for key, value in (*marks.items(), *image.annotations)}, **own}.items())


@dataclass(frozen=True)
class _Place:
    """A well of a derived plate."""

    derived_id: int
    group_id: int
    well: str
    mark: str
    pairs: dict[str, str]


def _place(conn: BlitzGateway, derived_id: int, well: str) -> _Place:
    marks = _marks.setdefault(conn.c, {})
    if derived_id not in marks:
        marks[derived_id] = _mark(conn, derived_id)
    group, own = marks[derived_id]
    row, column = parse_well(well)
    name = well_name(row, column)
    return _Place(derived_id, group, name, f"{own[PLATE_MARK]}/{name}", own)


def _mark(conn: BlitzGateway, derived_id: int) -> tuple[int, dict[str, str]]:
    """The group of a derived plate, and the pairs of its mark that its images have too."""
    group, pairs = read_mark(conn, derived_id)
    if group is None:
        raise PlateError(f"plate {derived_id} does not exist, or is not a derived plate")
    own = {key: pairs[key] for key in (PLATE_MARK, "source_plate", "output") if key in pairs}
    if PLATE_MARK not in own:
        raise PlateError(
            f"the annotation of derived plate {derived_id} has lost its pair {PLATE_MARK!r}: delete the "
            "plate, and the next run creates it again"
        )
    return group, own


@dataclass(frozen=True)
class _Shown:
    """An image to show in a well, what is known about it, and the id of its acquisition in the derived plate."""

    image_id: int
    acquired: Acquired
    acquisition: int | None


def _acquisitions(conn: BlitzGateway, derived_id: int, images: Iterable[NewImage]) -> dict[int | None, int | None]:
    """The acquisitions of the derived plate for those of the images; raises PlateError if it lacks one."""
    wanted = {image.acquisition for image in images if image.acquisition is not None}
    present = derived_acquisitions(conn, derived_id, NAMESPACE) if wanted else {}
    if lacking := wanted - set(present):
        raise PlateError(
            f"derived plate {derived_id} lacks the acquisition for acquisition {min(lacking)} of its source: run the "
            "workflow again, which brings it up to date"
        )
    found: dict[int | None, int | None] = {None: None}
    return found | present


def _commit(
    conn: BlitzGateway, place: _Place, shown: Mapping[int, _Shown], new_files: Sequence[WellFile] | None
) -> int:
    """Show the images in the well with one save; returns the id of the well.

    If `new_files` is None, the whole well is replaced. Otherwise other sites stay, and the files of replaced images
    move to the new images, except those that were written again.
    """
    options = queries.context(conn, place.group_id)
    images = {site: image.image_id for site, image in shown.items()}
    for _ in range(queries.ATTEMPTS):
        well = _load_well(conn, place)
        replaced = _show(well, shown, new_files is None)
        links: list[ImageAnnotationLinkI] = []
        if new_files is not None:
            again = {(images[file.site], file.name) for file in new_files if file.site is not None}
            links = _links_of_files(conn, replaced, again)
        try:
            queries.update(conn).saveArray([well, *links], options)
            return well.id.val
        except (omero.OptimisticLockException, omero.ValidationException):
            # another process saved the well in between, or deleted our images as leftovers
            if missing(conn, list(images.values())):
                break
    raise PlateError(
        f"another process is writing well {place.well} of derived plate {place.derived_id}: let only one "
        "run work on a plate and output at a time, then start it again"
    )


def _load_well(conn: BlitzGateway, place: _Place) -> WellI:
    row, column = parse_well(place.well)
    well = queries.query(conn).findByQuery(
        "select w from Well w left outer join fetch w.wellSamples "
        "where w.plate.id = :plate and w.row = :row and w.column = :column",
        queries.parameters(plate=place.derived_id, row=rint(row), column=rint(column)),
        queries.context(conn, place.group_id),
    )
    if well is None:
        raise PlateError(
            f"derived plate {place.derived_id} has no well {place.well}: run the workflow again, which "
            "brings its wells up to date"
        )
    return well


def _links_of_files(
    conn: BlitzGateway, replaced: Mapping[int, int], again: Collection[tuple[int, str]]
) -> list[ImageAnnotationLinkI]:
    """Unsaved links from the files of replaced images to the images that replace them.

    A file with a second link outlives its first image. `again` lists the files, by new image and name, not to move.
    """
    if not replaced:
        return []
    found = queries.rows(
        conn,
        "select distinct l.parent.id, a.id, f.name from FileAnnotation a join a.file f, ImageAnnotationLink l "
        "where l.child.id = a.id and l.parent.id in (:ids)",
        ids=list(replaced),
    )
    links = []
    for image, annotation, name in found:
        if (replaced[image], name) not in again:
            link = ImageAnnotationLinkI()
            link.parent, link.child = ImageI(replaced[image], False), FileAnnotationI(annotation, False)
            links.append(link)
    return links


def _show(well: WellI, images: Mapping[int, _Shown], whole: bool) -> dict[int, int]:
    """Point the well's samples at the images, add missing samples and remove surplus ones.

    A sample's index is its position in the list. The server leaves a hole (None) where a sample was deleted; a new
    sample fills it. Returns the ids of the new images, by the ids of the images that they replace.
    """
    samples = well.copyWellSamples()
    if whole:
        samples = (samples + [None] * len(images))[: len(images)]
        places = {site: site - 1 for site in images}
    else:
        places = dict(enumerate((i for i, sample in enumerate(samples) if sample is not None), start=1))
        for site in sorted(images):
            if site > len(places) + 1:
                raise PlateError(f"site {site} can't be written before site {len(places) + 1}: sites can't have gaps")
            if site not in places:
                places[site] = len(samples)
                samples.append(None)
    replaced = {}
    for site, shown in images.items():
        if samples[places[site]] is None:
            samples[places[site]] = WellSampleI()
            samples[places[site]].well = well
        elif samples[places[site]].image is not None:
            replaced[samples[places[site]].image.id.val] = shown.image_id
        samples[places[site]].image = ImageI(shown.image_id, False)
        place_sample(samples[places[site]], shown.acquired, shown.acquisition)
    well._wellSamplesSeq = samples  # the accessor methods fail on holes
    return replaced
