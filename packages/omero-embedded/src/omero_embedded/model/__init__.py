"""OMERO's data model: its classes and tables, and loading, saving, deleting and moving objects."""

from omero_embedded import omeropy  # noqa: F401
