"""Who may change users, groups and settings on the embedded server, by whichever way."""

from __future__ import annotations

import uuid

import omero
import pytest
from models import new, plate, ref, save
from omero.rtypes import rbool, rlong, rstring, rtime
from omero_embedded import OmeroServer, start

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
        ("createUser", user(), "user"),
        ("createSystemUser", user()),
        ("createExperimenterWithPassword", user(), rstring("pw"), group, []),
        ("addGroups", me, [system]),
        ("removeGroups", root, [system]),
        ("setGroupOwner", system, me),
        ("addGroupOwners", group, [me]),
        ("setDefaultGroup", root, system),
        ("deleteExperimenter", root),
        ("deleteGroup", group),
        ("updateExperimenter", root),
        ("changeUserPassword", "root", rstring("mine")),
        ("changePermissions", group, omero.model.PermissionsI("rwrw--")),
    ):
        with pytest.raises(REFUSED):
            getattr(admin, name)(*args)
    assert admin.getMemberOfGroupIds(me) == [group.id.val, 1]


def test_saving_rows_makes_nobody_an_administrator(conn, admin):
    me = conn.getUserId()
    session = conn.getQueryService().get("Session", conn.getEventContext().sessionId)
    session.owner = ref("Experimenter", 0)
    for row in (
        new(
            "GroupExperimenterMap", parent=ref("ExperimenterGroup", 0), child=ref("Experimenter", me), owner=rbool(True)
        ),
        user(),
        new("ExperimenterGroup", name="mine", ldap=rbool(False)),
        session,
        new(
            "Event",
            time=rtime(0),
            experimenter=ref("Experimenter", 0),
            type=ref("EventType", 1),
            experimenterGroup=ref("ExperimenterGroup", 0),
            session=ref("Session", 0),
        ),
    ):
        with pytest.raises(omero.ServerError):
            save(conn, row)
    assert admin.getMemberOfGroupIds(ref("Experimenter", me)) == [conn.getGroupFromContext().getId(), 1]
    for kind, oid in (("GroupExperimenterMap", 0), ("Experimenter", 1), ("ExperimenterGroup", 1), ("Session", 1)):
        with pytest.raises(omero.ServerError):
            conn.getUpdateService().deleteObject(ref(kind, oid))
        with pytest.raises(omero.CmdError):
            conn.deleteObjects(kind, [oid], wait=True)


def test_a_group_owner_can_change_only_their_group(make_user, root, omero_server):
    owner, member, stranger = make_user("rwr---"), None, make_user()
    group = owner.getGroupFromContext().getId()
    member = make_user(group=group)
    root.c.sf.getAdminService().setGroupOwner(ref("ExperimenterGroup", group), ref("Experimenter", owner.getUserId()))
    again = omero_server.login(owner.getUser().getName(), "pw")  # a session keeps the rights that it began with
    admin = again.c.sf.getAdminService()
    admin.changePermissions(ref("ExperimenterGroup", group), omero.model.PermissionsI("rwra--"))
    assert str(admin.getGroup(group).details.permissions) == "rwra--"
    admin.addGroupOwners(ref("ExperimenterGroup", group), [ref("Experimenter", member.getUserId())])
    assert admin.getLeaderOfGroupIds(ref("Experimenter", member.getUserId())) == [group]
    with pytest.raises(REFUSED):
        admin.changePermissions(
            ref("ExperimenterGroup", stranger.getGroupFromContext().getId()), omero.model.PermissionsI("rwrw--")
        )
    again.close()


def test_users_can_change_their_names_but_not_their_login(conn, admin):
    name = conn.getUser().getName()
    changed = user("another")
    changed.id = rlong(0)
    changed.firstName = rstring("New")
    admin.updateSelf(changed)
    mine, root = admin.getExperimenter(conn.getUserId()), admin.getExperimenter(0)
    assert (mine.firstName.val, mine.omeName.val) == ("New", name)
    assert root.omeName.val == "root" and root.firstName.val != "New"


def test_a_deleted_user_loses_access_at_once(omero_server, root):
    admin = root.c.sf.getAdminService()
    group = admin.createGroup(new("ExperimenterGroup", name="for a short time", ldap=rbool(False)))
    oid = admin.createExperimenterWithPassword(user("shortly"), rstring("pw"), ref("ExperimenterGroup", group), [])
    admin.deleteExperimenter(ref("Experimenter", oid))
    with pytest.raises(ConnectionError):
        omero_server.login("shortly", "pw")
    admin.deleteGroup(ref("ExperimenterGroup", group))
    with pytest.raises(omero.ApiUsageException):
        admin.lookupGroup("for a short time")


@pytest.mark.embedded_only  # a real server looks at memberships again at the next login
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


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"omeName": None}, omero.ValidationException),
        ({"firstName": None}, omero.ValidationException),
        ({"omeName": rstring("root")}, omero.ValidationException),
    ],
)
def test_users_without_a_name_or_with_a_taken_name_are_refused(root, change, kind):
    made = user("not made")
    for name, value in change.items():
        setattr(made, name, value)
    with pytest.raises(kind):
        root.c.sf.getAdminService().createExperimenterWithPassword(made, rstring("pw"), ref("ExperimenterGroup", 1), [])


def test_a_session_is_open_to_those_who_know_its_uuid_alone(conn, make_user):
    other = make_user()
    sessions = other.c.sf.getSessionService()
    assert sessions.getSession(conn.c.getSessionId()).owner.id.val == conn.getUserId()
    assert sessions.getReferenceCount(conn.c.getSessionId()) == 1
    with pytest.raises(omero.RemovedSessionException):
        sessions.getSession(str(uuid.uuid4()))
    rows = other.getQueryService().projection("select s.uuid from Session s", None)
    assert conn.c.getSessionId() not in [row[0].val for row in rows]


def test_what_sessions_refuse_and_count(root, make_user):
    """As SessionBean and SessionManagerImpl of OMERO.server have it."""
    conn = make_user()
    sessions = conn.c.sf.getSessionService()
    for call, args in (
        (sessions.closeSession, (None,)),
        (sessions.closeSession, (omero.model.SessionI(),)),
        (sessions.createSession, (None, "pw")),
        (root.c.sf.getSessionService().createSessionWithTimeout, (None, 1000)),
        (root.c.sf.getSessionService().createSessionWithTimeouts, (None, 1000, 1000)),
    ):
        with pytest.raises(omero.ApiUsageException):
            call(*args)
    with pytest.raises(omero.AuthenticationException):
        sessions.createSession(omero.sys.Principal("nobody", "", "User", None), "pw")
    unknown = omero.model.SessionI()
    unknown.uuid = rstring(str(uuid.uuid4()))
    assert sessions.closeSession(unknown) == -1
    for uuid_ in ("", unknown.uuid.val):
        with pytest.raises(omero.RemovedSessionException):
            sessions.getReferenceCount(uuid_)
    principal = omero.sys.Principal(conn.getUser().getName(), "", "User", None)
    made = root.c.sf.getSessionService().createSessionWithTimeout(principal, 60_000)
    assert (made.timeToLive.val, made.timeToIdle.val) == (60_000, 0)
    assert sessions.getReferenceCount(made.uuid.val) == 1
    assert sessions.createSession(principal, made.uuid.val).id.val == made.id.val
    assert [sessions.closeSession(made) for _ in range(3)] == [1, -2, -1]


def test_a_sessions_values_stay_in_it(conn):
    sessions, uuid = conn.c.sf.getSessionService(), conn.c.getSessionId()
    sessions.setInput(uuid, "key", rstring("value"))
    sessions.setOutput(uuid, "number", rlong(7))
    assert (sessions.getInput(uuid, "key").val, sessions.getOutput(uuid, "number").val) == ("value", 7)
    assert (sessions.getInputKeys(uuid), sessions.getOutputKeys(uuid)) == (["key"], ["number"])
    with pytest.raises(omero.ApiUsageException, match="Can't handle input class"):
        sessions.setInput(uuid, "key", None)
    assert sessions.getInputs(uuid)["key"].val == "value" and sessions.getInput(uuid, "nothing") is None


# -- restricted administrators -----------------------------------------------------------------------------------------


def privileges_of(conn, *names):
    """Those privileges of administrators, as stored objects."""
    return [conn.getQueryService().findByString("AdminPrivilege", "value", name) for name in names]


@pytest.fixture
def make_admin(omero_server, root):
    """`make_admin(*privileges)` logs a new administrator in who has only these privileges."""
    admin, made = root.c.sf.getAdminService(), []

    def make(*privileges):
        new_user = user("admin_" + uuid.uuid4().hex[:12])
        oid = admin.createRestrictedSystemUserWithPassword(new_user, privileges_of(root, *privileges), rstring("pw"))
        made.append((oid, omero_server.login(new_user.omeName.val, "pw")))
        return made[-1][1]

    yield make
    for oid, conn in made:
        conn.close()
        admin.setAdminPrivileges(ref("Experimenter", oid), [])


def names_of(privileges) -> list[str]:
    return sorted(one.value.val for one in privileges)


def test_a_restricted_administrator_has_only_the_privileges_given(make_admin, root):
    conn = make_admin("Chgrp", "Sudo")
    admin, me = conn.c.sf.getAdminService(), ref("Experimenter", conn.getUserId())
    context = admin.getEventContext()
    assert context.isAdmin and sorted(context.adminPrivileges) == ["Chgrp", "Sudo"]
    assert names_of(admin.getCurrentAdminPrivileges()) == names_of(admin.getAdminPrivileges(me)) == ["Chgrp", "Sudo"]
    assert len(admin.getAdminPrivileges(ref("Experimenter", 0))) == 15
    with_sudo = [one.id.val for one in admin.getAdminsWithPrivileges(privileges_of(conn, "Sudo"))]
    assert {0, conn.getUserId()} <= set(with_sudo)
    root.c.sf.getAdminService().setAdminPrivileges(me, privileges_of(root, "Chown"))
    assert names_of(root.c.sf.getAdminService().getAdminPrivileges(me)) == ["Chown"]


@pytest.mark.embedded_only  # a real server looks at privileges again at the next login
def test_privileges_are_taken_from_open_sessions(make_admin, root):
    conn = make_admin("Chgrp", "Sudo")
    me = ref("Experimenter", conn.getUserId())
    root.c.sf.getAdminService().setAdminPrivileges(me, privileges_of(root, "Chown"))
    assert names_of(conn.c.sf.getAdminService().getCurrentAdminPrivileges()) == ["Chown"]


def test_without_their_privileges_an_administrator_changes_no_users_and_groups(make_admin, make_user):
    conn = make_admin()
    admin, other = conn.c.sf.getAdminService(), make_user()
    group, them = (
        ref("ExperimenterGroup", other.getGroupFromContext().getId()),
        ref("Experimenter", other.getUserId()),
    )
    changed = admin.getExperimenter(them.id.val)
    for name, *args in (
        ("createGroup", new("ExperimenterGroup", name="mine", ldap=rbool(False))),
        ("createSystemUser", user()),
        ("createUser", user(), other.getGroupFromContext().getName()),
        ("addGroups", them, [ref("ExperimenterGroup", 0)]),
        ("setGroupOwner", group, them),
        ("updateExperimenter", changed),
        ("deleteExperimenter", them),
        ("deleteGroup", group),
        ("changeUserPassword", changed.omeName.val, rstring("mine")),
        ("setAdminPrivileges", ref("Experimenter", conn.getUserId()), privileges_of(conn, "Sudo")),
        ("setDefaultGroup", them, group),
    ):
        with pytest.raises(omero.SecurityViolation):
            getattr(admin, name)(*args)
    with pytest.raises(omero.SecurityViolation):
        conn.suConn(changed.omeName.val)


def test_nobody_gives_privileges_that_they_lack(make_admin, make_user):
    conn, full = make_admin("ModifyUser", "ModifyGroupMembership", "WriteOwned"), privileges_of
    admin, me, root = conn.c.sf.getAdminService(), ref("Experimenter", conn.getUserId()), ref("Experimenter", 0)
    them, system = ref("Experimenter", make_user().getUserId()), ref("ExperimenterGroup", 0)
    mine = conn.getQueryService().get("Experimenter", conn.getUserId())
    mine.config = []
    promoted = conn.getQueryService().findByQuery(
        f"select e from Experimenter e join fetch e.groupExperimenterMap where e.id = {them.id.val}", None
    )
    promoted.addGroupExperimenterMap(new("GroupExperimenterMap", parent=system, owner=rbool(False)))
    update = conn.getUpdateService()
    for call, *args in (
        (admin.setAdminPrivileges, me, full(conn, "Sudo", "ModifyUser")),
        (admin.createSystemUser, user()),
        (admin.addGroups, them, [system]),
        (admin.setGroupOwner, system, them),
        (admin.createRestrictedSystemUser, user(), full(conn, "Sudo")),
        (admin.changeUserPassword, "root", rstring("mine")),
        (update.saveObject, mine),
        (admin.updateExperimenterWithPassword, admin.getExperimenter(0), rstring("mine")),
        (update.saveObject, promoted),
    ):
        with pytest.raises((omero.SecurityViolation, omero.ValidationException)):
            call(*args)
    assert len(admin.getCurrentAdminPrivileges()) == 3
    with pytest.raises(omero.ApiUsageException):
        admin.setAdminPrivileges(root, full(conn, "Sudo"))


def test_sudo_gives_nobody_more_privileges_than_their_own(make_admin):
    conn = make_admin("Sudo")
    as_root = conn.suConn("root")
    try:
        context = as_root.getEventContext()
        assert (context.userId, context.isAdmin, list(context.adminPrivileges)) == (0, True, ["Sudo"])
        admin, sessions = as_root.c.sf.getAdminService(), as_root.c.sf.getSessionService()
        with pytest.raises(omero.SecurityViolation):
            admin.createGroup(new("ExperimenterGroup", name="mine", ldap=rbool(False)))
        with pytest.raises(omero.SecurityViolation):
            admin.changePassword(rstring("mine"))
        with pytest.raises(omero.SecurityViolation):  # without a password, as changePassword
            sessions.createUserSession(0, 60_000, "")
    finally:
        as_root.close()


# -- sessions, the guest, group owners ---------------------------------------------------------------------------------


def test_group_members_do_not_see_sessions_of_each_other(make_user):
    """A session's uuid opens it."""
    one = make_user("rwrw--")
    other = make_user(group=one.getGroupFromContext().getId())
    for query in (
        "select s.uuid from Session s",
        "select s.uuid from Event e join e.session s",
        "select e.session.uuid from Event e",
    ):
        seen = {row[0].val for row in other.getQueryService().projection(query, None)}
        assert other.c.getSessionId() in seen or "Event" in query
        assert one.c.getSessionId() not in seen
    session = one.getEventContext().sessionId
    with pytest.raises(omero.SecurityViolation):
        other.getQueryService().get("Session", session)
    assert session not in [found.id.val for found in other.getQueryService().findAll("Session", None)]


def test_guest_cannot_create_anything(tmp_path):
    """A real server may have its guest locked out, so this one lets it in."""
    with start(tmp_path, options=["--guest"]) as process:
        server = OmeroServer(process.host, process.port, "root", process.password or "", process.data)
        with server.login("guest", "guest") as conn:
            _makes_nothing(conn)


def _makes_nothing(conn):
    byte = conn.getQueryService().findByString("PixelsType", "value", "uint8")
    for call, *args in (
        (conn.getUpdateService().saveObject, new("Dataset", name="mine")),
        (conn.getPixelsService().createImage, 1, 1, 1, 1, [0], byte, "mine", ""),
        (conn.c.sf.sharedResources().newTable, 0, "mine"),
    ):
        with pytest.raises(omero.SecurityViolation):
            call(*args)


def test_a_group_owner_can_add_users_only_to_their_group(omero_server, make_user, root):
    owner, stranger = make_user("rwra--"), make_user()
    group, them = owner.getGroupFromContext().getId(), ref("Experimenter", stranger.getUserId())
    other = ref("ExperimenterGroup", stranger.getGroupFromContext().getId())
    root.c.sf.getAdminService().setGroupOwner(ref("ExperimenterGroup", group), ref("Experimenter", owner.getUserId()))
    again = omero_server.login(owner.getUser().getName(), "pw")  # a session keeps the rights that it began with
    admin, name = again.c.sf.getAdminService(), "user_" + uuid.uuid4().hex[:12]
    admin.addGroups(them, [ref("ExperimenterGroup", group)])
    assert group in admin.getMemberOfGroupIds(them)
    admin.removeGroups(them, [ref("ExperimenterGroup", group)])
    admin.createExperimenterWithPassword(
        user(name), rstring("pw"), ref("ExperimenterGroup", group), [ref("ExperimenterGroup", 1)]
    )
    omero_server.login(name, "pw").close()
    for call, *args in (
        (admin.addGroups, them, [ref("ExperimenterGroup", group), other]),
        (admin.addGroups, them, [ref("ExperimenterGroup", 0)]),
        (admin.removeGroups, them, [other]),
        (admin.createExperimenterWithPassword, user(), rstring("pw"), other, []),
        (admin.changeUserPassword, name, rstring("mine")),
    ):
        with pytest.raises(omero.SecurityViolation):
            call(*args)
    again.close()


@pytest.mark.embedded_only  # a real server lets some of it pass
def test_group_members_cannot_add_to_lists_or_paths_of_others(make_user):
    owner = make_user("rwra--")
    fellow = make_user(group=owner.getGroupFromContext().getId())
    theirs, mine = save(owner, plate(wells=1, sites=1)), save(fellow, plate(wells=1, sites=1))
    well = fellow.getQueryService().findByQuery(
        f"select w from Well w left join fetch w.wellSamples where w.plate.id = {theirs.id.val}", None
    )
    well._wellSamplesSeq.append(ref("WellSample", mine.copyWells()[0].copyWellSamples()[0].id.val))
    with pytest.raises(omero.SecurityViolation):
        save(fellow, well)
    file = save(fellow, new("OriginalFile", name="file", path="/a/"))
    file.path = rstring("/a/../../etc/")
    with pytest.raises(omero.SecurityViolation):
        save(fellow, file)
    with pytest.raises(omero.SecurityViolation):
        save(fellow, new("OriginalFile", name="passwd", path="/etc/", repo=str(uuid.uuid4())))
