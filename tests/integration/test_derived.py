"""Derived plates: what they contain after anything that can happen to the process that writes them."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import omero
import pytest
from omero.rtypes import rstring
from wire import Killed, block, count, images_in_no_well, make_plate, wire

from openhcs_omero.errors import PlateError
from openhcs_omero.omero import derived_well, queries
from openhcs_omero.omero.annotations import list_texts, read_text, save_text
from openhcs_omero.omero.browsing import list_screens
from openhcs_omero.omero.derived import derive_plate, derived_state, find_derived
from openhcs_omero.omero.derived_well import write_well
from openhcs_omero.omero.marks import NAMESPACE
from openhcs_omero.omero.pixels import read_site
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.plates.image import NewImage, WellFile

__all__ = ["wire"]

MARKS = {"run": "r1", "version": "0.1.0"}


def sites(seed, n=2):
    """New images of n sites, identified by the seed."""
    return {
        site: NewImage(
            f"site {site} of {seed}", block(1000 * seed + site, dtype="uint32"), annotations=[("source_image", "5")]
        )
        for site in range(1, n + 1)
    }


def seed_of(conn, derived_id, well="A01", n=2):
    """The seed of the `sites` that a well shows; asserts that they share the seed, are complete and are in order."""
    plate = load_plate(conn, derived_id, require_images=False)
    images = plate.wells[well].images
    if not images:
        return None
    assert sorted(images) == list(range(1, n + 1))
    assert [images[site].index for site in sorted(images)] == list(range(n))
    shown = [read_site(conn, images[site]) for site in sorted(images)]
    seeds = {(int(pixels.flat[0]) // 17 - site) // 1000 for site, pixels in enumerate(shown, start=1)}
    assert len(seeds) == 1
    [seed] = seeds
    assert all(np.array_equal(pixels, new.pixels) for pixels, new in zip(shown, sites(seed, n).values()))
    return seed


@pytest.fixture
def source(conn):
    return load_plate(conn, make_plate(conn, {"A01": 2, "B03": 2, "C05": 0}, name="screen"))


@pytest.fixture
def derived(conn, source):
    return derive_plate(conn, source, "processed", MARKS)


def mark_of(conn, kind, object_id):
    [annotation] = conn.getObject(kind, object_id).listAnnotations(ns=NAMESPACE)
    return dict(annotation.getValue())


def at_once(work, items):
    """Run `work` on all items at the same time; return the results and the messages of refusals, raise other errors."""
    start = threading.Barrier(len(items))

    def begin(item):
        start.wait(timeout=30)
        return work(item)

    done, told = [], []
    with ThreadPoolExecutor(len(items)) as pool:
        futures = [pool.submit(begin, item) for item in items]
    for future in futures:
        try:
            done.append(future.result())
        except PlateError as error:
            told.append(str(error))
    return done, told


# ---- the plate


def test_a_new_derived_plate(conn, source, derived):
    plate = load_plate(conn, derived, require_images=False)
    assert list(plate.wells) == ["A01", "B03"] and not plate.wells_with_images()
    assert (plate.name, plate.rows, plate.columns) == ("screen [processed]", source.rows, source.columns)
    assert mark_of(conn, "Plate", derived) == {
        **MARKS,
        "source_plate": str(source.plate_id),
        "output": "processed",
        "derived_plate": f"plate_{source.plate_id}_processed",
    }
    assert find_derived(conn, source.plate_id, "processed") == derived
    assert find_derived(conn, source.plate_id, "other") is None
    assert find_derived(conn, derived, "processed") is None
    assert derived_state(conn, derived) == {"A01": [], "B03": []}


def test_a_derived_plate_is_not_found_by_its_name(conn, source, derived):
    plate = queries.query(conn).get("Plate", derived)
    plate.name = rstring("renamed")
    queries.update(conn).saveObject(plate)
    make_plate(conn, name="screen [processed]")
    assert find_derived(conn, source.plate_id, "processed") == derived
    assert derive_plate(conn, source, "processed", MARKS) == derived


def test_deriving_again_keeps_the_images(conn, source, derived):
    write_well(conn, derived, "A01", sites(1), MARKS)
    assert derive_plate(conn, source, "processed", {**MARKS, "run": "r2"}) == derived
    assert seed_of(conn, derived) == 1
    assert mark_of(conn, "Plate", derived)["run"] == "r2"
    assert count(conn, "Plate") == {"Plate": 2}
    assert derive_plate(conn, source, "other", MARKS) != derived


def test_deriving_again_takes_a_handful_of_calls(conn, source, derived, wire):
    wire.start()
    derive_plate(conn, source, "processed", MARKS)
    assert len(wire.stop()) <= 8


def test_wells_are_added_and_removed(conn, source, derived):
    write_well(conn, derived, "A01", sites(1), MARKS)
    write_well(conn, derived, "B03", sites(2), MARKS)
    before = count(conn, "Image", "Annotation")
    derive_plate(conn, source, "processed", MARKS, wells=["B03", "C05"])
    assert list(derived_state(conn, derived)) == ["B03", "C05"]
    assert seed_of(conn, derived, "B03") == 2
    assert count(conn, "Image", "Annotation") == {key: n - 2 for key, n in before.items()}
    derive_plate(conn, source, "processed", MARKS)
    assert list(derived_state(conn, derived)) == ["A01", "B03"] and seed_of(conn, derived) is None
    with pytest.raises(PlateError, match="has no well 'D01'"):
        derive_plate(conn, source, "processed", MARKS, wells=["D01"])


def test_a_deleted_derived_plate_is_created_again(conn, source, derived):
    write_well(conn, derived, "A01", sites(1), MARKS)
    conn.deleteObjects("Plate", [derived], wait=True)  # leaves the images
    assert find_derived(conn, source.plate_id, "processed") is None and derived_state(conn, derived) == {}
    assert len(images_in_no_well(conn)) == 2
    again = derive_plate(conn, source, "processed", MARKS)
    assert again != derived and images_in_no_well(conn) == []


def make_screen(conn, *plates):
    screen = omero.model.ScreenI()
    screen.name = rstring("Assay A")
    for plate in plates:
        screen.linkPlate(omero.model.PlateI(plate, False))
    return queries.update(conn).saveAndReturnObject(screen).id.val


def plates_by_screen(conn):
    return {screen.name: [plate.plate_id for plate in screen.plates] for screen in list_screens(conn)}


def test_derived_plates_are_gathered_in_a_screen(conn):
    sources = [load_plate(conn, make_plate(conn, {"A01": 1})) for _ in range(2)]
    make_screen(conn, *(source.plate_id for source in sources))
    derived = [derive_plate(conn, source, "processed", MARKS) for source in sources for _ in range(2)]
    assert derived[::2] == derived[1::2]
    assert plates_by_screen(conn) == {
        "Assay A": [source.plate_id for source in sources],
        "Assay A [processed]": derived[::2],
    }


def test_processes_derive_plates_of_one_screen(omero_server, conn):
    sources = [load_plate(conn, make_plate(conn, {"A01": 1})) for _ in range(4)]
    make_screen(conn, *(source.plate_id for source in sources))
    conns = [omero_server.login(conn.getUser().getName(), "pw") for _ in sources]
    waiting = iter(sources)
    made, told = at_once(lambda mine: derive_plate(mine, next(waiting), "processed", MARKS), conns)
    for mine in conns:
        mine.close()
    assert told == [] and plates_by_screen(conn)["Assay A [processed]"] == sorted(made)
    assert count(conn, "Screen") == {"Screen": 2}


def test_two_processes_derive_the_same_plate(omero_server, conn, source):
    conns = [omero_server.login(conn.getUser().getName(), "pw") for _ in range(4)]
    made, told = at_once(lambda mine: derive_plate(mine, source, "processed", MARKS), conns)
    for mine in conns:
        mine.close()
    assert made and all("another process" in error or "no plate" in error for error in told)
    again = derive_plate(conn, source, "processed", MARKS)
    assert count(conn, "Plate") == {"Plate": 2} and again in made
    assert list(derived_state(conn, again)) == ["A01", "B03"]


def test_another_process_derives_the_plate_in_between(omero_server, conn, source, wire):
    """Wherever another process does all its work between two calls of the first, one plate exists in the end."""
    other = omero_server.login(conn.getUser().getName(), "pw")
    for point in range(40):
        theirs = []

        def all_of_it(number, point=point, theirs=theirs):
            if number == point:
                wire.on = False
                theirs.append(derive_plate(other, source, f"out{point}", MARKS))
                wire.on = True

        wire.start(before=all_of_it)
        mine = derive_plate(conn, source, f"out{point}", MARKS)
        wire.stop()
        if not theirs:
            break
        assert count(conn, "Plate") == {"Plate": 2 + point}
        assert mine == theirs[0] == find_derived(conn, source.plate_id, f"out{point}")
        assert list(derived_state(conn, mine)) == ["A01", "B03"]
    other.close()
    assert theirs == [] and point > 5


def test_deriving_leaves_alone_what_another_process_is_about_to_link(omero_server, conn, source, wire):
    """Between any two calls of one process, another may create the plate and write the pixels of a well."""
    other = omero_server.login(conn.getUser().getName(), "pw")
    for point in range(40):
        queries.delete(
            conn,
            source.group_id,
            Plate=[plate for plate in [find_derived(conn, source.plate_id, "p")] if plate is not None],
        )
        theirs, shown = [], []

        def begin(number, point=point, theirs=theirs, shown=shown):
            if number == point:  # everything except the save that links them
                wire.on = False
                plate = derive_plate(other, source, "p", MARKS)
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(
                        derived_well,
                        "_commit",
                        lambda conn, place, written, files: shown.extend(image.image_id for image in written.values()),
                    )
                    patch.setattr(derived_well, "delete_hidden", lambda *_: None)
                    write_well(other, plate, "A01", sites(1), MARKS)
                theirs.append(plate)
                wire.on = True

        wire.start(before=begin)
        derive_plate(conn, source, "p", MARKS)
        wire.stop()
        if not theirs:
            break
        assert images_in_no_well(conn) == sorted(shown), point
        queries.delete(conn, source.group_id, Image=shown)
    other.close()
    assert point > 5


def test_killed_while_deriving(conn, source, wire):
    for point in range(40):
        wire.start(dies_at=point)
        try:
            derive_plate(conn, source, f"out{point}", MARKS)
            break
        except Killed:
            wire.stop()
        derived = derive_plate(conn, source, f"out{point}", MARKS)
        assert list(derived_state(conn, derived)) == ["A01", "B03"]
        assert count(conn, "Plate") == {"Plate": 2 + point}
    wire.stop()
    assert point > 5


def test_who_may_derive_a_plate(omero_server, root, make_user):
    """In a read-only group, users can derive from another user's plate and own the derived plate."""
    owner, other = make_user("rwr---"), make_user()
    group = owner.getEventContext().groupId
    source = load_plate(owner, make_plate(owner))
    with pytest.raises(PlateError, match=r"this user may not write .*plate derived from|may not see"):
        derive_plate(other, source, "processed", MARKS)
    member = make_user(group=group)
    theirs = derive_plate(owner, source, "processed", MARKS)
    mine = derive_plate(member, load_plate(member, source.plate_id), "processed", MARKS)
    assert mine != theirs
    assert find_derived(owner, source.plate_id, "processed") == theirs
    assert find_derived(member, source.plate_id, "processed") == mine
    write_well(member, mine, "A01", sites(1), MARKS)
    write_well(owner, theirs, "A01", sites(2), MARKS)
    assert seed_of(owner, mine) == 1 and seed_of(member, theirs) == 2
    with pytest.raises(PlateError, match=rf"^this user may not write well A01 of derived plate {theirs}: [^\n]+$"):
        write_well(member, theirs, "A01", sites(3), MARKS)
    assert seed_of(member, theirs) == 2 and images_in_no_well(member) == []


# ---- the well


def test_a_well_is_written(conn, source, derived):
    written = write_well(conn, derived, "A01", sites(1), MARKS)
    assert seed_of(conn, derived) == 1
    assert derived_state(conn, derived) == {
        "A01": [(written[site].image_id, written[site].sha1) for site in (1, 2)],
        "B03": [],
    }
    image = written[1].image_id
    assert mark_of(conn, "Image", image) == {
        **MARKS,
        "source_plate": str(source.plate_id),
        "output": "processed",
        "well": "A01",
        "site": "1",
        "source_image": "5",
        "derived_plate": f"plate_{source.plate_id}_processed",
        "derived_well": f"plate_{source.plate_id}_processed/A01",
    }
    assert images_in_no_well(conn) == []


@pytest.mark.parametrize(("first", "second"), [(2, 2), (1, 3), (3, 1)])
def test_a_well_is_written_again(conn, derived, first, second):
    write_well(conn, derived, "B03", sites(7, 1), MARKS)
    write_well(conn, derived, "A01", sites(1, first), MARKS)
    before = count(conn, "Image", "MapAnnotation", "Channel")
    write_well(conn, derived, "A01", sites(2, second), MARKS)
    assert seed_of(conn, derived, n=second) == 2 and seed_of(conn, derived, "B03", 1) == 7
    more = second - first
    assert count(conn, "Image", "MapAnnotation", "Channel") == {
        "Image": before["Image"] + more,
        "MapAnnotation": before["MapAnnotation"] + more,
        "Channel": before["Channel"] + 2 * more,
    }
    assert images_in_no_well(conn) == []


def test_only_some_sites_are_written(conn, derived):
    write_well(conn, derived, "A01", sites(1, 2), MARKS)
    write_well(conn, derived, "A01", {2: sites(5, 3)[2], 3: sites(5, 3)[3]}, MARKS, whole=False)
    images = load_plate(conn, derived).wells["A01"].images
    assert [images[site].name for site in (1, 2, 3)] == ["site 1 of 1", "site 2 of 5", "site 3 of 5"]
    assert images_in_no_well(conn) == []
    with pytest.raises(PlateError, match="site 5 can't be written before site 4"):
        write_well(conn, derived, "A01", {5: sites(1)[1]}, MARKS, whole=False)
    assert images_in_no_well(conn) == []


def files_of(conn, derived, well="A01"):
    """Map (kind, site, name) to the content of the files of a well and of its images."""
    structure = load_plate(conn, derived).wells[well]
    holders = [("Well", None, structure.well_db_id)]
    holders += [("Image", site, image.image_id) for site, image in structure.images.items()]
    return {
        (site, file.name): read_text(conn, kind, holder, file.name)
        for kind, site, holder in holders
        for file in list_texts(conn, kind, holder)
    }


def test_files_are_written_with_the_images(conn, derived):
    """They replace files of the same name. A site's files are deleted with its image; the well's files stay."""
    write_well(conn, derived, "A01", sites(1), MARKS, [WellFile(1, "x.json", b"{}"), WellFile(None, "w.txt", b"1")])
    assert files_of(conn, derived) == {(1, "x.json"): b"{}", (None, "w.txt"): b"1"}
    before = count(conn, "FileAnnotation", "OriginalFile")
    write_well(conn, derived, "A01", sites(2), MARKS, [WellFile(2, "x.json", b"[]"), WellFile(None, "w.txt", b"2")])
    assert files_of(conn, derived) == {(2, "x.json"): b"[]", (None, "w.txt"): b"2"}
    write_well(conn, derived, "A01", {2: sites(3)[2]}, MARKS, [WellFile(2, "x.json", b"[1]")], whole=False)
    assert files_of(conn, derived) == {(2, "x.json"): b"[1]", (None, "w.txt"): b"2"}
    write_well(conn, derived, "A01", {2: sites(4)[2]}, MARKS, whole=False)
    assert files_of(conn, derived) == {(2, "x.json"): b"[1]", (None, "w.txt"): b"2"}
    assert count(conn, "FileAnnotation", "OriginalFile") == before


def test_a_well_that_can_not_be_linked_leaves_no_file(conn, derived):
    write_well(conn, derived, "A01", sites(1), MARKS)
    before = count(conn, "Image", "FileAnnotation", "OriginalFile")
    with pytest.raises(PlateError, match="site 5 can't be written before site 3"):
        write_well(conn, derived, "A01", {5: sites(1)[1]}, MARKS, [WellFile(5, "x.json", b"{}")], whole=False)
    assert count(conn, "Image", "FileAnnotation", "OriginalFile") == before


@pytest.mark.parametrize("wrong", [{}, {2: None}, {0: None, 1: None}, {1: None, 3: None}])
def test_invalid_sites_of_a_well(conn, derived, wrong):
    images = {site: NewImage("x", block(1)) for site in wrong}
    with pytest.raises(PlateError, match="count from 1 without a gap"):
        write_well(conn, derived, "A01", images, MARKS)


def test_wells_and_plates_that_do_not_exist(conn, source, derived):
    for plate, well, problem in (
        (source.plate_id, "A01", "is not a derived plate"),
        (987654321, "A01", "does not exist"),
        (derived, "D01", "has no well D01"),
    ):
        with pytest.raises(PlateError, match=problem):
            write_well(conn, plate, well, sites(1), MARKS)
    assert images_in_no_well(conn) == []


def test_invalid_images(conn, derived):
    write_well(conn, derived, "A01", sites(1), MARKS)
    wrong = {1: sites(2)[1], 2: NewImage("complex", np.zeros((1, 1, 1, 2, 2), complex))}
    with pytest.raises(PlateError, match="complex128"):
        write_well(conn, derived, "A01", wrong, MARKS)
    assert seed_of(conn, derived) == 1 and images_in_no_well(conn) == []


@pytest.mark.parametrize("deleted", [1, 2])
def test_a_deleted_well_sample_is_filled(conn, derived, deleted):
    """If a user deleted an image of the well, no hole remains."""
    write_well(conn, derived, "A01", sites(1), MARKS)
    sample = load_plate(conn, derived).image("A01", deleted).well_sample_id
    queries.delete(conn, queries.current_group(conn), WellSample=[sample])
    assert len(derived_state(conn, derived)["A01"]) == 1
    write_well(conn, derived, "A01", sites(2), MARKS)
    assert seed_of(conn, derived) == 2 and images_in_no_well(conn) == []


def test_an_image_that_a_user_put_into_the_well_is_not_deleted(conn, derived):
    write_well(conn, derived, "A01", sites(1), MARKS)
    own = load_plate(conn, make_plate(conn, {"A01": 1})).image("A01", 1)
    sample = queries.query(conn).get("WellSample", load_plate(conn, derived).image("A01", 1).well_sample_id)
    sample.image = omero.model.ImageI(own.image_id, False)
    queries.update(conn).saveObject(sample)
    write_well(conn, derived, "A01", sites(2), MARKS)
    assert seed_of(conn, derived) == 2
    assert conn.getObject("Image", own.image_id) is not None and images_in_no_well(conn) == []


def test_a_derived_image_that_a_user_put_into_a_dataset_stays(conn, derived):
    written = write_well(conn, derived, "A01", sites(1), MARKS)
    dataset = omero.model.DatasetI()
    dataset.name = rstring("kept")
    dataset.linkImage(omero.model.ImageI(written[1].image_id, False))
    queries.update(conn).saveObject(dataset)
    write_well(conn, derived, "A01", sites(2), MARKS)
    assert images_in_no_well(conn) == [written[1].image_id]


def test_killed_while_writing(conn, derived, wire):
    """Whenever the process dies, the well shows its old images or its new ones, and nothing is left over."""
    write_well(conn, derived, "A01", sites(0), MARKS)
    committed = []
    for point in range(60):
        old, new, last = 3 * point, 3 * point + 1, 3 * point + 2
        write_well(conn, derived, "A01", sites(old), MARKS)
        wire.start(dies_at=point)
        try:
            write_well(conn, derived, "A01", sites(new), MARKS)
            break
        except Killed:
            wire.stop()
        shown = seed_of(conn, derived)
        assert shown in (old, new)
        committed.append(shown == new)
        write_well(conn, derived, "A01", sites(last), MARKS)
        assert seed_of(conn, derived) == last and images_in_no_well(conn) == []
        assert count(conn, "Image", "MapAnnotation") == {"Image": 6, "MapAnnotation": 7}
    wire.stop()
    # there is exactly one commit point, with work before and after it
    assert committed == sorted(committed) and {False, True} == set(committed)


def test_killed_while_writing_an_empty_well(conn, derived, wire):
    for point in range(60):
        queries.delete(
            conn,
            queries.current_group(conn),
            WellSample=[image.well_sample_id for _, image in load_plate(conn, derived, require_images=False).images()],
        )
        wire.start(dies_at=point)
        try:
            write_well(conn, derived, "A01", sites(point), MARKS)
            break
        except Killed:
            wire.stop()
        assert seed_of(conn, derived) in (None, point)
    wire.stop()
    assert point > 10 and images_in_no_well(conn) == []


def test_killed_while_a_file_is_attached_to_an_image(conn, derived, wire):
    """The file is deleted with the image, even if it was not linked yet."""
    for point in range(30):
        write_well(conn, derived, "A01", sites(2 * point), MARKS)
        wire.start(dies_at=point)
        try:
            save_text(conn, "Image", load_plate(conn, derived).image("A01", 1).image_id, "results.json", b"{}")
            break
        except Killed:
            wire.stop()
        write_well(conn, derived, "A01", sites(2 * point + 1), MARKS)
        assert count(conn, "FileAnnotation", "OriginalFile") == {"FileAnnotation": 0, "OriginalFile": 0}
    wire.stop()
    assert point > 5


def test_more_leftover_images_than_a_query_takes(conn, derived, monkeypatch):
    """A deleted derived plate leaves all its images behind; the next one finds and deletes them in batches."""
    write_well(conn, derived, "A01", sites(1, 5), MARKS)
    write_well(conn, derived, "B03", sites(2, 4), MARKS)
    source = int(mark_of(conn, "Plate", derived)["source_plate"])
    conn.deleteObjects("Plate", [derived], wait=True)
    assert len(images_in_no_well(conn)) == 9
    deleted, delete = [], queries.delete

    def counted(*args, **targets):
        deleted.append(len(targets.get("Image", [])))
        return delete(*args, **targets)

    monkeypatch.setattr(queries, "IDS", 4)
    monkeypatch.setattr(queries, "delete", counted)
    derive_plate(conn, load_plate(conn, source), "processed", MARKS)
    assert [images for images in deleted if images] == [4, 4, 1] and images_in_no_well(conn) == []


def test_another_process_writes_in_between(omero_server, conn, derived, wire):
    """Wherever another process does all its work between two calls, the well is complete and nothing is left over."""
    other = omero_server.login(conn.getUser().getName(), "pw")
    outcomes = set()
    for point in range(60):
        theirs, mine = 2 * point, 2 * point + 1
        ran = []

        def all_of_it(number, point=point, theirs=theirs, ran=ran):
            if number == point:
                wire.on = False
                ran.append(write_well(other, derived, "A01", sites(theirs), MARKS))
                wire.on = True

        wire.start(before=all_of_it)
        try:
            write_well(conn, derived, "A01", sites(mine), MARKS)
            expected = mine
        except PlateError as error:
            assert "another process" in str(error)
            expected = theirs
        wire.stop()
        if not ran:
            break
        shown = seed_of(conn, derived)
        outcomes.add(shown == mine)
        # after the commit, the other process replaces what was just written
        assert shown in (expected, theirs)
        assert images_in_no_well(conn) == []
    other.close()
    assert outcomes == {True, False}


def test_two_processes_write_the_same_well(omero_server, conn, derived):
    name = conn.getUser().getName()
    conns = [omero_server.login(name, "pw") for _ in range(3)]
    written, told = at_once(lambda seed: write_well(conns[seed], derived, "A01", sites(seed), MARKS), range(len(conns)))
    for mine in conns:
        mine.close()
    assert seed_of(conn, derived) in range(len(conns)) and written
    assert all("another process" in error for error in told)
    write_well(conn, derived, "A01", sites(9), MARKS)
    assert seed_of(conn, derived) == 9 and images_in_no_well(conn) == []
