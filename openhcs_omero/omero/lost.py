"""Report in one sentence that the server went away in the middle of the work."""

from __future__ import annotations

import Ice

from openhcs_omero.omero.connection import POOL
from openhcs_omero.omero.server import ServerDown

GONE = (
    ServerDown,
    Ice.SocketException,
    Ice.TimeoutException,
    Ice.CloseConnectionException,
    Ice.ForcedCloseConnectionException,
    Ice.ObjectNotExistException,
)


def went_away(error: BaseException) -> str:
    """The sentence to show if `error` means that the server or the session is gone; "" for any other error."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, GONE) or type(seen) is Ice.ProtocolException:  # raised if an encrypted connection is cut
            where = f" at {POOL.last.address}" if POOL.last is not None else ""
            return f"OMERO{where} went away; run the same command again"
        seen = seen.__cause__ or seen.__context__
    return ""
