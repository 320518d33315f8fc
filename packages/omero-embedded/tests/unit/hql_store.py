"""What the tests of HQL ask about: users, groups, and a plate with wells, written straight into a store."""

from __future__ import annotations

import sqlalchemy as sa
from omero.rtypes import unwrap
from omero_embedded.files.store import Store
from omero_embedded.hql.results import Results
from omero_embedded.model.access import PRIVILEGES, Context
from omero_embedded.model.events import insert
from omero_embedded.model.schema import schema
from omero_embedded.people.bootstrap import bootstrap

PRIVATE, SHARED, FOREIGN = 3, 4, 5
ADA, BOB, EVE = 2, 3, 4
NAMES = {ADA: "ada", BOB: "bob", EVE: "eve"}
KINDS = {PRIVATE: "rw----", SHARED: "rwra--", FOREIGN: "rw----", 1: "rwr-r-"}
# name, rows, status of ada's plates
PLATES = [("alpha", 8, "done"), ("Beta", 16, None), ("gamma", 8, "open"), ("delta_1", 32, "done")]


def context(user=ADA, group=PRIVATE, admin=False):
    mine = {ADA: {PRIVATE, SHARED, 1}, BOB: {SHARED, 1}, EVE: {FOREIGN, 1}}[user]
    return Context(
        user=user,
        user_name=NAMES[user],
        group=group,
        is_admin=admin,
        member_of=frozenset(mine),
        leader_of=frozenset(),
        kinds=KINDS if admin else {group: KINDS[group] for group in mine},
        privileges=PRIVILEGES if admin else frozenset(),
    )


def made_store(folder):
    """A new store with all this in it."""
    made = Store(folder)
    bootstrap(made)
    with made.write() as connection:
        fill(connection)
    return made


def fill(connection):
    """A plate with wells, samples and annotations, and plates in other groups."""

    def put(entity, ctx=None, **values):
        return insert(connection, ctx or context(), schema()[entity], values, 0)

    for oid, kind in ((PRIVATE, "rw----"), (SHARED, "rwra--"), (FOREIGN, "rw----")):
        put("ExperimenterGroup", id=oid, name=f"group {oid}", ldap=False, _permissions=kind)
    for oid, name in NAMES.items():
        put("Experimenter", id=oid, omeName=name, firstName=name.title(), lastName="Last", ldap=False)
    for user, group in ((ADA, PRIVATE), (ADA, SHARED), (BOB, SHARED), (EVE, FOREIGN)):
        put("GroupExperimenterMap", parent=group, child=user, owner=False)
    for name, rows, status in PLATES:
        put("Plate", name=name, rows=rows, columns=12, status=status)
    plate, first_pixels = 1, None
    pixels_type = connection.execute(sa.text("select id from pixelstype where value = 'uint16'")).scalar_one()
    for column in range(2):
        well = put("Well", plate=plate, row=0, column=column)
        for site in range(3 if column == 0 else 1):
            image = put("Image", name=f"{column} {site}", series=0)
            put("WellSample", well=well, image=image, well_index=site + (site > 0))  # a gap at 1
            pixels = put(
                "Pixels",
                image=image,
                image_index=0,
                sizeX=6,
                sizeY=4,
                sha1="a",
                pixelsType=pixels_type,
                physicalSizeX=0.5,
                physicalSizeX_unit="MICROMETER",
            )
            first_pixels = first_pixels or pixels
    for text in ("one", "two"):
        tag = put("TagAnnotation", textValue=text, ns="n")
        put("PlateAnnotationLink", parent=plate, child=tag)
    pairs = put("MapAnnotation", ns="pairs")
    connection.execute(
        schema()["MapAnnotation"].maps["mapValue"].insert(),
        [
            {"parent": pairs, "position": i, "name": name, "value": value}
            for i, (name, value) in enumerate(("kv", "aw"))
        ],
    )
    put("PlateAnnotationLink", parent=plate, child=pairs)
    put("Plate", context(ADA, SHARED), name="ada's", rows=1)
    shared = put("Plate", context(BOB, SHARED), name="bob's", rows=1)
    put("Well", context(EVE, FOREIGN), plate=shared, row=0, column=0)  # neither sees the other's end
    put("Plate", context(EVE, FOREIGN), name="eve's", rows=1)


def results(store, text, params=None, page=(0, None), ctx=None, read=None):
    with store.read() as connection:
        return read(Results(connection, ctx or context(), text, params, page))


def rows(store, text, params=None, page=(0, None), ctx=None):
    return [unwrap(row) for row in results(store, text, params, page, ctx, Results.projected)]


def objects(store, text, params=None, page=(0, None), ctx=None):
    return results(store, text, params, page, ctx, Results.objects)


def column(store, text, *args, **kw):
    return [row[0] for row in rows(store, text, *args, **kw)]
