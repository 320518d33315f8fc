"""Search by words, as clients ask for it: in texts, tags, files' names and key-value pairs that the user may see."""

from __future__ import annotations

import numpy as np
import omero
import pytest
from models import save
from omero.gateway import CommentAnnotationWrapper, MapAnnotationWrapper, TagAnnotationWrapper
from omero.rtypes import rtime


@pytest.fixture(autouse=True)
def embedded(omero_server):
    if omero_server.data is None:
        pytest.skip("a real server's index comes some time after what was saved")


@pytest.fixture
def image(conn):
    """`image(name, description)`: the id of a new image."""

    def make(name: str, description: str = "") -> int:
        return conn.createImageFromNumpySeq(iter([np.zeros((2, 2), np.uint8)]), name, description=description).getId()

    return make


def ids(found) -> list[int]:
    return sorted(one.getId() for one in found)


def annotate(conn, kind, oid: int, **values):
    made = {"tag": TagAnnotationWrapper, "comment": CommentAnnotationWrapper, "map": MapAnnotationWrapper}[kind](conn)
    made.setValue(values["value"])
    conn.getObject("Image", oid).linkAnnotation(made)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("nuclei", [0]),
        ("NUCLEI", [0]),
        ("nuclei actin", [0, 1]),
        ("nuclei AND actin", []),
        ("stained NOT actin", [0]),
        ("+stained -nuclei", [1]),
        ('"stained nuclei"', [0]),
        ('"nuclei stained"', []),
        ("act*", [1]),
        ("nucle?", [0]),
        ("name:stained", []),
        ("description:stained", [0, 1]),
        ("A01", [0]),
        ("(nuclei OR actin) AND B02", [1]),
        ("nowhere", []),
    ],
)
def test_words_in_names_and_descriptions(conn, image, query, expected):
    made = [image("plate_A01.tif", "stained nuclei"), image("plate_B02.tif", "stained for actin")]
    assert ids(conn.searchObjects(["Image"], query)) == [made[number] for number in expected]
    assert ids(conn.searchObjects(["Dataset"], query)) == []


def test_words_in_annotations(conn, image, tmp_path):
    tagged, told, dosed, attached = (image(name) for name in ("a", "b", "c", "d"))
    annotate(conn, "tag", tagged, value="good focus")
    annotate(conn, "comment", told, value="out of focus")
    annotate(conn, "map", dosed, value=[["compound", "Taxol"], ["dose", "1.5"]])
    (tmp_path / "focus.csv").write_text("x")
    conn.getObject("Image", attached).linkAnnotation(conn.createFileAnnfromLocalFile(str(tmp_path / "focus.csv")))
    for query, expected in (
        ("focus", [tagged, told, attached]),
        ("tag:focus", [tagged]),
        ("taxol", [dosed]),
        ("compound:taxol", [dosed]),
        ("dose:taxol", []),
        ("file.name:focus", [attached]),
    ):
        assert ids(conn.searchObjects(["Image"], query)) == expected, query
    assert ids(conn.searchObjects(["Image"], "focus", fields=("annotation",), rawQuery=False)) == [tagged, told]


def test_fields_and_days(conn, image):
    made = image("needle")
    assert ids(conn.searchObjects(["Image"], "needle", fields=("name",), rawQuery=False)) == [made]
    assert ids(conn.searchObjects(["Image"], "needle", fields=("description",), rawQuery=False)) == []
    now = conn.getObject("Image", made).creationEventDate().timestamp() * 1000
    day = 86_400_000
    for span, expected in (((-2 * day, -day), []), ((-day, day), [made]), ((day, 2 * day), [])):
        created = [rtime(now + end) for end in span]
        for raw in (True, False):
            assert ids(conn.searchObjects(["Image"], "needle", created, rawQuery=raw)) == expected, (span, raw)


def test_only_what_the_user_may_see(conn, make_user, image):
    made = image("needle")
    stranger = make_user()
    assert ids(stranger.searchObjects(["Image"], "needle")) == []
    stranger.SERVICE_OPTS.setOmeroGroup("-1")
    assert ids(stranger.searchObjects(["Image"], "needle")) == []
    assert ids(conn.searchObjects(["Image"], "needle", ownedBy=conn.getUserId())) == [made]
    assert ids(conn.searchObjects(["Image"], "needle", ownedBy=stranger.getUserId())) == []


def found_by(conn, restrict, words=(("name",), (), ())):
    search = conn.c.sf.createSearchService()
    search.onlyType("Image")
    restrict(search)
    search.bySomeMustNone(*map(list, words), conn.SERVICE_OPTS)
    found = sorted(one.id.val for one in search.results()) if search.hasNext() else []
    search.close()
    return found


def test_search_by_some_all_and_no_words(conn, image):
    first, second, third = (image(f"name {words}") for words in ("red green", "red blue", "blue"))
    nothing = lambda search: None  # noqa: E731
    assert found_by(conn, nothing, (("red",), (), ())) == [first, second]
    assert found_by(conn, nothing, (("red", "green"), ("blue",), ())) == [second, third]
    assert found_by(conn, nothing, (("name",), (), ("green",))) == [second, third]
    with pytest.raises(omero.ApiUsageException):
        found_by(conn, nothing, ((), (), ()))


def test_annotated_by_and_when(conn, image):
    tagged, _ = image("name a"), image("name b")
    annotate(conn, "tag", tagged, value="t")
    details = omero.model.DetailsI()
    details.owner = omero.model.ExperimenterI(conn.getUserId(), False)
    group = omero.model.DetailsI()
    group.group = omero.model.ExperimenterGroupI(conn.getEventContext().groupId, False)
    assert found_by(conn, lambda search: search.onlyAnnotatedBy(details)) == [tagged]
    assert found_by(conn, lambda search: search.notAnnotatedBy(details)) == []
    assert found_by(conn, lambda search: search.onlyAnnotatedBetween(rtime(0), None)) == [tagged]
    assert found_by(conn, lambda search: search.onlyAnnotatedBetween(None, rtime(1))) == []
    assert len(found_by(conn, lambda search: search.onlyModifiedBetween(rtime(0), None))) == 2
    assert found_by(conn, lambda search: search.onlyModifiedBetween(None, rtime(1))) == []
    assert len(found_by(conn, lambda search: search.onlyOwnedBy(group))) == 2
    assert found_by(conn, lambda search: search.notOwnedBy(group)) == []


def test_days_of_acquisition(conn, image):
    made = conn.getObject("Image", image("name dated"))
    made.setAcquisitionDate(rtime(1_000_000_000_000))  # September 2001
    made.save()
    search = conn.c.sf.createSearchService()
    search.onlyType("Image")
    for days, expected in ((("20010801", "20011001"), [made.getId()]), (("20020801", "20021001"), [])):
        search.byLuceneQueryBuilder("", *days, "acquisitionDate", "dated", conn.SERVICE_OPTS)
        assert [one.id.val for one in (search.results() if search.hasNext() else [])] == expected
    search.close()


def test_wells_and_plates(conn, image):
    plate, well, sample = omero.model.PlateI(), omero.model.WellI(), omero.model.WellSampleI()
    plate.name, well.row, well.column = omero.rtypes.rstring("haystack"), omero.rtypes.rint(0), omero.rtypes.rint(0)
    sample.image = omero.model.ImageI(image("x"), False)
    well.addWellSample(sample)
    plate.addWell(well)
    plate = save(conn, plate)
    (found,) = conn.searchObjects(["Plate"], "haystack")
    assert (found.getId(), found.getName()) == (plate.id.val, "haystack")
    assert found.getOwnerOmeName() == conn.getUser().getName()
    (child,) = conn.getObject("Plate", plate.id.val).listChildren()
    tag = TagAnnotationWrapper(conn)
    tag.setValue("control")
    child.linkAnnotation(tag)
    assert ids(conn.searchObjects(["Well"], "control")) == [child.getId()]


def test_batches(conn, image):
    made = [image(f"needle {number}") for number in range(5)]
    search = conn.c.sf.createSearchService()
    search.onlyType("Image")
    search.setBatchSize(2)
    search.byFullText("needle")
    got = []
    while search.hasNext():
        got.append([one.id.val for one in search.results()])
    assert got == [made[:2], made[2:4], made[4:]]
    with pytest.raises(omero.ApiUsageException):
        search.results()
    search.close()


def test_bad_queries_are_reported(conn):
    search = conn.c.sf.createSearchService()
    with pytest.raises(omero.ApiUsageException, match="onlyType"):
        search.byFullText("word")
    search.onlyType("Image")
    for query in ("AND", "(", '"open', "*word", "a:b:c", "", "-word", "("):
        with pytest.raises(omero.ApiUsageException) as refused:
            search.byFullText(query)
        assert "caused a parse exception" in refused.value.message  # OMERO.web looks for it
    with pytest.raises(omero.ApiUsageException, match="nothing to search"):
        search.onlyType("Experimenter")
    search.close()
