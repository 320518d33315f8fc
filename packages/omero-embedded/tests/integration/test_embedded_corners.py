"""Corners of services, as the Java sources of OMERO.server 5.6 have them.

AdminImpl, UpdateImpl, PixelsImpl, TypesImpl and PojosImpl of ome.logic, TimelineI of ome.services.blitz.impl.
"""

from __future__ import annotations

import hashlib

import Ice
import numpy as np
import omero
import omero.all
import pytest
from models import ref, run
from omero import cmd
from omero.rtypes import rint, rlong, rstring, rtime
from omero.sys import ParametersI

MISSING = 987654321


def image(conn, name="image", channels=2):
    planes = (np.full((4, 6), c, "uint16") for c in range(channels))
    return conn.createImageFromNumpySeq(planes, name, 1, channels, 1)


def refused(kind, call, *args):
    with pytest.raises(kind) as wrong:
        call(*args)
    return getattr(wrong.value, "message", "")


def test_users_and_groups_that_are_missing(conn, root):
    admin, mine = conn.c.sf.getAdminService(), ref("Experimenter", conn.getUserId())
    by_root = root.c.sf.getAdminService()
    assert refused(omero.ApiUsageException, admin.lookupExperimenter, "nope") == "No such experimenter: nope"
    assert refused(omero.ApiUsageException, admin.getGroup, MISSING) == f"No such group: {MISSING}"
    assert "no default group set" in refused(omero.ValidationException, admin.getDefaultGroup, MISSING)
    assert admin.getMemberOfGroupIds(ref("Experimenter", MISSING)) == []
    for call in (admin.getMemberOfGroupIds, admin.getLeaderOfGroupIds, admin.canUpdate, admin.updateSelf):
        refused(omero.ApiUsageException, call, None)
    assert refused(omero.ValidationException, by_root.addGroups, mine, []) == "Nothing to do."
    for call in (by_root.deleteExperimenter, by_root.getAdminPrivileges):
        refused(omero.ValidationException, call, ref("Experimenter", MISSING))
    refused(omero.ValidationException, by_root.deleteGroup, ref("ExperimenterGroup", MISSING))
    admin.setDefaultGroup(mine, None)
    by_root.setGroupOwner(None, mine)
    refused(Ice.UnknownUserException, admin.reportForgottenPassword, "nope", "a@b")  # not in the Slice definition


def test_photos(conn, make_user):
    admin = conn.c.sf.getAdminService()
    first = admin.uploadMyUserPhoto("me.png", "image/png", b"a longer photo")
    assert admin.uploadMyUserPhoto("me too.png", "image/png", b"photo") == first
    for seen in (conn, make_user()):
        with_photo = seen.c.sf.createRawFileStore()
        with_photo.setFileId(first)
        assert with_photo.read(0, 5) == b"photo" and with_photo.size() == 5
        with_photo.close()
    (photo,) = admin.getMyUserPhotos()
    assert (photo.name.val, photo.hash.val) == ("me too.png", hashlib.sha1(b"photo").hexdigest())
    assert photo.details.group.id.val == 1


def test_objects_that_are_not_there(conn):
    update, container = conn.c.sf.getUpdateService(), conn.c.sf.getContainerService()
    update.deleteObject(None)
    assert "Must have an id" in refused(omero.ApiUsageException, update.deleteObject, omero.model.PlateI())
    refused(omero.SecurityViolation, update.indexObject, ref("Plate", 1))
    refused(omero.ApiUsageException, container.createDataObject, None, None)


def test_copies_of_pixels(conn):
    pixels, made = conn.getPixelsService(), image(conn)
    source = made.getPixelsId()
    copy = pixels.copyAndResizeImage(made.id, rint(3), None, None, None, [1], "copy", True).val
    query = "select p from Pixels p join fetch p.channels c join fetch c.statsInfo where p.image.id = :id"
    find = conn.getQueryService().findByQuery
    old, new = (find(query, ParametersI().addId(one)) for one in (made.id, copy))
    assert (new.sizeX.val, new.sizeY.val, new.sizeC.val, new.relatedTo.id.val) == (3, 4, 1, source)
    assert new.getChannel(0).logicalChannel.id.val == old.getChannel(1).logicalChannel.id.val
    assert new.getChannel(0).statsInfo.globalMax.val == old.getChannel(1).statsInfo.globalMax.val
    sizes = (None,) * 4
    for channels in ([], [0, 2]):
        refused(omero.ValidationException, pixels.copyAndResizeImage, made.id, *sizes, channels, "", False)
    refused(omero.ValidationException, pixels.copyAndResizePixels, source, rint(-1), *sizes[1:], [0], "", False)
    refused(omero.ValidationException, pixels.copyAndResizeImage, MISSING, *sizes, [0], "", False)
    refused(omero.InternalException, pixels.copyAndResizePixels, MISSING, *sizes, [0], "", False)


def test_settings_of_the_owner_are_those_of_others(make_user):
    owner = make_user("rwra--")
    other = make_user(group=owner.getGroupFromContext().getId())
    pixels = image(owner).getPixelsId()
    assert other.getPixelsService().retrieveRndSettings(pixels) is None
    owner.getRenderingSettingsService().resetDefaultsInSet("Pixels", [pixels])
    found = other.getPixelsService().retrieveRndSettings(pixels)
    assert found.details.owner.id.val == owner.getUserId() and found.details.owner.isLoaded()
    refused(omero.ValidationException, other.getPixelsService().retrieveRndSettings, MISSING)


def test_enumerations(conn, root):
    types = root.c.sf.getTypesService()
    original = types.getOriginalEnumerations()
    assert "XYZCT" in {one.value.val for one in original if isinstance(one, omero.model.DimensionOrder)}
    new = omero.model.FormatI()
    new.value = rstring("not for long")
    types.createEnumeration(new)
    types.resetEnumerations("Format")
    assert "not for long" not in [one.value.val for one in types.allEnumerations("Format")]
    types.deleteEnumeration(None)
    refused(omero.SecurityViolation, conn.c.sf.getTypesService().getOriginalEnumerations)
    message = refused(omero.ApiUsageException, types.getEnumeration, "EventType", "Nope")
    assert message == "An ome.model.enums.EventType enum does not exist with the value: Nope"


def test_history_of_kinds(conn):
    made, dated = image(conn, "without a date"), image(conn, "dated")
    stored = conn.getQueryService().get("Image", dated.id)
    stored.acquisitionDate = rtime(1500)
    conn.getUpdateService().saveObject(stored)
    timeline, mine = conn.getTimelineService(), ParametersI().exp(rlong(conn.getUserId()))
    counted = timeline.countByPeriod([], None, None, mine)
    assert counted == {"RenderingDef": 0, "Image": 1, "Project": 0, "Dataset": 0, "Annotation": -1}
    assert timeline.countByPeriod(["Plate"], rtime(0), rtime(1 << 45), None) == {"Plate": -1}
    found = timeline.getMostRecentObjects(["Image"], None, False)["Image"]
    assert [one.id.val for one in found] == [dated.id] and made.id != dated.id
    refused(omero.InternalException, timeline.getMostRecentObjects, [], None, True)
    (log,) = timeline.getEventLogsByPeriod(rtime(1000), rtime(2000), None)
    assert (log.entityId.val, log.entityType.val, log.event.time.val) == (dated.id, "ome.model.core.Image", 1500)


def test_merged_history_begins_with_the_oldest(conn):
    for kind in ("Dataset", "Project"):
        made = getattr(omero.model, kind + "I")()
        made.name = rstring(kind)
        conn.getUpdateService().saveObject(made)
    timeline = conn.getTimelineService()
    found = timeline.getMostRecentObjects(["Project", "Dataset"], ParametersI().page(0, 1), True)
    assert [len(found["Dataset"]), len(found["Project"])] == [1, 0]


def test_cuts_through_sections_and_settings_from_elsewhere(conn):
    """PlaneFactory and RenderingBean: rows of an XZ plane are sections, columns of a ZY plane are."""
    stack = np.arange(24, dtype="uint8").reshape(2, 3, 4)  # (Z, Y, X)
    made = conn.createImageFromNumpySeq(iter(stack), "stack", 2, 1, 1)
    engine = conn.c.sf.createRenderingEngine()
    engine.lookupPixels(made.getPixelsId())
    assert "RenderingDef object not set" in refused(omero.ApiUsageException, engine.load)
    engine.resetDefaultSettings(True)
    engine.lookupRenderingDef(made.getPixelsId())
    engine.load()
    settings = conn.getPixelsService().retrieveRndSettings(made.getPixelsId())
    (channel,) = settings.copyWaveRendering()
    channel.inputStart, channel.inputEnd = omero.rtypes.rdouble(0), omero.rtypes.rdouble(255)
    settings.defaultZ = None
    engine.updateSettings(settings)
    assert (engine.getChannelWindowEnd(0), engine.getDefaultZ()) == (255, 1)

    def cut(kind, **place):
        packed = engine.renderAsPackedInt(omero.romio.PlaneDef(kind, *(place.get(a, 0) for a in "xyzt"), None, -1))
        return [one & 255 for one in packed]

    assert cut(omero.romio.XZ, y=2) == stack[:, 2].ravel().tolist()
    assert cut(omero.romio.ZY, x=1) == stack[:, :, 1].T.ravel().tolist()
    refused(omero.ApiUsageException, cut, 9)
    refused(omero.InternalException, lambda: cut(omero.romio.XZ, y=3))
    refused(omero.ApiUsageException, engine.setQuantumStrategy, 100)
    engine.close()


def test_services_that_are_there_with_little_in_them(conn, root):
    refused(omero.SecurityViolation, conn.c.sf.getLdapService().getSetting)
    assert root.c.sf.getLdapService().getSetting() is False
    conn.c.sf.createJobHandle().close()
    scripts = conn.c.sf.getScriptService()
    assert (scripts.getParams(MISSING), scripts.getScriptText(MISSING)) == (None, "")
    assert "on server" in refused(omero.ApiUsageException, scripts.deleteScript, MISSING)
    refused(omero.ValidationException, conn.c.sf.sharedResources().openTable, None)


@pytest.mark.parametrize(
    ("asked", "name", "message"),
    [
        (cmd.SkipHead({"Plate": [1]}, startFrom=["Image"]), "steps-cancel", "must pass a request argument"),
        (cmd.SkipHead({"Plate": [1]}, request=cmd.Delete2()), "graph-fail", "SkipHead requires the start classes"),
        (cmd.Chmod2(permissions="zzz"), "bad-permissions", ""),
        (cmd.Chmod2({"Image": [1]}, permissions="rw----"), "bad-target", "cannot target Image"),
        (cmd.Delete2({"PlateI": [1]}), "graph-fail", ""),
        (cmd.Delete2({"Image": [MISSING]}), "graph-fail", "cannot read all the specified objects of class ome.model"),
        (cmd.Chgrp2({"Image": [1]}, groupId=MISSING), "not-in-group", "not a member of the chgrp destination group"),
        (cmd.Chown2({"Image": [1]}, userId=0), "steps-cancel", "not an owner of any group"),
        (cmd.FindChildren({"Plate": [1]}, typesOfChildren=["Bogus"]), "steps-cancel", "unknown model object class"),
    ],
)
def test_what_requests_refuse(conn, asked, name, message):
    """SkipHeadI, Chmod2I, GraphHelper, GraphTraversal, Chgrp2I and Chown2I of omero.cmd.graphs."""
    answer = run(conn, asked)
    assert isinstance(answer, cmd.ERR) and answer.name == name
    assert answer.parameters["message"].startswith(message)
    assert answer.category == asked.ice_id()


def test_no_boolean_is_a_condition(conn):
    query = conn.getQueryService()
    for where in ("g.ldap", "not g.ldap", "true", "g.id = 0 and g.ldap"):  # hql-sql.g of Hibernate 3.6: logicalExpr
        refused(omero.QueryException, query.projection, f"select g.id from ExperimenterGroup g where {where}", None)
    found = query.projection("select g.id from ExperimenterGroup g where g.id = 0 and g.ldap = false", None)
    assert [row[0].val for row in found] == [0]


def test_annotations_linked_to_all_of_a_class(conn):
    """MetadataImpl: without ids there is no restriction, and only some classes are known."""
    made = image(conn)
    tag = omero.gateway.TagAnnotationWrapper(conn)
    tag.setValue("tag")
    made.linkAnnotation(tag)
    linked = conn.getMetadataService().loadSpecifiedAnnotationsLinkedTo
    assert list(linked("TagAnnotation", [], [], "Image", [], None)) == [made.id]
    assert linked("TagAnnotation", [], [], "Image", [MISSING], None) == {}
    refused(omero.QueryException, linked, "TagAnnotation", [], [], "Roi", [1], None)
    refused(omero.ApiUsageException, linked, "Bogus", [], [], "Image", [1], None)


@pytest.mark.embedded_only  # a real server's index comes some time after what was saved
def test_search_in_an_order(conn):
    """SearchBean: what it refuses itself is an UnsupportedOperationException of Java."""
    word = "w" + conn.getUser().getName().replace("_", "")
    for name in ("b", "c", "a"):
        made = omero.model.DatasetI()
        made.name, made.description = rstring(name), rstring(word)
        conn.getUpdateService().saveObject(made)
    search = conn.createSearchService()
    search.onlyTypes(["Dataset"])
    search.addOrderByDesc("name")
    search.byFullText(word)
    assert [one.name.val for one in search.results()] == ["c", "b", "a"]
    search.unordered()
    search.byFullText(word)
    assert [one.name.val for one in search.results()] == ["b", "c", "a"]
    for call in (search.remove, search.currentMetadata, search.currentMetadataList):
        refused(omero.InternalException, call)
    search.onlyTypes(["Dataset", "Project"])
    refused(omero.ApiUsageException, search.byFullText, word)
    search.close()
