"""Users, groups, passwords and sessions, and what each of them may see and do."""

from omero_embedded import omeropy  # noqa: F401
