"""A site as an image in OME-Zarr (NGFF 0.5), with its channels and pixel size."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from openhcs_omero.io.pyramid import write_levels
from openhcs_omero.plates.image import ImageMetadata


def write_image(folder: Path, name: str, pixels: np.ndarray, about: ImageMetadata) -> int:
    """Write an image in all sizes.

    Parameters
    ----------
    folder
        Folder of the image's group, which does not exist yet.
    name
        Name of the image.
    pixels
        (T, C, Z, Y, X).
    about
        Channel names, colors and pixel size.

    Returns
    -------
    int
        The number of sizes.
    """
    from openhcs_omero.io import ngff_metadata  # slow to import

    levels = write_levels(folder, pixels, tuple(ngff_metadata.AXES))
    names = about.channel_names or (None,) * pixels.shape[1]
    channels = ngff_metadata.describe_channels(levels[-1], names, about.colors)
    ngff_metadata.write_image(folder, name, len(levels), len(pixels) > 1, about.pixel_size, channels)
    return len(levels)
