"""The content of a new data folder: the first users and groups, the enumerations, and the event that made them."""

from __future__ import annotations

import time
import uuid as uuids

import sqlalchemy as sa

from omero_embedded.files.store import Store
from omero_embedded.model.access import FIRST_SESSION, GUEST_GROUP, ROOT, SYSTEM_GROUP, USER_GROUP
from omero_embedded.model.enumerations import BIT_SIZES, VALUES
from omero_embedded.people.passwords import SIDE
from omero_embedded.people.sessions import NODE

CONFIG = sa.Table(
    "config", SIDE, sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
)
DATABASE_UUID = "omero.db.uuid"
GUEST = 1
EVENT, SESSION = 0, FIRST_SESSION


def bootstrap(store: Store) -> None:
    """Fill a new folder; do nothing to a folder that was filled before."""
    SIDE.create_all(store.engine)
    with store.write() as connection:
        if connection.execute(sa.select(CONFIG.c.value).where(CONFIG.c.key == DATABASE_UUID)).first():
            return
        _first_event(store, connection)
        _users_and_groups(store, connection)
        _enumerations(store, connection)
        connection.execute(CONFIG.insert().values(key=DATABASE_UUID, value=str(uuids.uuid4())))


def _first_event(store: Store, connection: sa.Connection) -> None:
    """Write the node, the session and the event of all first rows; foreign keys are checked at the commit."""
    now = int(time.time() * 1000)
    entities = store.schema.entities
    connection.execute(entities["EventType"].table.insert().values(id=0, value="Bootstrap"))
    connection.execute(entities["Node"].table.insert().values(id=NODE, uuid="0" * 36, conn="NONE", up=now))
    connection.execute(
        entities["Session"]
        .table.insert()
        .values(
            {
                "id": SESSION,
                "class": "Session",
                "uuid": "0" * 36,
                "node": NODE,
                "owner": ROOT,
                "timeToIdle": 0,
                "timeToLive": 0,
                "started": now,
                "closed": now,
                "defaultEventType": "Bootstrap",
            }
        )
    )
    connection.execute(
        entities["Event"]
        .table.insert()
        .values(
            id=EVENT,
            status="BOOTSTRAP",
            time=now,
            experimenter=ROOT,
            experimenterGroup=SYSTEM_GROUP,
            type=0,
            session=SESSION,
        )
    )


def _users_and_groups(store: Store, connection: sa.Connection) -> None:
    entities = store.schema.entities
    made = {"_creationEvent": EVENT, "_updateEvent": EVENT}
    for oid, name, permissions in (
        (SYSTEM_GROUP, "system", "rw----"),
        (USER_GROUP, "user", "rwr-r-"),
        (GUEST_GROUP, "guest", "rw----"),
    ):
        connection.execute(
            entities["ExperimenterGroup"]
            .table.insert()
            .values(id=oid, name=name, ldap=False, _permissions=permissions, **made)
        )
    for oid, name, first, last in ((ROOT, "root", "root", "root"), (GUEST, "guest", "Guest", "Account")):
        connection.execute(
            entities["Experimenter"]
            .table.insert()
            .values(id=oid, omeName=name, firstName=first, lastName=last, ldap=False, **made)
        )
    for user, group, position, owner in (
        (ROOT, SYSTEM_GROUP, 0, True),
        (ROOT, USER_GROUP, 1, False),
        (GUEST, GUEST_GROUP, 0, False),
    ):
        connection.execute(
            entities["GroupExperimenterMap"]
            .table.insert()
            .values(parent=group, child=user, child_index=position, owner=owner, **made)
        )


def _enumerations(store: Store, connection: sa.Connection) -> None:
    for name, values in VALUES.items():
        table = store.schema[name].table
        rows: list[dict] = [{"value": value} for value in values.split() if value != "Bootstrap"]
        if name == "PixelsType":
            rows = [{**row, "bitSize": BIT_SIZES[row["value"]]} for row in rows]
        connection.execute(table.insert(), rows)
