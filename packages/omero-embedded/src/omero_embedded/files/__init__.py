"""The data folder: the SQLite database, pixels, original files and tables, and their recovery after a kill."""

from omero_embedded import omeropy  # noqa: F401
