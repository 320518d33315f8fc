"""The version of openhcs_omero."""

__version__ = "0.2.0"
