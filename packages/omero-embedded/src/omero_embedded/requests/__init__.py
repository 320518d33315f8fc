"""What a session's `submit` takes: Delete2, Chgrp2, Duplicate, DiskUsage2 and the other requests."""

from omero_embedded import omeropy  # noqa: F401
