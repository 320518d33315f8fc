"""What is said to people: every error here is one sentence that names what was wrong, where, and what to do."""

from typing import Any


class OpenHCSError(Exception):
    """Something that the user, the configuration or the server can mend; shown without a traceback."""


class ConfigError(OpenHCSError):
    """The configuration says something that can't be followed."""


class ConnectError(OpenHCSError):
    """No session on an OMERO server could be had."""


class PlateError(OpenHCSError):
    """A plate, a well or an image is not there or not fit for the work."""


class PlateMapError(OpenHCSError):
    """A plate map can't be read, or contradicts itself or its plates."""


class RightsError(PlateError):
    """The user may read, and not write."""


class StepError(OpenHCSError):
    """A processing step can't be imported, has another signature, or returned what it should not."""


def is_lost(error: BaseException | None) -> bool:
    """Whether an error is the loss of an OMERO server or session, or was raised while one was handled.

    Ice's own errors are known by their names: who has no server has no Ice either.
    """
    while error is not None:
        names = {f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__}
        if isinstance(error, ConnectError) or names & {"Ice.LocalException", "omero.SessionException"}:
            return True
        error = error.__cause__ or error.__context__
    return False


def brief(value: Any, length: int = 200) -> str:
    """`repr` of a value for a sentence, cut where it is long."""
    text = repr(value)
    return text if len(text) <= length else f"{text[:length]}..."
