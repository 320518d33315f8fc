"""Derived plates: where the processed images of a plate go.

A derived plate is a plate of its own, found by a map annotation and never by its name. It is made with its wells and
without any image. A well's images are written first, shown by nothing; one save of the well then shows them, and that
save is the commit point; the images that they replaced are deleted last. Every image carries the mark of its derived
plate and well from the save that makes it, so that whatever a killed process left behind is known: it is an image
with the mark that no well shows, and the next one who writes the well deletes it.

One process at a time writes a well. Where two do, the well ends with all images of one of them, and the other is told.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import omero
from omero.gateway import BlitzGateway
from omero.model import (
    FileAnnotationI,
    ImageAnnotationLinkI,
    ImageI,
    MapAnnotationI,
    PlateI,
    ScreenI,
    WellI,
    WellSampleI,
)
from omero.rtypes import rint, rstring

from openhcs_omero.errors import PlateError
from openhcs_omero.omero import queries
from openhcs_omero.omero.annotations import save_text, unlinked_files
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.writing import WrittenImage, discard, map_annotation, missing, write_well_images
from openhcs_omero.plates.image import NewImage, WellFile
from openhcs_omero.plates.paths import parse_well, well_name
from openhcs_omero.plates.structure import PlateStructure

NAMESPACE = "openhcs_omero/derived"
PLATE_MARK = "derived_plate"  # plate_7_processed, on the derived plate
WELL_MARK = "derived_well"  # plate_7_processed/A01, on the images of its well

ATTEMPTS = 3
log = logging.getLogger(__name__)


def find_derived(conn: BlitzGateway, plate_id: int, output: str) -> int | None:
    """Id of the derived plate of plate `plate_id` for `output`.

    It is found by its map annotation, in all groups of the user. The user's own goes before that of another, and the
    oldest first.
    """
    mine = conn.getUserId()
    found = _marked(conn, "Plate", PLATE_MARK, _plate_mark(plate_id, output))
    return min(((owner != mine, plate) for plate, owner, _ in found), default=(False, None))[1]


def list_derived(conn: BlitzGateway, plate_id: int) -> dict[str, int]:
    """Ids of the derived plates of plate `plate_id` by output, as `find_derived` finds them."""
    found: dict[str, int] = {}
    for plate, _, _ in _marked(conn, "Plate", "source_plate", str(plate_id)):
        mark = _mark_of(conn, plate)
        output = {pair.name: pair.value for pair in mark.mapValue}.get("output") if mark else None
        derived = find_derived(conn, plate_id, output) if output else None
        if output and derived is not None:
            found[output] = derived
    return found


def derive_plate(
    conn: BlitzGateway,
    source: PlateStructure,
    output: str,
    marks: Mapping[str, str],
    wells: Collection[str] | None = None,
) -> int:
    """Make the derived plate of `source` for `output`, or bring the existing one up to date.

    Plate, wells and mark are made in one save. An existing plate gets the wells that it lacks, and those that it
    should no longer have are deleted with their images; the images of the others stay. Where two processes make it at
    once, the older plate stays and the other is deleted.

    Parameters
    ----------
    marks
        What else to note on the plate, names and values: run, version of the code, hash of the configuration.
    wells
        The wells to have; None means all wells of `source` with images.

    Returns
    -------
    int
        Id of the derived plate, which belongs to this user and to the group of `source`.

    Raises
    ------
    PlateError
        If this user may not write into the group of `source`, or `source` lacks one of `wells`.
    """
    wanted = set(source.wells_with_images() if wells is None else source.only(wells).wells)
    pairs = _plate_pairs(source.plate_id, output, marks)
    if not own_plates(conn, source, output):
        # once there is a plate, hidden images may be those that another process is about to show
        _delete_hidden(conn, source.group_id, PLATE_MARK, _plate_mark(source.plate_id, output),
                       unless=lambda: bool(own_plates(conn, source, output)))
        with queries.writing(f"a plate derived from plate {source.plate_id}"):
            queries.update(conn).saveObject(
                _new_plate(conn, source, output, wanted, pairs), queries.context(conn, source.group_id))
    derived = _only_plate(conn, source, output)
    _set_wells(conn, derived, wanted)
    _set_mark(conn, derived, source.group_id, pairs)
    return derived


def write_well(
    conn: BlitzGateway,
    derived_id: int,
    well_name: str,
    sites: Mapping[int, NewImage],
    marks: Mapping[str, str],
    files: Sequence[WellFile] = (),
    whole: bool = True,
) -> dict[int, WrittenImage]:
    """Replace the images of a well of a derived plate, and attach files to them and to the well.

    A process that is killed at any moment leaves all of the earlier images or all of the new ones in the well. The
    files of the new images become visible with them. What earlier processes left behind is deleted.

    Parameters
    ----------
    sites
        The images by site, from 1 without a gap.
    marks
        Names and values to note on every image, besides its own `annotations`, source plate, output, well and site.
    files
        Files of the well or of one of `sites`; each replaces the one of the same name.
    whole
        False keeps the sites that are not in `sites`, and moves the files of replaced images to the new ones.

    Returns
    -------
    dict
        The written images by site.

    Raises
    ------
    PlateError
        If the plate or well is missing, not derived or not this user's to write, the sites have a gap, or another
        process wrote the same well at the same time. The well then shows its earlier images, or those of the other
        process.
    """
    place = _place(conn, derived_id, well_name)
    order = sorted(sites)
    if not order or order[0] < 1 or (whole and order != list(range(1, len(order) + 1))):
        raise PlateError(f"the sites of well {well_name} must count from 1 without a gap, not be {order}")
    images = [replace(sites[site], annotations=_image_pairs(place, site, marks, sites[site])) for site in order]
    written = dict(zip(order, write_well_images(conn, images, NAMESPACE, place.group_id)))
    try:
        for file in files:
            if file.site is not None:
                save_text(conn, "Image", written[file.site].image_id, file.name, file.data)
        with queries.writing(f"well {place.well} of derived plate {derived_id}"):
            well_id = _commit(conn, place, written, None if whole else files)
    except BaseException:
        # if the save succeeded and only its answer was lost, OMERO refuses: images of a well can't be deleted like this
        discard(conn, [image.image_id for image in written.values()], place.group_id)
        raise
    _delete_hidden(conn, place.group_id, WELL_MARK, place.mark)
    for file in files:
        if file.site is None:
            save_text(conn, "Well", well_id, file.name, file.data)
    return written


def note_on_plate(conn: BlitzGateway, derived_id: int, marks: Mapping[str, str]) -> None:
    """Note names and values on a derived plate, in the place of those that it was made with."""
    annotation = _mark_of(conn, derived_id)
    if annotation is None:
        raise PlateError(f"plate {derived_id} is not there or is no derived plate")
    own = {pair.name: pair.value for pair in annotation.mapValue if pair.name in (PLATE_MARK, "source_plate", "output")}
    _set_mark(conn, derived_id, annotation.details.group.id.val, list({**marks, **own}.items()))


def delete_if_empty(conn: BlitzGateway, derived_id: int) -> bool:
    """Delete a derived plate if no image is in it; whether it has been deleted, now or before."""
    try:
        plate = load_plate(conn, derived_id, require_images=False)
    except PlateError:
        return True
    if plate.wells_with_images() or _mark_of(conn, derived_id) is None:
        return False
    queries.delete(conn, plate.group_id, Plate=[derived_id])
    return True


def derived_state(conn: BlitzGateway, derived_id: int) -> dict[str, list[tuple[int, str]]]:
    """(image id, SHA-1) of every site, by well, as OMERO has them now; one call. {} where the plate is gone."""
    try:
        plate = load_plate(conn, derived_id, require_images=False)
    except PlateError:
        return {}
    return {
        name: [(well.images[site].image_id, well.images[site].sha1) for site in sorted(well.images)]
        for name, well in plate.wells.items()
    }


# ---- marks

def _plate_mark(plate_id: int, output: str) -> str:
    return f"plate_{plate_id}_{output}"


def _plate_pairs(source_id: int, output: str, marks: Mapping[str, str]) -> list[tuple[str, str]]:
    own = {PLATE_MARK: _plate_mark(source_id, output), "source_plate": str(source_id), "output": output}
    return list({**{key: str(value) for key, value in marks.items()}, **own}.items())


def _image_pairs(place: "_Place", site: int, marks: Mapping[str, str], image: NewImage) -> list[tuple[str, str]]:
    own = {**place.pairs, WELL_MARK: place.mark, "well": place.well, "site": str(site)}
    return list({**{key: str(value) for key, value in (*marks.items(), *image.annotations)}, **own}.items())


def _marked(conn: BlitzGateway, kind: str, key: str, value: str) -> list[list[int]]:
    """[id, owner, group] of the plates or images that carry a pair in their mark, by id."""
    return queries.rows(
        conn, f"select distinct o.id, w.id, g.id from {kind}AnnotationLink l join l.parent o join o.details.owner w "
              "join o.details.group g where l.child.id in (select a.id from MapAnnotation a join a.mapValue mv "
              "where a.ns = :ns and mv.name = :name and mv.value = :value) order by o.id",
        ns=NAMESPACE, name=key, value=value)


def _delete_hidden(conn: BlitzGateway, group_id: int, key: str, value: str,
                   unless: Callable[[], bool] = lambda: False) -> None:
    """Delete this user's images with a mark that no well and no dataset shows: replaced ones, and those left behind,
    with the files that were written for them.

    Another process may delete or show one of them in the meantime; OMERO then refuses all, and they are asked for
    again. `unless` is asked between finding and deleting.
    """
    mine = conn.getUserId()
    for _ in range(ATTEMPTS):
        marked = [image for image, owner, group in _marked(conn, "Image", key, value)
                  if (owner, group) == (mine, group_id)]
        hidden = [row[0] for ids in queries.pages(marked) for row in queries.rows(
            conn, "select i.id from Image i left outer join i.wellSamples ws left outer join i.datasetLinks d "
                  "where i.id in (:ids) and ws.id is null and d.id is null", ids=ids)]
        if not hidden or unless():
            return
        try:
            for ids in queries.pages(hidden):
                queries.delete(conn, group_id, Image=ids, FileAnnotation=unlinked_files(conn, ids))
            return
        except queries.DeletionRefused as error:
            log.warning("%s", error)


# ---- the plate

def own_plates(conn: BlitzGateway, source: PlateStructure, output: str) -> list[int]:
    """Ids of this user's derived plates in the group of `source`, the oldest first."""
    found = _marked(conn, "Plate", PLATE_MARK, _plate_mark(source.plate_id, output))
    here = (conn.getUserId(), source.group_id)
    return [plate for plate, owner, group in found if (owner, group) == here]


def _only_plate(conn: BlitzGateway, source: PlateStructure, output: str) -> int:
    """The oldest of the derived plates, which stays; the others, made by processes at the same time, are deleted."""
    for _ in range(ATTEMPTS):
        plates = own_plates(conn, source, output)
        if not plates:
            break
        try:
            queries.delete(conn, source.group_id, Plate=plates[1:])
            return plates[0]
        except queries.DeletionRefused as error:  # they were deleted by another process
            log.warning("%s", error)
    raise PlateError(f"another process is making or deleting the plate derived from plate {source.plate_id} for "
                     f"{output!r}: let only one run work on it at a time, then start it again")


def _new_plate(conn: BlitzGateway, source: PlateStructure, output: str, wells: Iterable[str],
               pairs: list[tuple[str, str]]) -> PlateI:
    """The derived plate with empty wells and its mark, not saved; in those screens of the source that the user owns."""
    plate = PlateI()
    plate.name = rstring(f"{source.name} [{output}]")
    plate.rows, plate.columns = rint(source.rows), rint(source.columns)
    plate.rowNamingConvention, plate.columnNamingConvention = rstring("letter"), rstring("number")
    for name in sorted(wells, key=parse_well):
        plate.addWell(_new_well(name))
    plate.linkAnnotation(map_annotation(NAMESPACE, pairs))
    screens = queries.rows(
        conn, "select distinct s.id, w.id from ScreenPlateLink l join l.parent s join s.details.owner w "
              "where l.child.id = :plate", plate=source.plate_id)
    for screen, owner in screens:
        if owner == conn.getUserId():
            plate.linkScreen(ScreenI(screen, False))
    return plate


def _new_well(name: str) -> WellI:
    well = WellI()
    row, column = parse_well(name)
    well.row, well.column = rint(row), rint(column)
    return well


def _set_wells(conn: BlitzGateway, derived_id: int, wanted: set[str]) -> None:
    """Give the plate the wells that it lacks, and delete those that it should not have."""
    for attempt in range(ATTEMPTS):
        plate = load_plate(conn, derived_id, require_images=False)
        surplus = [well.well_db_id for name, well in plate.wells.items() if name not in wanted]
        missing = [_new_well(name) for name in sorted(wanted - set(plate.wells), key=parse_well)]
        for well in missing:
            well.plate = PlateI(derived_id, False)
        try:
            queries.delete(conn, plate.group_id, Well=surplus)
            if missing:
                queries.update(conn).saveArray(missing, queries.context(conn, plate.group_id))
            return
        except (queries.DeletionRefused, omero.ValidationException):  # another process did the same
            if attempt == ATTEMPTS - 1:
                raise


def _set_mark(conn: BlitzGateway, derived_id: int, group_id: int, pairs: list[tuple[str, str]]) -> None:
    """Note the pairs on the plate in the place of the earlier ones."""
    for _ in range(ATTEMPTS):
        annotation = _mark_of(conn, derived_id)
        if annotation is None or [(pair.name, pair.value) for pair in annotation.mapValue] == pairs:
            return
        annotation.mapValue = map_annotation(NAMESPACE, pairs).mapValue
        try:
            return queries.update(conn).saveObject(annotation, queries.context(conn, group_id))
        except omero.OptimisticLockException:  # another process noted its own
            continue


def _mark_of(conn: BlitzGateway, plate_id: int) -> MapAnnotationI | None:
    """The plate's mark, an annotation; None where it is no derived plate."""
    links = queries.query(conn).findAllByQuery(
        "select l from PlateAnnotationLink l join fetch l.child a where l.parent.id = :id and a.ns = :ns",
        queries.parameters(id=plate_id, ns=NAMESPACE), queries.context(conn, queries.ALL_GROUPS))
    marks = [link.child for link in links if isinstance(link.child, MapAnnotationI)]
    return min(marks, key=lambda annotation: annotation.id.val, default=None)


# ---- the well

@dataclass(frozen=True)
class _Place:
    """A well of a derived plate."""

    derived_id: int
    group_id: int
    well: str
    mark: str
    pairs: dict[str, str]


def _place(conn: BlitzGateway, derived_id: int, well: str) -> _Place:
    annotation = _mark_of(conn, derived_id)
    if annotation is None:
        raise PlateError(f"plate {derived_id} is not there or is no derived plate")
    pairs = {pair.name: pair.value for pair in annotation.mapValue}
    row, column = parse_well(well)
    name = well_name(row, column)
    own = {key: pairs[key] for key in (PLATE_MARK, "source_plate", "output") if key in pairs}
    if PLATE_MARK not in own:
        raise PlateError(f"the annotation of derived plate {derived_id} has lost its pair {PLATE_MARK!r}: delete the "
                         "plate, and the next run makes it anew")
    return _Place(derived_id, annotation.details.group.id.val, name, f"{own[PLATE_MARK]}/{name}", own)


def _commit(conn: BlitzGateway, place: _Place, written: Mapping[int, WrittenImage],
            new_files: Sequence[WellFile] | None) -> int:
    """Show the images in the well, by one save.

    Parameters
    ----------
    new_files
        None replaces the whole well. Otherwise other sites stay, and the files of replaced images move to the new ones,
        but for those that have been written again.

    Returns
    -------
    int
        OMERO's id of the well.
    """
    options = queries.context(conn, place.group_id)
    images = {site: image.image_id for site, image in written.items()}
    for _ in range(ATTEMPTS):
        well = _load_well(conn, place)
        replaced = _show(well, images, new_files is None)
        links: list[ImageAnnotationLinkI] = []
        if new_files is not None:
            again = {(images[file.site], file.name) for file in new_files if file.site is not None}
            links = _links_of_files(conn, replaced, again)
        try:
            queries.update(conn).saveArray([well, *links], options)
            return well.id.val
        except (omero.OptimisticLockException, omero.ValidationException):
            # another process saved the well in between, or swept our images away as left behind
            if missing(conn, list(images.values())):
                break
    raise PlateError(f"another process is writing well {place.well} of derived plate {place.derived_id}: let only one "
                     "run work on a plate and output at a time, then start it again")


def _load_well(conn: BlitzGateway, place: _Place) -> WellI:
    row, column = parse_well(place.well)
    well = queries.query(conn).findByQuery(
        "select w from Well w left outer join fetch w.wellSamples "
        "where w.plate.id = :plate and w.row = :row and w.column = :column",
        queries.parameters(plate=place.derived_id, row=rint(row), column=rint(column)),
        queries.context(conn, place.group_id))
    if well is None:
        raise PlateError(f"derived plate {place.derived_id} has no well {place.well}: run the workflow again, which "
                         "brings its wells up to date")
    return well


def _links_of_files(conn: BlitzGateway, replaced: Mapping[int, int],
                    again: Collection[tuple[int, str]]) -> list[ImageAnnotationLinkI]:
    """Links, not saved, of the files of images to those that replace them: with a second link a file outlives its first
    image. `again` names files, by new image and name, that are not to be moved."""
    if not replaced:
        return []
    found = queries.rows(
        conn, "select distinct l.parent.id, a.id, f.name from FileAnnotation a join a.file f, ImageAnnotationLink l "
              "where l.child.id = a.id and l.parent.id in (:ids)", ids=list(replaced))
    links = []
    for image, annotation, name in found:
        if (replaced[image], name) not in again:
            link = ImageAnnotationLinkI()
            link.parent, link.child = ImageI(replaced[image], False), FileAnnotationI(annotation, False)
            links.append(link)
    return links


def _show(well: WellI, images: Mapping[int, int], whole: bool) -> dict[int, int]:
    """Point the well's samples at the images, add those that it lacks and take off those that are too many.

    The list's position is a sample's index. Where a sample was deleted the server leaves a hole, None; a new one
    fills it.

    Returns
    -------
    dict
        Ids of the new images by those that they replace.
    """
    samples = well.copyWellSamples()
    if whole:
        samples = (samples + [None] * len(images))[:len(images)]
        places = {site: site - 1 for site in images}
    else:
        places = dict(enumerate((i for i, sample in enumerate(samples) if sample is not None), start=1))
        for site in sorted(images):
            if site > len(places) + 1:
                raise PlateError(f"site {site} can't be written before site {len(places) + 1}: sites have no gap")
            if site not in places:
                places[site] = len(samples)
                samples.append(None)
    replaced = {}
    for site, image_id in images.items():
        if samples[places[site]] is None:
            samples[places[site]] = WellSampleI()
            samples[places[site]].well = well
        elif samples[places[site]].image is not None:
            replaced[samples[places[site]].image.id.val] = image_id
        samples[places[site]].image = ImageI(image_id, False)
    well._wellSamplesSeq = samples  # the methods for it fail on holes
    return replaced
