"""The errors of the server: those that go over the wire, and those that keep it from starting."""
from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import omero


class CannotStart(RuntimeError):
    """The server did not start. The message is one sentence that says why and what to do."""


def refuse(kind: type[omero.ServerError], message: str) -> omero.ServerError:
    """Make an OMERO server error of a kind, ready to be raised."""
    return kind(serverStackTrace="", serverExceptionClass=f"ome.conditions.{kind.__name__}", message=message)
