"""Finding, giving and copying graphs, and the requests about sessions: what goes beyond the conformance cases."""

import contextlib
import io

import omero
import omero.cmd
import pytest
from models import annotated, image, new, plate, rows, run, save
from omero.cmd import (
    ERR,
    Chown2,
    Delete2,
    Duplicate,
    FindChildren,
    FindParents,
    GraphException,
    UpdateSessionTimeoutRequest,
)
from omero.cmd.graphs import ChildOption
from omero.rtypes import rlong


def short(objects):
    return {name.rpartition(".")[2]: sorted(ids) for name, ids in objects.items()}


def up(conn, types, stop=(), **targets):
    answer = run(conn, FindParents({cls: [oid] for cls, oid in targets.items()}, list(types), list(stop)))
    return answer.name if isinstance(answer, ERR) else short(answer.parents)


def down(conn, types, stop=(), **targets):
    answer = run(conn, FindChildren({cls: [oid] for cls, oid in targets.items()}, list(types), list(stop)))
    return answer.name if isinstance(answer, ERR) else short(answer.children)


@pytest.fixture
def in_containers(conn):
    """A project with a dataset with a tagged image with a region; their ids."""
    project, dataset, made = (save(conn, one) for one in (new("Project", name="p"), new("Dataset", name="d"), image()))
    save(conn, new("ProjectDatasetLink", parent=project.proxy(), child=dataset.proxy()))
    save(conn, new("DatasetImageLink", parent=dataset.proxy(), child=made.proxy()))
    roi = new("Roi", image=made.proxy())
    roi.addShape(new("Point", x=1.0))
    tag = save(conn, annotated(made, "t", "Tag")).child
    return {
        "project": project.id.val,
        "dataset": dataset.id.val,
        "image": made.id.val,
        "roi": save(conn, roi).id.val,
        "tag": tag.id.val,
    }


def test_what_is_above(conn, in_containers):
    ids = in_containers
    assert up(conn, ["Project", "Dataset"], Image=ids["image"]) == {
        "Project": [ids["project"]],
        "Dataset": [ids["dataset"]],
    }
    assert up(conn, ["Image"], TagAnnotation=ids["tag"]) == {"Image": [ids["image"]]}
    assert up(conn, ["Dataset"], Roi=ids["roi"]) == {"Dataset": [ids["dataset"]]}
    assert up(conn, ["Project"], ["Dataset"], Image=ids["image"]) == {}
    assert up(conn, ["Experimenter"], Image=ids["image"]) == "bad-options"


def test_what_is_below(conn, in_containers):
    ids = in_containers
    found = down(conn, ["Image", "Shape", "Annotation", "IAnnotationLink"], Project=ids["project"])
    assert found["Image"] == [ids["image"]] and found["TagAnnotation"] == [ids["tag"]]
    assert set(found) == {"Image", "Point", "TagAnnotation", "ImageAnnotationLink"}
    assert down(conn, ["Shape"], ["Roi"], Project=ids["project"]) == {}


def test_data_of_others_are_not_found(make_user, in_containers, conn):
    stranger = make_user("rwrw--")
    assert down(stranger, ["Image"], Project=in_containers["project"]) == "graph-fail"


def test_a_well_cannot_be_in_a_plate_twice(conn):
    original = save(conn, plate(wells=1, sites=1))
    well = original.copyWells()[0].id.val
    copied = {"Well": 1, "WellSample": 1, "Image": 1, "Pixels": 1, "Channel": 2, "LogicalChannel": 2}
    found = run(conn, Duplicate({"Well": [well]}, dryRun=True)).duplicates
    assert {name: len(ids) for name, ids in short(found).items()} == copied
    assert run(conn, Duplicate({"Well": [well]})).name == "graph-fail"
    assert rows(conn, "select count(w) from Well w where w.plate.id = :id", id=original.id.val) == [[1]]


def test_a_copy_has_what_the_original_has(conn):
    original = save(conn, plate(wells=1, sites=1))
    inside = original.copyWells()[0].getWellSample(0).image
    pairs = new("MapAnnotation", ns="n")
    pairs.mapValue = [omero.model.NamedValue("b", "1"), omero.model.NamedValue("a", "2")]
    save(conn, new("PlateAnnotationLink", parent=original.proxy(), child=pairs))
    file = conn.createOriginalFileFromFileObj(io.BytesIO(b"12345"), "/", "x.txt", 5)
    save(
        conn,
        new(
            "PlateAnnotationLink",
            parent=original.proxy(),
            child=new("FileAnnotation", file=omero.model.OriginalFileI(file.getId(), False)),
        ),
    )
    roi = new("Roi", image=inside.proxy())
    roi.addShape(new("Rectangle", x=1.0, textValue="r"))
    save(conn, roi)
    answer = run(conn, Duplicate({"Plate": [original.id.val]}))
    (copy,) = short(answer.duplicates)["Plate"]
    assert copy != original.id.val and short(answer.duplicates)["Image"] != [inside.id.val]
    annotations = {type(one).__name__: one for one in conn.getObject("Plate", copy).listAnnotations()}
    assert annotations["MapAnnotationWrapper"].getValue() == [("b", "1"), ("a", "2")]
    attached = annotations["FileAnnotationWrapper"].getFile()
    assert attached.getId() != file.getId() and b"".join(attached.getFileInChunks()) == b"12345"
    assert rows(conn, "select s.textValue, s.roi.image.id from Rectangle s order by s.id") == [
        ["r", inside.id.val],
        ["r", short(answer.duplicates)["Image"][0]],
    ]
    run(conn, Delete2({"Plate": [original.id.val]}))
    assert rows(conn, "select p.id from Plate p") == [[copy]]
    assert b"".join(attached.getFileInChunks()) == b"12345"


def test_the_nearest_class_decides_what_is_copied(conn):
    original = save(conn, new("Plate", name="p"))
    for kind in ("Tag", "Comment"):
        save(conn, annotated(original, kind, kind))
    answer = run(
        conn,
        Duplicate(
            {"Plate": [original.id.val]}, typesToIgnore=["CommentAnnotation"], typesToReference=["TextAnnotation"]
        ),
    )
    assert isinstance(answer, ERR)  # a link can't be without its comment
    answer = run(
        conn,
        Duplicate({"Plate": [original.id.val]}, typesToDuplicate=["TagAnnotation"], typesToReference=["Annotation"]),
    )
    assert {name: len(ids) for name, ids in short(answer.duplicates).items()} == {
        "Plate": 1,
        "PlateAnnotationLink": 2,
        "TagAnnotation": 1,
    }
    both = Duplicate({"Plate": [original.id.val]}, typesToIgnore=["Annotation"], typesToReference=["Annotation"])
    assert run(conn, both).name == "bad-class"


def test_all_of_a_users_data_is_given(make_user, root):
    owner = make_user("rwr---")
    group = owner.getGroupFromContext().getId()
    heir = make_user(group=group)
    save(owner, plate(wells=1, sites=1)), save(owner, new("Dataset", name="d"))
    answer = run(root, Chown2(targetUsers=[owner.getUserId()], userId=heir.getUserId()))
    assert {"Plate", "Image", "Dataset"} <= set(short(answer.includedObjects))
    assert rows(heir, "select distinct x.details.owner.id from Image x") == [[heir.getUserId()]]
    assert rows(heir, "select x.details.owner.id from Dataset x") == [[heir.getUserId()]]


def test_a_plate_that_is_given_away_leaves_the_others_screen(make_user, root):
    owner = make_user("rwra--")
    heir = make_user(group=owner.getGroupFromContext().getId())
    given, screen = save(owner, new("Plate", name="p")), save(owner, new("Screen", name="s"))
    save(owner, new("ScreenPlateLink", parent=screen.proxy(), child=given.proxy()))
    answer = run(root, Chown2({"Plate": [given.id.val]}, userId=heir.getUserId()))
    assert {name: len(ids) for name, ids in short(answer.deletedObjects).items()} == {"ScreenPlateLink": 1}
    assert rows(heir, "select p.details.owner.id from Plate p") == [[heir.getUserId()]]


def test_regions_of_others_keep_an_image(make_user):
    owner = make_user("rwra--")
    other = make_user(group=owner.getGroupFromContext().getId())
    made = save(owner, image())
    drawn = save(other, new("Roi", image=made.proxy()))
    answer = run(owner, Delete2({"Image": [made.id.val]}))
    assert isinstance(answer, GraphException)
    run(other, Delete2({"Roi": [drawn.id.val]}))
    assert not isinstance(run(owner, Delete2({"Image": [made.id.val]})), ERR)


def test_a_tag_stays_on_what_its_owner_may_not_delete(make_user):
    owner = make_user("rwra--")
    other = make_user(group=owner.getGroupFromContext().getId())
    theirs = save(owner, new("Plate", name="p"))
    tag = save(other, annotated(theirs, "t", "Tag")).child
    assert isinstance(run(other, Delete2({"TagAnnotation": [tag.id.val]})), GraphException)
    comment = save(other, annotated(theirs, "c")).child
    assert not isinstance(run(other, Delete2({"CommentAnnotation": [comment.id.val]})), ERR)


def test_sessions_that_are_open(make_user, root):
    conn = make_user()
    uuid = conn.getEventContext().sessionUuid
    answer = run(conn, omero.cmd.CurrentSessionsRequest())
    own = next(place for place, one in enumerate(answer.sessions) if one is not None and one.uuid.val == uuid)
    assert answer.contexts[own].sessionUuid == uuid and "lastAccessTime" in answer.data[own]
    of_root = [context for one, context in zip(answer.sessions, answer.contexts) if one is None]
    assert "root" in {one.userName for one in of_root} and not any(one.sessionUuid for one in of_root)
    assert uuid in {one.uuid.val for one in run(root, omero.cmd.CurrentSessionsRequest()).sessions if one}


def test_a_sessions_timeouts_change(make_user, root):
    conn = make_user()
    uuid = conn.getEventContext().sessionUuid
    assert not isinstance(run(conn, UpdateSessionTimeoutRequest(uuid, None, rlong(300_000))), ERR)
    assert conn.c.sf.getSessionService().getSession(uuid).timeToIdle.val == 300_000
    assert run(conn, UpdateSessionTimeoutRequest(uuid, None, rlong(0))).name == "non-admin-disabling"
    assert run(conn, UpdateSessionTimeoutRequest(uuid, None, None)).name == "no-update-performed"
    mine = root.getEventContext().sessionUuid
    assert run(conn, UpdateSessionTimeoutRequest(mine, None, rlong(1))).name == "no-session"


@pytest.mark.parametrize(("permissions", "along"), [("rwr---", True), ("rwra--", False)])
def test_what_is_on_a_given_image(make_user, omero_server, permissions, along):
    """OMERO's blitz-chown-rules.xml: annotations and regions stay where members annotate each other's data."""
    owner = make_user(permissions)
    other = make_user(group=owner.getGroupFromContext().getId())
    made = save(owner, image())
    save(owner, annotated(made, "comment"))
    save(owner, new("Roi", image=made.proxy()))
    with contextlib.suppress(omero.SecurityViolation):  # in the read-only group
        save(other, annotated(made, "the other's"))
    give = {"targetObjects": {"Image": [made.id.val]}, "userId": other.getUserId(), "dryRun": True}
    kinds = {"Roi", "CommentAnnotation", "ImageAnnotationLink"}
    found = short(run(omero_server.admin, Chown2(**give)).includedObjects)
    assert kinds & set(found) == (kinds if along else set())
    include = ChildOption(includeType=["Annotation"])
    found = short(run(omero_server.admin, Chown2(childOptions=[include], **give)).includedObjects)
    assert len(found["CommentAnnotation"]) == len(found["ImageAnnotationLink"]) == 1
