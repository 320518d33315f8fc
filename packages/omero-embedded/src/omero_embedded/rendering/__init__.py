"""Images as RGB pictures: rendering settings, and the arithmetic of channels, windows and colors."""

from omero_embedded import omeropy  # noqa: F401
