"""OMERO's services, one class for each: IQuery, IUpdate, IAdmin, RawPixelsStore and the others."""

from omero_embedded import omeropy  # noqa: F401
