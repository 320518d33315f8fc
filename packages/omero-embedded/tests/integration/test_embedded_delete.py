"""Deleting and moving graphs over the wire: what goes beyond the conformance cases."""

import contextlib
import io

import Ice
import numpy as np
import omero
import omero.callbacks
import omero.cmd
import pytest
from models import annotated, count, image, new, plate, ref, rows, run, save
from omero.cmd import ERR, Chgrp2, Delete2, DoAll, GraphException, SkipHead
from omero.cmd.graphs import ChildOption

ALL = (
    "Screen",
    "Plate",
    "Well",
    "WellSample",
    "Dataset",
    "Image",
    "Pixels",
    "Channel",
    "LogicalChannel",
    "StatsInfo",
    "Annotation",
    "PlateAnnotationLink",
    "ImageAnnotationLink",
    "ScreenPlateLink",
    "DatasetImageLink",
    "OriginalFile",
    "Roi",
    "Shape",
    "RoiAnnotationLink",
    "PlateAcquisition",
    "Instrument",
    "Objective",
    "ObjectiveSettings",
)


def delete(conn, options=(), dry=False, **targets):
    """How many objects of each class were deleted, by its short name; or the error's name."""
    answer = run(
        conn,
        Delete2(
            targetObjects={cls: [obj.id.val] for cls, obj in targets.items()}, childOptions=list(options), dryRun=dry
        ),
    )
    if isinstance(answer, ERR):
        return answer.name
    return {name.rpartition(".")[2]: len(ids) for name, ids in answer.deletedObjects.items()}


def linked(conn, cls, parent, child):
    return save(conn, new(cls, parent=parent.proxy(), child=child.proxy()))


def test_nothing_of_a_plate_is_left(conn, omero_server):
    made = new("Image", name="with everything")
    made.instrument = new("Instrument")
    objective = new("Objective", immersion=new("Immersion", value="Oil"), correction=new("Correction", value="Other"))
    made.instrument.addObjective(objective)
    made.objectiveSettings = new("ObjectiveSettings", objective=objective)
    made.addPixels(image().getPrimaryPixels())
    roi = new("Roi")
    roi.addShape(new("Rectangle", x=1.0))
    roi.linkAnnotation(new("TagAnnotation", textValue="on a roi"))
    made.addRoi(roi)
    whole = plate(wells=1, sites=1)
    run_of_plate = new("PlateAcquisition", name="run")
    whole.addPlateAcquisition(run_of_plate)
    whole.copyWells()[0].addWellSample(new("WellSample", image=made, plateAcquisition=run_of_plate))
    saved = save(conn, whole)
    assert rows(conn, "select count(*) from Objective o")[0][0] == 1
    assert delete(conn, Plate=saved) == {
        "Plate": 1,
        "PlateAcquisition": 1,
        "Well": 1,
        "WellSample": 2,
        "Image": 2,
        "Pixels": 2,
        "Channel": 4,
        "LogicalChannel": 4,
        "Instrument": 1,
        "Objective": 1,
        "ObjectiveSettings": 1,
        "Roi": 1,
        "Rectangle": 1,
        "RoiAnnotationLink": 1,
        "TagAnnotation": 1,
    }
    assert count(conn, *ALL) == {}


def test_bytes_are_deleted_with_their_rows(conn, omero_server):
    made = conn.createImageFromNumpySeq(iter([np.zeros((3, 4), "uint8")]), "i")
    pixels = made.getPrimaryPixels().getId()
    file = conn.createOriginalFileFromFileObj(io.BytesIO(b"12345"), "/", "x.txt", 5)
    kept = rows(conn, "select max(p.id) from Pixels p")
    assert run(conn, Delete2(targetObjects={"Image": [made.getId()], "OriginalFile": [file.getId()]}, dryRun=True))
    if omero_server.data:
        # from 1,000 on, ids have subfolders
        [pixels_path] = (omero_server.data / "Pixels").rglob(str(pixels))
        [file_path] = (omero_server.data / "Files").rglob(str(file.getId()))
        assert kept == [[pixels]]
    run(conn, Delete2(targetObjects={"Image": [made.getId()], "OriginalFile": [file.getId()]}))
    assert count(conn, "Image", "OriginalFile") == {}
    if omero_server.data:
        assert not pixels_path.exists() and not file_path.exists()


def test_an_image_stays_while_something_has_it(conn):
    made = save(conn, image())
    wells = [save(conn, new("Plate", name=f"p{n}")) for n in range(2)]
    for one in wells:
        well = new("Well", row=0, column=0, plate=one.proxy())
        well.addWellSample(new("WellSample", image=made.proxy()))
        save(conn, well)
    dataset = save(conn, new("Dataset", name="d"))
    linked(conn, "DatasetImageLink", dataset, made)
    assert delete(conn, Image=made) == "graph-fail"
    assert "Image" not in delete(conn, Plate=wells[0])
    assert "Image" not in delete(conn, Plate=wells[1])
    assert delete(conn, Dataset=dataset)["Image"] == 1
    assert count(conn, *ALL) == {}


def test_unlinking_keeps_both_objects(conn):
    made, dataset = save(conn, image()), save(conn, new("Dataset", name="d"))
    link = linked(conn, "DatasetImageLink", dataset, made)
    assert delete(conn, DatasetImageLink=link) == {"DatasetImageLink": 1}
    assert count(conn, "Image", "Dataset") == {"Image": 1, "Dataset": 1}


def test_a_link_takes_comments_along_but_not_tags(conn):
    """OMERO's blitz-delete-rules.xml: tags and files go with what they are on, not with a link alone."""
    target = save(conn, new("Plate", name="p"))
    tag, comment = (save(conn, annotated(target, "x", kind)) for kind in ("Tag", "Comment"))
    assert delete(conn, PlateAnnotationLink=tag) == {"PlateAnnotationLink": 1}
    assert delete(conn, PlateAnnotationLink=comment) == {"PlateAnnotationLink": 1, "CommentAnnotation": 1}
    assert delete(conn, Plate=target, TagAnnotation=tag.child) == {"Plate": 1, "TagAnnotation": 1}


def test_settings_go_with_their_device(conn):
    """Of two images of one instrument, deleting the first leaves the settings, and deleting the second takes all."""
    instrument = new("Instrument")
    kinds = {"immersion": new("Immersion", value="Air"), "correction": new("Correction", value="PlanApo")}
    instrument.addObjective(new("Objective", **kinds))
    instrument = save(conn, instrument)
    images = []
    for _ in range(2):
        one = image()
        one.instrument = instrument.proxy()
        one.objectiveSettings = new("ObjectiveSettings", objective=instrument.copyObjective()[0].proxy())
        images.append(save(conn, one))
    assert {"Instrument", "ObjectiveSettings"}.isdisjoint(delete(conn, Image=images[0]))
    found = delete(conn, Image=images[1])
    assert (found["Instrument"], found["Objective"], found["ObjectiveSettings"]) == (1, 1, 2)
    assert count(conn, *ALL) == {}


def test_a_file_is_deleted_with_its_last_annotation(conn):
    first, second = save(conn, new("Plate", name="a")), save(conn, new("Plate", name="b"))
    file = save(conn, new("OriginalFile", name="x.csv", path="/"))
    for target in (first, second):
        save(conn, new("PlateAnnotationLink", parent=target.proxy(), child=new("FileAnnotation", file=file.proxy())))
    assert delete(conn, Plate=first) == {"Plate": 1, "PlateAnnotationLink": 1, "FileAnnotation": 1}
    assert delete(conn, Plate=second) == {"Plate": 1, "PlateAnnotationLink": 1, "FileAnnotation": 1, "OriginalFile": 1}


def test_options(conn):
    keep_tags = ChildOption(excludeType=["TagAnnotation"])
    target = save(conn, new("Plate", name="p"))
    other = save(conn, new("Plate", name="q"))
    tag = save(conn, annotated(target, "a tag", "Tag")).child
    comment = save(conn, annotated(target, "shared")).child
    linked(conn, "PlateAnnotationLink", other, comment)
    both = [keep_tags, ChildOption(includeType=["CommentAnnotation"])]
    assert delete(conn, both, dry=True, Plate=target) == {"Plate": 1, "PlateAnnotationLink": 3, "CommentAnnotation": 1}
    assert delete(conn, [keep_tags], Plate=target) == {"Plate": 1, "PlateAnnotationLink": 2}
    assert count(conn, "TagAnnotation", "CommentAnnotation") == {"TagAnnotation": 1, "CommentAnnotation": 1}
    ns = ["a"]
    for bad in (
        ChildOption(excludeType=["Plait"]),
        ChildOption(),
        ChildOption(includeType=["Annotation"], includeNs=ns, excludeNs=ns),
    ):
        assert delete(conn, [bad], Plate=other) == "steps-cancel"
    assert delete(conn, TagAnnotation=tag) == {"TagAnnotation": 1}


def test_types_to_ignore_and_parts(conn):
    """Ignored objects stay. Child options don't concern parts, such as the wells of a plate."""
    target = save(conn, plate(wells=1, sites=1))
    save(conn, annotated(target, "comment"))

    def ignoring(*names):
        answer = run(conn, Delete2({"Plate": [target.id.val]}, typesToIgnore=list(names), dryRun=True))
        return answer.name if isinstance(answer, ERR) else {n.rpartition(".")[2] for n in answer.deletedObjects}

    assert "CommentAnnotation" in ignoring() and "CommentAnnotation" not in ignoring("Annotation")
    assert {"Plate", "PlateAnnotationLink"} < ignoring("Annotation", "Image") and "Image" not in ignoring("Image")
    assert ignoring("Plait") == "steps-cancel"
    found = delete(conn, [ChildOption(excludeType=["Well", "Pixels"])], Plate=target)
    assert (found["Well"], found["Image"], found["Pixels"]) == (1, 1, 1)


def test_a_projects_contents(conn):
    project, dataset = save(conn, new("Project", name="p")), save(conn, new("Dataset", name="d"))
    made = save(conn, image())
    linked(conn, "ProjectDatasetLink", project, dataset)
    linked(conn, "DatasetImageLink", dataset, made)
    below = SkipHead(targetObjects={"Project": [project.id.val]}, startFrom=["Image"], request=Delete2(), dryRun=True)
    assert len(run(conn, below).deletedObjects["ome.model.core.Image"]) == 1
    assert delete(conn, [ChildOption(excludeType=["Image"])], Project=project) == {
        "Project": 1,
        "ProjectDatasetLink": 1,
        "Dataset": 1,
        "DatasetImageLink": 1,
    }
    assert count(conn, "Image", "Dataset") == {"Image": 1}


def test_a_failed_request_changes_nothing(conn):
    first, second = save(conn, plate()), save(conn, plate())
    inside = second.copyWells()[0].getWellSample(0).image
    before = count(conn, *ALL)
    failed = run(
        conn,
        DoAll([Delete2(targetObjects={"Plate": [first.id.val]}), Delete2(targetObjects={"Image": [inside.id.val]})]),
    )
    assert isinstance(failed, GraphException) and "WellSample" in failed.message
    assert delete(conn, Plate=first, Image=inside) == "graph-fail"
    assert delete(conn, Plate=ref("Plate", 987654321)) == "graph-fail"
    assert delete(conn, Experimenter=ref("Experimenter", conn.getUserId())) == "bad-target"
    assert count(conn, *ALL) == before


def test_the_server_tells_when_it_is_done(conn):
    class Told(omero.callbacks.CmdCallbackI):
        """Does not ask: waits to be told."""

        def initialPoll(self, foreground_poll=False):
            pass

        def finished(self, rsp, status, current=None):
            assert current is not None
            super().finished(rsp, status, current)

    saved = save(conn, plate(wells=12, sites=4))
    handle = conn.c.sf.submit(Delete2(targetObjects={"Plate": [saved.id.val]}), conn.SERVICE_OPTS)
    callback = Told(conn.c, handle)
    answer = callback.loop(60, 500)
    assert len(answer.deletedObjects["ome.model.core.Image"]) == 48 and not callback.isFailure()
    assert isinstance(handle.getRequest(), Delete2) and handle.getResponse().deletedObjects == answer.deletedObjects
    callback.close(True)
    with pytest.raises(Ice.ObjectNotExistException):
        handle.getResponse()


def test_only_own_objects_are_deleted(make_user):
    owner = make_user("rwra--")
    other = make_user(group=owner.getGroupFromContext().getId())
    theirs = save(owner, plate(wells=1, sites=1))
    tag = save(other, annotated(theirs, "of the other", "Tag")).child
    assert delete(other, Plate=theirs) == "graph-fail"
    assert delete(owner, Plate=theirs)["PlateAnnotationLink"] == 1
    assert other.getObject("TagAnnotation", tag.id.val) is not None
    stranger = make_user("rwrw--")
    assert delete(stranger, TagAnnotation=tag) == "graph-fail"


def test_a_plate_moves_and_leaves_what_is_shared(make_user, root, omero_server):
    there = make_user("rwr---").getGroupFromContext().getId()
    admin = root.c.sf.getAdminService()
    mover = make_user()
    me = omero.model.ExperimenterI(mover.getUserId(), False)
    admin.addGroups(me, [omero.model.ExperimenterGroupI(there, False)])
    with contextlib.closing(omero_server.login(mover.getUser().getName(), "pw")) as conn:  # now of both groups
        _check_move(conn, root, there)


def _check_move(conn, root, there):
    moving, staying = save(conn, plate(wells=1, sites=1)), save(conn, new("Plate", name="stays"))
    screen = save(conn, new("Screen", name="s"))
    linked(conn, "ScreenPlateLink", screen, moving)
    own = save(conn, annotated(moving, "own")).child
    shared = save(conn, annotated(moving, "shared", "Tag")).child
    linked(conn, "PlateAnnotationLink", staying, shared)
    inside = moving.copyWells()[0].getWellSample(0).image
    refused = run(conn, Chgrp2(targetObjects={"Image": [inside.id.val]}, groupId=there))
    assert isinstance(refused, GraphException) and "WellSample" in refused.message
    answer = run(conn, Chgrp2(targetObjects={"Plate": [moving.id.val]}, groupId=there))
    assert {name.rpartition(".")[2]: len(ids) for name, ids in answer.deletedObjects.items()} == {
        "ScreenPlateLink": 1,
        "PlateAnnotationLink": 1,
    }
    conn.SERVICE_OPTS.setOmeroGroup(there)
    assert rows(conn, "select p.id from Plate p") == [[moving.id.val]]
    assert rows(conn, "select s.image.id from WellSample s") == [[inside.id.val]]
    assert rows(conn, "select l.child.id from PlateAnnotationLink l") == [[own.id.val]]
    conn.SERVICE_OPTS.setOmeroGroup(staying.details.group.id.val)
    assert rows(conn, "select l.child.id from PlateAnnotationLink l") == [[shared.id.val]]
    strangers = root.getGroupFromContext().getId()
    assert isinstance(run(conn, Chgrp2(targetObjects={"Plate": [staying.id.val]}, groupId=strangers)), ERR)


@pytest.mark.parametrize(("permissions", "deleted"), [("rw----", {"Comment", "Roi"}), ("rwra--", {"Comment"})])
def test_what_others_put_on_a_moved_image(make_user, omero_server, permissions, deleted):
    """OMERO's blitz-chgrp-rules.xml: comments are deleted, tags and pairs stay, regions move if others see them."""
    owner = make_user("rwra--")
    there = make_user(permissions).getGroupFromContext().getId()
    other = make_user(group=owner.getGroupFromContext().getId())
    made = save(owner, image())
    for conn in (owner, other):
        for kind in ("Comment", "Tag"):
            save(conn, annotated(made, conn.getUser().getName(), kind))
        pairs = new("MapAnnotation", mapValue=[omero.model.NamedValue("a", "b")])
        save(conn, new("ImageAnnotationLink", parent=made.proxy(), child=pairs))
    save(other, new("Roi", image=made.proxy()))
    root = omero_server.admin
    root.getAdminService().addGroups(ref("Experimenter", owner.getUserId()), [ref("ExperimenterGroup", there)])
    with contextlib.closing(omero_server.login(owner.getUser().getName(), "pw")) as conn:
        answer = run(conn, Chgrp2(targetObjects={"Image": [made.id.val]}, groupId=there))
    names = {name.rpartition(".")[2].removesuffix("Annotation") for name in answer.deletedObjects}
    assert names == deleted | {"ImageAnnotationLink"}
    moved = {name.rpartition(".")[2]: len(ids) for name, ids in answer.includedObjects.items()}
    assert [moved.get(f"{kind}Annotation") for kind in ("Comment", "Tag", "Map")] == [1, 1, 1]
    assert ("Roi" in moved) == ("Roi" not in deleted)
    assert count(other, "Annotation") == {"Annotation": 2}
