"""Where a step saves its files about a site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def construct_path(metadata: Mapping[str, Any], what: str) -> str:
    """Construct the path where a step saves a file about the current site.

    If the plate is in OMERO, the file becomes a FileAnnotation of the site's derived image.

    Parameters
    ----------
    metadata
        The metadata passed to the step; `plate` (the plate's folder, virtual or on disk), `well` and `site` are used.
    what
        File name such as "results.json"; a name without an extension is an image: "labeled" means "labeled.tif".

    Returns
    -------
    str
        "<plate>/<WELL>/<WELL>_s001_results.json"
    """
    well, site = metadata["well"], int(metadata["site"])
    if "." not in what:
        what += ".tif"
    return f"{str(metadata['plate']).rstrip('/')}/{well}/{well}_s{site:03d}_{what}"
