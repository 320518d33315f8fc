"""IShare: images shared between groups, which OMERO has given up. This server has no shares, and makes none."""

from __future__ import annotations

import omero

from omero_embedded.errors import refuse
from omero_embedded.kernel import Kernel
from omero_embedded.model.access import Context
from omero_embedded.people.sessions import Session
from omero_embedded.services.registry import service


@service("::omero::api::IShare")
class ShareService:
    def __init__(self, kernel: Kernel, session: Session):
        pass

    def getOwnShares(self, ctx: Context, active):
        return []

    def getMemberShares(self, ctx: Context, active):
        return []

    def getSharesOwnedBy(self, ctx: Context, user, active):
        return []

    def getMemberSharesFor(self, ctx: Context, user, active):
        return []

    def getMemberCount(self, ctx: Context, shares):
        return dict.fromkeys(shares, 0)

    def getCommentCount(self, ctx: Context, shares):
        return dict.fromkeys(shares, 0)

    def getShare(self, ctx: Context, share):
        return None

    def getContents(self, ctx: Context, share):
        raise refuse(omero.ValidationException, f"There is no share {share}.")

    def activate(self, ctx: Context, share):
        raise refuse(omero.ValidationException, f"There is no share {share}.")

    def deactivate(self, ctx: Context):
        """Do nothing: no share is active."""
