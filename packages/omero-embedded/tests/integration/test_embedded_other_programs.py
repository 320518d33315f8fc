"""What the test suites of other projects ask, each with the answer that a real server gives."""

import numpy as np
import omero
import pytest
from models import annotated, count, image, new, ref, run, save
from omero.cmd import Delete2
from omero.model import NamedValue
from omero.rtypes import rstring, rtime, unwrap
from omero.sys import ParametersI


def ids(objects):
    return [one.id.val for one in objects]


@pytest.mark.parametrize("group", ["object #0", "", "None", "12.5"])
def test_a_context_without_a_group(conn, group):
    made = conn.getUpdateService().saveAndReturnObject(new("Dataset", name="d"), {"omero.group": group})
    assert made.details.group.id.val == conn.getEventContext().groupId
    assert ids([conn.getQueryService().get("Dataset", made.id.val, {"omero.group": group})]) == [made.id.val]


def test_a_context_with_a_number_is_accepted(conn):
    with pytest.raises(omero.ValidationException):
        conn.getQueryService().findAll("Dataset", None, {"omero.group": "123456789"})


def test_the_region_of_a_queried_shape(conn):
    roi = new("Roi", name="named", image=save(conn, image()).proxy())
    roi.addShape(new("Point", x=1.0))
    roi = save(conn, roi)
    (shape,) = conn.getQueryService().findAllByQuery(
        "select s from Shape s where s.roi.id = :id", ParametersI().addId(roi.id.val)
    )
    assert shape.roi.isLoaded() and shape.roi.name.val == "named"


def test_fetched_pairs(conn):
    made = new("MapAnnotation", mapValue=[NamedValue("a", "1"), NamedValue("b", "2"), NamedValue("a", "3")])
    oid = save(conn, made).id.val
    hql = "select a from MapAnnotation a join fetch a.mapValue v where a.id = :id"
    query = conn.getQueryService()
    (whole,) = query.findAllByQuery(hql, ParametersI().addId(oid))
    assert [(pair.name, pair.value) for pair in whole.mapValue] == [("a", "1"), ("b", "2"), ("a", "3")]
    (some,) = query.findAllByQuery(hql + " and v.name = 'a'", ParametersI().addId(oid))
    assert {(pair.name, pair.value) for pair in some.mapValue if pair is not None} == {("a", "1"), ("a", "3")}
    assert query.findAllByQuery(hql + " and v.name = 'c'", ParametersI().addId(oid)) == []


def test_the_child_of_a_queried_link(conn):
    link = save(conn, annotated(save(conn, new("Dataset", name="d")), "text"))
    found = conn.getQueryService().get("DatasetAnnotationLink", link.id.val)
    (queried,) = conn.getQueryService().findAllByQuery(
        "select l from DatasetAnnotationLink l where l.id = :id", ParametersI().addId(link.id.val)
    )
    for one in (found, queried):
        assert not one.child.isLoaded() and one.child.id.val == link.child.id.val


@pytest.mark.parametrize("kind", ["Dataset", "Project"])
def test_deletion_of_a_container_of_part_of_a_fileset(conn, kind):
    fileset = new("Fileset", templatePrefix="x")
    images = [image(name) for name in "ab"]
    for one in images:
        fileset.addImage(one)
    images = save(conn, fileset).copyImages()
    made = save(conn, new("Dataset", name="d"))
    save(conn, new("DatasetImageLink", parent=made.proxy(), child=images[0].proxy()))
    if kind == "Project":
        project = save(conn, new("Project", name="p"))
        save(conn, new("ProjectDatasetLink", parent=project.proxy(), child=made.proxy()))
        made = project
    run(conn, Delete2({kind: [made.id.val]}, [], False))
    assert count(conn, "Project", "Dataset", "DatasetImageLink", "Fileset", "Image") == {"Fileset": 1, "Image": 2}


def test_regions_by_section_and_timepoint(conn):
    oid = save(conn, image()).id.val
    roi = new("Roi", image=ref("Image", oid))
    for z, t in ((0, 0), (1, 0), (None, None)):
        roi.addShape(new("Point", x=1.0, **({} if z is None else {"theZ": z, "theT": t})))
    roi = save(conn, roi)
    shapes = ids(roi.copyShapes())
    found = conn.getRoiService().findByImage(oid, None)
    assert {z: ids(some) for z, some in found.byZ.items()} == {0: shapes[:1], 1: shapes[1:2], -1: shapes[2:]}
    assert {t: ids(some) for t, some in found.byT.items()} == {0: shapes[:2], -1: shapes[2:]}


def test_tag_sets(conn):
    dataset = save(conn, new("Dataset", name="d"))
    tagged, other = (save(conn, new("TagAnnotation", textValue=text)) for text in ("tagged", "other"))
    tag_set = save(conn, new("TagAnnotation", textValue="set", ns=omero.constants.metadata.NSINSIGHTTAGSET))
    for tag in (tagged, other):
        save(conn, new("AnnotationAnnotationLink", parent=tag_set.proxy(), child=tag.proxy()))
    save(conn, new("DatasetAnnotationLink", parent=dataset.proxy(), child=tagged.proxy()))
    service, mine = conn.getMetadataService(), ParametersI().exp(conn.getUserId())
    (found,) = [one for one in service.loadTagSets(mine) if isinstance(one, omero.model.TagAnnotation)]
    assert found.id.val == tag_set.id.val and sorted(ids(found.linkedAnnotationList())) == ids([tagged, other])
    counts = service.getTaggedObjectsCount(ids([tagged, other]), mine)
    assert {oid: unwrap(number) for oid, number in counts.items() if unwrap(number)} == {tagged.id.val: 1}
    content = service.loadTagContent([tagged.id.val], mine)
    assert ids(content[tagged.id.val]) == [dataset.id.val]
    assert unwrap(service.countAnnotationsUsedNotOwned("ome.model.annotations.TagAnnotation", conn.getUserId())) == 0


def test_searches_without_text(conn):
    first, second = (save(conn, new("Dataset", name=name)) for name in ("first", "second"))
    link = save(conn, annotated(first, "wanted", "Tag"))
    save(conn, annotated(second, "unwanted", "Tag"))
    search = conn.c.sf.createSearchService()
    search.byHqlQuery("select d from Dataset d where d.name = :name", ParametersI({"name": rstring("second")}))
    assert ids(search.results()) == [second.id.val]
    search.onlyType("Dataset")
    example = new("TagAnnotation", textValue="wanted")
    search.byAnnotatedWith([example])
    assert ids(search.results()) == [first.id.val]
    search.byAnnotatedWith([new("CommentAnnotation", textValue="wanted")])
    assert not search.hasNext()
    tag_set = save(conn, new("TagAnnotation", textValue="set"))
    save(conn, new("AnnotationAnnotationLink", parent=tag_set.proxy(), child=link.child.proxy()))
    for find, text, found in ((search.byGroupForTags, "wanted", "set"), (search.byTagForGroups, "set", "wanted")):
        find(text)
        assert [(one.id, one.textValue.val) for one in search.results()] == [(None, found)]
    search.close()


def test_recent_annotations_and_objects(conn):
    tagged = save(conn, annotated(save(conn, image()), "seen", "Tag"))
    dated = image("dated")
    dated.acquisitionDate = rtime(1000)
    dated = save(conn, dated)
    timeline = conn.c.sf.getTimelineService()
    (link,) = timeline.getMostRecentAnnotationLinks(None, ["TagAnnotation"], None, ParametersI().exp(conn.getUserId()))
    assert link.id.val == tagged.id.val and link.child.textValue.val == "seen"
    mine = ParametersI().exp(conn.getUserId()).page(0, 5)
    found = timeline.getByPeriod(["Image"], rtime(0), rtime(2000), mine, False)["Image"]
    assert ids(found) == [dated.id.val]  # the other one has no date of acquisition


def test_found_by_full_text(conn, omero_server):
    if omero_server.data is None:
        pytest.skip("a real server's index comes some time after what was saved")
    made = save(conn, new("Dataset", name="needle in hay"))
    save(conn, new("Dataset", name="hay"))
    query = conn.getQueryService()
    assert ids(query.findAllByFullText("Dataset", "needle", None)) == [made.id.val]
    assert query.findAllByFullText("Project", "needle", None) == []


def test_answers_that_can_be_sent(root, conn):
    assert unwrap(root.getAdminService().lookupLdapAuthExperimenters()) == []
    made = conn.createImageFromNumpySeq(iter([np.zeros((2, 2), "uint8")]), "zeros")
    engine = conn.c.sf.createRenderingEngine()
    engine.lookupPixels(made.getPixelsId())
    engine.resetDefaultSettings(True)
    engine.lookupRenderingDef(made.getPixelsId())
    engine.load()
    assert engine.getChannelStats(0) is not None
    engine.close()
