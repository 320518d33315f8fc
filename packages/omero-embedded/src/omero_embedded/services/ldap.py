"""ILdap: as on a server that is not connected to a directory."""

from __future__ import annotations

import omero

from omero_embedded.errors import refuse
from omero_embedded.kernel import Kernel
from omero_embedded.model.access import Context
from omero_embedded.people.sessions import Session
from omero_embedded.services.registry import service


@service("::omero::api::ILdap")
class LdapService:
    """All of it is for administrators."""

    def __init__(self, kernel: Kernel, session: Session):
        pass

    def getSetting(self, ctx: Context):
        """Whether users can log in with the password of a directory."""
        _admins_only(ctx)
        return False

    def _search(self, ctx: Context, *asked):
        _admins_only(ctx)
        raise refuse(omero.InternalException, "There is no directory (LDAP) to search.")

    searchAll = searchByDN = searchByAttribute = searchByAttributes = searchDnInGroups = _search
    findDN = findGroupDN = findExperimenter = findGroup = discover = discoverGroups = createUser = _search


def _admins_only(ctx: Context) -> None:
    if not ctx.is_admin:
        raise refuse(omero.SecurityViolation, f"{ctx.user_name} is no administrator.")
