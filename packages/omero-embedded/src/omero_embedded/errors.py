"""The errors of the server: those that go over the wire, and those that keep it from starting."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import omero


class CannotStart(RuntimeError):
    """The server did not start. The message is one sentence that says why and what to do."""


# What is missing of operations and requests that are there otherwise; `ice/missing.py` finds those that are not.
PARTS = {
    "IScript.getScripts": "there are none, so lists of them are empty",
    "IShare.getAllShares": "there are none, so lists of them are empty",
}


def refuse(kind: type[omero.ServerError], message: str) -> omero.ServerError:
    """Make an OMERO server error of a kind, ready to be raised."""
    package = "ome.services.query" if kind.__name__ == "QueryException" else "ome.conditions"
    return kind(serverStackTrace="", serverExceptionClass=f"{package}.{kind.__name__}", message=message)


def given(argument):
    """Return an argument that may not be null.

    Raises
    ------
    omero.ApiUsageException
        If it is null.
    """
    import omero

    if argument is None:
        raise refuse(omero.ApiUsageException, "Argument may not be null.")
    return argument


def no_row(java: str, oid: int | None) -> omero.ServerError:
    """Make the error of an object that isn't there, as Hibernate words it. `java` is `ome.model.core.Image`."""
    import omero

    return refuse(omero.ValidationException, f"No row with the given identifier exists: [{java}#{oid}]")


def unsupported(what: str) -> omero.ServerError:
    """Make the error of a call that OMERO has and this server has not, as `omero.api.IQuery.get`."""
    import omero

    return refuse(omero.ApiUsageException, f"{what} is unsupported by the embedded server.")
