"""OMERO's protocol: endpoints, the Glacier2 router, sessions' service factories, and servants made of services."""

from omero_embedded import omeropy  # noqa: F401
