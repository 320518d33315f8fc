"""Who may do what to another user's data: each kind of group, each kind of user, each way to read and to change."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import omero
import omero.cmd
import omero.grid
import pytest
from models import image, new, plate, ref, run, save
from omero.gateway import BlitzGateway
from omero.rtypes import rbool, rint, rstring, unwrap
from omero.sys import ParametersI

KINDS = {"private": "rw----", "read-only": "rwr---", "read-annotate": "rwra--", "read-write": "rwrw--"}
USERS = ("owner", "member", "leader", "root", "restricted", "stranger")

# A sign for each kind of group, in the order above: + done, - nothing to see, S SecurityViolation, R
# ReadOnlyGroupSecurityViolation, V ValidationException, M ResourceError, G GraphException, E another ERR.
# "leader" owns the group, "restricted" is an administrator without a single privilege, "stranger" is in another group.
TABLE = """
what                    owner  member  leader  root  restricted  stranger
query                   ++++   -+++    ++++    ++++  ++++        ----
projection              ++++   -+++    ++++    ++++  ++++        ----
aggregate               ++++   -+++    ++++    ++++  ++++        ----
get                     ++++   S+++    ++++    ++++  ++++        SSSS
part                    ++++   -+++    ++++    ++++  ++++        ----
subquery                ++++   -+++    ++++    ++++  ++++        ----
fetched_collection      ++++   -+++    ++++    ++++  ++++        ----
annotation_by_link      ++++   -+++    ++++    ++++  ++++        ----
map_values              ++++   -+++    ++++    ++++  ++++        ----
load_annotations        ++++   -+++    ++++    ++++  ++++        ----
container               ++++   -+++    ++++    ++++  ++++        ----
rois                    ++++   -+++    ++++    ++++  ++++        ----
read_pixels             ++++   V+++    ++++    ++++  ++++        VVVV
read_file               ++++   S+++    ++++    ++++  ++++        SSSS
read_table              ++++   S+++    ++++    ++++  ++++        SSSS
thumbnail               ++++   M+++    ++++    ++++  ++++        MMMM
thumbnail_set           ++++   -+++    ++++    ++++  ++++        ----
rendering               ++++   V+++    ++++    ++++  ++++        VVVV
rename                  ++++   SSS+    ++++    ++++  SSSS        SSSS
rename_unread           ++++   SSS+    ++++    ++++  SSSS        SSSS
annotate                ++++   SS++    R+++    R+++  RSSS        SSSS
put_into_screen         ++++   SSS+    R+++    R+++  RSSS        SSSS
add_well                ++++   SSS+    R+++    R+++  RSSS        SSSS
move_well               ++++   SSS+    ++++    ++++  SSSS        SSSS
draw_roi                ++++   SS++    R+++    R+++  RSSS        SSSS
keep_settings           ++++   V+++    R+++    R+++  RSSS        VVVV
relink                  ++++   SSS+    ++++    ++++  SSSS        SSSS
give_away               SSSS   SSSS    SSSS    ++++  SSSS        SSSS
move_by_saving          SSSS   SSSS    SSSS    SSSS  SSSS        SSSS
save_for_owner          ++++   SSSS    SSSS    ++++  SSSS        SSSS
unlink                  ++++   SSS+    ++++    ++++  SSSS        SSSS
delete_object           ++++   SSS+    ++++    ++++  SSSS        SSSS
delete                  ++++   GGG+    ++++    ++++  GGGG        GGGG
chgrp                   ++++   GGGG    GGGG    ++++  EEEE        EEEE
chmod                   GGGG   GGGG    ++++    ++++  GGGG        GGGG
write_pixels            ++++   VSS+    ++++    ++++  SSSS        VVVV
write_file              ++++   SSS+    ++++    ++++  SSSS        SSSS
add_rows                ++++   SSS+    ++++    ++++  SSSS        SSSS
change_group            SSSS   SSSS    ++++    ++++  SSSS        SSSS
add_member              SSSS   SSSS    ++++    ++++  SSSS        SSSS
make_owner              SSSS   SSSS    ++++    ++++  SSSS        SSSS
"""
SIGNS = {
    omero.SecurityViolation: "S",
    omero.ReadOnlyGroupSecurityViolation: "R",
    omero.ValidationException: "V",
    omero.ResourceError: "M",
    omero.cmd.GraphException: "G",
    omero.cmd.ERR: "E",
}


def rows_of_table():
    header, *lines = [line.split() for line in TABLE.strip().splitlines()]
    assert header[1:] == list(USERS)
    return [(line[0], dict(zip(USERS, line[1:], strict=True))) for line in lines]


@dataclass
class World:
    """A group with data of one of its members, the "owner", and everybody's connections."""

    kind: str
    group: int
    other_group: int  # in which all members of the group are as well
    users: dict[str, BlitzGateway]
    seen: dict[str, int] = field(default_factory=dict)  # ids of what everybody tries to read

    @property
    def owner(self) -> BlitzGateway:
        return self.users["owner"]


@pytest.fixture(scope="module")
def worlds(omero_server, root) -> Iterator[dict[str, World]]:
    """Made once: everything that changes data makes its own before."""
    admin, names = root.c.sf.getAdminService(), {}

    def make_group(permissions: str) -> int:
        group = new("ExperimenterGroup", name="group " + uuid.uuid4().hex, ldap=rbool(False))
        group.details.permissions = omero.model.PermissionsI(permissions)
        return admin.createGroup(group)

    def make_user(name: str, groups: list[int]) -> None:
        names[name] = "user_" + uuid.uuid4().hex[:12]
        user = new("Experimenter", omeName=names[name], firstName="A", lastName="B", ldap=rbool(False))
        if groups:
            admin.createExperimenterWithPassword(
                user,
                rstring("pw"),
                ref("ExperimenterGroup", groups[0]),
                [ref("ExperimenterGroup", group) for group in [*groups[1:], 1]],
            )
        else:
            admin.createRestrictedSystemUserWithPassword(user, [], rstring("pw"))

    groups = {kind: make_group(permissions) for kind, permissions in KINDS.items()}
    other = make_group("rwrw--")
    for name in ("owner", "member", "leader"):
        make_user(name, [*groups.values(), other])
    make_user("stranger", [make_group("rwrw--")])
    make_user("restricted", [])
    for group in groups.values():
        leader = admin.lookupExperimenter(names["leader"])
        admin.setGroupOwner(ref("ExperimenterGroup", group), ref("Experimenter", leader.id.val))
    users = {name: omero_server.login(names[name], "pw") if name in names else omero_server.login() for name in USERS}
    made = {kind: World(kind, group, other, users) for kind, group in groups.items()}
    for world in made.values():
        enter(world)
        make_seen(world)
    yield made
    root.SERVICE_OPTS.setOmeroGroup("-1")
    for group in [*groups.values(), other]:
        for kind in ("Screen", "Plate", "Dataset", "Image", "Annotation", "OriginalFile"):
            found = root.getQueryService().projection(
                f"select x.id from {kind} x where x.details.group.id = {group}", None, root.SERVICE_OPTS
            )
            if found:
                root.deleteObjects(kind, [row[0].val for row in found], deleteAnns=True, deleteChildren=True, wait=True)
    root.SERVICE_OPTS.setOmeroGroup(None)
    for conn in users.values():
        conn.close()


def enter(world: World) -> None:
    """Everybody works in the world's group from now on, the stranger in all of the own groups."""
    for name, conn in world.users.items():
        conn.SERVICE_OPTS.setOmeroGroup("-1" if name == "stranger" else str(world.group))


def outcome(action, world: World, conn: BlitzGateway) -> str:
    """The sign of what an action comes to."""
    try:
        found = action(world, conn)
    except omero.ServerError as error:
        found = error
    if isinstance(found, omero.ServerError | omero.cmd.ERR):
        return SIGNS.get(type(found), type(found).__name__)
    return "+" if found else "-"


def hql(conn: BlitzGateway, query: str, oid: int) -> list:
    return unwrap(conn.getQueryService().projection(query, ParametersI().addId(oid), conn.SERVICE_OPTS))


def find_all(conn: BlitzGateway, query: str, oid: int) -> list:
    return conn.getQueryService().findAllByQuery(query, ParametersI().addId(oid), conn.SERVICE_OPTS)


def delete_object(conn: BlitzGateway, obj) -> bool:
    conn.getUpdateService().deleteObject(obj, conn.SERVICE_OPTS)
    return True


# -- what the owner has ------------------------------------------------------------------------------------------------


def make_plate(world: World):
    return save(world.owner, plate(wells=1, sites=0))


def make_image(world: World) -> int:
    return save(world.owner, image()).id.val


def make_file(world: World) -> int:
    made = save(world.owner, new("OriginalFile", name="file", path="/"))
    store = world.owner.c.sf.createRawFileStore()
    store.setFileId(made.id.val, world.owner.SERVICE_OPTS)
    store.write(b"secret", 0, 6, world.owner.SERVICE_OPTS)
    store.close(world.owner.SERVICE_OPTS)
    return made.id.val


def make_table(world: World) -> int:
    opts = world.owner.SERVICE_OPTS
    table = world.owner.c.sf.sharedResources().newTable(0, "table", opts)
    table.initialize([omero.grid.LongColumn("number", "", [])], opts)
    table.addData([omero.grid.LongColumn("number", "", [7])], opts)
    oid = table.getOriginalFile(opts).id.val
    table.close(opts)
    return oid


def make_seen(world: World) -> None:
    """What everybody tries to read: a plate with a map annotation, an image with a region, a file and a table."""
    link = new(
        "PlateAnnotationLink", parent=save(world.owner, plate(wells=1, sites=1)).proxy(), child=new("MapAnnotation")
    )
    link.child.mapValue = [omero.model.NamedValue("key", "secret")]
    link = save(world.owner, link)
    oid = world.owner.createImageFromNumpySeq(iter([np.arange(6, dtype="uint8").reshape(2, 3)]), "seen").getId()
    roi = new("Roi", image=ref("Image", oid))
    roi.addShape(new("Point", x=1.0, y=1.0))
    save(world.owner, roi)
    pixels = hql(world.owner, "select p.id from Pixels p where p.image.id = :id", oid)[0][0]
    world.seen.update(
        plate=link.parent.id.val,
        map=link.child.id.val,
        image=oid,
        pixels=pixels,
        file=make_file(world),
        table=make_table(world),
    )


# -- reading -----------------------------------------------------------------------------------------------------------


def query(world, conn):
    return find_all(conn, "select p from Plate p where p.id = :id", world.seen["plate"])


def projection(world, conn):
    return hql(conn, "select p.name from Plate p where p.id = :id", world.seen["plate"])


def aggregate(world, conn):
    return hql(conn, "select count(p), max(p.name) from Plate p where p.id = :id", world.seen["plate"])[0][0]


def get(world, conn):
    return conn.getQueryService().get("Plate", world.seen["plate"], conn.SERVICE_OPTS)


def part(world, conn):
    return hql(conn, "select i.name from WellSample s join s.image i where s.well.plate.id = :id", world.seen["plate"])


def subquery(world, conn):
    return hql(conn, "select size(p.wells) from Plate p where p.id = :id", world.seen["plate"])


def fetched_collection(world, conn):
    return find_all(conn, "select w from Well w join fetch w.wellSamples s where w.plate.id = :id", world.seen["plate"])


def annotation_by_link(world, conn):
    return hql(
        conn, "select a.id from PlateAnnotationLink l join l.child a where l.parent.id = :id", world.seen["plate"]
    )


def map_values(world, conn):
    return hql(
        conn, "select v.name, v.value from MapAnnotation a join a.mapValue v where a.id = :id", world.seen["map"]
    )


def load_annotations(world, conn):
    oid = world.seen["plate"]
    return conn.getMetadataService().loadAnnotations("Plate", [oid], [], [], None, conn.SERVICE_OPTS).get(oid)


def container(world, conn):
    return conn.getContainerService().loadContainerHierarchy("Plate", [world.seen["plate"]], None, conn.SERVICE_OPTS)


def rois(world, conn):
    return conn.getRoiService().findByImage(world.seen["image"], None, conn.SERVICE_OPTS).rois


def read_pixels(world, conn):
    store = conn.c.sf.createRawPixelsStore()
    try:
        store.setPixelsId(world.seen["pixels"], False, conn.SERVICE_OPTS)
        return store.getPlane(0, 0, 0, conn.SERVICE_OPTS) == bytes(range(6))
    finally:
        store.close(conn.SERVICE_OPTS)


def read_file(world, conn):
    store = conn.c.sf.createRawFileStore()
    try:
        store.setFileId(world.seen["file"], conn.SERVICE_OPTS)
        return store.read(0, 6, conn.SERVICE_OPTS) == b"secret"
    finally:
        store.close(conn.SERVICE_OPTS)


def read_table(world, conn):
    table = conn.c.sf.sharedResources().openTable(ref("OriginalFile", world.seen["table"]), conn.SERVICE_OPTS)
    read = table.read([0], 0, 1, conn.SERVICE_OPTS).columns[0].values
    table.close(conn.SERVICE_OPTS)
    return read == [7]


def thumbnail(world, conn):
    store = conn.createThumbnailStore()
    try:
        store.setPixelsId(world.seen["pixels"], conn.SERVICE_OPTS)
        return store.getThumbnail(rint(16), rint(16), conn.SERVICE_OPTS)
    finally:
        store.close()


def thumbnail_set(world, conn):
    oid = world.seen["pixels"]
    store = conn.createThumbnailStore()
    found = store.getThumbnailByLongestSideSet(rint(16), [oid], conn.SERVICE_OPTS)
    store.close()
    return found.get(oid)


def rendering(world, conn):
    engine = conn.createRenderingEngine()
    try:
        engine.lookupPixels(world.seen["pixels"], conn.SERVICE_OPTS)
        engine.resetDefaultSettings(False, conn.SERVICE_OPTS)
        return engine.renderAsPackedInt(omero.romio.PlaneDef(0, 0, 0, 0, 0, None, -1), conn.SERVICE_OPTS)
    finally:
        engine.close()


# -- changing ----------------------------------------------------------------------------------------------------------


def rename(world, conn):
    made = make_plate(world)
    stored = world.owner.getQueryService().get("Plate", made.id.val, world.owner.SERVICE_OPTS)
    stored.name = rstring("changed")
    return save(conn, stored)


def rename_unread(world, conn):
    made = omero.model.PlateI(make_plate(world).id.val, True)
    made.name = rstring("changed")
    return save(conn, made)


def annotate(world, conn):
    link = new("PlateAnnotationLink", parent=make_plate(world).proxy(), child=new("TagAnnotation", textValue="a tag"))
    return save(conn, link)


def put_into_screen(world, conn):
    return save(conn, new("ScreenPlateLink", parent=new("Screen", name="a screen"), child=make_plate(world).proxy()))


def add_well(world, conn):
    return save(conn, new("Well", plate=make_plate(world).proxy(), row=5, column=5))


def move_well(world, conn):
    """A well of the owner's plate into another plate, as a user who saves the well says it."""
    well, target = make_plate(world).copyWells()[0], make_plate(world)
    stored = world.owner.getQueryService().get("Well", well.id.val, world.owner.SERVICE_OPTS)
    stored.plate, stored.row = target.proxy(), rint(7)
    return save(conn, stored)


def draw_roi(world, conn):
    roi = new("Roi", image=ref("Image", make_image(world)))
    roi.addShape(new("Point", x=1.0, y=1.0))
    return save(conn, roi)


def keep_settings(world, conn):
    engine = conn.createRenderingEngine()
    try:
        engine.lookupPixels(world.seen["pixels"], conn.SERVICE_OPTS)
        engine.resetDefaultSettings(False, conn.SERVICE_OPTS)
        engine.saveCurrentSettings(conn.SERVICE_OPTS)
        return engine.getRenderingDefId(conn.SERVICE_OPTS)
    finally:
        engine.close()


def relink(world, conn):
    """Another image into the place of the one that the owner put into a dataset."""
    link = save(
        world.owner,
        new("DatasetImageLink", parent=new("Dataset", name="a dataset"), child=ref("Image", make_image(world))),
    )
    stored = world.owner.getQueryService().get("DatasetImageLink", link.id.val, world.owner.SERVICE_OPTS)
    stored.child = ref("Image", make_image(world))
    return save(conn, stored)


def give_away(world, conn):
    stored = world.owner.getQueryService().get("Plate", make_plate(world).id.val, world.owner.SERVICE_OPTS)
    other = "member" if conn is world.owner else "leader"
    stored.details.owner = ref("Experimenter", world.users[other].getUserId())
    return save(conn, stored)


def move_by_saving(world, conn):
    """Into the group `system`, where nobody but administrators is; those go by Chgrp2."""
    stored = world.owner.getQueryService().get("Plate", make_plate(world).id.val, world.owner.SERVICE_OPTS)
    stored.details.group = ref("ExperimenterGroup", 0)
    return save(conn, stored)


def save_for_owner(world, conn):
    made = new("Dataset", name="another's")
    made.details.owner = ref("Experimenter", world.owner.getUserId())
    if conn is world.users["stranger"]:
        conn.SERVICE_OPTS.setOmeroGroup(str(conn.getEventContext().groupId))
    try:
        return save(conn, made)
    finally:
        if conn is world.users["stranger"]:
            conn.SERVICE_OPTS.setOmeroGroup("-1")


def unlink(world, conn):
    link = save(
        world.owner,
        new("DatasetImageLink", parent=new("Dataset", name="a dataset"), child=ref("Image", make_image(world))),
    )
    return delete_object(conn, ref("DatasetImageLink", link.id.val))


def delete_object_(world, conn):
    return delete_object(conn, save(world.owner, new("Dataset", name="empty")).proxy())


def delete(world, conn):
    return run(conn, omero.cmd.Delete2(targetObjects={"Plate": [make_plate(world).id.val]}))


def chgrp(world, conn):
    return run(conn, omero.cmd.Chgrp2(targetObjects={"Plate": [make_plate(world).id.val]}, groupId=world.other_group))


def chmod(world, conn):
    return run(
        conn, omero.cmd.Chmod2(targetObjects={"ExperimenterGroup": [world.group]}, permissions=KINDS[world.kind])
    )


def write_pixels(world, conn):
    oid = save(world.owner, image()).getPixels(0).id.val
    store = conn.c.sf.createRawPixelsStore()
    try:
        store.setPixelsId(oid, False, conn.SERVICE_OPTS)
        store.setPlane(bytes(12), 0, 0, 0, conn.SERVICE_OPTS)
        return True
    finally:
        store.close(conn.SERVICE_OPTS)


def write_file(world, conn):
    store = conn.c.sf.createRawFileStore()
    try:
        store.setFileId(make_file(world), conn.SERVICE_OPTS)
        store.write(b"x", 0, 1, conn.SERVICE_OPTS)
        return True
    finally:
        store.close(conn.SERVICE_OPTS)


def add_rows(world, conn):
    table = conn.c.sf.sharedResources().openTable(ref("OriginalFile", make_table(world)), conn.SERVICE_OPTS)
    try:
        table.addData([omero.grid.LongColumn("number", "", [8])], conn.SERVICE_OPTS)
        return True
    finally:
        table.close(conn.SERVICE_OPTS)


# -- the group itself --------------------------------------------------------------------------------------------------


def change_group(world, conn):
    conn.c.sf.getAdminService().changePermissions(
        ref("ExperimenterGroup", world.group), omero.model.PermissionsI(KINDS[world.kind])
    )
    return True


def add_member(world, conn):
    """The stranger, who is taken out again."""
    admin, stranger = conn.c.sf.getAdminService(), ref("Experimenter", world.users["stranger"].getUserId())
    admin.addGroups(stranger, [ref("ExperimenterGroup", world.group)])
    admin.removeGroups(stranger, [ref("ExperimenterGroup", world.group)])
    return True


def make_owner(world, conn):
    admin, member = conn.c.sf.getAdminService(), ref("Experimenter", world.users["member"].getUserId())
    admin.setGroupOwner(ref("ExperimenterGroup", world.group), member)
    admin.unsetGroupOwner(ref("ExperimenterGroup", world.group), member)
    return True


# What a real server answers in another way: it lets subqueries see everything, wants settings of one's own before it
# renders, names another kind of SecurityViolation, or lets root move by saving. See the page of the embedded server.
IN_ANOTHER_WAY = {
    "subquery",
    "thumbnail",
    "thumbnail_set",
    "rendering",
    "rename",
    "rename_unread",
    "annotate",
    "put_into_screen",
    "keep_settings",
    "move_by_saving",
    "chmod",
}


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        pytest.param(*row, id=row[0], marks=[pytest.mark.embedded_only] if row[0] in IN_ANOTHER_WAY else [])
        for row in rows_of_table()
    ],
)
def test_who_may(worlds, what, expected):
    action = globals()["delete_object_" if what == "delete_object" else what]
    found = dict.fromkeys(USERS, "")
    for world in worlds.values():
        enter(world)
        for user in USERS:
            found[user] += outcome(action, world, world.users[user])
    assert found == expected
