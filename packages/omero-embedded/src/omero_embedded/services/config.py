"""IConfig: the version and the settings of the server."""

from __future__ import annotations

import re
import time

import omero
import sqlalchemy as sa
from omero.rtypes import rtime

from omero_embedded.errors import refuse
from omero_embedded.files.pyramids import MAX_PLANE
from omero_embedded.kernel import Kernel
from omero_embedded.model.access import Context
from omero_embedded.people.bootstrap import CONFIG, DATABASE_UUID
from omero_embedded.people.sessions import TIME_TO_IDLE, Session
from omero_embedded.services.registry import service

VERSION = "5.6.0"  # of the protocol

# Settings that clients ask for and everybody may read, with OMERO's defaults.
CLIENT = {
    "omero.client.browser.thumb_default_size": "96",
    "omero.client.download_as.max_size": "144000000",
    "omero.client.scripts_to_ignore": "",
    "omero.client.ui.menu.dropdown.colleagues.enabled": "true",
    "omero.client.ui.menu.dropdown.colleagues.label": "Members",
    "omero.client.ui.menu.dropdown.everyone.enabled": "true",
    "omero.client.ui.menu.dropdown.everyone.label": "All Members",
    "omero.client.ui.menu.dropdown.leaders.enabled": "true",
    "omero.client.ui.menu.dropdown.leaders.label": "Owners",
    "omero.client.ui.tree.orphans.description": "Images that are in no container",
    "omero.client.ui.tree.orphans.enabled": "true",
    "omero.client.ui.tree.orphans.name": "Orphaned Images",
    "omero.client.ui.tree.type_order": "tagset,tag,project,dataset,screen,plate,acquisition,image",
    "omero.client.viewer.initial_zoom_level": "0",
    "omero.client.viewer.interpolate_pixels": "true",
    "omero.client.viewer.roi_limit": "2000",
    "omero.client.web.host": "",
}
PUBLIC = {
    "omero.mail.config": "false",  # no mail is sent; OMERO.web asks for it for every user
    "omero.pixeldata.max_plane_height": str(MAX_PLANE),
    "omero.pixeldata.max_plane_width": str(MAX_PLANE),
    "omero.sessions.timeout": str(TIME_TO_IDLE),
    "omero.upgrades.url": "",
    "omero.version": VERSION,
}
FOR_ADMINS = {
    "omero.db.patch": "0",
    "omero.db.version": "OMERO5.4",
    "omero.policy.binary_access": "+read,+write,+image",
}
FOR_NOBODY = ("omero.db.host", "omero.db.name", "omero.db.pass", "omero.db.port", "omero.db.user")


@service("::omero::api::IConfig")
class ConfigService:
    def __init__(self, kernel: Kernel, session: Session):
        self.kernel = kernel

    def getVersion(self, ctx: Context):
        return VERSION

    def getServerTime(self, ctx: Context):
        return rtime(int(time.time() * 1000))

    getDatabaseTime = getServerTime

    def getDatabaseUuid(self, ctx: Context):
        return self._stored()[DATABASE_UUID]

    def getConfigValue(self, ctx: Context, key):
        self._check(ctx, key)
        return self._all().get(key, "")

    def getConfigValues(self, ctx: Context, pattern):
        """Return the settings that the caller may read and whose whole key matches a regular expression."""
        try:
            wanted = re.compile(pattern)
        except re.error as broken:
            raise refuse(omero.ApiUsageException, f"{pattern!r} is not a regular expression: {broken}.") from None
        return {key: value for key, value in self._all().items() if wanted.fullmatch(key) and self._may_read(ctx, key)}

    def getConfigDefaults(self, ctx: Context):
        self._admins_only(ctx)
        return {**CLIENT, **PUBLIC, **FOR_ADMINS}

    def getClientConfigDefaults(self, ctx: Context):
        return dict(CLIENT)

    def getClientConfigValues(self, ctx: Context):
        return {key: value for key, value in self._all().items() if key in CLIENT}

    def setConfigValue(self, ctx: Context, key, value):
        self._admins_only(ctx)
        self._check(ctx, key)
        with self.kernel.store.write() as connection:
            self._set(connection, key, value)

    def setConfigValueIfEquals(self, ctx: Context, key, value, test):
        """Set a value if it is `test` now; return whether it was."""
        self._admins_only(ctx)
        self._check(ctx, key)
        with self.kernel.store.write() as connection:
            if self._all().get(key, "") != (test or ""):
                return False
            self._set(connection, key, value)
        return True

    # -- inner ---------------------------------------------------------------------------------------------------

    def _stored(self) -> dict[str, str]:
        with self.kernel.store.read() as connection:
            return {row.key: row.value for row in connection.execute(sa.select(CONFIG))}

    def _all(self) -> dict[str, str]:
        made = {"omero.data.dir": str(self.kernel.store.folder.resolve())}
        if self.kernel.insecure_port:
            router = f"OMERO.Glacier2/router:tcp -p {self.kernel.insecure_port} -h @omero.host@"
            made["omero.router.insecure"] = router
        return {**CLIENT, **PUBLIC, **FOR_ADMINS, **made, **self._stored()}

    def _set(self, connection: sa.Connection, key: str, value: str | None) -> None:
        connection.execute(CONFIG.delete().where(CONFIG.c.key == key))
        if value:
            connection.execute(CONFIG.insert().values(key=key, value=value))

    def _may_read(self, ctx: Context, key: str) -> bool:
        if key in FOR_NOBODY:
            return False
        return ctx.is_admin or key in CLIENT or key in PUBLIC or key == "omero.router.insecure"

    def _check(self, ctx: Context, key: str) -> None:
        if not self._may_read(ctx, key):
            raise refuse(omero.SecurityViolation, f"The setting {key} can't be read by {ctx.user_name}.")

    def _admins_only(self, ctx: Context) -> None:
        if not ctx.is_admin:
            raise refuse(omero.SecurityViolation, "Only administrators may do this.")
