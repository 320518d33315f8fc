"""The errors that go over the wire."""
from __future__ import annotations

import omero


def refuse(kind: type[omero.ServerError], message: str) -> omero.ServerError:
    """An OMERO server error of a kind, to be raised, with what was wrong as its message."""
    return kind(serverStackTrace="", serverExceptionClass=f"ome.conditions.{kind.__name__}", message=message)
