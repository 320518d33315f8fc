"""Who may change users, groups and settings on the embedded server, by whichever way."""
from __future__ import annotations

import omero
import pytest
from models import new, ref, save
from omero.rtypes import rbool, rlong, rstring, rtime

REFUSED = (omero.SecurityViolation,)


@pytest.fixture
def admin(conn):
    return conn.c.sf.getAdminService()


def user(name="somebody"):
    return new("Experimenter", omeName=name, firstName="Some", lastName="Body", ldap=rbool(False))


def test_an_ordinary_user_changes_no_users_and_groups(conn, admin):
    group, me = ref("ExperimenterGroup", conn.getGroupFromContext().getId()), ref("Experimenter", conn.getUserId())
    system, root = ref("ExperimenterGroup", 0), ref("Experimenter", 0)
    for name, *args in (
            ("createGroup", new("ExperimenterGroup", name="mine", ldap=rbool(False))),
            ("createUser", user(), "user"), ("createSystemUser", user()),
            ("createExperimenterWithPassword", user(), rstring("pw"), group, []),
            ("addGroups", me, [system]), ("removeGroups", root, [system]), ("setGroupOwner", system, me),
            ("addGroupOwners", group, [me]), ("setDefaultGroup", root, system), ("deleteExperimenter", root),
            ("deleteGroup", group), ("updateExperimenter", root), ("changeUserPassword", "root", rstring("mine")),
            ("changePermissions", group, omero.model.PermissionsI("rwrw--"))):
        with pytest.raises(REFUSED):
            getattr(admin, name)(*args)
    assert admin.getMemberOfGroupIds(me) == [group.id.val, 1]


def test_nor_does_saving_rows_make_an_administrator(conn, admin):
    me = conn.getUserId()
    session = conn.getQueryService().get("Session", conn.getEventContext().sessionId)
    session.owner = ref("Experimenter", 0)
    for row in (new("GroupExperimenterMap", parent=ref("ExperimenterGroup", 0), child=ref("Experimenter", me),
                    owner=rbool(True)),
                user(), new("ExperimenterGroup", name="mine", ldap=rbool(False)), session,
                new("Event", time=rtime(0), experimenter=ref("Experimenter", 0), type=ref("EventType", 1),
                    experimenterGroup=ref("ExperimenterGroup", 0), session=ref("Session", 0))):
        with pytest.raises(omero.ServerError):
            save(conn, row)
    assert admin.getMemberOfGroupIds(ref("Experimenter", me)) == [conn.getGroupFromContext().getId(), 1]
    for kind, oid in (("GroupExperimenterMap", 0), ("Experimenter", 1), ("ExperimenterGroup", 1), ("Session", 1)):
        with pytest.raises(omero.ServerError):
            conn.getUpdateService().deleteObject(ref(kind, oid))
        with pytest.raises(omero.CmdError):
            conn.deleteObjects(kind, [oid], wait=True)


def test_a_group_owner_changes_the_own_group_alone(make_user, root):
    owner, member, stranger = make_user("rwr---"), None, make_user()
    group = owner.getGroupFromContext().getId()
    member = make_user(group=group)
    root.c.sf.getAdminService().setGroupOwner(ref("ExperimenterGroup", group), ref("Experimenter", owner.getUserId()))
    admin = owner.c.sf.getAdminService()
    admin.changePermissions(ref("ExperimenterGroup", group), omero.model.PermissionsI("rwra--"))
    assert str(admin.getGroup(group).details.permissions) == "rwra--"
    admin.addGroupOwners(ref("ExperimenterGroup", group), [ref("Experimenter", member.getUserId())])
    assert admin.getLeaderOfGroupIds(ref("Experimenter", member.getUserId())) == [group]
    with pytest.raises(REFUSED):
        admin.changePermissions(ref("ExperimenterGroup", stranger.getGroupFromContext().getId()),
                                omero.model.PermissionsI("rwrw--"))


def test_a_user_changes_the_own_names_but_not_the_login(conn, admin):
    name = conn.getUser().getName()
    changed = user("another")
    changed.id = rlong(0)
    changed.firstName = rstring("New")
    admin.updateSelf(changed)
    mine, root = admin.getExperimenter(conn.getUserId()), admin.getExperimenter(0)
    assert (mine.firstName.val, mine.omeName.val) == ("New", name)
    assert root.omeName.val == "root" and root.firstName.val != "New"


def test_a_deleted_user_is_out_at_once(omero_server, root):
    admin = root.c.sf.getAdminService()
    group = admin.createGroup(new("ExperimenterGroup", name="for a short time", ldap=rbool(False)))
    oid = admin.createExperimenterWithPassword(user("shortly"), rstring("pw"), ref("ExperimenterGroup", group), [])
    admin.deleteExperimenter(ref("Experimenter", oid))
    with pytest.raises(ConnectionError):
        omero_server.login("shortly", "pw")
    admin.deleteGroup(ref("ExperimenterGroup", group))
    with pytest.raises(omero.ApiUsageException):
        admin.lookupGroup("for a short time")


def test_a_group_that_is_left_is_closed_to_an_open_session(make_user, root):
    conn = make_user()
    first, admin = conn.getGroupFromContext().getId(), root.c.sf.getAdminService()
    second = make_user().getGroupFromContext().getId()
    me = ref("Experimenter", conn.getUserId())
    admin.addGroups(me, [ref("ExperimenterGroup", second)])
    admin.removeGroups(me, [ref("ExperimenterGroup", first)])
    with pytest.raises(omero.SecurityViolation):
        conn.c.sf.getQueryService().findAll("Plate", None)
    admin.addGroups(me, [ref("ExperimenterGroup", first)])
    assert conn.c.sf.getQueryService().findAll("Plate", None) == []


@pytest.mark.parametrize(("change", "kind"), [
    ({"omeName": None}, omero.ValidationException), ({"firstName": None}, omero.ValidationException),
    ({"omeName": rstring("root")}, omero.ValidationException)])
def test_a_user_without_a_name_or_with_anothers_is_refused(root, change, kind):
    made = user("not made")
    for name, value in change.items():
        setattr(made, name, value)
    with pytest.raises(kind):
        root.c.sf.getAdminService().createExperimenterWithPassword(
            made, rstring("pw"), ref("ExperimenterGroup", 1), [])


def test_a_session_cannot_be_closed_or_read_by_others(conn, make_user):
    other = make_user()
    sessions = other.c.sf.getSessionService()
    mine = new("Session", uuid=conn.c.getSessionId())
    for call, *args in ((sessions.getSession, conn.c.getSessionId()), (sessions.closeSession, mine),
                        (sessions.getReferenceCount, conn.c.getSessionId()),
                        (sessions.getInput, conn.c.getSessionId(), "key")):
        with pytest.raises(omero.RemovedSessionException):
            call(*args)
    assert conn.keepAlive()
    rows = other.getQueryService().projection("select s.uuid from Session s", None)
    assert conn.c.getSessionId() not in [row[0].val for row in rows]


def test_a_sessions_values_stay_in_it(conn):
    sessions, uuid = conn.c.sf.getSessionService(), conn.c.getSessionId()
    sessions.setInput(uuid, "key", rstring("value"))
    sessions.setOutput(uuid, "number", rlong(7))
    assert (sessions.getInput(uuid, "key").val, sessions.getOutput(uuid, "number").val) == ("value", 7)
    assert (sessions.getInputKeys(uuid), sessions.getOutputKeys(uuid)) == (["key"], ["number"])
    sessions.setInput(uuid, "key", None)
    assert sessions.getInputs(uuid) == {}
