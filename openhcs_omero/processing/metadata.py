"""Where a step saves what it has to say about a site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def construct_path(metadata: Mapping[str, Any], what: str) -> str:
    """The path under which a step saves `what` about the site that it works on.

    Parameters
    ----------
    metadata
        What the step was given: `plate` (the plate's folder, virtual or on disk), `well` and `site` are used.
    what
        Name and ending, "results.json"; a name without ending means an image, "labeled" is "labeled.tif". Where the
        plate is in OMERO the file becomes a FileAnnotation of the site's derived image.

    Returns
    -------
    str
        "<plate>/<WELL>/<WELL>_s001_results.json"
    """
    well, site = metadata["well"], int(metadata["site"])
    if "." not in what:
        what += ".tif"
    return f"{str(metadata['plate']).rstrip('/')}/{well}/{well}_s{site:03d}_{what}"
