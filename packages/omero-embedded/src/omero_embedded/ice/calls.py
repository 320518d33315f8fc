"""What the servants of all kinds need for a call."""

from __future__ import annotations

import logging

import Ice
import omero

from omero_embedded.errors import refuse

log = logging.getLogger(__name__)


def internal(broken: Exception, what: str) -> omero.ServerError:
    """Make the error for something that should not have happened, and write its traceback to the log."""
    log.error(what, exc_info=broken)
    return refuse(omero.InternalException, f"{what}: {type(broken).__name__}: {broken}")


def over_connection(proxy: Ice.ObjectPrx, current: Ice.Current) -> Ice.ObjectPrx:
    """Make a client's callback reachable, through the connection that the client opened."""
    return current.con.createProxy(proxy.ice_getIdentity())
