"""The OMERO server that tests use: users, plates and logins in one line each."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import DTypeLike
    from omero.gateway import BlitzGateway

KEEP_ALIVE = 60  # seconds between calls that keep the administrator's session open; OMERO ends idle ones after 600
OWNED = ("Screen", "Plate", "Project", "Dataset", "Image", "Annotation", "OriginalFile")


@dataclass(frozen=True)
class OmeroUser:
    """A user made for a test.

    Attributes
    ----------
    id, name, password
        The user.
    group
        Id of the user's default group.
    """

    id: int
    name: str
    password: str
    group: int


@dataclass(frozen=True)
class OmeroServer:
    """The server that the tests use.

    Attributes
    ----------
    host, port
        Where it listens, with TLS.
    user, password
        An administrator: root on an embedded server.
    data
        The data folder of an embedded server, with its log in ``server.log``; None for another server.
    """

    host: str
    port: int
    user: str
    password: str
    data: Path | None

    def login(self, user: str | None = None, password: str | None = None, **options: Any) -> BlitzGateway:
        """Log in.

        Parameters
        ----------
        user, password
            Who logs in; by default the administrator.
        **options
            Further arguments of BlitzGateway.

        Returns
        -------
        BlitzGateway
            A connected gateway. Close it when the test is done.

        Raises
        ------
        ConnectionError
            If the server refuses the login.
        """
        from omero.gateway import BlitzGateway

        conn = BlitzGateway(
            user or self.user,
            password if user else self.password,
            host=self.host,
            port=self.port,
            **{"secure": True, **options},
        )
        if not conn.connect():
            reason = conn.getLastError()
            conn.close()
            raise ConnectionError(f"{user or self.user} could not log in: {reason}")
        return conn

    @cached_property
    def admin(self) -> BlitzGateway:
        """A gateway of the administrator, shared by all tests. Don't close it or change its group."""
        conn = self.login()
        conn.c.enableKeepAlive(KEEP_ALIVE)
        return conn

    def make_user(
        self, permissions: str = "rw----", group: int | None = None, password: str | None = None
    ) -> OmeroUser:
        """Create a user.

        Parameters
        ----------
        permissions
            Of the new group that the user joins, as OMERO writes them: "rw----" private, "rwr---" read-only,
            "rwra--" read-annotate, "rwrw--" read-write.
        group
            Id of an existing group to join; no group is created then.
        password
            By default a random one.
        """
        import omero.gateway
        from omero.rtypes import rbool, rstring

        admin, suffix = self.admin.c.sf.getAdminService(), uuid.uuid4().hex[:12]
        if group is None:
            new = omero.model.ExperimenterGroupI()
            new.name, new.ldap = rstring(f"group_{suffix}"), rbool(False)
            new.details.permissions = omero.model.PermissionsI(permissions)
            group = int(admin.createGroup(new))
        user = omero.model.ExperimenterI()
        user.omeName, user.ldap = rstring(f"user_{suffix}"), rbool(False)
        user.firstName, user.lastName = rstring("First"), rstring("Last")
        password = password or secrets.token_urlsafe(12)
        oid = admin.createExperimenterWithPassword(
            user,
            rstring(password),
            omero.model.ExperimenterGroupI(group, False),
            [omero.model.ExperimenterGroupI(admin.getSecurityRoles().userGroupId, False)],
        )
        return OmeroUser(oid, user.omeName.val, password, group)

    def delete_data_of(self, user: OmeroUser) -> None:
        """Delete everything that a user owns: containers, images, annotations and files. The user stays."""
        import omero.cmd
        from omero.rtypes import unwrap
        from omero.sys import ParametersI

        client, everywhere = self.admin.c, {"omero.group": "-1"}
        for kind in OWNED:  # without a login of the user, which costs more than the deletion of a small plate
            query = f"select o.id from {kind} o where o.details.owner.id = :id"
            found = client.sf.getQueryService().projection(query, ParametersI().addId(user.id), everywhere)
            if found:
                request = omero.cmd.Delete2(targetObjects={kind: unwrap([row for [row] in found])})
                client.submit(request, loops=6000, ms=50, ctx=everywhere).close(True)

    def make_plate(
        self,
        conn: BlitzGateway | None = None,
        *,
        rows: int = 1,
        columns: int = 1,
        sites: int = 1,
        shape: tuple[int, int, int, int, int] = (1, 1, 1, 16, 16),
        dtype: DTypeLike = "uint16",
        name: str = "plate",
    ) -> int:
        """Make a plate: `rows` x `columns` wells, with an image for each of `sites` sites per well.

        Parameters
        ----------
        conn
            Whose plate it is, in the gateway's current group; by default the administrator's.
        rows, columns, sites
            Numbers of them.
        shape
            Size of each image as (T, C, Z, Y, X).
        dtype
            Pixel type: int8, uint8, int16, uint16, int32, uint32, float32, float64, complex64 or complex128.
        name
            Name of the plate.

        Returns
        -------
        int
            Id of the plate. Its pixels are those of `omero_embedded.site_pixels`.

        Raises
        ------
        ValueError
            If a number is not positive, or OMERO has no such pixel type.
        """
        from omero_embedded.plates import make_plate

        return make_plate(conn or self.admin, rows, columns, sites, shape, dtype, name)

    def close(self) -> None:
        """Log the administrator out, if `admin` was used."""
        if "admin" in self.__dict__:
            self.admin.close()
