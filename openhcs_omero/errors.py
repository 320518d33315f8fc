"""What is said to people: every error here is one sentence that names what was wrong, where, and what to do."""


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
